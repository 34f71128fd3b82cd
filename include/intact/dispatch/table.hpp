#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "intact/activation.hpp"
#include "intact/add.hpp"
#include "intact/average_pool.hpp"
#include "intact/convert_codes.hpp"
#include "intact/depthwise_conv.hpp"
#include "intact/gemm.hpp"
#include "intact/im2col.hpp"
#include "intact/layernorm.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/multiply.hpp"
#include "intact/patch_merge.hpp"
#include "intact/rmsnorm.hpp"
#include "intact/rotate.hpp"
#include "intact/row_sums.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/stage/compat.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/row_corrected.hpp"
#include "intact/types/executor_ref.hpp"
#include "intact/unfold.hpp"
#include "intact/weighted_matmul.hpp"
#include "intact/windows.hpp"

// The operations and models that programs may call on the instruction set that is chosen when they run. The table at
// the end of this file is the list: an entry is an operation and the types of its arguments. unit.cpp fills a table
// for each instruction set, select.cpp chooses one, and the functions of this folder's other headers look entries up
// by type. The operations and stages of interop/ have a table of their own, in interop/dispatch/.

namespace intact {
inline namespace INTACT_ABI {

/// Names of operations, as parts of types.
namespace dispatched {

struct activation {};
struct add {};
struct attention {};
struct average_pool {};
struct block {};
struct convert_codes {};
struct depthwise_conv {};
struct gemm {};
struct im2col {};
struct layernorm {};
template <attention_code Format, log2_rounding Rounding>
struct log_softmax {};
struct max_softmax {};
struct multiply {};
struct patch_merge {};
struct prepare_keys_values {};
struct rmsnorm {};
struct rotate {};
struct row_sums {};
template <attention_code Format>
struct shift_matmul {};
struct swin {};
struct swin_block {};
struct swin_features {};
struct unfold {};
struct vit {};
struct vit_features {};
struct weighted_matmul {};
struct window_attention {};
struct window_partition {};
struct window_reverse {};

}  // namespace dispatched

/// A function of a table. A table is made from the type of a unit for one instruction set: Unit::run<Operation>.
template <class Operation, class... Arguments>
struct dispatch_entry {
  void (*run)(const Arguments&... arguments);

  template <class Unit>
  INTACT_INLINE constexpr explicit dispatch_entry(Unit) : run(Unit::template run<Operation, Arguments...>) {}
};

/// Several entries, or groups of them.
template <class... Entries>
struct dispatch_entries : Entries... {
  template <class Unit>
  INTACT_INLINE constexpr explicit dispatch_entries(Unit unit) : Entries(unit)... {}
};

/// An operation that takes an executor after its other arguments.
template <class Operation, class... Arguments>
using dispatch_threaded = dispatch_entry<Operation, Arguments..., executor_ref>;

namespace dispatch_lists {

using u8 = std::uint8_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using u8_input = matrix_view<const u8>;
using u8_output = matrix_view<u8>;
using table_view = std::span<const u8>;
template <class Stage>
using output_of = matrix_view<typename Stage::output>;

template <class... Stages>
struct stages {};

/// The stages of products with weights of every kind.
using of_products =
    stages<raw_accumulator, requantize<u8>, requantize<s8>, requantize<s16>, requantize<std::int32_t>, requantize_u12,
           requantize_lut, requantize_add, add_to_stream, requantize_per_row<u8>, requantize_per_row<s8>,
           round_half_to_even<u8>, round_half_to_even<s8>, single_rounding<u8>, single_rounding<s8>,
           double_rounding<u8>, double_rounding<s8>, round_power_of_two<u8>, round_power_of_two<s8>>;
/// More of those with s8 weights: rounding of other runtimes to 16 bits, and weights that have a zero point.
using of_s8_products =
    stages<round_half_to_even<s16>, single_rounding<s16>, double_rounding<s16>, round_power_of_two<s16>,
           row_corrected<round_half_to_even<u8>>, row_corrected<round_half_to_even<s8>>,
           row_corrected<single_rounding<u8>>, row_corrected<single_rounding<s8>>, row_corrected<double_rounding<u8>>,
           row_corrected<double_rounding<s8>>, row_corrected<round_power_of_two<u8>>,
           row_corrected<round_power_of_two<s8>>>;
/// Those of operations whose sums have one scale.
using of_tensors = stages<raw_accumulator, requantize<u8, tensor_scale>, requantize<s8, tensor_scale>,
                          requantize<s16, tensor_scale>, requantize<u8>, requantize<s8>, requantize<s16>>;

/// Operation<Stage> for each of a list.
template <template <class> class Operation, class List>
struct for_each_stage;
template <template <class> class Operation, class... Stages>
struct for_each_stage<Operation, stages<Stages...>> {
  using type = dispatch_entries<Operation<Stages>...>;
};
template <template <class> class Operation, class List>
using of_stages = typename for_each_stage<Operation, List>::type;

template <class A, class Element>
struct product {
  template <class Stage>
  using with =
      dispatch_threaded<dispatched::gemm, matrix_view<const A>, packed_weights<Element>, Stage, output_of<Stage>>;
  using all = of_stages<with, of_products>;
  using of_s8 = of_stages<with, of_s8_products>;
};
using products = dispatch_entries<product<u8, s8>::all, product<u8, s4>::all, product<u8, grouped_s4>::all,
                                  product<s8, s8>::all, product<s8, s4>::all, product<s8, grouped_s4>::all,
                                  product<u8, s8>::of_s8, product<s8, s8>::of_s8>;

template <class Stage>
using product_of_activations = dispatch_threaded<dispatched::gemm, quantized_batch, quantized_batch, Stage,
                                                 matrix_batch<typename Stage::output>, workspace>;
template <class Stage>
using average_pool = dispatch_entry<dispatched::average_pool, u8_input, Stage, output_of<Stage>>;
template <class Stage>
using average_pool_s16 = dispatch_entry<dispatched::average_pool, matrix_view<const s16>, Stage, output_of<Stage>>;
template <class Stage>
using convert_codes = dispatch_threaded<dispatched::convert_codes, u8_input, Stage, output_of<Stage>>;
template <class Stage>
using depthwise_conv = dispatch_threaded<dispatched::depthwise_conv, quantized_matrix, token_grid, depthwise_weights,
                                         Stage, output_of<Stage>>;
template <class Stage>
using multiply = dispatch_threaded<dispatched::multiply, quantized_matrix, quantized_matrix, Stage, output_of<Stage>>;
template <attention_code Format, class Stage, class Out>
using shift_matmul_to =
    dispatch_threaded<dispatched::shift_matmul<Format>, typename attention_codes<Format>::const_view, quantized_matrix,
                      Stage, matrix_view<Out>, workspace>;
template <attention_code Format>
struct shift_matmul {
  template <class Stage>
  using with = shift_matmul_to<Format, Stage, typename Stage::output>;
};

template <attention_code Format, log2_rounding Rounding, class T>
using log_softmax = dispatch_threaded<dispatched::log_softmax<Format, Rounding>, u8_input, exp_table<T>,
                                      typename attention_codes<Format>::view>;
template <attention_code Format, log2_rounding Rounding, class T>
using masked_log_softmax =
    dispatch_threaded<dispatched::log_softmax<Format, Rounding>, u8_input, exp_table<T>, key_mask, u8_output>;
template <attention_code Format, log2_rounding Rounding>
using log_softmaxes =
    dispatch_entries<log_softmax<Format, Rounding, std::uint32_t>, log_softmax<Format, Rounding, std::uint64_t>>;
template <attention_code Format, log2_rounding Rounding>
using masked_log_softmaxes = dispatch_entries<masked_log_softmax<Format, Rounding, std::uint32_t>,
                                              masked_log_softmax<Format, Rounding, std::uint64_t>>;
template <log2_rounding Rounding>
using all_log_softmaxes = dispatch_entries<
    log_softmaxes<attention_code::u8_masked, Rounding>, log_softmaxes<attention_code::u8_full, Rounding>,
    log_softmaxes<attention_code::u4_clipped, Rounding>, masked_log_softmaxes<attention_code::u8_masked, Rounding>,
    masked_log_softmaxes<attention_code::u8_full, Rounding>>;
using softmaxes =
    dispatch_entries<all_log_softmaxes<log2_rounding::round_ratio>, all_log_softmaxes<log2_rounding::round_log>,
                     dispatch_threaded<dispatched::max_softmax, u8_input, table_view, u8_output>,
                     dispatch_threaded<dispatched::max_softmax, u8_input, table_view, packed_view<u4, u8>>,
                     dispatch_threaded<dispatched::max_softmax, u8_input, table_view, key_mask, u8, u8_output>>;

using value_products = dispatch_entries<
    of_stages<shift_matmul<attention_code::u8_masked>::with, of_tensors>,
    of_stages<shift_matmul<attention_code::u4_clipped>::with, of_tensors>,
    of_stages<shift_matmul<attention_code::u8_full>::with, stages<requantize_s64<u8>, requantize_s64<s8>>>,
    shift_matmul_to<attention_code::u8_masked, row_divisor, u8>,
    shift_matmul_to<attention_code::u4_clipped, row_divisor, u8>,
    dispatch_threaded<dispatched::weighted_matmul, u8_input, quantized_matrix, row_divisor, u8_output, workspace>>;

/// Operations that move codes of a type.
template <class T>
using moves = dispatch_entries<
    dispatch_threaded<dispatched::patch_merge, matrix_view<const T>, index_t, index_t, T, matrix_view<T>>,
    dispatch_threaded<dispatched::window_partition, matrix_view<const T>, window_grid, T, matrix_view<T>>,
    dispatch_threaded<dispatched::window_reverse, matrix_view<const T>, window_grid, matrix_view<T>>>;

using others =
    dispatch_entries<of_stages<average_pool, of_tensors>, of_stages<average_pool_s16, of_tensors>,
                     of_stages<convert_codes, of_tensors>, of_stages<multiply, of_tensors>,
                     of_stages<depthwise_conv, of_products>, moves<u8>, moves<s16>,
                     dispatch_entry<dispatched::row_sums, u8_input, std::int32_t, std::span<std::int32_t>>,
                     dispatch_entry<dispatched::row_sums, matrix_view<const s8>, std::int32_t, std::span<std::int32_t>>,
                     dispatch_threaded<dispatched::layernorm, u8_input, layernorm_parameters, u8_output>,
                     dispatch_threaded<dispatched::layernorm, matrix_view<const s16>, layernorm_parameters, u8_output>,
                     dispatch_threaded<dispatched::rmsnorm, u8_input, layernorm_parameters, u8_output>,
                     dispatch_threaded<dispatched::rmsnorm, matrix_view<const s16>, layernorm_parameters, u8_output>,
                     dispatch_threaded<dispatched::rotate, quantized_matrix, rotation_parameters, u8_output>,
                     dispatch_threaded<dispatched::activation, u8_input, table_view, u8_output>,
                     dispatch_threaded<dispatched::activation, matrix_view<const std::uint16_t>, table_view, u8_output>,
                     dispatch_threaded<dispatched::add, u8_input, u8_input, add_parameters, u8_output>,
                     dispatch_threaded<dispatched::im2col, image_view, patch_size, u8_output>,
                     dispatch_threaded<dispatched::unfold, u8_input, token_grid, stencil, u8, u8_output>>;

/// Models on a residual stream of a type.
template <class Code>
using streams = dispatch_entries<
    dispatch_threaded<dispatched::block, matrix_view<Code>, block_parameters, block_shape, workspace>,
    dispatch_threaded<dispatched::swin_block, matrix_view<Code>, swin_block_parameters, swin_block_shape, workspace>,
    dispatch_threaded<dispatched::swin_features, std::span<const image_view>, swin_parameters, swin_shape,
                      std::span<const matrix_view<Code>>, workspace>>;
using models = dispatch_entries<
    streams<u8>, streams<s16>,
    dispatch_threaded<dispatched::attention, attention_operands, multihead_parameters, u8_output, workspace>,
    dispatch_threaded<dispatched::attention, prepared_operands, multihead_parameters, u8_output, workspace>,
    dispatch_threaded<dispatched::prepare_keys_values, quantized_matrix, quantized_matrix, index_t, int, workspace,
                      prepared_keys_values*>,
    dispatch_threaded<dispatched::window_attention, u8_input, window_attention_parameters, window_attention_shape,
                      u8_output, workspace>,
    dispatch_threaded<dispatched::vit, std::span<const image_view>, vit_parameters, vit_shape, classifier_outputs,
                      workspace>,
    dispatch_threaded<dispatched::vit_features, std::span<const image_view>, vit_parameters, vit_shape, u8_output,
                      workspace>,
    dispatch_threaded<dispatched::swin, std::span<const image_view>, swin_parameters, swin_shape, classifier_outputs,
                      workspace>>;

}  // namespace dispatch_lists

/// All functions of an instruction set.
struct dispatch_table
    : dispatch_entries<dispatch_lists::products,
                       dispatch_lists::of_stages<dispatch_lists::product_of_activations, dispatch_lists::of_tensors>,
                       dispatch_lists::softmaxes, dispatch_lists::value_products, dispatch_lists::others,
                       dispatch_lists::models> {
  using dispatch_entries::dispatch_entries;
};

/// The table of an instruction set. Only for processors that offer it.
template <class Isa>
const dispatch_table& dispatch_table_of();

/// An instruction set, and how to get its table.
struct dispatch_choice {
  const char* isa;
  const dispatch_table& (*table)();
};

/// The instruction set that this processor has and INTACT_ISA allows, from the first call on; from any thread. Null if
/// INTACT_ISA is refused: `message` tells why.
const dispatch_choice* choose_dispatch(char* message, std::size_t message_bytes);

}  // namespace INTACT_ABI
}  // namespace intact
