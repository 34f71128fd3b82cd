#pragma once

#include <cstddef>
#include <iterator>
#include <optional>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/checkpoint_names.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/float_vit.hpp"

// Float models from checkpoints with timm's or Hugging Face's names, for images of their own size or of another.

namespace intact {
inline namespace INTACT_UNIT {

/// The mean and the standard deviation of ImageNet's pixels from 0 to 1: red, green, blue.
inline constexpr float imagenet_mean[] = {0.485F, 0.456F, 0.406F};
inline constexpr float imagenet_deviation[] = {0.229F, 0.224F, 0.225F};

/// Of every LayerNorm, in Hugging Face's ViT and DeiT, if nothing else is said.
inline constexpr float hugging_face_epsilon = 1e-12F;

/// Values that a checkpoint may leave open.
struct checkpoint_options {
  float_vit_options model = {};
  std::optional<index_t> image_size = {};  ///< [the size that the model was trained for]
};

namespace detail {

/// Interpolates the positions of a square of patches for another square, as timm does: bicubic, antialiased.
inline float_matrix interpolate_positions(const float_matrix& positions, index_t from, index_t to) {
  const auto matrix_of = [&](index_t rows, index_t columns) {
    float_matrix taps = float_matrix::Zero(rows, columns);
    const std::vector<filter_taps> all = bicubic_taps(columns, rows, {0, rows});
    for (index_t i = 0; i < rows; ++i) {
      const filter_taps& tap = all[static_cast<std::size_t>(i)];
      for (std::size_t k = 0; k < tap.weight.size(); ++k) {
        taps(i, tap.first + static_cast<index_t>(k)) = static_cast<float>(tap.weight[k]);
      }
    }
    return taps;
  };
  const float_matrix taps = matrix_of(to, from);
  const index_t width = positions.cols(), class_tokens = positions.rows() - from * from;
  float_matrix resized(class_tokens + to * to, width);
  resized.topRows(class_tokens) = positions.topRows(class_tokens);
  for (index_t c = 0; c < width; ++c) {
    float_matrix plane(from, from);
    for (index_t i = 0; i < from * from; ++i) {
      plane(i / from, i % from) = positions(class_tokens + i, c);
    }
    plane = (taps * plane * taps.transpose()).eval();
    for (index_t i = 0; i < to * to; ++i) {
      resized(class_tokens + i, c) = plane(i / to, i % to);
    }
  }
  return resized;
}

}  // namespace detail

/// Changes the size of a model's images: positions are interpolated as timm does it, bicubic and antialiased.
///
/// Errors:    a size that is not a multiple of the patch size, images that are not square.
inline void resize_images(float_vit& model, index_t size) {
  const index_t patch = model.shape.patch;
  require_equal("resize_images", "width of the images", model.shape.image_width, model.shape.height);
  if (size < patch || size % patch != 0) [[unlikely]] {
    contract_failed("intact::resize_images: the image size is %td; it must be a multiple of the patch size, %td", size,
                    patch);
  }
  if (size != model.shape.height) {
    model.positions = detail::interpolate_positions(model.positions, model.shape.height / patch, size / patch);
    model.shape.height = model.shape.image_width = size;
  }
}

/// Makes a model of a checkpoint under timm's or Hugging Face's names, which may have a common prefix.
///
/// Types:     F32, F16, BF16 and F64.
/// Defaults:  those of load_float_vit; mean and standard deviation of ImageNet, where neither the options nor the file
///            has them; Hugging Face's epsilon for its names.
/// Errors:    file_error, as of load_float_vit and with_timm_names; std::invalid_argument, as of resize_images.
inline float_vit load_checkpoint(const safetensors_file& file, const checkpoint_options& options = {}) {
  float_vit_options model_options = options.model;
  if (model_options.mean.empty() && !file.metadata().contains("mean")) {
    model_options.mean.assign(std::begin(imagenet_mean), std::end(imagenet_mean));
  }
  if (model_options.standard_deviation.empty() && !file.metadata().contains("std")) {
    model_options.standard_deviation.assign(std::begin(imagenet_deviation), std::end(imagenet_deviation));
  }
  if (!model_options.epsilon && !file.metadata().contains("ln_eps") && has_hugging_face_names(file)) {
    model_options.epsilon = hugging_face_epsilon;
  }
  float_vit model = load_float_vit(with_timm_names(file), model_options);
  resize_images(model, options.image_size.value_or(model.shape.height));
  return model;
}

}  // namespace INTACT_UNIT
}  // namespace intact
