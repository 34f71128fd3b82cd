#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "checkpoint.hpp"
#include "models.hpp"

// Arguments that several commands have.

namespace intact_deit {

inline std::size_t default_threads() {
  return std::max(1U, std::thread::hardware_concurrency());
}

inline void add_threads(CLI::App& app, std::size_t& threads) {
  app.add_option("--threads", threads, "threads, each on images of its own")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{1024}));
}

inline void add_batch(CLI::App& app, std::size_t& batch) {
  app.add_option("--batch", batch, "images that a thread takes at a time")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{1024}));
}

inline void add_prepared(CLI::App& app, bool& prepared) {
  app.add_flag("--prepared", prepared, "images are resized and cropped already: they must have the model's size");
}

inline CLI::Option* add_crop(CLI::App& app, std::optional<double>& crop) {
  return app.add_option("--crop", crop, "part of the resized shorter side that remains [0.875]")
      ->check(CLI::Range(0.1, 1.0))
      // NaN is outside of no range.
      ->check([](const std::string& text) { return std::isnan(std::strtod(text.c_str(), nullptr)) ? "NaN" : ""; });
}

/// "224" or "128x256", height first; nothing if it is neither.
inline std::optional<intact::image_sides> parse_sides(const std::string& text) {
  const auto side = [](const std::string& digits) -> index_t {  // 0 if it is none
    const bool digits_alone = !digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos;
    const index_t pixels = digits_alone && digits.size() <= 5 ? std::stoi(digits) : 0;
    return pixels <= 65536 ? pixels : 0;
  };
  const std::size_t cross = text.find('x');
  const intact::image_sides sides =
      cross == std::string::npos ? intact::image_sides(side(text))
                                 : intact::image_sides(side(text.substr(0, cross)), side(text.substr(cross + 1)));
  return sides.height != 0 && sides.width != 0 ? std::optional(sides) : std::nullopt;
}

/// Values that a checkpoint may lack.
class checkpoint_arguments {
 public:
  void add_to(CLI::App& app) {
    const std::string group = "Float model, where its file does not say";
    app.add_option(
           "--size", size_,
           "side of the images, or height x width, as 128x256; positions are interpolated for another than the\n"
           "trained one")
        ->check([](const std::string& text) {
          return parse_sides(text) ? "" : text + " is neither a side nor HEIGHTxWIDTH of 1 to 65536 pixels";
        })
        ->group(group);
    add_crop(app, crop_)->group(group);
    app.add_option("--interpolation", kind_, "how images are resized [bicubic]")
        ->check(CLI::IsMember({"bicubic", "bilinear"}))
        ->group(group);
    app.add_option("--resize", resize_,
                   "center: images keep their shape, and the middle is cut out; squash: both sides become one length\n"
                   "[center]")
        ->check(CLI::IsMember({"center", "squash"}))
        ->group(group);
    app.add_flag("--no-config", no_config_,
                 "ignore config.json, preprocessor_config.json beside the checkpoint, and its pretrained_cfg")
        ->group(group);
    app.add_option("--mean", mean_, "mean of the pixels, 0 to 1 [0.485 0.456 0.406]")->expected(1, 3)->group(group);
    app.add_option("--std", deviation_, "their standard deviation [0.229 0.224 0.225]")->expected(1, 3)->group(group);
    app.add_option("--heads", heads_, "heads of attention [width / 64]")->check(CLI::PositiveNumber)->group(group);
    app.add_option("--epsilon", epsilon_, "of LayerNorm [1e-6; Hugging Face's names: 1e-12; Swin: 1e-5]")->group(group);
    app.add_option("--features", features_,
                   "leave a head out: class (class tokens), mean (of the patch tokens), patches (all of them)")
        ->check(CLI::IsMember({"class", "mean", "patches"}))
        ->group(group);
    app.add_option("--activation", activation_, "activation function [gelu]")
        ->check([](const std::string& name) {
          return intact::find_activation(name) ? "" : name + " is none of " + intact::known_activations();
        })
        ->group(group);
    app.add_option("--norm", norm_, "kind of all norms; RMSNorms have no biases [layernorm]")
        ->check(CLI::IsMember({"layernorm", "rmsnorm"}))
        ->group(group);
  }

  checkpoint_options options() const {
    checkpoint_options options{
        .model = {.heads = heads_, .epsilon = epsilon_, .mean = mean_, .standard_deviation = deviation_},
        .image_size = parse_sides(size_),
        .crop = crop_};
    if (!features_.empty()) {
      options.model.without_head = true;
      options.model.pooling = features_ == "class"  ? intact::vit_pooling::class_tokens
                              : features_ == "mean" ? intact::vit_pooling::mean
                                                    : intact::vit_pooling::patch_tokens;
    }
    if (!activation_.empty()) {
      options.model.activation = intact::find_activation(activation_);
    }
    if (!norm_.empty()) {
      options.model.norm = norm_ == "rmsnorm" ? intact::normalization::rmsnorm : intact::normalization::layernorm;
    }
    if (!kind_.empty()) {
      options.kind = kind_ == "bilinear" ? intact::interpolation::bilinear : intact::interpolation::bicubic;
    }
    if (!resize_.empty()) {
      options.squash = resize_ == "squash";
    }
    return options;
  }

  /// A checkpoint with these values, for images of another size if one is given.
  any_checkpoint load(const std::filesystem::path& path, std::optional<intact::image_sides> size = {}) const {
    checkpoint_options all = options();
    all.image_size = size ? size : all.image_size;
    return load_checkpoint(path, all, no_config_ ? std::nullopt : std::optional(path.parent_path()));
  }

 private:
  std::optional<index_t> heads_;
  std::optional<float> epsilon_;
  std::vector<float> mean_, deviation_;
  std::optional<double> crop_;
  std::string size_, kind_, resize_, activation_, features_, norm_;
  bool no_config_ = false;
};

}  // namespace intact_deit
