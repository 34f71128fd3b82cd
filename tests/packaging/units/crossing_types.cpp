// Types that cross translation units are trivially copyable: a copy has no function that the linker could merge.

#include <cstdint>
#include <tuple>
#include <type_traits>

#include "intact/intact.hpp"
#include "intact/interop/dispatch/table.hpp"
#include "intact/reference/fq_vit_layernorm.hpp"
#include "intact/reference/log_sqrt2_matmul.hpp"
#include "intact/reference/model/trace.hpp"

namespace intact {
namespace {

template <class... Types>
constexpr bool all_trivially_copyable = (std::is_trivially_copyable_v<Types> && ...);

using u8 = std::uint8_t;
using s8 = std::int8_t;

static_assert(all_trivially_copyable<matrix_view<u8>, matrix_view<const u8>, packed_view<s4, u8>,
                                     packed_view<u4, const u8>, grouped_s4_view, packed_weights<s8>, packed_weights<s4>,
                                     packed_weights<grouped_s4>, image_view, patch_size, workspace, workspace_size,
                                     sequential, quantized_matrix, matrix_batch<u8>, quantized_batch, key_mask>);
static_assert(all_trivially_copyable<tensor_scale, channel_scale, row_divisor, add_parameters, log_sqrt2_scale,
                                     log2_of_sum, log2_of_max, weights_of_max, weight_codes_of_max, softmax_parameters,
                                     layernorm_parameters, fq_vit_layernorm_parameters, depthwise_weights, stencil,
                                     token_grid, window_grid, row_range>);
static_assert(std::apply([](auto... tags) { return all_trivially_copyable<decltype(tags)...>; }, isa::all{}));
static_assert(all_trivially_copyable<attention_code, log2_rounding, normalization, stream_codes,
                                     attention_codes<attention_code::u8_masked>>);
static_assert(
    all_trivially_copyable<raw_accumulator, requantize<u8>, requantize<u8, tensor_scale>, add_to_stream,
                           requantize_s64<u8>, requantize_u12, requantize_lut, requantize_add, requantize_per_row<u8>,
                           compat_scale, round_half_to_even<u8>, single_rounding<u8>, double_rounding<u8>,
                           round_power_of_two<u8>, row_corrected<raw_accumulator>, float_rounding<u8>,
                           float_output<float>, bfloat16, gemm_operands<u8, s8, raw_accumulator>>);
static_assert(all_trivially_copyable<
              any_packed_weights, weight_kinds<s8>, classifier_outputs, linear_parameters, multihead_parameters,
              attention_operands, qkv_zero_points, attention_shape, rotation_parameters, no_qk_rotation, qk_rotation,
              no_qk_norms, qk_norm_parameters, qk_norms, attention_parameters, mlp_parameters, no_gate, gate_parameters,
              mlp_gate, block_shape, block_parameters, u8_embedding, no_mean, mean_of_normalized, mean_of_stream,
              no_pre_norm, pre_norm_parameters, pre_norm, vit_pooling, vit_shape, vit_parameters,
              window_attention_shape, window_attention_parameters, swin_stage_shape, swin_shape, swin_block_shape,
              swin_block_parameters, swin_merging_parameters, swin_stage_parameters, swin_parameters, traced_tensor,
              trace_site, no_trace, layer_trace<no_trace>>);

static_assert(all_trivially_copyable<
              dispatched::activation, dispatched::add, dispatched::attention, dispatched::average_pool,
              dispatched::block, dispatched::convert_codes, dispatched::depthwise_conv, dispatched::gemm,
              dispatched::im2col, dispatched::layernorm,
              dispatched::log_softmax<attention_code::u8_masked, log2_rounding::round_log>, dispatched::max_softmax,
              dispatched::multiply, dispatched::patch_merge, dispatched::prepare_keys_values, dispatched::rmsnorm,
              dispatched::rotate, dispatched::row_sums, dispatched::shift_matmul<attention_code::u8_full>,
              dispatched::swin, dispatched::swin_block, dispatched::swin_features, dispatched::unfold, dispatched::vit,
              dispatched::vit_features, dispatched::weighted_matmul, dispatched::window_attention,
              dispatched::window_partition, dispatched::window_reverse>);
static_assert(all_trivially_copyable<
              executor_ref, attention_head, prepared_values, prepared_keys_values, prepared_operands, dispatch_choice,
              dispatch_entries<>, dispatch_entry<dispatched::add, u8>, dispatch_table, dispatch_lists::stages<>,
              dispatch_lists::product<u8, s8>, dispatch_lists::shift_matmul<attention_code::u8_full>,
              dispatch_lists::for_each_stage<dispatch_lists::convert_codes, dispatch_lists::stages<>>>);
static_assert(
    all_trivially_copyable<dispatched::first_row_not_finite, dispatched::quantize_rows, interop_dispatch_table>);

}  // namespace
}  // namespace intact
