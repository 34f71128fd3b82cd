#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "calibration.hpp"
#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "intact/io/model_file.hpp"
#include "intact/quantize/build_vit.hpp"
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
    const intact::loaded_checkpoint loaded = checkpoint_.load(weights_);
    const intact::float_vit& model = loaded.model;
    const calibration_images read = calibration_.read({loaded.preprocessing, prepared_});
    const calibration_result result =
        in_file(weights_, [&] { return calibration_.calibrate(model, read.views(), recipe, threads_); });
    const intact::calibrated_vit& calibrated = result.model;
    const intact::integer_vit integer = in_file(
        weights_, [&] { return intact::build_vit(calibrated.model, calibrated.scales, calibrated.weights, recipe); });
    std::map<std::string, std::string> notes = preprocessing_notes(loaded.preprocessing);
    notes.emplace("profile", recipe_.description());
    notes.emplace("calibration", calibration_.description(result.method, read.images.size()));
    intact::save_integer_vit(integer, output_, notes);
    const bool has_head = model.shape.classes != 0;
    std::printf("%s: %td blocks of width %td, %td x %td pixels, %td %s\n", output_.c_str(), model.shape.depth,
                model.shape.width, model.shape.height, model.shape.image_width,
                has_head ? model.shape.classes : model.shape.head_features(), has_head ? "classes" : "features");
    report(loaded, result, read, recipe);
    return read.failed == 0 ? 0 : 1;
  }

 private:
  /// Prints the assumptions, and the errors on a few of the images.
  void report(const intact::loaded_checkpoint& loaded, const calibration_result& result, const calibration_images& read,
              const intact::quantization_recipe& recipe) const {
    const intact::float_vit& model = loaded.model;
    const std::vector<intact::image_view> some = read.views(4);
    std::vector<assumption> assumed = assumptions(loaded);
    assumed.push_back({"recipe", recipe_.description(), recipe_.source(*app_)});
    assumed.push_back({"method", calibration_.description(result.method, read.images.size()),
                       calibration_.source(*app_, result.method)});
    quantization_report report(std::move(assumed), result.model.changes,
                               intact::part_errors(model, result.model, recipe, some));
    report.try_options(model, calibration_, recipe_, some, threads_);
    report.print(weights_);
    if (!json_.empty()) {
      intact_examples::write_json(json_, report.json());
    }
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
