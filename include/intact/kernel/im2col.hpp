#pragma once

#include <cstdint>
#include <cstring>

#include "intact/types/image.hpp"
#include "intact/types/row_range.hpp"
#include "intact/types/view.hpp"

// Patches as rows, copied line by line of a patch.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// One line of a channel of a patch.
template <class Isa>
INTACT_INLINE void copy_line(const std::uint8_t* from, index_t stride, index_t count, std::uint8_t* to) {
  constexpr index_t step = 8;
  if (stride == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(count));
    return;
  }
  index_t x = 0;
  for (; x + step <= count; x += step) {
    INTACT_UNROLL
    for (index_t i = x; i < x + step; ++i) {
      to[i] = from[i * stride];
    }
  }
  for (; x < count; ++x) {
    to[x] = from[x * stride];
  }
}

/// A range of patches.
template <class Isa>
void im2col(const image_view& image, const patch_size& patch, matrix_view<std::uint8_t> y, row_range patches) noexcept {
  const index_t patches_per_row = image.width / patch.width;
  for (index_t p = patches.begin; p < patches.end; ++p) {
    const index_t top = p / patches_per_row * patch.height;
    const index_t left = p % patches_per_row * patch.width;
    std::uint8_t* to = y.data + p * y.stride;
    for (index_t c = 0; c < image.channels; ++c) {
      for (index_t line = top; line < top + patch.height; ++line, to += patch.width) {
        copy_line<Isa>(&image(c, line, left), image.pixel_stride, patch.width, to);
      }
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
