#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Tokens on a grid, row-major: token (i, j) is row i * width + j of a matrix. A class token in front of them is left
/// out by row_block(1, tokens()).
struct token_grid {
  index_t height = 0;  ///< rows of tokens
  index_t width = 0;   ///< tokens of a row

  /// All tokens.
  INTACT_INLINE constexpr index_t tokens() const { return size_product(height, width); }
};

/// The longest side of a grid.
inline constexpr index_t token_grid_max_side = 0x7fffffff;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a grid's sizes.
inline void require_token_grid(const char* operation, const token_grid& grid) {
  require_between(operation, "height of the grid", grid.height, 0, token_grid_max_side);
  require_between(operation, "width of the grid", grid.width, 0, token_grid_max_side);
}

}  // namespace INTACT_UNIT
}  // namespace intact
