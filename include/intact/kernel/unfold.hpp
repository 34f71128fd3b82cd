#pragma once

#include <cstdint>

#include "intact/kernel/windows.hpp"
#include "intact/types/stencil.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Rows [begin, end) of y.
template <class Isa>
void unfold(const matrix_view<const std::uint8_t>& x, const token_grid& grid, const neighbourhood& around,
            std::uint8_t padding, const matrix_view<std::uint8_t>& y, index begin, index end) noexcept {
  const index across = around.outputs_of(grid).width, reach = around.size / 2;
  for (index token = begin; token < end; ++token) {
    const index top = token / across * around.stride - reach, left = token % across * around.stride - reach;
    std::uint8_t* to = y.data + token * y.stride;
    for (index i = top; i < top + around.size; ++i) {
      for (index j = left; j < left + around.size; ++j, to += x.columns) {
        if (i >= 0 && i < grid.height && j >= 0 && j < grid.width) {
          copy_rows<Isa>(x.data + (i * grid.width + j) * x.stride, x.columns, to, x.columns, 1, x.columns);
        } else {
          fill_rows<Isa>(padding, to, x.columns, 1, x.columns);
        }
      }
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
