#pragma once

#include <cstdint>
#include <cstring>

#include "intact/types/image.hpp"
#include "intact/types/view.hpp"

// Patches as rows, copied line by line of a patch.

namespace intact::inline INTACT_ABI::kernel {

/// Patches [begin, end).
template <class Isa>
void im2col(const image_view& image, index patch, matrix_view<std::uint8_t> y, index begin, index end) noexcept {
  const index patches_per_row = image.width / patch;
  for (index p = begin; p < end; ++p) {
    const index top = p / patches_per_row * patch;
    const index left = p % patches_per_row * patch;
    std::uint8_t* to = y.data + p * y.stride;
    for (index c = 0; c < image.channels; ++c) {
      for (index line = top; line < top + patch; ++line, to += patch) {
        const std::uint8_t* const from = &image(c, line, left);
        if (image.pixel_stride == 1) {
          std::memcpy(to, from, static_cast<std::size_t>(patch));
          continue;
        }
        for (index x = 0; x < patch; ++x) {
          to[x] = from[x * image.pixel_stride];
        }
      }
    }
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
