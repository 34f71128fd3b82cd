#pragma once

#include <cstdint>

#include "intact/types/stencil.hpp"
#include "intact/types/token_grid.hpp"
#include "intact/unfold.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[(i, j), (dy, dx, c)] = x[(i * stride + dy - reach, j * stride + dx - reach), c], and padding beside the grid.
inline void unfold(matrix_view<const std::uint8_t> x, const token_grid& grid, const stencil& around,
                   std::uint8_t padding, matrix_view<std::uint8_t> y) {
  require_unfold(x, grid, around, y);
  const index_t across = around.outputs_of(grid).width, reach = around.size / 2;
  for (index_t token = 0; token < y.rows; ++token) {
    for (index_t dy = 0; dy < around.size; ++dy) {
      for (index_t dx = 0; dx < around.size; ++dx) {
        const index_t i = token / across * around.stride + dy - reach, j = token % across * around.stride + dx - reach;
        const bool inside = i >= 0 && i < grid.height && j >= 0 && j < grid.width;
        for (index_t c = 0; c < x.columns; ++c) {
          y(token, (dy * around.size + dx) * x.columns + c) = inside ? x(i * grid.width + j, c) : padding;
        }
      }
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
