#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "file_errors.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_types.hpp"
#include "intact/quantize/load_checkpoint.hpp"
#include "intact/quantize/load_swin_checkpoint.hpp"
#include "models.hpp"

// Float models of checkpoint files. Errors and assumptions name the options of intact-deit.

namespace intact_deit {

using intact::checkpoint_options;

/// A float model of either kind.
using any_checkpoint = std::variant<intact::loaded_checkpoint, intact::loaded_swin_checkpoint>;

namespace detail {

/// Refuses options of which a Swin transformer has no choice.
inline void require_swin_options(const intact::float_vit_options& options) {
  if (options.heads) {
    throw not_of_swin("--heads", "they are the columns of its tables of relative positions");
  }
  if (options.without_head) {
    throw not_of_swin("--features", "its integer model has a head");
  }
  if (options.norm) {
    throw not_of_swin("--norm", "they are LayerNorms");
  }
}

/// Loads a model with the configurations in a folder, if there is one. Errors about values that an option can replace
/// name the option.
inline any_checkpoint load_naming_options(const intact::safetensors_file& file, checkpoint_options options,
                                          const std::optional<std::filesystem::path>& folder) {
  try {
    if (folder) {
      options.config = intact::read_checkpoint_config(file, *folder);
    }
    if (intact::has_stages(intact::with_timm_names(file))) {
      require_swin_options(options.model);
      return intact::read_swin_checkpoint(file, options);
    }
    return intact::read_checkpoint(file, options);
  } catch (const intact::file_error& error) {
    const std::string problem = error.what();
    if (problem.find("norm1.bias\" is missing") != std::string::npos) {
      throw std::runtime_error(problem + "; the option --norm rmsnorm is for norms without biases");
    }
    for (const auto& [words, option] : {std::pair("\"do_resize\" is false", "--resize"),
                                        {"config.json \"", "--no-config"},
                                        {"\"pretrained_cfg\" \"", "--no-config"},
                                        {"heads is ", "--heads"},
                                        {"\"heads\"", "--heads"},
                                        {"ln_eps", "--epsilon"},
                                        {"mean is ", "--mean"},
                                        {"\"mean\"", "--mean"},
                                        {"std is ", "--std"},
                                        {"\"std\"", "--std"},
                                        {"\"activation\"", "--activation"},
                                        {"metadata \"norm\"", "--norm"}}) {
      if (problem.find(words) != std::string::npos) {
        throw std::runtime_error(problem +
                                 (option == std::string("--no-config")
                                      ? "; the option --no-config ignores it"
                                      : "; the option " + std::string(option) + " takes the place of the file's"));
      }
    }
    throw;
  }
}

}  // namespace detail

/// A checkpoint of a model for images of three channels, with the configurations in a folder, if there is one.
/// Errors: intact::file_error or std::runtime_error, naming the file and the tensor.
inline any_checkpoint load_checkpoint(const std::filesystem::path& path, const checkpoint_options& options = {},
                                      const std::optional<std::filesystem::path>& folder = {}) {
  const intact::safetensors_file file = intact::safetensors_file::read(path);
  any_checkpoint loaded = in_file(path, [&] { return detail::load_naming_options(file, options, folder); });
  const index_t channels = std::visit([](const auto& any) { return any.model.shape.channels; }, loaded);
  if (channels != 3) {
    throw error_in(path, "the model takes " + std::to_string(channels) + " channels; images have 3");
  }
  return loaded;
}

/// A value that a command takes, and its source.
struct assumption {
  std::string what, value;
  std::string source;  ///< an option, the file, or why the value is the default
};

/// Names and notes of a file that are shown; hostile files have many.
inline constexpr std::size_t most_shown = 20;

/// The values that a checkpoint may leave open, and their sources, and the tensors that were not needed.
template <class Model>
std::vector<assumption> assumptions(const intact::loaded_model<Model>& loaded) {
  std::vector<assumption> all;
  for (const intact::checkpoint_value& one : loaded.values) {
    const std::string option = "--" + one.name;
    const bool assumed = one.origin == intact::value_origin::assumed;
    all.push_back({one.name, one.value,
                   one.origin == intact::value_origin::option
                       ? option
                       : one.source + (assumed ? "; " + option + " names another" : "")});
  }
  if (!loaded.unused.empty()) {
    const std::size_t count = loaded.unused.size();
    std::string names;
    for (const std::string& name : std::span(loaded.unused).first(std::min(count, most_shown))) {
      names += (names.empty() ? "" : ", ") + intact::printable_text(name);
    }
    names += count > most_shown ? " and " + std::to_string(count - most_shown) + " others" : "";
    all.push_back({"unused", names, "tensors without a part in classification"});
  }
  return all;
}

}  // namespace intact_deit
