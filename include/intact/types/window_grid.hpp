#pragma once

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// A grid of tokens cut into square windows. Where the grid ends inside a window, tokens of padding fill the window up,
/// to the right and at the bottom. The padded grid is shifted cyclically first: window (0, 0) begins at token (shift,
/// shift).
///
/// Tokens have two orders: row-major on the grid; and window by window, row-major inside each.
struct window_grid {
  index_t height = 0;  ///< rows of tokens
  index_t width = 0;   ///< tokens of a row
  index_t window = 1;  ///< tokens on a side
  index_t shift = 0;   ///< 0..window - 1, 0 for windows that are not shifted

  /// All tokens, without padding.
  INTACT_INLINE constexpr index_t tokens() const { return size_product(height, width); }
  /// Windows in a column.
  INTACT_INLINE constexpr index_t windows_down() const { return (height + window - 1) / window; }
  /// Windows in a row.
  INTACT_INLINE constexpr index_t windows_across() const { return (width + window - 1) / window; }
  /// All windows.
  INTACT_INLINE constexpr index_t windows() const { return size_product(windows_down(), windows_across()); }
  /// Tokens of a window.
  INTACT_INLINE constexpr index_t tokens_per_window() const { return size_product(window, window); }
  /// Tokens in window order, padding included.
  INTACT_INLINE constexpr index_t padded_tokens() const { return size_product(windows(), tokens_per_window()); }
  /// Images of a batch that has so many rows of tokens.
  INTACT_INLINE constexpr index_t images_of(index_t rows) const { return tokens() == 0 ? 0 : rows / tokens(); }
};

/// The longest side of a grid and of a window: products of three sides fit 64 bits.
inline constexpr index_t window_grid_max_side = 1 << 20;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a grid's sizes.
inline void require_window_grid(const char* operation, const window_grid& grid) {
  require_between(operation, "height of the grid", grid.height, 0, window_grid_max_side);
  require_between(operation, "width of the grid", grid.width, 0, window_grid_max_side);
  require_between(operation, "window", grid.window, 1, window_grid_max_side);
  require_between(operation, "shift of the windows", grid.shift, 0, grid.window - 1);
}

}  // namespace INTACT_UNIT
}  // namespace intact
