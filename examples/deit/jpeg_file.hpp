#pragma once

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>  // before jpeglib.h, which does not include it
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <jpeglib.h>

#include "image_size.hpp"

// JPEG files, decoded by libjpeg-turbo into the pixels of Pillow's Image.convert("RGB"): libjpeg's warnings are
// ignored, and files of four components hold inverted inks, as Adobe writes them.

namespace intact_deit::detail {

/// Reads a JPEG file from memory. libjpeg reports an error by a jump out of the function that called it: such functions
/// have no local variables with destructors, and return false after an error.
class jpeg_reader {
 public:
  explicit jpeg_reader(std::span<const std::uint8_t> bytes) {
    decoder_.err = jpeg_std_error(&errors_);
    decoder_.client_data = this;
    errors_.error_exit = [](j_common_ptr decoder) { of(decoder).fail(); };
    errors_.output_message = [](j_common_ptr) {};
    source_.init_source = [](j_decompress_ptr) {};
    source_.term_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = [](j_decompress_ptr) -> boolean { return FALSE; };  // there is no more than `bytes`
    source_.skip_input_data = skip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.next_input_byte = bytes.data();
    source_.bytes_in_buffer = bytes.size();
    progress_.progress_monitor = limit_scans;
  }
  jpeg_reader(const jpeg_reader&) = delete;
  jpeg_reader& operator=(const jpeg_reader&) = delete;
  ~jpeg_reader() { jpeg_destroy_decompress(&decoder_); }

  /// Everything before the pixels.
  bool read_header() {
    if (setjmp(jump_) != 0) {
      return false;
    }
    jpeg_create_decompress(&decoder_);
    decoder_.src = &source_;
    decoder_.progress = &progress_;
    int found = JPEG_HEADER_TABLES_ONLY;
    while (found == JPEG_HEADER_TABLES_ONLY) {
      found = jpeg_read_header(&decoder_, FALSE);
    }
    return found == JPEG_HEADER_OK || refuse_truncated();
  }

  std::uint64_t height() const { return decoder_.image_height; }
  std::uint64_t width() const { return decoder_.image_width; }
  int components() const { return decoder_.num_components; }
  int bits() const { return decoder_.data_precision; }

  /// The pixels, after the header. `inks` has room for four bytes for each pixel of a row if there are four components.
  bool read_pixels(rgb_image& image, std::vector<std::uint8_t>& inks) {
    if (setjmp(jump_) != 0) {
      return false;
    }
    decoder_.out_color_space = components() == 1 ? JCS_GRAYSCALE : components() == 3 ? JCS_RGB : JCS_CMYK;
    if (jpeg_start_decompress(&decoder_) == FALSE) {
      return refuse_truncated();
    }
    for (index_t y = 0; y < image.height; ++y) {
      std::uint8_t* row = components() == 4 ? inks.data() : image.row(y);
      if (jpeg_read_scanlines(&decoder_, &row, 1) != 1) {
        return refuse_truncated();
      }
      if (components() == 1) {
        expand_gray(row, image.width);
      } else if (components() == 4) {
        convert_inks(inks, image.row(y));
      }
    }
    jpeg_finish_decompress(&decoder_);  // all pixels are there, even if the file ends without an end marker
    return true;
  }

  /// The error after which a function returned false.
  std::string problem() const { return problem_.data(); }

 private:
  /// Real files have a dozen scans. Each one, of a few bytes, can cost the time of a whole image.
  static constexpr int max_scans = 500;

  static jpeg_reader& of(j_common_ptr decoder) { return *static_cast<jpeg_reader*>(decoder->client_data); }

  [[noreturn]] void fail() {
    errors_.format_message(reinterpret_cast<j_common_ptr>(&decoder_), problem_.data());
    std::longjmp(jump_, 1);
  }

  bool refuse_truncated() {
    std::snprintf(problem_.data(), problem_.size(), "the file is truncated");
    return false;
  }

  static void skip(j_decompress_ptr decoder, long count) {
    jpeg_source_mgr& source = *decoder->src;
    const std::size_t skipped = std::min(static_cast<std::size_t>(count), source.bytes_in_buffer);
    source.next_input_byte += skipped;
    source.bytes_in_buffer -= skipped;
  }

  static void limit_scans(j_common_ptr decoder) {
    jpeg_reader& reader = of(decoder);
    if (reader.decoder_.input_scan_number > max_scans) {
      std::snprintf(reader.problem_.data(), reader.problem_.size(), "the image has more than %d scans", max_scans);
      std::longjmp(reader.jump_, 1);
    }
  }

  static void expand_gray(std::uint8_t* row, index_t width) {
    for (index_t x = width - 1; x >= 0; --x) {
      std::memset(row + 3 * x, row[x], 3);
    }
  }

  /// Pillow's conversion of cyan, magenta, yellow and black, which are stored as 255 - ink.
  static void convert_inks(const std::vector<std::uint8_t>& inks, std::uint8_t* rgb) {
    for (std::size_t x = 0; x < inks.size() / 4; ++x) {
      const int light = inks[4 * x + 3];
      for (std::size_t c = 0; c < 3; ++c) {
        const int product = (255 - inks[4 * x + c]) * light + 128;
        rgb[3 * x + c] = static_cast<std::uint8_t>(light - (((product >> 8) + product) >> 8));
      }
    }
  }

  jpeg_decompress_struct decoder_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_{};
  std::array<char, JMSG_LENGTH_MAX> problem_{};
};

inline rgb_image decode_jpeg(const std::filesystem::path& file, std::span<const std::uint8_t> bytes) {
  jpeg_reader reader(bytes);
  if (!reader.read_header()) {
    throw error_in(file, "libjpeg: " + reader.problem());
  }
  const int components = reader.components();
  if (reader.bits() != 8 || (components != 1 && components != 3 && components != 4)) {
    throw error_in(file, "the image has " + std::to_string(components) + " components of " +
                             std::to_string(reader.bits()) + " bits; it must have 1, 3 or 4 of 8 bits");
  }
  rgb_image image = image_of_size(file, reader.height(), reader.width());
  std::vector<std::uint8_t> inks(components == 4 ? 4 * static_cast<std::size_t>(image.width) : 0);
  if (!reader.read_pixels(image, inks)) {
    throw error_in(file, "libjpeg: " + reader.problem());
  }
  return image;
}

}  // namespace intact_deit::detail
