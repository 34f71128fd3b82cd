#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// A non-owning image of u8 samples: sample (c, y, x) is at
/// data[c * channel_stride + y * row_stride + x * pixel_stride].
struct image_view {
  const std::uint8_t* data = nullptr;  ///< sample (0, 0, 0)
  index_t channels = 0;                ///< number of channels
  index_t height = 0;                  ///< number of rows
  index_t width = 0;                   ///< pixels of a row
  index_t channel_stride = 0;          ///< in samples
  index_t row_stride = 0;              ///< in samples
  index_t pixel_stride = 0;            ///< in samples

  /// Sample (c, y, x).
  INTACT_INLINE constexpr const std::uint8_t& operator()(index_t c, index_t y, index_t x) const {
    return data[c * channel_stride + y * row_stride + x * pixel_stride];
  }
};

/// Sides of a patch in pixels. One number is a square.
struct patch_size {
  index_t height = 1;  ///< pixels
  index_t width = 1;   ///< pixels

  INTACT_INLINE constexpr patch_size() = default;
  /// A square.
  INTACT_INLINE constexpr patch_size(index_t side) : height(side), width(side) {}
  /// Height and width.
  INTACT_INLINE constexpr patch_size(index_t rows, index_t columns) : height(rows), width(columns) {}

  /// Pixels of a patch.
  INTACT_INLINE constexpr index_t samples() const { return size_product(height, width); }

  INTACT_INLINE friend constexpr bool operator==(const patch_size&, const patch_size&) = default;
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// One plane per channel (CHW).
constexpr image_view planar_image(const std::uint8_t* data, index_t channels, index_t height, index_t width) {
  return {.data = data,
          .channels = channels,
          .height = height,
          .width = width,
          .channel_stride = size_product(height, width),
          .row_stride = width,
          .pixel_stride = 1};
}

/// The channels of a pixel next to each other (HWC), as image files are decoded.
constexpr image_view interleaved_image(const std::uint8_t* data, index_t channels, index_t height, index_t width) {
  return {.data = data,
          .channels = channels,
          .height = height,
          .width = width,
          .channel_stride = 1,
          .row_stride = size_product(width, channels),
          .pixel_stride = channels};
}

/// Checks that an address can reach every sample of an image of at least one: the strides, which may be below 0, do not
/// lead further than max_size.
inline void require_reach(const char* operation, const image_view& image) {
  const auto reach = [](index_t count, index_t stride) {
    return size_product(count - 1, stride < 0 ? size_sum(-(stride + 1), 1) : stride);
  };
  const index_t samples =
      size_sum(reach(image.channels, image.channel_stride),
               size_sum(reach(image.height, image.row_stride), reach(image.width, image.pixel_stride)));
  if (image.channels > 0 && image.height > 0 && image.width > 0 && samples == max_size) [[unlikely]] {
    contract_failed(
        "intact::%s: the image has %td x %td x %td samples at strides %td, %td and %td; its last sample must "
        "be among the first %td",
        operation, image.channels, image.height, image.width, image.channel_stride, image.row_stride,
        image.pixel_stride, max_size);
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
