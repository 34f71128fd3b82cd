#pragma once

#include <algorithm>

#include "intact/patch_merge.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::patch_merge().
template <class X, class T = std::remove_const_t<X>>
void patch_merge(matrix_view<X> x, index_t height, index_t width, std::type_identity_t<T> padding, matrix_view<T> y) {
  require_patch_merge(x, height, width, y);
  const index_t merged_across = (width + 1) / 2;
  for (index_t row = 0; row < y.rows; ++row) {
    for (index_t quarter = 0; quarter < 4; ++quarter) {
      const index_t top = row / merged_across * 2 + quarter % 2, left = row % merged_across * 2 + quarter / 2;
      T* const to = y.data + row * y.stride + quarter * x.columns;
      if (top < height && left < width) {
        std::copy_n(x.data + (top * width + left) * x.stride, x.columns, to);
      } else {
        std::fill_n(to, x.columns, padding);
      }
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
