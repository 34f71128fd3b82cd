// Prints the best instruction set that the compiler's flags allow.

#include <cstdio>

#include "intact/simd/isa.hpp"

int main() {
  std::fputs(intact::isa::native::name.data(), stdout);
  return 0;
}
