#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/patch_grid.hpp"
#include "intact/shift_matmul.hpp"

// A float model for images of another size than its own: its positions are interpolated.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Interpolates the positions of a grid of patches for another grid, as timm does: bicubic, antialiased.
inline float_matrix interpolate_positions(const float_matrix& positions, const image_sides& from,
                                          const image_sides& to) {
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
  const float_matrix down = matrix_of(to.height, from.height), across = matrix_of(to.width, from.width);
  const index_t before = from.height * from.width, after = to.height * to.width, others = positions.rows() - before;
  float_matrix resized(others + after, positions.cols());
  resized.topRows(others) = positions.topRows(others);
  for (index_t c = 0; c < positions.cols(); ++c) {
    float_matrix plane(from.height, from.width);
    for (index_t i = 0; i < before; ++i) {
      plane(i / from.width, i % from.width) = positions(others + i, c);
    }
    plane = (down * plane * across.transpose()).eval();
    for (index_t i = 0; i < after; ++i) {
      resized(others + i, c) = plane(i / to.width, i % to.width);
    }
  }
  return resized;
}

}  // namespace detail

/// The most patches for which a model's positions can be interpolated: attention takes at most shift_matmul_max_keys
/// tokens.
inline index_t most_patches(const vit_shape& shape) {
  return static_cast<index_t>(std::max<std::int64_t>(shift_matmul_max_keys - std::int64_t{shape.prefix_tokens()}, 0));
}

/// Changes the size of a model's images: positions are interpolated as timm does it, bicubic and antialiased.
///
/// Errors:    sides that are not multiples of the patch's, or that make more than shift_matmul_max_keys tokens.
inline void resize_images(float_vit& model, const image_sides& size) {
  vit_shape& shape = model.shape;
  const patch_size patch = shape.patch;
  if (!fills(patch, size)) [[unlikely]] {
    contract_failed(
        "intact::resize_images: the image size is %td x %td; its sides must be multiples of those of a patch, "
        "%td x %td",
        size.height, size.width, patch.height, patch.width);
  }
  const image_sides from = {shape.height, shape.image_width};
  if (size == from) {
    return;
  }
  const image_sides grid = patch_grid(size, patch);
  require_at_most("resize_images", "patches of an image", size_product(grid.height, grid.width), most_patches(shape));
  model.positions = detail::interpolate_positions(model.positions, patch_grid(from, patch), grid);
  shape.height = size.height;
  shape.image_width = size.width;
}

}  // namespace INTACT_UNIT
}  // namespace intact
