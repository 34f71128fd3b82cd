#pragma once

#include <cstddef>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "calibration.hpp"
#include "checkpoint.hpp"
#include "checkpoint_arguments.hpp"
#include "intact/adapt/build.hpp"
#include "intact/adapt/model_file.hpp"
#include "models.hpp"
#include "profile_arguments.hpp"

namespace intact_deit {

/// intact-deit quantize
class quantize_command {
 public:
  explicit quantize_command(CLI::App& program) {
    app_ = program.add_subcommand("quantize", "makes an integer model of a checkpoint and images to calibrate on");
    app_->add_option("--weights", weights_, "checkpoint, safetensors with timm's or Hugging Face's names")->required();
    app_->add_option("-o,--output", output_, "the integer model's file")->required();
    add_threads(*app_, threads_);
    add_prepared(*app_, prepared_);
    calibration_.add_to(*app_);
    profile_.add_to(*app_);
    checkpoint_.add_to(*app_);
  }

  bool chosen() const { return app_->parsed(); }

  /// The exit code: 1 if some images could not be read.
  int run() const {
    const intact::profile profile = profile_.chosen();
    const intact::float_vit model = load_checkpoint(weights_, checkpoint_.options());
    const calibration_images read = calibration_.read({model.shape.height, checkpoint_.crop(), prepared_});
    const calibrated_model calibrated = calibration_.calibrate(model, read.images, profile, threads_);
    const intact::integer_vit integer =
        intact::build_vit(calibrated.model, calibrated.scales, calibrated.weights, profile);
    intact::save_integer_vit(integer, output_,
                             {{crop_note, CLI::detail::to_string(checkpoint_.crop())},
                              {"profile", profile_.description()},
                              {"calibration", calibration_.description(read.images.size())}});
    std::printf("%s: %td blocks of width %td, %td x %td pixels, %td classes\n", output_.c_str(), model.shape.depth,
                model.shape.width, model.shape.height, model.shape.height, model.shape.classes);
    return read.failed == 0 ? 0 : 1;
  }

 private:
  CLI::App* app_;
  std::string weights_, output_;
  std::size_t threads_ = default_threads();
  bool prepared_ = false;
  calibration_arguments calibration_;
  profile_arguments profile_;
  checkpoint_arguments checkpoint_;
};

}  // namespace intact_deit
