#pragma once

#include <png.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "checkpoint_files.hpp"
#include "deit/image_file.hpp"
#include "jpeg_writer.hpp"
#include "made_image.hpp"

// Image and text files for the tests of intact-deit.

namespace intact_test {

inline void write_png(const std::filesystem::path& path, const void* samples, index_t height, index_t width,
                      std::uint32_t format = PNG_FORMAT_RGB) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(width);
  png.height = static_cast<png_uint_32>(height);
  png.format = format;
  if (png_image_write_to_file(&png, path.c_str(), 0, samples, 0, nullptr) == 0) {
    throw std::runtime_error(png.message);
  }
}

inline void write_png(const std::filesystem::path& path, const rgb_image& image) {
  write_png(path, image.samples.data(), image.height, image.width);
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace intact_test
