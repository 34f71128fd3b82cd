#pragma once

#include <cstdint>

#include "intact/kernel/windows.hpp"
#include "intact/types/row_range.hpp"
#include "intact/types/stencil.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// A range of rows of y.
template <class Isa>
void unfold(const matrix_view<const std::uint8_t>& x, const token_grid& grid, const stencil& around,
            std::uint8_t padding, const matrix_view<std::uint8_t>& y, row_range rows) noexcept {
  const index_t across = around.outputs_of(grid).width, reach = around.size / 2;
  for (index_t token = rows.begin; token < rows.end; ++token) {
    const index_t top = token / across * around.stride - reach, left = token % across * around.stride - reach;
    std::uint8_t* to = y.data + token * y.stride;
    for (index_t i = top; i < top + around.size; ++i) {
      for (index_t j = left; j < left + around.size; ++j, to += x.columns) {
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
