#pragma once

#include <type_traits>

#include "intact/kernel/patch_merge.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of patch_merge.
template <class X, class T>
void require_patch_merge(const matrix_view<X>& x, index_t height, index_t width, const matrix_view<T>& y) {
  require_at_least("patch_merge", "height", height, 0);
  require_at_least("patch_merge", "width", width, 0);
  require_shape("patch_merge", "x", x, size_product(height, width), x.columns);
  require_shape("patch_merge", "y", y, size_product(height / 2 + height % 2, width / 2 + width % 2),
                size_product(4, x.columns));
}

/// Concatenates each 2 x 2 neighbouring tokens of a grid into one row: the first step of Swin's patch merging.
///
/// Formula:   y[(i, j), (q, c)] = x[(2 i + q mod 2, 2 j + floor(q / 2)), c], q in 0..3: down before across;
///            `padding` where a grid of odd height or width ends.
/// Shapes:    x height * width x C, y ceil(height / 2) * ceil(width / 2) x 4 C; row-major, any strides, any alignment;
///            sizes may be 0.
/// Units:     codes are copied, with the shifts of their channels: those of y are x's four times. The padding is the
///            code of 0, that is, the zero point.
/// Exactness: every bit, on every target, with every executor.
/// Errors:    shapes that do not match: before anything is written.
/// Aliasing:  y must not overlap x.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.1; docs/numerics.md, section 12.
template <class Isa = isa::native, class X, class T = std::remove_const_t<X>, executor Executor = sequential>
void patch_merge(matrix_view<X> x, index_t height, index_t width, std::type_identity_t<T> padding, matrix_view<T> y,
                 const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_patch_merge(x, height, width, y);
  if (x.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task,
                       [&](row_range rows) { kernel::patch_merge<Isa, T>(x, height, width, padding, y, rows); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
