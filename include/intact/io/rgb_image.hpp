#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "intact/types/image.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// An image of three bytes per pixel (red, green, blue), row by row, that owns its samples.
struct rgb_image {
  index_t height = 0;                 ///< rows
  index_t width = 0;                  ///< pixels of a row
  std::vector<std::uint8_t> samples;  ///< 3 * height * width

  rgb_image() = default;
  /// A black image.
  rgb_image(index_t rows, index_t columns)
      : height(rows), width(columns), samples(static_cast<std::size_t>(3 * rows * columns)) {}

  /// The first sample of a row.
  std::uint8_t* row(index_t y) { return samples.data() + 3 * width * y; }
  /// The first sample of a row.
  const std::uint8_t* row(index_t y) const { return samples.data() + 3 * width * y; }

  /// The image as models take it. It must not outlive the samples.
  image_view view() const { return interleaved_image(samples.data(), 3, height, width); }

  friend bool operator==(const rgb_image&, const rgb_image&) = default;
};

}  // namespace INTACT_UNIT
}  // namespace intact
