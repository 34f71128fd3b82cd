#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "intact/adapt/float_vit.hpp"
#include "intact/adapt/model_file.hpp"
#include "preprocess.hpp"

// Models that classify images: integer ones from files, and float ones.

namespace intact_deit {

/// Logits in the float model's units.
using logit_row = std::vector<float>;

/// An integer model from a file, with the preprocessing that it was calibrated with.
struct stored_model {
  intact::integer_vit model;
  double crop;

  index image_size() const { return model.shape().height; }
};

/// How much of the resized shorter side remains after the crop, if nothing else is said: 224 of 256.
inline constexpr double default_crop = 0.875;

/// The note of a model file that holds the crop.
inline constexpr const char* crop_note = "crop";

namespace detail {

inline double read_crop(const intact::safetensors_file& file) {
  const auto note = file.metadata().find(crop_note);
  if (note == file.metadata().end()) {
    return default_crop;
  }
  const std::string& text = note->second;
  double crop = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), crop);
  if (error != std::errc() || end != text.data() + text.size() || !(crop >= 0.1 && crop <= 1)) {
    throw error_in(file.name(), "the note \"" + std::string(crop_note) + "\" must be a number from 0.1 to 1");
  }
  return crop;
}

}  // namespace detail

/// Errors: intact::file_error or std::runtime_error, naming the file, also for models of other images than square ones
/// of three channels.
inline stored_model load_model(const std::filesystem::path& path) {
  const intact::safetensors_file file = intact::safetensors_file::read(path);
  stored_model loaded{intact::load_integer_vit(file), detail::read_crop(file)};
  const intact::vit_shape& shape = loaded.model.shape();
  if (shape.channels != 3 || shape.height != shape.width_pixels) {
    throw error_in(path, "the model takes images of " + std::to_string(shape.channels) + " channels and " +
                             std::to_string(shape.width_pixels) + " x " + std::to_string(shape.height) +
                             " pixels; they must be square and have 3 channels");
  }
  return loaded;
}

/// An integer model with the memory that it runs in. The model must outlive it; not to be shared between threads.
class integer_classifier {
 public:
  explicit integer_classifier(const intact::integer_vit& model)
      : model_(&model),
        scratch_(intact::vit_workspace_bytes(model.shape())),
        logits_(static_cast<std::size_t>(model.shape().classes)),
        logits_u8_(logits_.size()) {}

  logit_row operator()(const intact::image_view& image) {
    const index classes = model_->shape().classes;
    intact::vit(image, model_->parameters(), model_->shape(), intact::matrix_view(logits_.data(), 1, classes),
                intact::matrix_view(logits_u8_.data(), 1, classes),
                intact::workspace(scratch_.data(), scratch_.size()));
    logit_row logits;
    for (const std::int32_t code : logits_) {
      logits.push_back(static_cast<float>(model_->real_logit(code)));
    }
    return logits;
  }

 private:
  const intact::integer_vit* model_;
  std::vector<std::byte> scratch_;
  std::vector<std::int32_t> logits_;
  std::vector<std::uint8_t> logits_u8_;
};

/// A float model, in Eigen. The model must outlive it.
class float_classifier {
 public:
  explicit float_classifier(const intact::float_vit& model) : model_(&model) {}

  logit_row operator()(const intact::image_view& image) const { return intact::forward(*model_, image); }

 private:
  const intact::float_vit* model_;
};

}  // namespace intact_deit
