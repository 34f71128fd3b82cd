#pragma once

#include <png.h>

#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <new>
#include <span>
#include <string>

#include "image_size.hpp"

// PNG files, decoded by libpng into the pixels of Pillow's Image.convert("RGB"): alpha channels and the chunks that
// describe colours are ignored, 16-bit samples lose their lower byte, and 16-bit grays are clipped to 255.

namespace intact_deit::detail {

/// Reads a PNG file from memory. libpng reports an error by a jump out of the function that called it: such functions
/// have no local variables with destructors, and return false after an error.
class png_reader {
 public:
  explicit png_reader(std::span<const std::uint8_t> bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, [](png_structp, png_const_charp) {});
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  png_reader(const png_reader&) = delete;
  png_reader& operator=(const png_reader&) = delete;
  ~png_reader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  /// Everything before the pixels.
  bool read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) {
      return false;
    }
    png_set_read_fn(png_, this, read);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // pixels are counted before memory is taken for them
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    // As Pillow: wrong checksums are errors up to the pixels, which have a checksum of their own.
    png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(png_, info_);
    png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    return true;
  }

  std::uint64_t height() const { return png_get_image_height(png_, info_); }
  std::uint64_t width() const { return png_get_image_width(png_, info_); }

  /// The pixels, after the header.
  bool read_pixels(rgb_image& image) {
    if (setjmp(png_jmpbuf(png_)) != 0) {
      return false;
    }
    choose_transformations();
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    for (int pass = 0; pass < passes; ++pass) {
      for (index_t y = 0; y < image.height; ++y) {
        png_read_row(png_, image.row(y), nullptr);
      }
    }
    if (is_palette()) {
      read_palette();
    }
    return true;
  }

  /// Makes three bytes of every sample of one or two bytes, from the end of each row to its beginning.
  void expand(rgb_image& image) const {
    if (!is_palette() && !is_gray16()) {
      return;
    }
    for (index_t y = 0; y < image.height; ++y) {
      std::uint8_t* const row = image.row(y);
      for (index_t x = image.width - 1; x >= 0; --x) {
        const std::array<std::uint8_t, 3> color = is_palette() ? palette_[row[x]] : clipped_gray(row + 2 * x);
        std::memcpy(row + 3 * x, color.data(), color.size());
      }
    }
  }

  /// The error after which a function returned false.
  std::string problem() const { return problem_.data(); }

 private:
  static void fail(png_structp png, png_const_charp message) {
    std::array<char, 200>& problem = static_cast<png_reader*>(png_get_error_ptr(png))->problem_;
    std::strncpy(problem.data(), message, problem.size() - 1);
    png_longjmp(png, 1);
  }

  static void read(png_structp png, png_bytep bytes, std::size_t count) {
    std::span<const std::uint8_t>& rest = static_cast<png_reader*>(png_get_io_ptr(png))->rest_;
    if (count > rest.size()) {
      png_error(png, "the file is truncated");
    }
    std::memcpy(bytes, rest.data(), count);
    rest = rest.subspan(count);
  }

  bool is_palette() const { return png_get_color_type(png_, info_) == PNG_COLOR_TYPE_PALETTE; }
  bool is_gray16() const { return gray16_; }

  /// To an index of a byte, to a 16-bit gray, or to three bytes.
  void choose_transformations() {
    const int type = png_get_color_type(png_, info_), depth = png_get_bit_depth(png_, info_);
    if (type == PNG_COLOR_TYPE_PALETTE) {
      png_set_packing(png_);
      return;
    }
    gray16_ = type == PNG_COLOR_TYPE_GRAY && depth == 16;
    if (gray16_) {
      return;
    }
    if (depth < 8) {
      png_set_expand_gray_1_2_4_to_8(png_);
    }
    png_set_strip_16(png_);
    png_set_strip_alpha(png_);
    if ((type & PNG_COLOR_MASK_COLOR) == 0) {
      png_set_gray_to_rgb(png_);
    }
  }

  /// Entries that the file does not have are grays, as in Pillow up to version 10.0.
  void read_palette() {
    png_colorp colors = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colors, &count);
    for (std::size_t i = 0; i < palette_.size(); ++i) {
      const std::uint8_t gray = static_cast<std::uint8_t>(i);
      const png_color color = i < static_cast<std::size_t>(count) ? colors[i] : png_color{gray, gray, gray};
      palette_[i] = {color.red, color.green, color.blue};
    }
  }

  static std::array<std::uint8_t, 3> clipped_gray(const std::uint8_t* sample) {
    const std::uint8_t gray = sample[0] == 0 ? sample[1] : std::uint8_t{255};
    return {gray, gray, gray};
  }

  std::span<const std::uint8_t> rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  bool gray16_ = false;
  std::array<std::array<std::uint8_t, 3>, 256> palette_{};
  std::array<char, 200> problem_{};
};

inline rgb_image decode_png(const std::filesystem::path& file, std::span<const std::uint8_t> bytes) {
  png_reader reader(bytes);
  if (!reader.read_header()) {
    throw error_in(file, "libpng: " + reader.problem());
  }
  rgb_image image = image_of_size(file, reader.height(), reader.width());
  if (!reader.read_pixels(image)) {
    throw error_in(file, "libpng: " + reader.problem());
  }
  reader.expand(image);
  return image;
}

}  // namespace intact_deit::detail
