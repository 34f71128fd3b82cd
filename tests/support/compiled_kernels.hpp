#pragma once

#include <cstdint>

#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/types/executor_ref.hpp"

// Kernels and models of one instruction set, which are most of the work of compiling a test that runs a model.
// compiled_kernels.cpp instantiates them once. Programs that are linked with it include this file before all others,
// and do not compile them again.

#ifndef INTACT_TEST_INSTANTIATE
#define INTACT_TEST_INSTANTIATE extern template
#endif

namespace intact {
inline namespace INTACT_UNIT {

#ifdef INTACT_TEST_ISA
using compiled_isa = isa::INTACT_TEST_ISA;
#else
using compiled_isa = isa::native;
#endif

#define INTACT_GEMM(element, ...)                                                              \
  INTACT_TEST_INSTANTIATE void kernel::gemm<compiled_isa, std::uint8_t, element, __VA_ARGS__>( \
      const gemm_operands<std::uint8_t, element, __VA_ARGS__>&, index_t, index_t) noexcept;
// The products of layers.
#define INTACT_GEMM_OF_KINDS(...)       \
  INTACT_GEMM(std::int8_t, __VA_ARGS__) \
  INTACT_GEMM(s4, __VA_ARGS__)          \
  INTACT_GEMM(grouped_s4, __VA_ARGS__)
INTACT_GEMM_OF_KINDS(requantize<std::uint8_t>)
INTACT_GEMM_OF_KINDS(requantize<std::int16_t>)
INTACT_GEMM_OF_KINDS(requantize<std::int32_t>)
INTACT_GEMM_OF_KINDS(requantize_lut)
INTACT_GEMM_OF_KINDS(requantize_add)
INTACT_GEMM_OF_KINDS(add_to_stream)
#undef INTACT_GEMM_OF_KINDS
// Those of attention.
INTACT_GEMM(std::int8_t, requantize_per_row<std::uint8_t>)
INTACT_GEMM(std::int8_t, row_corrected<requantize<std::uint8_t, tensor_scale>>)
#undef INTACT_GEMM
INTACT_TEST_INSTANTIATE class detail::batch_attention<compiled_isa>;
INTACT_TEST_INSTANTIATE void detail::attend_window_head<compiled_isa>(const detail::window_head&,
                                                                      const window_attention_parameters&,
                                                                      const kernel::softmax_row_encoder<compiled_isa>&,
                                                                      const window_scratch&);

INTACT_TEST_INSTANTIATE void kernel::layernorm<compiled_isa>(matrix_view<const std::uint8_t>, normalization,
                                                             const layernorm_parameters&, matrix_view<std::uint8_t>,
                                                             row_range) noexcept;
INTACT_TEST_INSTANTIATE void kernel::layernorm<compiled_isa>(matrix_view<const std::int16_t>, normalization,
                                                             const layernorm_parameters&, matrix_view<std::uint8_t>,
                                                             row_range) noexcept;

#define INTACT_MODELS_ON_STREAM(code, executor)                                                                    \
  INTACT_TEST_INSTANTIATE void block<compiled_isa>(matrix_view<code>, const block_parameters&, const block_shape&, \
                                                   workspace, const executor&);                                    \
  INTACT_TEST_INSTANTIATE void swin_block<compiled_isa>(matrix_view<code>, const swin_block_parameters&,           \
                                                        const swin_block_shape&, workspace, const executor&);      \
  INTACT_TEST_INSTANTIATE void swin_features<compiled_isa>(std::span<const image_view>, const swin_parameters&,    \
                                                           const swin_shape&, std::span<const matrix_view<code>>,  \
                                                           workspace, const executor&);
#define INTACT_MODELS(executor)                                                                                        \
  INTACT_MODELS_ON_STREAM(std::uint8_t, executor)                                                                      \
  INTACT_MODELS_ON_STREAM(std::int16_t, executor)                                                                      \
  INTACT_TEST_INSTANTIATE void vit<compiled_isa>(std::span<const image_view>, const vit_parameters&, const vit_shape&, \
                                                 const classifier_outputs&, workspace, const executor&);               \
  INTACT_TEST_INSTANTIATE void swin<compiled_isa>(std::span<const image_view>, const swin_parameters&,                 \
                                                  const swin_shape&, const classifier_outputs&, workspace,             \
                                                  const executor&);                                                    \
  INTACT_TEST_INSTANTIATE void attention<compiled_isa>(const attention_operands&, const multihead_parameters&,         \
                                                       matrix_view<std::uint8_t>, workspace, const executor&);         \
  INTACT_TEST_INSTANTIATE void window_attention<compiled_isa>(                                                         \
      matrix_view<const std::uint8_t>, const window_attention_parameters&, const window_attention_shape&,              \
      matrix_view<std::uint8_t>, workspace, const executor&);
INTACT_MODELS(sequential)
INTACT_MODELS(executor_ref)
#undef INTACT_MODELS
#undef INTACT_MODELS_ON_STREAM

}  // namespace INTACT_UNIT
}  // namespace intact
