#pragma once

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

#include "intact/types/image.hpp"

// Images from PNG and JPEG files, decoded by libpng and libjpeg-turbo. Every byte of a file is taken as hostile.

namespace intact_deit {

using intact::index;

/// Pixels of three bytes, red, green, blue, row by row.
struct rgb_image {
  index height = 0;
  index width = 0;
  std::vector<std::uint8_t> samples;

  rgb_image() = default;
  rgb_image(index rows, index columns)
      : height(rows), width(columns), samples(static_cast<std::size_t>(3 * rows * columns)) {}

  intact::image_view view() const { return intact::interleaved_image(samples.data(), 3, height, width); }

  friend bool operator==(const rgb_image&, const rgb_image&) = default;
};

/// No larger image is decoded: a few bytes of a file can claim any size.
inline constexpr index max_pixels = index{1} << 27;
inline constexpr std::uintmax_t max_file_bytes = std::uintmax_t{1} << 29;

/// An error that names a file.
inline std::runtime_error error_in(const std::filesystem::path& file, const std::string& problem) {
  return std::runtime_error(file.string() + ": " + problem);
}

namespace detail {

/// The bytes of a regular file: no folder and no pipe.
inline std::vector<std::uint8_t> read_bytes(const std::filesystem::path& file) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(file, error);
  if (!std::filesystem::is_regular_file(status)) {
    throw error_in(file, std::filesystem::exists(status) ? "is not a regular file" : "the file does not exist");
  }
  const std::uintmax_t size = std::filesystem::file_size(file, error);
  if (error || size > max_file_bytes) {
    throw error_in(file, error ? "the file cannot be examined: " + error.message()
                               : "the file has " + std::to_string(size) + " bytes; an image must have at most " +
                                     std::to_string(max_file_bytes));
  }
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  std::ifstream stream(file, std::ios::binary);
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!stream) {
    throw error_in(file, "the file cannot be read");
  }
  return bytes;
}

inline rgb_image empty_image(const std::filesystem::path& file, std::uint64_t width, std::uint64_t height) {
  constexpr std::uint64_t limit = max_pixels;
  if (width == 0 || height == 0 || width > limit || height > limit / width) {
    throw error_in(file, "the image is " + std::to_string(width) + " x " + std::to_string(height) +
                             "; it must have from 1 to " + std::to_string(limit) + " pixels");
  }
  return {static_cast<index>(height), static_cast<index>(width)};
}

inline rgb_image decode_png(const std::filesystem::path& file, const std::vector<std::uint8_t>& bytes) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> released(&png, png_image_free);
  const auto require = [&](int succeeded) {
    if (succeeded == 0) {
      throw error_in(file, std::string("libpng: ") + png.message);
    }
  };
  require(png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()));
  // Transparency is ignored: with an alpha channel to read into, colours stay what they are.
  png.format = PNG_FORMAT_RGBA;
  rgb_image image = empty_image(file, png.width, png.height);
  std::vector<std::uint8_t> rgba(image.samples.size() / 3 * 4);
  require(png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr));
  for (std::size_t pixel = 0; pixel < rgba.size() / 4; ++pixel) {
    for (std::size_t c = 0; c < 3; ++c) {
      image.samples[3 * pixel + c] = rgba[4 * pixel + c];
    }
  }
  return image;
}

inline rgb_image decode_jpeg(const std::filesystem::path& file, const std::vector<std::uint8_t>& bytes) {
  const std::unique_ptr<std::remove_pointer_t<tjhandle>, int (*)(tjhandle)> decoder(tjInitDecompress(), tjDestroy);
  const auto require = [&](int result) {
    if (result != 0) {
      throw error_in(file, std::string("libjpeg: ") + tjGetErrorStr2(decoder.get()));
    }
  };
  int width = 0, height = 0, subsampling = 0, color_space = 0;
  require(tjDecompressHeader3(decoder.get(), bytes.data(), bytes.size(), &width, &height, &subsampling, &color_space));
  rgb_image image = empty_image(file, static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height));
  // A truncated file is only a warning to libjpeg.
  constexpr int flags = TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS;
  require(tjDecompress2(decoder.get(), bytes.data(), bytes.size(), image.samples.data(), width, 0, height, TJPF_RGB,
                        flags));
  return image;
}

}  // namespace detail

/// Decodes a PNG or JPEG file, whatever its name says.
/// Errors: std::runtime_error, naming the file, for anything but a whole image.
inline rgb_image read_image(const std::filesystem::path& file) {
  const std::vector<std::uint8_t> bytes = detail::read_bytes(file);
  const auto begins_with = [&](std::initializer_list<std::uint8_t> signature) {
    return bytes.size() >= signature.size() && std::equal(signature.begin(), signature.end(), bytes.begin());
  };
  if (begins_with({0x89, 'P', 'N', 'G'})) {
    return detail::decode_png(file, bytes);
  }
  if (begins_with({0xff, 0xd8, 0xff})) {
    return detail::decode_jpeg(file, bytes);
  }
  throw error_in(file, "is neither a PNG nor a JPEG file");
}

}  // namespace intact_deit
