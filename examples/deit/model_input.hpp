#pragma once

#include <filesystem>
#include <new>
#include <string>

#include "image_file.hpp"
#include "intact/io/preprocess.hpp"

namespace intact_deit {

/// How the images of files become those that a model takes.
struct input_size {
  intact::image_preprocessing preprocessing;
  bool prepared = false;  ///< images have the model's size already, and are taken as they are
};

/// The pixels that a model takes, from a file.
/// Errors: std::runtime_error, naming the file, as read_image; prepared images of another size; too little memory.
inline rgb_image read_input(const std::filesystem::path& file, const input_size& input) {
  try {
    rgb_image image = read_image(file);
    if (!input.prepared) {
      return intact::preprocess_image(image, input.preprocessing);
    }
    const intact::image_sides size = input.preprocessing.size;
    if (intact::image_sides(image.height, image.width) != size) {
      throw error_in(file, "the image is " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                               "; prepared images must have the model's size, " + std::to_string(size.width) + " x " +
                               std::to_string(size.height));
    }
    return image;
  } catch (const std::bad_alloc&) {
    throw error_in(file, "there is not enough memory for the image");
  }
}

}  // namespace intact_deit
