#pragma once

#include <algorithm>
#include <cstdint>

#include "intact/types/window_grid.hpp"
#include "intact/windows.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Calls body(row in window order, row-major position on the grid, -1 for padding).
template <class Body>
void for_each_window_token(const window_grid& grid, const Body& body) {
  const index_t padded_height = grid.windows_down() * grid.window, padded_width = grid.windows_across() * grid.window;
  for (index_t row = 0; row < grid.padded_tokens(); ++row) {
    const index_t window = row / grid.tokens_per_window(), token = row % grid.tokens_per_window();
    const index_t top = window / grid.windows_across() * grid.window + token / grid.window;
    const index_t left = window % grid.windows_across() * grid.window + token % grid.window;
    const index_t y = (top + grid.shift) % padded_height, x = (left + grid.shift) % padded_width;
    body(row, y < grid.height && x < grid.width ? y * grid.width + x : -1);
  }
}

/// The specification of intact::window_partition().
template <class X, class T = std::remove_const_t<X>>
void window_partition(matrix_view<X> x, const window_grid& grid, std::type_identity_t<T> padding, matrix_view<T> y) {
  require_window_partition(x, grid, y);
  for_each_window_token(grid, [&](index_t row, index_t position) {
    T* const to = y.data + row * y.stride;
    if (position < 0) {
      std::fill_n(to, y.columns, padding);
    } else {
      std::copy_n(x.data + position * x.stride, y.columns, to);
    }
  });
}

/// The specification of intact::window_reverse().
template <class X, class T = std::remove_const_t<X>>
void window_reverse(matrix_view<X> x, const window_grid& grid, matrix_view<T> y) {
  require_window_reverse(x, grid, y);
  for_each_window_token(grid, [&](index_t row, index_t position) {
    if (position >= 0) {
      std::copy_n(x.data + row * x.stride, y.columns, y.data + position * y.stride);
    }
  });
}

using intact::shifted_window_mask;  // plain loops already

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
