// Violations that the checks of machine code must find, see machine_code.py; compiled for one instruction set.

#include <cstdint>

#include "intact/kernel/gemm.hpp"
#include "intact/stage/output_stage.hpp"

using isa_here = intact::isa::INTACT_DISPATCH_ISA;
using product_here = intact::gemm_operands<std::uint8_t, std::int8_t, intact::requantize<std::uint8_t>>;
using panel_here = intact::kernel::gemm_panel<isa_here, std::uint8_t, std::int8_t>;

/// Among several instruction sets the linker would keep one.
[[gnu::noinline]] inline void untagged_negate(std::int32_t* x) {
  for (int i = 0; i < 1024; ++i) {
    x[i] = -x[i];
  }
}

template <class Isa, class Product, class Panel>
void violate(const Product& product, const Panel& panel, std::int32_t* x) {
  untagged_negate(x);
#if INTACT_X86
  asm("pmaddubsw %xmm0, %xmm1");  // saturates
  asm("addss %xmm0, %xmm1");
#else
  asm(".inst 0x4e809c00");  // usdot v0.4s, v0.16b, v0.16b
  asm("fadd s0, s0, s1");
#endif
  intact::kernel::gemm_whole_tile<6, 8>(product, panel, 0, 0);  // twice as large as the registers
}

template void violate<isa_here>(const product_here&, const panel_here&, std::int32_t*);
