#pragma once

#include <cstdint>

#include "intact/io/rgb_image.hpp"

namespace intact_test {

using intact::index_t;
using intact::rgb_image;

/// Samples without structure, the same on every machine: the expected values of Pillow are of these.
inline rgb_image made_image(index_t height, index_t width) {
  rgb_image image(height, width);
  for (std::uint64_t i = 0; i < image.samples.size(); ++i) {
    image.samples[i] = static_cast<std::uint8_t>(i * 37 + i * i * 11 + i / 7 * 101);
  }
  return image;
}

}  // namespace intact_test
