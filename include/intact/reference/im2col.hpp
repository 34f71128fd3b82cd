#pragma once

#include <cstdint>

#include "intact/im2col.hpp"
#include "intact/types/image.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

inline void im2col(const image_view& image, index_t patch, matrix_view<std::uint8_t> y) {
  require_im2col(image, patch, y);
  const index_t patches_per_row = image.width / patch;
  for (index_t p = 0; p < y.rows; ++p) {
    const index_t top = p / patches_per_row * patch;
    const index_t left = p % patches_per_row * patch;
    for (index_t k = 0; k < y.columns; ++k) {
      y(p, k) = image(k / (patch * patch), top + k / patch % patch, left + k % patch);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
