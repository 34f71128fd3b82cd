#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "intact/arith/integer_math.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/shift_matmul.hpp"

// A float model for images of another size than its own: its positions are interpolated.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Interpolates the positions of a square of patches for another square, as timm does: bicubic, antialiased.
inline float_matrix interpolate_positions(const float_matrix& positions, index_t from, index_t to) {
  const auto matrix_of = [&](index_t rows, index_t columns) {
    float_matrix taps = float_matrix::Zero(rows, columns);
    const std::vector<filter_taps> all = interpolation_taps(interpolation::bicubic, columns, rows, {0, rows});
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

/// The largest side of images for which a model's positions can be interpolated: attention takes at most
/// shift_matmul_max_keys tokens.
inline index_t largest_image_size(const vit_shape& shape) {
  const std::int64_t patches = std::max<std::int64_t>(shift_matmul_max_keys - std::int64_t{shape.prefix_tokens()}, 0);
  return static_cast<index_t>(std::int64_t{integer_sqrt(static_cast<std::uint64_t>(patches))} * shape.patch);
}

/// Changes the size of a model's images: positions are interpolated as timm does it, bicubic and antialiased.
///
/// Errors:    a size that is not a multiple of the patch size or makes more than shift_matmul_max_keys tokens, images
///            that are not square.
inline void resize_images(float_vit& model, index_t size) {
  const index_t patch = model.shape.patch;
  require_equal("resize_images", "width of the images", model.shape.image_width, model.shape.height);
  if (size < patch || size % patch != 0) [[unlikely]] {
    contract_failed("intact::resize_images: the image size is %td; it must be a multiple of the patch size, %td", size,
                    patch);
  }
  if (size != model.shape.height) {
    require_at_most("resize_images", "the image size", size, largest_image_size(model.shape));
    model.positions = detail::interpolate_positions(model.positions, model.shape.height / patch, size / patch);
    model.shape.height = model.shape.image_width = size;
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
