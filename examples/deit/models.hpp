#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "file_errors.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/model_file.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/load_checkpoint.hpp"

// Models that classify images: integer ones from files, and float ones.

namespace intact_deit {

using intact::index_t;

/// Logits in the float model's units.
using logit_row = std::vector<float>;

/// An integer model from a file, with the preprocessing that it was calibrated with.
struct stored_model {
  intact::packed_vit model;
  intact::image_preprocessing preprocessing;
};

/// The notes of a model file that hold how images are prepared.
inline constexpr const char* crop_note = "crop";
inline constexpr const char* interpolation_note = "interpolation";
inline constexpr const char* resize_note = "resize";

namespace detail {

/// How images of a side are prepared for a model. A note that is missing has its default.
inline intact::image_preprocessing read_preprocessing(const intact::safetensors_index& file,
                                                      const intact::image_sides& size) {
  intact::image_preprocessing read{.size = size};
  const auto note = [&](const char* name, const auto& understands, const char* rule) {
    const auto found = file.metadata().find(name);
    if (found != file.metadata().end() && !understands(found->second)) {
      throw error_in(file.name(), "the note \"" + std::string(name) + "\" must be " + rule);
    }
  };
  const auto one_of = [](const std::string& text, const char* no, const char* yes, auto set) {
    set(text == yes);
    return text == no || text == yes;
  };
  note(
      crop_note,
      [&](const std::string& text) {
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read.crop);
        return error == std::errc() && end == text.data() + text.size() && read.crop >= 0.1 && read.crop <= 1;
      },
      "a number from 0.1 to 1");
  note(
      interpolation_note,
      [&](const std::string& text) {
        return one_of(text, "bicubic", "bilinear", [&](bool linear) {
          read.kind = linear ? intact::interpolation::bilinear : intact::interpolation::bicubic;
        });
      },
      "\"bicubic\" or \"bilinear\"");
  note(
      resize_note,
      [&](const std::string& text) {
        return one_of(text, "center", "squash", [&](bool squash) { read.squash = squash; });
      },
      "\"center\" or \"squash\"");
  return read;
}

}  // namespace detail

/// The notes that hold how images are prepared; those that have their default are left out, but for the crop.
inline std::map<std::string, std::string> preprocessing_notes(const intact::image_preprocessing& preprocessing) {
  std::map<std::string, std::string> notes = {{crop_note, intact::number_text(preprocessing.crop)}};
  if (preprocessing.kind == intact::interpolation::bilinear) {
    notes.emplace(interpolation_note, "bilinear");
  }
  if (preprocessing.squash) {
    notes.emplace(resize_note, "squash");
  }
  return notes;
}

/// An integer model from a file, and how its images are prepared.
/// Errors: intact::file_error or std::runtime_error, naming the file, also for models of images of other than three
/// channels.
inline std::pair<intact::integer_vit, intact::image_preprocessing> read_model(const std::filesystem::path& path) {
  intact::safetensors_reader file(path);
  intact::integer_vit model = intact::load_integer_vit(file);
  const intact::vit_shape& shape = model.shape();
  if (shape.channels != 3) {
    throw error_in(
        path, "the model takes images of " + std::to_string(shape.channels) + " channels; they must have 3 channels");
  }
  const intact::image_sides size = {shape.height, shape.image_width};
  return {std::move(model), detail::read_preprocessing(file, size)};
}

/// The same, ready to run.
inline stored_model load_model(const std::filesystem::path& path) {
  auto [model, preprocessing] = read_model(path);
  return {intact::packed_vit(std::move(model)), preprocessing};
}

/// Refuses models whose outputs are features.
inline void require_head(const std::filesystem::path& path, const intact::vit_shape& shape) {
  if (shape.classes == 0) {
    throw error_in(path, "the model has no head; embed writes its features");
  }
}

/// An integer model with the memory that it runs in. The model must outlive it; not to be shared between threads.
class integer_classifier {
 public:
  /// `batch`: the most images of a call.
  explicit integer_classifier(const intact::packed_vit& model, index_t batch = 1)
      : model_(&model),
        scratch_(intact::vit_workspace_bytes(model.shape(), batch)),
        logits_(static_cast<std::size_t>(batch * model.shape().classes)),
        logits_u8_(logits_.size()) {}

  std::vector<logit_row> operator()(std::span<const intact::image_view> images) {
    const index_t batch = std::ssize(images), classes = model_->shape().classes;
    intact::vit(
        images, model_->parameters(), model_->shape(),
        {intact::matrix_view(logits_.data(), batch, classes), intact::matrix_view(logits_u8_.data(), batch, classes)},
        intact::workspace(scratch_.data(), scratch_.size()));
    std::vector<logit_row> all(images.size());
    for (std::size_t i = 0; i < static_cast<std::size_t>(batch * classes); ++i) {
      all[i / static_cast<std::size_t>(classes)].push_back(static_cast<float>(model_->real_logit(logits_[i])));
    }
    return all;
  }

 private:
  const intact::packed_vit* model_;
  std::vector<std::byte> scratch_;
  std::vector<std::int32_t> logits_;
  std::vector<std::uint8_t> logits_u8_;
};

/// A classifier of batches that takes their images one by one. The classifier of images must outlive it.
template <class Classifier>
class one_by_one {
 public:
  explicit one_by_one(const Classifier& classifier) : classifier_(&classifier) {}

  std::vector<logit_row> operator()(std::span<const intact::image_view> images) const {
    std::vector<logit_row> all;
    for (const intact::image_view& image : images) {
      all.push_back((*classifier_)(image));
    }
    return all;
  }

 private:
  const Classifier* classifier_;
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
