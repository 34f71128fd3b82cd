// The product with each of the library's output stages, compiled for one instruction set: for the checks of machine
// code, see machine_code.py.

#include <cstdint>

#include "intact/arith/fused_stage.hpp"
#include "intact/arith/output_stage.hpp"
#include "intact/arith/parity_stage.hpp"
#include "intact/kernel/gemm.hpp"

namespace intact::inline INTACT_ABI::kernel {

using isa_here = isa::INTACT_DISPATCH_ISA;
template <class Stage>
using product = gemm_operands<std::uint8_t, std::int8_t, Stage>;

template void gemm<isa_here>(const product<keep_accumulator>&, index, index) noexcept;
template void gemm<isa_here>(const product<requantize<std::int8_t>>&, index, index) noexcept;
template void gemm<isa_here>(const product<requantize<std::uint8_t, tensor_scale>>&, index, index) noexcept;
template void gemm<isa_here>(const product<requantize_to_activation>&, index, index) noexcept;
template void gemm<isa_here>(const product<activate>&, index, index) noexcept;
template void gemm<isa_here>(const product<add_to_stream>&, index, index) noexcept;
template void gemm<isa_here>(const product<requantize_and_add>&, index, index) noexcept;
template void gemm<isa_here>(const product<requantize_rows<std::uint8_t>>&, index, index) noexcept;
template void gemm<isa_here>(const gemm_operands<std::int8_t, s4, keep_accumulator>&, index, index) noexcept;

}  // namespace intact::inline INTACT_ABI::kernel
