#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/windows.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/window_grid.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of window_partition.
template <class X, class T>
void require_window_partition(const matrix_view<X>& x, const window_grid& grid, const matrix_view<T>& y) {
  require_window_grid("window_partition", grid);
  require_shape("window_partition", "x", x, grid.tokens(), x.columns);
  require_shape("window_partition", "y", y, grid.padded_tokens(), x.columns);
}

/// Rows of tokens from the grid's order into that of its shifted windows (types/window_grid.hpp).
///
/// Formula:   y[row] = x[((top + shift) mod H', (left + shift) mod W')], where (top, left) is the row's place on the
///            padded grid of H' x W' tokens cut into windows; `padding` in all columns for tokens of padding.
/// Shapes:    x H * W x C, y grid.padded_tokens() x C; row-major, any strides, any alignment; sizes may be 0.
/// Units:     codes are copied; the padding is the code of 0, that is, the zero point.
/// Exactness: every bit, on every target, with every executor.
/// Errors:    shapes that do not match, a window below 1, a shift that is not in 0..window - 1: before anything is
///            written.
/// Aliasing:  y must not overlap x.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.2; docs/numerics.md, section 12.
template <class Isa = isa::native, class X, class T = std::remove_const_t<X>, executor Executor = sequential>
void window_partition(matrix_view<X> x, const window_grid& grid, std::type_identity_t<T> padding, matrix_view<T> y,
                      const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_window_partition(x, grid, y);
  if (y.columns != 0) {
    for_each_row_range(run, grid.windows(), 1,
                       [&](row_range windows) { kernel::window_partition<Isa, T>(x, grid, padding, y, windows); });
  }
}

/// Checks the arguments of window_reverse.
template <class X, class T>
void require_window_reverse(const matrix_view<X>& x, const window_grid& grid, const matrix_view<T>& y) {
  require_window_grid("window_reverse", grid);
  require_shape("window_reverse", "x", x, grid.padded_tokens(), x.columns);
  require_shape("window_reverse", "y", y, grid.tokens(), x.columns);
}

/// The way back: rows of tokens from the order of shifted windows into the grid's. Padding is dropped.
///
/// Shapes:    x grid.padded_tokens() x C, y H * W x C; else as above. Every element of y is written.
/// Exactness, errors, aliasing, runs on: as above.
template <class Isa = isa::native, class X, class T = std::remove_const_t<X>, executor Executor = sequential>
void window_reverse(matrix_view<X> x, const window_grid& grid, matrix_view<T> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_window_reverse(x, grid, y);
  if (y.columns != 0) {
    for_each_row_range(run, grid.windows(), 1,
                       [&](row_range windows) { kernel::window_reverse<Isa, T>(x, grid, y, windows); });
  }
}

/// Checks the arguments of shifted_window_mask.
inline void require_shifted_window_mask(const window_grid& grid, const matrix_view<std::uint8_t>& visible) {
  require_window_grid("shifted_window_mask", grid);
  require_shape("shifted_window_mask", "visible", visible, grid.tokens_per_window(), grid.tokens_per_window());
}

/// Which tokens of a shifted window are neighbours: after a cyclic shift, windows of the last row and the last column
/// have tokens of both ends of the grid, and those do not attend to each other. Other windows need no mask.
///
/// Formula:   region(token) = (bottom and its row >= window - shift, right and its column >= window - shift)
///            visible[i, j] = 1 if region(i) = region(j), else 0
/// Shapes:    visible window^2 x window^2; `bottom` and `right`: whether the window is in the last row, in the last
///            column of windows.
/// Exactness: every bit, on every target.
/// Errors:    as of window_partition.
/// Runs on:   plain loops, in the caller's thread.
/// Source:    Swin transformer, section 3.2, figure 4.
inline void shifted_window_mask(const window_grid& grid, bool bottom, bool right, matrix_view<std::uint8_t> visible) {
  require_shifted_window_mask(grid, visible);
  kernel::shifted_window_mask(grid, bottom, right, visible);
}

}  // namespace INTACT_UNIT
}  // namespace intact
