#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>
#include <tuple>

#include "cases.hpp"
#include "intact/simd/detect.hpp"

// run_if_supported ISA PROGRAM [ARGUMENT]...: becomes the program if this processor has the instruction set, else
// reports it as skipped. It is a program of its own, because one that is compiled for an instruction set may use it
// before its first line runs.

namespace {

bool is_supported(const std::string& name) {
  const intact::simd::processor processor = intact::simd::detect();
  return std::apply([&](auto... isas) { return ((name == isas.name && processor.offers(isas)) || ...); },
                    intact::isa::all{});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: run_if_supported ISA PROGRAM [ARGUMENT]...\n";
    return 2;
  }
  if (!is_supported(argv[1])) {
    intact_test::report_skipped("this processor does not have " + std::string(argv[1]));
    return 0;
  }
  execv(argv[2], argv + 2);
  std::cerr << argv[2] << ": " << std::strerror(errno) << '\n';
  return 2;
}
