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

template <class X, class T = std::remove_const_t<X>>
void window_reverse(matrix_view<X> x, const window_grid& grid, matrix_view<T> y) {
  require_window_reverse(x, grid, y);
  for_each_window_token(grid, [&](index_t row, index_t position) {
    if (position >= 0) {
      std::copy_n(x.data + row * x.stride, y.columns, y.data + position * y.stride);
    }
  });
}

/// A token's region: 1 if it is below the cut, plus 2 if it is to the right of it.
inline void shifted_window_mask(const window_grid& grid, bool bottom, bool right, matrix_view<std::uint8_t> visible) {
  require_shifted_window_mask(grid, visible);
  const index_t cut = grid.window - grid.shift;
  const auto region = [&](index_t token) {
    return (bottom && token / grid.window >= cut ? 1 : 0) + (right && token % grid.window >= cut ? 2 : 0);
  };
  for (index_t i = 0; i < visible.rows; ++i) {
    for (index_t j = 0; j < visible.columns; ++j) {
      visible(i, j) = region(i) == region(j) ? 1 : 0;
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
