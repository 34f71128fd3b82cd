// All operations and models in one translation unit, for the checks that compile it without floating-point registers,
// or without exceptions. The models use most operations; the instantiations before them are those that no model uses.

#include "intact/intact.hpp"
#include "intact/reference/all.hpp"
#include "intact/stage/compat.hpp"

namespace intact {

using u8 = std::uint8_t;

template void reference::gemm(matrix_view<const std::int8_t>, const packed_view<s4, const u8>&, const raw_accumulator&,
                              matrix_view<std::int32_t>);
template void reference::gemm(const quantized_matrix&, const quantized_matrix&, const round_half_to_even<u8>&,
                              matrix_view<u8>);
template void reference::gemm(const quantized_matrix&, const quantized_matrix&, const single_rounding<u8>&,
                              matrix_view<u8>);
template void reference::gemm(const quantized_matrix&, const quantized_matrix&, const double_rounding<u8>&,
                              matrix_view<u8>);
template void reference::gemm(const quantized_matrix&, const quantized_matrix&, const round_power_of_two<u8>&,
                              matrix_view<u8>);
template void gemm<isa::scalar>(matrix_view<const u8>, const packed_weights<std::int8_t>&,
                                const row_corrected<single_rounding<u8>>&, matrix_view<u8>, const sequential&);
template void reference::multiply(const quantized_matrix&, const quantized_matrix&, const requantize<u8, tensor_scale>&,
                                  matrix_view<u8>);
template void multiply<isa::scalar>(const quantized_matrix&, const quantized_matrix&,
                                    const requantize<u8, tensor_scale>&, matrix_view<u8>, const sequential&);
template void reference::rmsnorm(matrix_view<const std::int16_t>, const layernorm_parameters&, matrix_view<u8>);
template void rmsnorm<isa::scalar>(matrix_view<const u8>, const layernorm_parameters&, matrix_view<u8>,
                                   const sequential&);
template void rotate<isa::scalar>(const quantized_matrix&, const rotation_parameters&, matrix_view<u8>,
                                  const sequential&);
template void row_sums<isa::scalar>(matrix_view<const std::int8_t>, std::int32_t, std::span<std::int32_t>);
template void gemm<isa::scalar>(const quantized_matrix&, const quantized_matrix&, const requantize<u8, tensor_scale>&,
                                matrix_view<u8>, workspace, const sequential&);
template void log_softmax<isa::scalar, attention_code::u8_masked>(matrix_view<const std::uint8_t>,
                                                                  exp_table<std::uint32_t>, matrix_view<std::uint8_t>,
                                                                  const sequential&);

template void reference::vit(const image_view&, const vit_parameters&, const vit_shape&, const classifier_outputs&,
                             workspace, no_trace&&);
template void reference::swin(const image_view&, const swin_parameters&, const swin_shape&, const classifier_outputs&,
                              workspace, no_trace&&);
template void vit<isa::scalar>(std::span<const image_view>, const vit_parameters&, const vit_shape&,
                               const classifier_outputs&, workspace, const sequential&);
template void swin<isa::scalar>(std::span<const image_view>, const swin_parameters&, const swin_shape&,
                                const classifier_outputs&, workspace, const sequential&);

}  // namespace intact
