#pragma once

#include <cstdint>

#include "intact/kernel/im2col.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of im2col.
inline void require_im2col(const image_view& image, index_t patch, const matrix_view<std::uint8_t>& y) {
  require_at_least("im2col", "patch", patch, 1);
  require_at_least("im2col", "image channels", image.channels, 0);
  require_at_least("im2col", "image height", image.height, 0);
  require_at_least("im2col", "image width", image.width, 0);
  require_equal("im2col", "image height % patch", image.height % patch, 0);
  require_equal("im2col", "image width % patch", image.width % patch, 0);
  require_shape("im2col", "y", y, size_product(image.height / patch, image.width / patch),
                size_product(image.channels, size_product(patch, patch)));
  require_reach("im2col", image);
  if (image.data == nullptr && y.rows * y.columns != 0) [[unlikely]] {
    contract_failed("intact::im2col: image has no data; it must have some");
  }
}

/// Cuts an image into non-overlapping square patches, one row per patch: a convolution whose stride is its kernel's
/// size, such as a patch embedding, becomes gemm(im2col(image), weights).
///
/// Formula:   y[(py, px), (c, dy, dx)] = image[c, py * patch + dy, px * patch + dx], both index triples row-major.
/// Shapes:    image C x H x W with any strides, H and W multiples of patch >= 1; y (H/patch * W/patch) x (C * patch^2).
/// Units:     samples are copied.
/// Exactness: every bit, on every target, with every executor.
/// Errors:    shapes that do not match, an image without data: before anything is written.
/// Aliasing:  y must not overlap the image.
/// Source:    docs/numerics.md, section 9.
template <class Isa = isa::native, executor Executor = sequential>
void im2col(const image_view& image, index_t patch, matrix_view<std::uint8_t> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_im2col(image, patch, y);
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task,
                       [&](index_t begin, index_t end) { kernel::im2col<Isa>(image, patch, y, begin, end); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
