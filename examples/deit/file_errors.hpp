#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <type_traits>

// Errors that name a file.

namespace intact_deit {

/// An error that names a file.
inline std::runtime_error error_in(const std::filesystem::path& file, const std::string& problem) {
  return std::runtime_error(file.string() + ": " + problem);
}

/// The refusal of an option that Swin transformers do not take; in_file names the file.
inline std::invalid_argument not_of_swin(const std::string& option, const std::string& reason) {
  return std::invalid_argument("is a Swin transformer, which takes no " + option + ": " + reason);
}

/// Returns the result of an action; a refusal of arguments that come from a file names it.
template <class Action>
std::invoke_result_t<Action> in_file(const std::filesystem::path& file, Action action) {
  try {
    return action();
  } catch (const std::invalid_argument& error) {
    throw error_in(file, error.what());
  }
}

}  // namespace intact_deit
