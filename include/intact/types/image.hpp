#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// An image of u8 samples that somebody else owns: sample (c, y, x) stands at
/// data[c * channel_stride + y * row_stride + x * pixel_stride].
struct image_view {
  const std::uint8_t* data = nullptr;
  index channels = 0;
  index height = 0;
  index width = 0;
  index channel_stride = 0;
  index row_stride = 0;
  index pixel_stride = 0;

  INTACT_INLINE constexpr const std::uint8_t& operator()(index c, index y, index x) const {
    return data[c * channel_stride + y * row_stride + x * pixel_stride];
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// One plane per channel (CHW).
constexpr image_view planar_image(const std::uint8_t* data, index channels, index height, index width) {
  return {data, channels, height, width, height * width, width, 1};
}

/// The channels of a pixel side by side (HWC), as image files are decoded.
constexpr image_view interleaved_image(const std::uint8_t* data, index channels, index height, index width) {
  return {data, channels, height, width, 1, width * channels, channels};
}

}  // namespace INTACT_UNIT
}  // namespace intact
