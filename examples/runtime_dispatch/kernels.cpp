// Compiled once for each instruction set, with its compiler flags; see intact_add_dispatch in CMakeLists.txt.
//
// The rule for such a file: every function in it, also those that it takes from headers, has the instruction set in its
// name, which is what intact's kernels are templates for. The linker keeps one of several functions of the same name.
// If two of these units had, say, std::vector<int>::push_back in common, the one that survives could contain AVX-512
// instructions, and every processor would run it. So no containers, no algorithms, no checks, no helpers of one's own
// that are not templates over the instruction set. Arguments are checked before, in a unit for any processor.

#include "kernels.hpp"

namespace engine {

using isa = intact::isa::INTACT_DISPATCH_ISA;

template <>
const kernel_table& kernels_of<isa>() {
  static constexpr kernel_table table = {
      .linear_s8 = intact::kernel::gemm<isa>,
      .linear_s4 = intact::kernel::gemm<isa>,
  };
  return table;
}

}  // namespace engine
