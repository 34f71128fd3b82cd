#pragma once

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>

#include "intact/config/version.hpp"

namespace intact_examples {

inline std::string version() {
  return std::to_string(INTACT_VERSION_MAJOR) + '.' + std::to_string(INTACT_VERSION_MINOR) + '.' +
         std::to_string(INTACT_VERSION_PATCH);
}

/// For programs without CLI11: prints name and version if --version is the argument. Whether it was.
inline bool print_version(int argc, char** argv) {
  if (argc != 2 || std::strcmp(argv[1], "--version") != 0) {
    return false;
  }
  std::printf("%s %s\n", std::filesystem::path(argv[0]).filename().c_str(), version().c_str());
  return true;
}

}  // namespace intact_examples
