#pragma once

#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "file_errors.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/load_checkpoint.hpp"
#include "models.hpp"

// Float models of checkpoint files. Errors and assumptions name the options of intact-deit.

namespace intact_deit {

using intact::checkpoint_options;

namespace detail {

/// Loads a model. Errors about values that an option can replace name the option.
inline intact::float_vit load_naming_options(const intact::safetensors_file& file, const checkpoint_options& options) {
  try {
    return intact::load_checkpoint(file, options);
  } catch (const intact::file_error& error) {
    const std::string problem = error.what();
    for (const auto& [words, option] : {std::pair("heads is ", "--heads"),
                                        {"\"heads\"", "--heads"},
                                        {"ln_eps", "--epsilon"},
                                        {"mean is ", "--mean"},
                                        {"\"mean\"", "--mean"},
                                        {"std is ", "--std"},
                                        {"\"std\"", "--std"}}) {
      if (problem.find(words) != std::string::npos) {
        throw std::runtime_error(problem + "; the option " + option + " takes the place of the file's");
      }
    }
    throw;
  }
}

}  // namespace detail

/// Loads a vision transformer for images of three channels.
/// Errors: intact::file_error or std::runtime_error, naming the file and the tensor.
inline intact::float_vit load_checkpoint(const std::filesystem::path& path, const checkpoint_options& options) {
  const intact::safetensors_file file = intact::safetensors_file::read(path);
  intact::float_vit model = in_file(path, [&] { return detail::load_naming_options(file, options); });
  if (model.shape.channels != 3) {
    throw error_in(path, "the model takes " + std::to_string(model.shape.channels) + " channels; images have 3");
  }
  return model;
}

/// A value that a checkpoint may leave open, and its source.
struct assumption {
  std::string what, value;
  std::string source;  ///< an option, the file, or why the value is the default
};

/// The values that a checkpoint may leave open, and their sources. `model` was loaded with these options.
inline std::vector<assumption> assumptions(const std::filesystem::path& path, const checkpoint_options& options,
                                           const intact::float_vit& model) {
  const intact::safetensors_reader file(path);
  const bool hugging_face = intact::has_hugging_face_names(file);
  const auto source = [&](bool given, const char* option, const char* key, const char* standard) -> std::string {
    return given                           ? option
           : file.metadata().contains(key) ? std::string("metadata \"") + key + '"'
                                           : std::string(standard) + "; " + option + " names another";
  };
  const auto numbers = [](const std::vector<float>& values) {
    std::ostringstream text;
    for (std::size_t i = 0; i < values.size(); ++i) {
      text << (i == 0 ? "" : " ") << values[i];
    }
    return text.str();
  };
  const intact::float_vit_options& given = options.model;
  return {
      {"heads", std::to_string(model.shape.heads), source(given.heads.has_value(), "--heads", "heads", "width / 64")},
      {"mean", numbers(model.mean), source(!given.mean.empty(), "--mean", "mean", "that of ImageNet")},
      {"std", numbers(model.standard_deviation),
       source(!given.standard_deviation.empty(), "--std", "std", "that of ImageNet")},
      {"epsilon", numbers({model.epsilon}),
       source(given.epsilon.has_value(), "--epsilon", "ln_eps",
              hugging_face ? "that of Hugging Face's models" : "that of timm's models")},
      {"size", std::to_string(model.shape.height),
       options.image_size ? "--size" : "that of the positions; --size names another"}};
}

}  // namespace intact_deit
