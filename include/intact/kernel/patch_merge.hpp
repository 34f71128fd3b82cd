#pragma once

#include "intact/kernel/windows.hpp"
#include "intact/types/row_range.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// A range of rows of y.
template <class Isa, class T>
void patch_merge(const matrix_view<const T>& x, index_t height, index_t width, T padding, const matrix_view<T>& y,
                 row_range rows) noexcept {
  const index_t across = (width + 1) / 2;
  for (index_t row = rows.begin; row < rows.end; ++row) {
    for (index_t quarter = 0; quarter < 4; ++quarter) {
      const index_t top = row / across * 2 + quarter % 2, left = row % across * 2 + quarter / 2;
      T* const to = y.data + row * y.stride + quarter * x.columns;
      if (top < height && left < width) {
        copy_rows<Isa>(x.data + (top * width + left) * x.stride, x.columns, to, x.columns, 1, x.columns);
      } else {
        fill_rows<Isa>(padding, to, x.columns, 1, x.columns);
      }
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
