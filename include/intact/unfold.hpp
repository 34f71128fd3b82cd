#pragma once

#include <cstdint>

#include "intact/kernel/unfold.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of unfold.
inline void require_unfold(const matrix_view<const std::uint8_t>& x, const token_grid& grid, const stencil& around,
                           const matrix_view<std::uint8_t>& y) {
  require_token_grid("unfold", grid);
  require_stencil("unfold", around);
  require_shape("unfold", "x", x, grid.tokens(), x.columns);
  require_at_most("unfold", "columns of x", x.columns, token_grid_max_side);
  require_shape("unfold", "y", y, around.outputs_of(grid).tokens(), size_product(around.size * around.size, x.columns));
}

/// The stencils of tokens on a grid as rows: a convolution becomes gemm(unfold(x), w).
///
/// Formula:   y[(i, j), (dy, dx, c)] = x[(i * stride + dy - reach, j * stride + dx - reach), c], dy and dx in
///            0..size - 1, reach = (size - 1) / 2; `padding` beside the grid.
/// Shapes:    x H * W x C, y ceil(H / stride) * ceil(W / stride) x size^2 * C; row-major, any strides, any alignment;
///            sizes may be 0. Weights for y have the order (dy, dx, c) too.
/// Units:     codes are copied; the padding is the code of 0, that is, the zero point, so that the correction for it in
///            a scale's offset (linear_spec in build/scale.hpp) is the same at the borders.
/// Range:     size odd and at most 255; sides, stride and C of at most 2^31 - 1.
/// Exactness: every bit, on every target, with every executor.
/// Errors:    shapes that do not match, sizes out of range: before anything is written.
/// Aliasing:  y must not overlap x.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section 16.
template <class Isa = isa::native, executor Executor = sequential>
void unfold(matrix_view<const std::uint8_t> x, const token_grid& grid, const stencil& around, std::uint8_t padding,
            matrix_view<std::uint8_t> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_unfold(x, grid, around, y);
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task,
                       [&](row_range rows) { kernel::unfold<Isa>(x, grid, around, padding, y, rows); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
