#pragma once

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

namespace intact_test {

/// The folder of recorded cases, from the environment variable INTACT_CASES_DIR; empty when it is not set.
inline std::filesystem::path cases_directory() {
  const char* const directory = std::getenv("INTACT_CASES_DIR");
  return directory == nullptr ? "" : directory;
}

/// Catch2 2.13 cannot skip a test: CTest reports one as skipped that prints this line.
inline void report_skipped(const std::string& reason) {
  std::cout << "[intact: skipped] " << reason << std::endl;
}

/// True, and reported, when there are no recorded cases to compare with.
inline bool skip_without_cases() {
  const bool skipped = cases_directory().empty();
  if (skipped) {
    report_skipped("INTACT_CASES_DIR names no folder of recorded cases");
  }
  return skipped;
}

}  // namespace intact_test
