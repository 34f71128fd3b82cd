#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "file_errors.hpp"
#include "intact/io/rgb_image.hpp"

namespace intact_deit {

using intact::index_t;
using intact::rgb_image;

/// Larger images are refused, as Pillow refuses them: a few bytes of a file can claim any size.
inline constexpr std::uint64_t max_pixels = 178'956'970;

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
