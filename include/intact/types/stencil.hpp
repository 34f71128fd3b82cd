#pragma once

#include "intact/types/token_grid.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The squares of size x size tokens around every stride-th token of a grid, in both directions, from its first on:
/// the values that a convolution with padding (size - 1) / 2 reads.
struct stencil {
  index_t size = 1;    ///< odd, at most 255
  index_t stride = 1;  ///< tokens from one stencil to the next, at least 1

  /// The grid of the tokens in the middle.
  INTACT_INLINE constexpr token_grid outputs_of(const token_grid& grid) const {
    return {group_count(grid.height, stride), group_count(grid.width, stride)};
  }
};

/// The largest size.
inline constexpr index_t stencil_max_size = 255;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a stencil's sizes.
inline void require_stencil(const char* operation, const stencil& around) {
  require_between(operation, "size of the stencil", around.size, 1, stencil_max_size);
  require_equal(operation, "size of the stencil modulo 2", around.size % 2, 1);
  require_between(operation, "stride of the stencil", around.stride, 1, token_grid_max_side);
}

}  // namespace INTACT_UNIT
}  // namespace intact
