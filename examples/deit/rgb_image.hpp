#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "intact/types/image.hpp"

namespace intact_deit {

using intact::index_t;

/// Pixels of three bytes, red, green, blue, row by row.
struct rgb_image {
  index_t height = 0;
  index_t width = 0;
  std::vector<std::uint8_t> samples;

  rgb_image() = default;
  rgb_image(index_t rows, index_t columns)
      : height(rows), width(columns), samples(static_cast<std::size_t>(3 * rows * columns)) {}

  std::uint8_t* row(index_t y) { return samples.data() + 3 * width * y; }
  const std::uint8_t* row(index_t y) const { return samples.data() + 3 * width * y; }

  intact::image_view view() const { return intact::interleaved_image(samples.data(), 3, height, width); }

  friend bool operator==(const rgb_image&, const rgb_image&) = default;
};

/// Larger images are refused, as Pillow refuses them: a few bytes of a file can claim any size.
inline constexpr std::uint64_t max_pixels = 178'956'970;

/// An error that names a file.
inline std::runtime_error error_in(const std::filesystem::path& file, const std::string& problem) {
  return std::runtime_error(file.string() + ": " + problem);
}

/// Returns the result of an action; a refusal of arguments that come from a file names it.
template <class Action>
std::invoke_result_t<Action> in_file(const std::filesystem::path& file, Action action) {
  try {
    return action();
  } catch (const std::invalid_argument& error) {
    throw error_in(file, error.what());
  }
}

namespace detail {

/// An image for the pixels of a file.
inline rgb_image image_of_size(const std::filesystem::path& file, std::uint64_t height, std::uint64_t width) {
  if (width == 0 || height == 0 || width > max_pixels || height > max_pixels / width) {
    throw error_in(file, "the image is " + std::to_string(width) + " x " + std::to_string(height) +
                             "; it must have from 1 to " + std::to_string(max_pixels) + " pixels");
  }
  return {static_cast<index_t>(height), static_cast<index_t>(width)};
}

}  // namespace detail

}  // namespace intact_deit
