#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "evaluate.hpp"
#include "given_options.hpp"
#include "image_folder.hpp"
#include "intact/build/recipe.hpp"
#include "intact/quantize/build_swin.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/calibrated_vit.hpp"
#include "intact/quantize/equalization.hpp"
#include "intact/quantize/reconstruction.hpp"
#include "model_input.hpp"
#include "workers.hpp"

// The arguments and the progress of calibration.

namespace intact_deit {

/// The images to calibrate on, and how many others could not be read.
struct calibration_images {
  std::vector<rgb_image> images;
  std::size_t failed = 0;

  /// Of the first images, at most `count`.
  std::vector<intact::image_view> views(std::size_t count = std::numeric_limits<std::size_t>::max()) const {
    std::vector<intact::image_view> all;
    for (std::size_t i = 0; i < std::min(count, images.size()); ++i) {
      all.push_back(images[i].view());
    }
    return all;
  }
};

/// The scales and the weights that the integer model of a float Swin transformer is built of.
struct calibrated_swin {
  intact::swin_scales scales;
  intact::swin_weights weights;
  std::vector<intact::scale_change> changes;
};

/// A calibrated model, and the method of its calibration, as the option --method names it.
template <class Calibrated>
struct calibration_result {
  Calibrated model;
  std::string method;
};

/// The integer model of a float model that has been calibrated.
inline intact::integer_vit build_integer(const intact::float_vit&, const intact::calibrated_vit& calibrated,
                                         const intact::quantization_recipe& recipe) {
  return intact::build_vit(calibrated.model, calibrated.scales, calibrated.weights, recipe);
}
inline intact::integer_swin build_integer(const intact::float_swin& model, const calibrated_swin& calibrated,
                                          const intact::quantization_recipe& recipe) {
  return intact::build_swin(model, calibrated.scales, calibrated.weights, recipe);
}

/// The arguments that say how a model is calibrated.
class calibration_arguments {
 public:
  void add_to(CLI::App& app) {
    const std::string group = "Calibration";
    app.add_option("--calibration", folder_, "folder of PNG and JPEG files")->required()->group(group);
    app.add_option("--images", limit_, "only so many of them, the first by name")
        ->check(CLI::PositiveNumber)
        ->group(group);
    app.add_option("--observer", observer_, "how ranges are chosen: minmax, ema, percentile or omse")
        ->capture_default_str()
        ->check(CLI::IsMember({"minmax", "ema", "percentile", "omse"}))
        ->group(group);
    app.add_flag("--equalize", equalize_, "first give all channels of a LayerNorm one range")->group(group);
    app.add_option(
           "--method", method_,
           "observe: ranges as they are observed, weights to nearest; search: shrink ranges of activations and\n"
           "weights for the least error of layers' outputs; compensate: search, and round weights so that they\n"
           "make good for each other's errors, and biases too [compensate; Swin transformers: observe]")
        ->check(CLI::IsMember({"observe", "search", "compensate"}))
        ->group(group);
    app.add_option("--batch", batch_, "images that are held in memory at a time, with all their tensors")
        ->capture_default_str()
        ->check(CLI::PositiveNumber)
        ->group(group);
  }

  /// Images that cannot be read are named and counted, and the others go on.
  /// Errors: std::runtime_error if no image can be read.
  calibration_images read(const input_size& input) const {
    std::vector<std::filesystem::path> files = find_images(folder_);
    files.resize(std::min(files.size(), limit_));
    calibration_images read;
    for (const std::filesystem::path& file : files) {
      try {
        read.images.push_back(read_input(file, input));
      } catch (const std::runtime_error& error) {
        std::fprintf(stderr, "intact-deit: %s\n", error.what());
        ++read.failed;
      }
    }
    if (read.images.empty()) {
      throw error_in(folder_, "none of the " + std::to_string(files.size()) + " calibration images could be read");
    }
    if (read.failed != 0) {
      std::fprintf(stderr, "intact-deit: %zu of %zu calibration images could not be read\n", read.failed, files.size());
    }
    return read;
  }

  /// A calibrated model with scales that integers can represent. Where the method is not possible, observe takes its
  /// place, with a warning.
  calibration_result<intact::calibrated_vit> calibrate(const intact::float_vit& model,
                                                       std::span<const intact::image_view> images,
                                                       const intact::quantization_recipe& recipe,
                                                       std::size_t threads) const {
    calibration_result<intact::calibrated_vit> result = choose_scales(model, images, recipe, threads);
    result.model = intact::fit_scales(std::move(result.model), recipe);
    return result;
  }

  /// The same of a Swin transformer, with ranges as they are observed.
  calibration_result<calibrated_swin> calibrate(const intact::float_swin& model,
                                                std::span<const intact::image_view> images,
                                                const intact::quantization_recipe& recipe, std::size_t) const {
    calibrated_swin calibrated{
        intact::calibrate(model, images, {observer(), batch_}), intact::quantize_weights(model, recipe), {}};
    intact::fitted_scales<intact::swin_scales> fitted =
        intact::fit_scales(model, calibrated.scales, calibrated.weights, recipe);
    calibrated.scales = std::move(fitted.scales);
    calibrated.changes = std::move(fitted.changes);
    return {std::move(calibrated), "observe"};
  }

  /// Refuses options that a model cannot be calibrated with.
  void require_possible(const intact::float_vit&) const {}
  void require_possible(const intact::float_swin&) const {
    if (equalize_) {
      throw not_of_swin("--equalize", "a ViT alone can be equalized");
    }
    if (method_.value_or("observe") != "observe") {
      throw not_of_swin("--method " + *method_, "a ViT's layers alone can be simulated; --method observe is possible");
    }
  }

  /// Where the method of a calibrated model comes from: the options that were given, or the default.
  std::string source(const CLI::App& app, const calibration_result<intact::calibrated_vit>& result) const {
    const std::string options = source_of(app, {"--method", "--observer", "--equalize", "--images"});
    return result.method == method() ? options
                                     : options + "; observe in place of " + method() + ", which is not possible";
  }
  std::string source(const CLI::App& app, const calibration_result<calibrated_swin>&) const {
    return app.count("--method") == 0 && app.count("--observer") == 0 && app.count("--images") == 0
               ? "default of Swin transformers; --observer names other ranges"
               : source_of(app, {"--method", "--observer", "--images"});
  }

  bool equalizes() const { return equalize_; }

  /// The same with ranges as they are observed, which is quick, and with equalized channels or as they are.
  calibration_arguments quick(bool equalize) const {
    calibration_arguments other = *this;
    other.method_ = "observe";
    other.equalize_ = equalize;
    return other;
  }

  /// For a note in the model's file. `method` is the one of the calibrated model.
  std::string description(const std::string& method, std::size_t images) const {
    return method + ", " + observer_ + (equalize_ ? ", equalized, " : ", ") + std::to_string(images) + " images";
  }

 private:
  /// Of a vision transformer without windows.
  std::string method() const { return method_.value_or("compensate"); }

  calibration_result<intact::calibrated_vit> choose_scales(const intact::float_vit& model,
                                                           std::span<const intact::image_view> images,
                                                           const intact::quantization_recipe& recipe,
                                                           std::size_t threads) const {
    const intact::float_vit start = equalize_ ? equalize(model, images) : model;
    const intact::vit_scales scales = intact::calibrate(start, images, {observer(), batch_});
    if (method() != "observe") {
      try {
        progress_bar progress("calibration", start.blocks.size());
        const intact::reconstruction_options options{.rounding = method() == "compensate"
                                                                     ? intact::weight_rounding::compensated
                                                                     : intact::weight_rounding::nearest,
                                                     .block_done = [&] { progress.advance(); }};
        return {intact::reconstruct(start, scales, images, recipe, options, thread_executor(threads)), method()};
      } catch (const std::invalid_argument& error) {  // rounding took a finite tensor beyond float
        std::fprintf(stderr, "intact-deit: warning: --method %s is not possible, observe takes its place: %s\n",
                     method().c_str(), error.what());
      }
    }
    return {intact::round_to_nearest(start, scales, recipe), "observe"};
  }

  static intact::float_vit equalize(const intact::float_vit& model, std::span<const intact::image_view> images) {
    progress_bar progress("equalization", images.size());
    return intact::equalize(model, images, [&] { progress.advance(); });
  }

  intact::observer observer() const {
    const std::map<std::string, intact::observer> observers = {{"minmax", intact::observer::minmax},
                                                               {"ema", intact::observer::ema},
                                                               {"percentile", intact::observer::percentile},
                                                               {"omse", intact::observer::omse}};
    return observers.at(observer_);
  }

  std::string folder_, observer_ = "minmax";
  std::optional<std::string> method_;
  std::size_t limit_ = std::numeric_limits<std::size_t>::max();
  index_t batch_ = 10;
  bool equalize_ = false;
};

}  // namespace intact_deit
