#pragma once

#include <cstddef>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>

#include "calibration.hpp"
#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/io/model_file.hpp"
#include "intact/quantize/measures.hpp"
#include "intact/quantize/part_errors.hpp"
#include "model_texts.hpp"
#include "models.hpp"
#include "quantization_report.hpp"
#include "recipe_arguments.hpp"
#include "write_json.hpp"

namespace intact_deit {

/// intact-deit quantize
class quantize_command {
 public:
  explicit quantize_command(CLI::App& program) {
    app_ = program.add_subcommand("quantize", "makes an integer model of a checkpoint and images to calibrate on");
    app_->add_option("--weights", weights_,
                     "checkpoint, safetensors with the names of timm, Hugging Face or torchvision")
        ->required();
    app_->add_option("-o,--output", output_, "the integer model's file")->required();
    app_->add_option("--json", json_, "write what is printed to this file");
    add_threads(*app_, threads_);
    add_prepared(*app_, prepared_);
    calibration_.add_to(*app_);
    recipe_.add_to(*app_);
    checkpoint_.add_to(*app_);
  }

  bool chosen() const { return app_->parsed(); }

  /// The exit code: 1 if some images could not be read.
  int run() const {
    const intact::quantization_recipe recipe = recipe_.recipe();
    const any_checkpoint loaded = checkpoint_.load(weights_);
    return std::visit([&](const auto& any) { return quantize(any, recipe); }, loaded);
  }

 private:
  template <class Model>
  int quantize(const intact::loaded_model<Model>& loaded, const intact::quantization_recipe& recipe) const {
    const Model& model = loaded.model;
    in_file(weights_, [&] {
      calibration_.require_possible(model);
      recipe_.require_possible(model, recipe);
    });
    const calibration_images read = calibration_.read({loaded.preprocessing, prepared_});
    const auto result =
        in_file(weights_, [&] { return calibration_.calibrate(model, read.views(), recipe, threads_); });
    const auto integer = in_file(weights_, [&] { return build_integer(model, result.model, recipe); });
    std::map<std::string, std::string> notes = preprocessing_notes(loaded.preprocessing);
    notes.emplace("profile", recipe_.description());
    notes.emplace("calibration", calibration_.description(result.method, read.images.size()));
    save(integer, notes);
    std::printf("%s: %s, %td x %td pixels, %s\n", output_.c_str(), blocks_text(model.shape).c_str(), model.shape.height,
                model.shape.image_width, outputs_text(model.shape).c_str());
    std::vector<assumption> assumed = assumptions(loaded);
    assumed.push_back({"recipe", recipe_.description(), recipe_.source(*app_)});
    assumed.push_back(
        {"method", calibration_.description(result.method, read.images.size()), calibration_.source(*app_, result)});
    quantization_report report(std::move(assumed), result.model.changes);
    measure(model, result.model, integer, recipe, read.views(4), report);
    report.print(weights_);
    if (!json_.empty()) {
      intact_examples::write_json(json_, report.json());
    }
    return read.failed == 0 ? 0 : 1;
  }

  void save(const intact::integer_vit& model, const std::map<std::string, std::string>& notes) const {
    intact::save_integer_vit(model, output_, notes);
  }
  void save(const intact::integer_swin& model, const std::map<std::string, std::string>& notes) const {
    intact::save_integer_swin(model, output_, notes);
  }

  /// Measures errors on a few of the images: of a ViT those of each part, of a Swin transformer those of the logits.
  void measure(const intact::float_vit& model, const intact::calibrated_vit& calibrated, const intact::integer_vit&,
               const intact::quantization_recipe& recipe, std::span<const intact::image_view> some,
               quantization_report& report) const {
    report.set_parts(intact::part_errors(model, calibrated, recipe, some));
    report.try_options(model, calibration_, recipe_, some, threads_);
  }
  void measure(const intact::float_swin& model, const calibrated_swin&, const intact::integer_swin& integer,
               const intact::quantization_recipe&, std::span<const intact::image_view> some,
               quantization_report& report) const {
    const intact::packed_swin packed(integer);
    integer_classifier classifier(packed);
    intact::closeness_meter meter;
    for (const intact::image_view& image : some) {
      const logit_row found = classifier({&image, 1}).front(), expected = intact::forward(model, image);
      meter.add(std::span(expected), std::span(found));
    }
    report.set_logits_sqnr_db(meter.result().sqnr_db);
  }

  CLI::App* app_;
  std::string weights_, output_, json_;
  std::size_t threads_ = default_threads();
  bool prepared_ = false;
  calibration_arguments calibration_;
  recipe_arguments recipe_;
  checkpoint_arguments checkpoint_;
};

}  // namespace intact_deit
