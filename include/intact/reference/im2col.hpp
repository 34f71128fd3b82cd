#pragma once

#include <cstdint>

#include "intact/im2col.hpp"
#include "intact/types/image.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::im2col().
inline void im2col(const image_view& image, const patch_size& patch, matrix_view<std::uint8_t> y) {
  require_im2col(image, patch, y);
  const index_t patches_per_row = image.width / patch.width;
  for (index_t p = 0; p < y.rows; ++p) {
    const index_t top = p / patches_per_row * patch.height;
    const index_t left = p % patches_per_row * patch.width;
    for (index_t k = 0; k < y.columns; ++k) {
      y(p, k) = image(k / patch.samples(), top + k / patch.width % patch.height, left + k % patch.width);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
