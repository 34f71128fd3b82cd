#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

// Which options of a command were given, for reports of where a value comes from.

namespace intact_deit {

/// The names of the options that were given, of those that set a value. If none was: that the value is the default, and
/// the first of those that set another.
inline std::string source_of(const CLI::App& app, const std::vector<std::string>& options) {
  std::vector<std::string> given;
  for (const std::string& option : options) {
    if (app.count(option) != 0) {
      given.push_back(option);
    }
  }
  return given.empty() ? "default; " + options.front() + " names another" : CLI::detail::join(given, ", ");
}

}  // namespace intact_deit
