#pragma once

#include <sys/wait.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <string>

#include "catch.hpp"

namespace intact_test {

/// How a program ended, and all that it printed.
struct program_outcome {
  int exit_code = -1;
  std::string output;

  bool says(const std::string& text) const { return output.find(text) != std::string::npos; }
};

/// Runs a shell command.
inline program_outcome run_program(const std::string& command) {
  program_outcome result;
  FILE* const pipe = ::popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> part;
  while (const std::size_t size = std::fread(part.data(), 1, part.size(), pipe)) {
    result.output.append(part.data(), size);
  }
  const int status = ::pclose(pipe);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

}  // namespace intact_test
