#pragma once

#include <cstdint>

#include "intact/kernel/im2col.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of im2col.
inline void require_im2col(const image_view& image, const patch_size& patch, const matrix_view<std::uint8_t>& y) {
  require_at_least("im2col", "patch height", patch.height, 1);
  require_at_least("im2col", "patch width", patch.width, 1);
  require_at_least("im2col", "image channels", image.channels, 0);
  require_at_least("im2col", "image height", image.height, 0);
  require_at_least("im2col", "image width", image.width, 0);
  require_equal("im2col", "image height % patch height", image.height % patch.height, 0);
  require_equal("im2col", "image width % patch width", image.width % patch.width, 0);
  require_shape("im2col", "y", y, size_product(image.height / patch.height, image.width / patch.width),
                size_product(image.channels, patch.samples()));
  require_reach("im2col", image);
  if (image.data == nullptr && y.rows * y.columns != 0) [[unlikely]] {
    contract_failed("intact::im2col: image has no data; it must have some");
  }
}

/// Cuts an image into non-overlapping patches of P x Q pixels, one row per patch: a convolution whose stride is its
/// kernel's size, such as a patch embedding, becomes gemm(im2col(image), weights).
///
/// Formula:   y[(py, px), (c, dy, dx)] = image[c, py * P + dy, px * Q + dx], both index triples row-major.
/// Shapes:    image C x H x W with any strides, H a multiple of P >= 1, W of Q >= 1; y (H/P * W/Q) x (C * P * Q).
/// Units:     samples are copied.
/// Exactness: every bit, on every target, with every executor.
/// Errors:    shapes that do not match, an image without data: before anything is written.
/// Aliasing:  y must not overlap the image.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section 9.
template <class Isa = isa::native, executor Executor = sequential>
void im2col(const image_view& image, const patch_size& patch, matrix_view<std::uint8_t> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_im2col(image, patch, y);
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task,
                       [&](row_range patches) { kernel::im2col<Isa>(image, patch, y, patches); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
