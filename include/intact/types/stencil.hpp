#pragma once

#include "intact/types/token_grid.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The squares of size x size tokens around every stride-th token of a grid, in both directions, from its first on:
/// what a convolution with padding (size - 1) / 2 reads.
struct neighbourhood {
  index size = 1;  ///< odd, at most 255
  index stride = 1;

  /// The grid of the tokens in the middle.
  INTACT_INLINE constexpr token_grid outputs_of(const token_grid& grid) const {
    return {group_count(grid.height, stride), group_count(grid.width, stride)};
  }
};

inline constexpr index neighbourhood_max_size = 255;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a neighbourhood's sizes.
inline void require_neighbourhood(const char* operation, const neighbourhood& around) {
  require_between(operation, "size of the neighbourhood", around.size, 1, neighbourhood_max_size);
  require_equal(operation, "size of the neighbourhood modulo 2", around.size % 2, 1);
  require_between(operation, "stride of the neighbourhood", around.stride, 1, token_grid_max_side);
}

}  // namespace INTACT_UNIT
}  // namespace intact
