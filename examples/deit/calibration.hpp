#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "evaluate.hpp"
#include "image_folder.hpp"
#include "intact/adapt/calibrate.hpp"
#include "intact/adapt/profile.hpp"
#include "preprocess.hpp"

// From a float model and images to scales.

namespace intact_deit {

/// A float model with weights and scales that make a good integer model.
struct calibrated_model {
  intact::float_vit model;
  intact::vit_scales scales;
};

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
    app.add_option("--batch", batch_, "images that are held in memory together with all their tensors")
        ->capture_default_str()
        ->check(CLI::PositiveNumber)
        ->group(group);
  }

  std::vector<rgb_image> read(const input_size& input) const {
    std::vector<std::filesystem::path> files = find_images(folder_);
    files.resize(std::min(files.size(), limit_));
    std::vector<rgb_image> images;
    for (const std::filesystem::path& file : files) {
      images.push_back(read_input(file, input.size, input.crop));
    }
    return images;
  }

  calibrated_model calibrate(const intact::float_vit& model, std::span<const rgb_image> images,
                             const intact::profile&) const {
    std::vector<intact::image_view> views;
    for (const rgb_image& image : images) {
      views.push_back(image.view());
    }
    return {model, intact::calibrate(model, views, {observer(), batch_})};
  }

  /// For a note in the model's file.
  std::string description(std::size_t images) const { return observer_ + ", " + std::to_string(images) + " images"; }

 private:
  intact::observer observer() const {
    const std::map<std::string, intact::observer> observers = {{"minmax", intact::observer::minmax},
                                                               {"ema", intact::observer::ema},
                                                               {"percentile", intact::observer::percentile},
                                                               {"omse", intact::observer::omse}};
    return observers.at(observer_);
  }

  std::string folder_, observer_ = "minmax";
  std::size_t limit_ = std::numeric_limits<std::size_t>::max();
  index batch_ = 10;
};

}  // namespace intact_deit
