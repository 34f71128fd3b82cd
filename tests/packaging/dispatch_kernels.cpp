// Every kernel of the library, compiled for one instruction set: for the checks of machine code, see machine_code.py.

#include <cstdint>

#include "intact/kernel/activation.hpp"
#include "intact/kernel/add.hpp"
#include "intact/kernel/attention.hpp"
#include "intact/kernel/average_pool.hpp"
#include "intact/kernel/convert_codes.hpp"
#include "intact/kernel/depthwise_conv.hpp"
#include "intact/kernel/gemm.hpp"
#include "intact/kernel/im2col.hpp"
#include "intact/kernel/layernorm.hpp"
#include "intact/kernel/log_softmax/row_loop.hpp"
#include "intact/kernel/max_softmax.hpp"
#include "intact/kernel/patch_merge.hpp"
#include "intact/kernel/shift_matmul.hpp"
#include "intact/kernel/unfold.hpp"
#include "intact/kernel/windows.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/output_stage.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

using isa_here = isa::INTACT_DISPATCH_ISA;
template <class Stage>
using product = gemm_operands<std::uint8_t, std::int8_t, Stage>;

template void gemm<isa_here>(const product<raw_accumulator>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const gemm_operands<std::uint8_t, grouped_s4, requantize<std::uint8_t>>&, index_t,
                             index_t) noexcept;
template void gemm<isa_here>(const product<requantize<std::int8_t>>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const product<requantize<std::uint8_t, tensor_scale>>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const product<requantize_u12>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const product<requantize_lut>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const product<add_to_stream>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const product<requantize_add>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const product<requantize_per_row<std::uint8_t>>&, index_t, index_t) noexcept;
template void gemm<isa_here>(const gemm_operands<std::int8_t, s4, raw_accumulator>&, index_t, index_t) noexcept;

using u8_matrix = matrix_view<std::uint8_t>;
using u8_input = matrix_view<const std::uint8_t>;
using packed_codes = attention_codes<attention_code::u4_clipped>::view;
using byte_codes = attention_codes<attention_code::u8_full>::view;

template void activation<isa_here>(u8_input, const std::uint8_t*, u8_matrix, index_t, index_t) noexcept;
template void activation<isa_here>(matrix_view<const std::uint16_t>, const std::uint8_t*, u8_matrix, index_t,
                                   index_t) noexcept;
template void add<isa_here>(u8_input, u8_input, const add_parameters&, u8_matrix, index_t, index_t) noexcept;
template void layernorm<isa_here>(u8_input, const layernorm_parameters&, u8_matrix, index_t, index_t) noexcept;
template void layernorm<isa_here>(matrix_view<const std::int16_t>, const layernorm_parameters&, u8_matrix, index_t,
                                  index_t) noexcept;
template void log_softmax<isa_here, attention_code::u4_clipped, log2_rounding::round_ratio>(u8_input,
                                                                                            const std::uint64_t*,
                                                                                            const packed_codes&,
                                                                                            index_t, index_t) noexcept;
template void max_softmax<isa_here>(u8_input, const std::uint8_t*, const packed_codes&, index_t, index_t) noexcept;
template void max_softmax<isa_here>(u8_input, const std::uint8_t*, const byte_codes&, index_t, index_t) noexcept;
template void window_partition<isa_here>(const u8_input&, const window_grid&, std::uint8_t, const u8_matrix&, index_t,
                                         index_t) noexcept;
template void window_reverse<isa_here>(const u8_input&, const window_grid&, const u8_matrix&, index_t,
                                       index_t) noexcept;
template void patch_merge<isa_here>(const u8_input&, index_t, index_t, std::uint8_t, const u8_matrix&, index_t,
                                    index_t) noexcept;
template void average_pool<isa_here>(const u8_input&, const requantize<std::uint8_t, tensor_scale>&,
                                     const u8_matrix&) noexcept;
template void convert_codes<isa_here>(const u8_input&, const requantize<std::uint8_t, tensor_scale>&, const u8_matrix&,
                                      index_t, index_t) noexcept;
template void depthwise_conv<isa_here>(const quantized_matrix&, const token_grid&, const depthwise_weights&,
                                       const requantize<std::uint8_t>&, const u8_matrix&, index_t, index_t) noexcept;
template void unfold<isa_here>(const u8_input&, const token_grid&, const stencil&, std::uint8_t, const u8_matrix&,
                               index_t, index_t) noexcept;
template void im2col<isa_here>(const image_view&, index_t, u8_matrix, index_t, index_t) noexcept;
template attention_head prepare_head<isa_here>(const quantized_matrix&, const quantized_matrix&, int,
                                               const attention_head_memory&) noexcept;
template u8_matrix band_logits<isa_here>(const u8_input&, const attention_head&, const tensor_scale&,
                                         const attention_scratch&) noexcept;
template class softmax_row_encoder<isa_here>;
template void band_context<isa_here>(const u8_matrix&, const attention_head&, const softmax_parameters&,
                                     const u8_matrix&, const attention_scratch&) noexcept;
template void shift_matmul<isa_here>(const attention_codes<attention_code::u4_clipped>::const_view&, std::uint8_t,
                                     const prepared_values&, const requantize<std::uint8_t, tensor_scale>&,
                                     const u8_matrix&, index_t, index_t, const shift_scratch&) noexcept;

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
