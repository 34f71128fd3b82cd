// Compiled once for each instruction set, with its compiler flags; see intact_add_dispatch in CMakeLists.txt.
//
// The linker keeps one of several functions of the same name. Those of intact have the compiler flags of this file in
// their name (INTACT_UNIT in config/unit.hpp); functions of std:: and your own have not, unless they are static, in an
// unnamed namespace, or take one of intact's tags as a template argument. So such a file has no containers.

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
