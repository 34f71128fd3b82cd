// Floors 0-6 in one translation unit, for the checks that compile them with something switched off. The model takes
// every operation along; the instantiations before it are those that it does not use.

#include "intact/intact.hpp"

namespace intact {

template void gemm(matrix_view<const std::int8_t>, packed_view<s4, const std::uint8_t>, const raw_accumulator&,
                   matrix_view<std::int32_t>);
template void gemm(const quantized_matrix&, const quantized_matrix&, const round_half_to_even<std::uint8_t>&,
                   matrix_view<std::uint8_t>);
template void gemm(const quantized_matrix&, const quantized_matrix&, const single_rounding<std::uint8_t>&,
                   matrix_view<std::uint8_t>);
template void gemm(const quantized_matrix&, const quantized_matrix&, const double_rounding<std::uint8_t>&,
                   matrix_view<std::uint8_t>);
template void gemm(const quantized_matrix&, const quantized_matrix&, const round_power_of_two<std::uint8_t>&,
                   matrix_view<std::uint8_t>);
template void log_softmax<attention_code::u8_masked>(matrix_view<const std::uint8_t>, exp_table<std::uint32_t>,
                                                     matrix_view<std::uint8_t>, const sequential&);

template void vit(const image_view&, const vit_parameters&, const vit_shape&,
                  {matrix_view<std::int32_t>, matrix_view<std::uint8_t>}, workspace, no_trace&&);
template void vit<isa::scalar>(std::span<const image_view>, const vit_parameters&, const vit_shape&,
                               {matrix_view<std::int32_t>, matrix_view<std::uint8_t>}, workspace, const sequential&);
template void swin<isa::scalar>(std::span<const image_view>, const swin_parameters&, const swin_shape&,
                                {matrix_view<std::int32_t>, matrix_view<std::uint8_t>}, workspace, const sequential&);
template void swin(const image_view&, const swin_parameters&, const swin_shape&,
                   {matrix_view<std::int32_t>, matrix_view<std::uint8_t>}, workspace, no_trace&&);

}  // namespace intact
