#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "image_size.hpp"
#include "jpeg_file.hpp"
#include "png_file.hpp"

// Images from PNG and JPEG files, with the pixels of Pillow's Image.open(file).convert("RGB"). Every byte of a file is
// taken as hostile.

namespace intact_deit {

inline constexpr std::uintmax_t max_file_bytes = std::uintmax_t{1} << 29;

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

/// A format, as a message names its files, by the bytes that they have at an offset.
struct file_format {
  std::string_view name;
  std::size_t offset;
  std::string_view signature;

  bool is_of(std::string_view bytes) const {
    return bytes.size() >= offset && bytes.substr(offset).starts_with(signature);
  }
};

using namespace std::string_view_literals;
inline constexpr file_format png_format{"a PNG file", 0, "\x89PNG\r\n\x1a\n"};
inline constexpr file_format jpeg_format{"a JPEG file", 0, "\xff\xd8\xff"};
/// Formats that are not read, to be named.
inline constexpr file_format other_formats[] = {
    {"a GIF file", 0, "GIF8"},
    {"a WebP file", 8, "WEBP"},
    {"a BMP file", 0, "BM"},
    {"a TIFF file", 0, "II*\0"sv},
    {"a TIFF file", 0, "MM\0*"sv},
    {"an AVIF file", 4, "ftypavif"},
    {"a HEIF file", 4, "ftyphei"},
    {"a HEIF file", 4, "ftypmif1"},
    {"a JPEG 2000 file", 0, "\0\0\0\x0cjP  "sv},
    {"a JPEG XL file", 0, "\0\0\0\x0cJXL "sv},
    {"a JPEG XL file", 0, "\xff\x0a"},
    {"a Git LFS pointer", 0, "version https://git-lfs"},
};

}  // namespace detail

/// Decodes a PNG or JPEG file, whatever its name says.
/// Errors: std::runtime_error, naming the file, for anything but a whole image; other formats are named, too.
inline rgb_image read_image(const std::filesystem::path& file) {
  const std::vector<std::uint8_t> bytes = detail::read_bytes(file);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (detail::png_format.is_of(text)) {
    return detail::decode_png(file, bytes);
  }
  if (detail::jpeg_format.is_of(text)) {
    return detail::decode_jpeg(file, bytes);
  }
  for (const detail::file_format& format : detail::other_formats) {
    if (format.is_of(text)) {
      throw error_in(file, "is " + std::string(format.name) + "; it must be a PNG or JPEG file");
    }
  }
  throw error_in(file, "is neither a PNG nor a JPEG file");
}

}  // namespace intact_deit
