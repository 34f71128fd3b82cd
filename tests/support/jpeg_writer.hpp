#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>  // before jpeglib.h, which does not include it
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <jpeglib.h>

#include "intact/io/rgb_image.hpp"

// JPEG files of every kind that libjpeg writes.

namespace intact_test {

/// How a JPEG file is written; the default has three components, YCbCr, of full resolution.
struct jpeg_options {
  J_COLOR_SPACE given = JCS_RGB;     ///< of the samples
  J_COLOR_SPACE stored = JCS_YCbCr;  ///< in the file
  int across = 1, down = 1;          ///< samples of the first component for one of the others
  bool progressive = false;
  bool arithmetic = false;
  bool one_scan_each = false;      ///< components one after the other
  unsigned restart_interval = 0;   ///< blocks between restart markers
  bool jfif = true, adobe = true;  ///< markers that tell the colour space, where libjpeg writes them
};

/// `samples`: interleaved, as many components as the colour space given has.
inline void write_jpeg(const std::filesystem::path& path, const std::vector<std::uint8_t>& samples,
                       intact::index_t height, intact::index_t width, const jpeg_options& options) {
  jpeg_error_mgr errors{};
  jpeg_compress_struct encoder{};
  encoder.err = jpeg_std_error(&errors);  // it ends the program
  jpeg_create_compress(&encoder);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &bytes, &size);
  encoder.image_width = static_cast<JDIMENSION>(width);
  encoder.image_height = static_cast<JDIMENSION>(height);
  encoder.input_components = options.given == JCS_GRAYSCALE ? 1 : options.given == JCS_CMYK ? 4 : 3;
  encoder.in_color_space = options.given;
  jpeg_set_defaults(&encoder);
  jpeg_set_colorspace(&encoder, options.stored);
  jpeg_set_quality(&encoder, 95, TRUE);
  encoder.comp_info[0].h_samp_factor = options.across;
  encoder.comp_info[0].v_samp_factor = options.down;
  encoder.write_JFIF_header = encoder.write_JFIF_header != FALSE && options.jfif ? TRUE : FALSE;
  encoder.write_Adobe_marker = encoder.write_Adobe_marker != FALSE && options.adobe ? TRUE : FALSE;
  encoder.arith_code = options.arithmetic ? TRUE : FALSE;
  encoder.restart_interval = options.restart_interval;
  std::vector<jpeg_scan_info> scans;
  for (int component = 0; component < encoder.num_components; ++component) {
    scans.push_back({1, {component}, 0, DCTSIZE2 - 1, 0, 0});
  }
  if (options.one_scan_each) {
    encoder.scan_info = scans.data();
    encoder.num_scans = static_cast<int>(scans.size());
  }
  if (options.progressive) {
    jpeg_simple_progression(&encoder);
  }
  jpeg_start_compress(&encoder, TRUE);
  for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y) {
    std::vector<std::uint8_t> row(samples.begin() + static_cast<std::ptrdiff_t>(y * samples.size()) / height,
                                  samples.begin() + static_cast<std::ptrdiff_t>((y + 1) * samples.size()) / height);
    JSAMPROW rows = row.data();
    jpeg_write_scanlines(&encoder, &rows, 1);
  }
  jpeg_finish_compress(&encoder);
  jpeg_destroy_compress(&encoder);
  const std::unique_ptr<unsigned char, void (*)(void*)> released(bytes, std::free);
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes), static_cast<std::streamsize>(size));
}

inline void write_jpeg(const std::filesystem::path& path, const intact::rgb_image& image) {
  write_jpeg(path, image.samples, image.height, image.width, {});
}

}  // namespace intact_test
