#pragma once

#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "checkpoint_arguments.hpp"
#include "file_errors.hpp"
#include "intact/io/model_file.hpp"
#include "intact/quantize/build_swin.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/load_calibrated.hpp"
#include "models.hpp"
#include "quantization_report.hpp"

namespace intact_deit {

/// intact-deit convert
class convert_command {
 public:
  explicit convert_command(CLI::App& program) {
    app_ = program.add_subcommand("convert", "makes an integer model of a model that another tool has calibrated");
    app_->add_option("calibrated", calibrated_,
                     "weights, scales and zero points, safetensors: of examples/export_fqvit.py, or with the names of "
                     "docs/calibrated_models.md")
        ->required();
    app_->add_option("-o,--output", output_, "the integer model's file")->required();
    add_crop(*app_, crop_);
    app_->footer(
        "Example:\n"
        "  python3 export_fqvit.py model.pt calibrated.safetensors --code FQ-ViT/\n"
        "  intact-deit convert calibrated.safetensors -o model.intact.safetensors");
  }

  bool chosen() const { return app_->parsed(); }

  int run() const {
    const intact::safetensors_file file = intact::safetensors_file::read(calibrated_);
    const std::string vit = intact::calibrated_vit_format, swin = intact::calibrated_swin_format;
    const bool is_vit = has_format(file, vit);
    if (!is_vit && !has_format(file, swin)) {
      throw error_in(calibrated_, "metadata \"format\" must be \"" + vit + "\" or \"" + swin +
                                      "\"; intact-deit quantize takes float checkpoints");
    }
    in_file(calibrated_, [&] { is_vit ? convert_vit(file) : convert_swin(file); });
    return 0;
  }

 private:
  void convert_vit(const intact::safetensors_file& file) const {
    const auto [model, recipe] = intact::load_calibrated_vit(file);
    intact::save_integer_vit(intact::build_vit(model.model, model.scales, model.weights, recipe), output_, notes());
    report(std::to_string(model.model.shape.depth) + " blocks", model.changes);
  }

  void convert_swin(const intact::safetensors_file& file) const {
    const intact::loaded_calibrated_swin loaded = intact::load_calibrated_swin(file);
    intact::save_integer_swin(intact::build_swin(loaded.model, loaded.scales, loaded.weights, loaded.recipe), output_,
                              notes());
    report(std::to_string(loaded.model.shape.stages) + " stages", loaded.changes);
  }

  void report(const std::string& size, const std::vector<intact::scale_change>& changes) const {
    std::printf("%s: %s, of the scales in %s\n", output_.c_str(), size.c_str(), calibrated_.c_str());
    print_changes(calibrated_, changes);
  }

  std::map<std::string, std::string> notes() const {
    return preprocessing_notes({.crop = crop_.value_or(intact::image_preprocessing().crop)});
  }

  CLI::App* app_;
  std::string calibrated_, output_;
  std::optional<double> crop_;
};

}  // namespace intact_deit
