// Prints a line for each instruction set, as cmake/isas.cmake lists them: name, family and compiler flags.

#include <cstdio>
#include <string>
#include <string_view>
#include <tuple>

#include "intact/simd/isa.hpp"

namespace {

void print(std::string_view name, std::string_view family, std::string_view flags) {
  std::string row = std::string(name) + " " + std::string(family);
  row += flags.empty() ? "" : " " + std::string(flags);
  std::puts(row.c_str());
}

}  // namespace

int main() {
  std::apply([](auto... tags) { (print(tags.name, tags.family, tags.flags), ...); }, intact::isa::all{});
  return 0;
}
