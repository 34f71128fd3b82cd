// Prints the best instruction set that the compiler's flags allow and the best one of this processor, as a list of CMake.

#include <cstdio>
#include <string_view>
#include <tuple>

#include "intact/simd/detect.hpp"

int main() {
  const intact::simd::processor processor = intact::simd::detect();
  std::string_view best;
  std::apply([&](auto... isas) { ((best = processor.offers(isas) ? isas.name : best), ...); }, intact::isa::all{});
  std::printf("%s;%s", intact::isa::native::name.data(), best.data());
  return 0;
}
