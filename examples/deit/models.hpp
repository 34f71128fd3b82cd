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
#include <variant>
#include <vector>

#include "file_errors.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/model_file.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/quantize/checkpoint_values.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/quantize/float_vit.hpp"

// Models that classify images: integer ones from files, and float ones.

namespace intact_deit {

using intact::index_t;

/// Logits in the float model's units.
using logit_row = std::vector<float>;

/// An integer model as it is stored, and one that is ready to run.
using integer_model = std::variant<intact::integer_vit, intact::integer_swin>;
using packed_model = std::variant<intact::packed_vit, intact::packed_swin>;

/// An integer model from a file, with the preprocessing that it was calibrated with.
struct stored_model {
  packed_model model;
  intact::image_preprocessing preprocessing;

  /// 0: the outputs are features.
  index_t classes() const {
    return std::visit([](const auto& any) { return any.shape().classes; }, model);
  }
};

/// Whether the metadata "format" of a file is this.
inline bool has_format(const intact::safetensors_index& file, const std::string& format) {
  const auto found = file.metadata().find("format");
  return found != file.metadata().end() && found->second == format;
}

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
inline std::pair<integer_model, intact::image_preprocessing> read_model(const std::filesystem::path& path) {
  intact::safetensors_reader file(path);
  integer_model model = has_format(file, intact::swin_file_format) ? integer_model(intact::load_integer_swin(file))
                                                                   : integer_model(intact::load_integer_vit(file));
  return std::visit(
      [&](auto&& any) -> std::pair<integer_model, intact::image_preprocessing> {
        const auto& shape = any.shape();
        if (shape.channels != 3) {
          throw error_in(path, "the model takes images of " + std::to_string(shape.channels) +
                                   " channels; they must have 3 channels");
        }
        const intact::image_sides size = {shape.height, shape.image_width};
        return {std::move(any), detail::read_preprocessing(file, size)};
      },
      std::move(model));
}

/// The same, ready to run.
inline stored_model load_model(const std::filesystem::path& path) {
  auto [model, preprocessing] = read_model(path);
  if (auto* const vit = std::get_if<intact::integer_vit>(&model)) {
    return {intact::packed_vit(std::move(*vit)), preprocessing};
  }
  return {intact::packed_swin(std::get<intact::integer_swin>(std::move(model))), preprocessing};
}

/// The vision transformer in a variant of models; refuses a Swin transformer, for a reason.
template <class Vit, class Models>
decltype(auto) require_vit(const std::filesystem::path& path, Models& models, const std::string& reason) {
  if (!std::holds_alternative<Vit>(models)) {
    throw error_in(path, "is a Swin transformer; " + reason);
  }
  return std::get<Vit>(models);
}

/// Refuses models whose outputs are features.
inline void require_head(const std::filesystem::path& path, index_t classes) {
  if (classes == 0) {
    throw error_in(path, "the model has no head; embed writes its features");
  }
}

inline std::size_t workspace_bytes(const intact::vit_shape& shape, index_t batch) {
  return intact::vit_workspace_bytes(shape, batch);
}
inline std::size_t workspace_bytes(const intact::swin_shape& shape, index_t batch) {
  return intact::swin_workspace_bytes(shape, batch);
}

inline void run_model(std::span<const intact::image_view> images, const intact::packed_vit& model,
                      const intact::classifier_outputs& outputs, const intact::workspace& memory) {
  intact::vit(images, model.parameters(), model.shape(), outputs, memory);
}
inline void run_model(std::span<const intact::image_view> images, const intact::packed_swin& model,
                      const intact::classifier_outputs& outputs, const intact::workspace& memory) {
  intact::swin(images, model.parameters(), model.shape(), outputs, memory);
}

/// An integer model with the memory that it runs in. The model must outlive it; not to be shared between threads.
template <class Packed>
class integer_classifier {
 public:
  /// `batch`: the most images of a call.
  explicit integer_classifier(const Packed& model, index_t batch = 1)
      : model_(&model),
        scratch_(workspace_bytes(model.shape(), batch)),
        logits_(static_cast<std::size_t>(batch * model.shape().classes)),
        logits_u8_(logits_.size()) {}

  std::vector<logit_row> operator()(std::span<const intact::image_view> images) {
    const index_t batch = std::ssize(images), classes = model_->shape().classes;
    run_model(
        images, *model_,
        {intact::matrix_view(logits_.data(), batch, classes), intact::matrix_view(logits_u8_.data(), batch, classes)},
        intact::workspace(scratch_.data(), scratch_.size()));
    std::vector<logit_row> all(images.size());
    for (std::size_t i = 0; i < static_cast<std::size_t>(batch * classes); ++i) {
      all[i / static_cast<std::size_t>(classes)].push_back(static_cast<float>(model_->real_logit(logits_[i])));
    }
    return all;
  }

 private:
  const Packed* model_;
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
template <class Model>
class float_classifier {
 public:
  explicit float_classifier(const Model& model) : model_(&model) {}

  logit_row operator()(const intact::image_view& image) const { return intact::forward(*model_, image); }

 private:
  const Model* model_;
};

}  // namespace intact_deit
