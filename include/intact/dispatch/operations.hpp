#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "intact/dispatch/call.hpp"

// The public operations on the instruction set that is chosen when the program runs. Each has the parameters and the
// contract of the operation of the same name in namespace intact, but for the template argument Isa. Arguments are
// checked here, in the caller's unit. Executors of any type are passed by reference.

namespace intact {
inline namespace INTACT_UNIT {
namespace INTACT_HIDDEN dispatch {

/// intact::gemm() on the instruction set that is chosen when the program runs.
template <class A, class Element, class Stage, executor Executor = sequential>
void gemm(matrix_view<A> a, const packed_weights<Element>& w, const Stage& stage, matrix_view<typename Stage::output> y,
          const Executor& run = {}) {
  require_gemm(a, w, stage, y);
  dispatch_call<dispatched::gemm>(matrix_view<const A>(a), w, stage, y, executor_ref(run));
}
/// intact::gemm() on the instruction set that is chosen when the program runs.
template <class Stage, executor Executor = sequential>
void gemm(const quantized_batch& a, const quantized_batch& b, const Stage& stage,
          const matrix_batch<typename Stage::output>& y, workspace memory, const Executor& run = {}) {
  require_gemm(a, b, stage, y, memory, run.threads());
  dispatch_call<dispatched::gemm>(a, b, stage, y, memory, executor_ref(run));
}
/// intact::gemm() on the instruction set that is chosen when the program runs.
template <class Stage, executor Executor = sequential>
void gemm(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
          matrix_view<typename Stage::output> y, workspace memory, const Executor& run = {}) {
  dispatch::gemm(quantized_batch{{a.codes}, a.zero_point}, quantized_batch{{b.codes}, b.zero_point}, stage,
                 matrix_batch<typename Stage::output>{y}, memory, run);
}

/// intact::row_sums() on the instruction set that is chosen when the program runs.
template <class A>
void row_sums(matrix_view<A> a, std::int32_t factor, std::span<std::int32_t> y) {
  require_row_sums(a, factor, y);
  dispatch_call<dispatched::row_sums>(matrix_view<const A>(a), factor, y);
}

/// intact::layernorm() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void layernorm(matrix_view<const std::uint8_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
               const Executor& run = {}) {
  require_layernorm(x, p, y);
  dispatch_call<dispatched::layernorm>(x, p, y, executor_ref(run));
}
/// intact::layernorm() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void layernorm(matrix_view<const std::int16_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
               const Executor& run = {}) {
  require_layernorm(x, p, y);
  dispatch_call<dispatched::layernorm>(x, p, y, executor_ref(run));
}

/// intact::rmsnorm() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void rmsnorm(matrix_view<const std::uint8_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
             const Executor& run = {}) {
  require_rmsnorm(x, p, y);
  dispatch_call<dispatched::rmsnorm>(x, p, y, executor_ref(run));
}
/// intact::rmsnorm() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void rmsnorm(matrix_view<const std::int16_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
             const Executor& run = {}) {
  require_rmsnorm(x, p, y);
  dispatch_call<dispatched::rmsnorm>(x, p, y, executor_ref(run));
}

/// intact::rotate() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void rotate(const quantized_matrix& x, const rotation_parameters& p, matrix_view<std::uint8_t> y,
            const Executor& run = {}) {
  require_rotate(x, p, y);
  dispatch_call<dispatched::rotate>(x, p, y, executor_ref(run));
}

/// intact::log_softmax() on the instruction set that is chosen when the program runs.
template <attention_code Format = attention_code::u8_masked, log2_rounding Rounding = log2_rounding::round_ratio,
          class T, executor Executor = sequential>
void log_softmax(matrix_view<const std::uint8_t> logits, exp_table<T> table,
                 typename attention_codes<Format>::view codes, const Executor& run = {}) {
  require_log_softmax<Format>(logits, table, codes);
  dispatch_call<dispatched::log_softmax<Format, Rounding>>(logits, table, codes, executor_ref(run));
}
/// intact::log_softmax() on the instruction set that is chosen when the program runs.
template <attention_code Format = attention_code::u8_masked, log2_rounding Rounding = log2_rounding::round_ratio,
          class T, executor Executor = sequential>
void log_softmax(matrix_view<const std::uint8_t> logits, exp_table<T> table, const key_mask& mask,
                 matrix_view<std::uint8_t> codes, const Executor& run = {}) {
  require_log_softmax<Format>(logits, table, mask, codes);
  dispatch_call<dispatched::log_softmax<Format, Rounding>>(logits, table, mask, codes, executor_ref(run));
}

/// intact::max_softmax() on the instruction set that is chosen when the program runs.
template <class Codes, executor Executor = sequential>
void max_softmax(matrix_view<const std::uint8_t> logits, std::span<const std::uint8_t> table, Codes y,
                 const Executor& run = {}) {
  require_max_softmax(logits, table, y);
  dispatch_call<dispatched::max_softmax>(logits, table, y, executor_ref(run));
}
/// intact::max_softmax() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void max_softmax(matrix_view<const std::uint8_t> logits, std::span<const std::uint8_t> table, const key_mask& mask,
                 std::uint8_t masked, matrix_view<std::uint8_t> y, const Executor& run = {}) {
  require_max_softmax(logits, table, mask, y);
  dispatch_call<dispatched::max_softmax>(logits, table, mask, masked, y, executor_ref(run));
}

/// intact::shift_matmul() on the instruction set that is chosen when the program runs.
template <attention_code Format = attention_code::u8_masked, class Stage, executor Executor = sequential>
void shift_matmul(typename attention_codes<Format>::const_view codes, const quantized_matrix& v, const Stage& stage,
                  matrix_view<typename Stage::output> y, workspace memory, const Executor& run = {}) {
  require_shift_matmul<Format>(codes, v, stage, y, memory, run.threads());
  dispatch_call<dispatched::shift_matmul<Format>>(codes, v, stage, y, memory, executor_ref(run));
}
/// intact::shift_matmul() on the instruction set that is chosen when the program runs.
template <attention_code Format = attention_code::u8_masked, executor Executor = sequential>
void shift_matmul(typename attention_codes<Format>::const_view codes, const quantized_matrix& v,
                  const row_divisor& normalization, matrix_view<std::uint8_t> y, workspace memory,
                  const Executor& run = {}) {
  require_shift_matmul<Format>(codes, v, normalization, y, memory, run.threads());
  dispatch_call<dispatched::shift_matmul<Format>>(codes, v, normalization, y, memory, executor_ref(run));
}

/// intact::weighted_matmul() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void weighted_matmul(matrix_view<const std::uint8_t> weights, const quantized_matrix& v,
                     const row_divisor& normalization, matrix_view<std::uint8_t> y, workspace memory,
                     const Executor& run = {}) {
  require_weighted_matmul(weights, v, normalization, y, memory, run.threads());
  dispatch_call<dispatched::weighted_matmul>(weights, v, normalization, y, memory, executor_ref(run));
}

/// intact::activation() on the instruction set that is chosen when the program runs.
template <class Code, executor Executor = sequential>
void activation(matrix_view<Code> codes, std::span<const std::uint8_t> table, matrix_view<std::uint8_t> y,
                const Executor& run = {}) {
  require_activation(codes, table, y);
  dispatch_call<dispatched::activation>(matrix_view<const Code>(codes), table, y, executor_ref(run));
}

/// intact::add() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void add(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch, const add_parameters& scale,
         matrix_view<std::uint8_t> y, const Executor& run = {}) {
  require_add(stream, branch, scale, y);
  dispatch_call<dispatched::add>(stream, branch, scale, y, executor_ref(run));
}

/// intact::average_pool() on the instruction set that is chosen when the program runs.
template <class Stage>
void average_pool(matrix_view<const std::uint8_t> x, const Stage& stage, matrix_view<typename Stage::output> y) {
  require_average_pool(x, stage, y);
  dispatch_call<dispatched::average_pool>(x, stage, y);
}
/// intact::average_pool() on the instruction set that is chosen when the program runs.
template <class Stage>
void average_pool(matrix_view<const std::int16_t> x, const Stage& stage, matrix_view<typename Stage::output> y) {
  require_average_pool(x, stage, y);
  dispatch_call<dispatched::average_pool>(x, stage, y);
}

/// intact::convert_codes() on the instruction set that is chosen when the program runs.
template <class Stage, executor Executor = sequential>
void convert_codes(matrix_view<const std::uint8_t> x, const Stage& stage, matrix_view<typename Stage::output> y,
                   const Executor& run = {}) {
  require_convert_codes(x, stage, y);
  dispatch_call<dispatched::convert_codes>(x, stage, y, executor_ref(run));
}

/// intact::multiply() on the instruction set that is chosen when the program runs.
template <class Stage, executor Executor = sequential>
void multiply(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
              matrix_view<typename Stage::output> y, const Executor& run = {}) {
  require_multiply(a, b, stage, y);
  dispatch_call<dispatched::multiply>(a, b, stage, y, executor_ref(run));
}

/// intact::depthwise_conv() on the instruction set that is chosen when the program runs.
template <class Stage, executor Executor = sequential>
void depthwise_conv(const quantized_matrix& x, const token_grid& grid, const depthwise_weights& w, const Stage& stage,
                    matrix_view<typename Stage::output> y, const Executor& run = {}) {
  require_depthwise_conv(x, grid, w, stage, y);
  dispatch_call<dispatched::depthwise_conv>(x, grid, w, stage, y, executor_ref(run));
}

/// intact::im2col() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void im2col(const image_view& image, const patch_size& patch, matrix_view<std::uint8_t> y, const Executor& run = {}) {
  require_im2col(image, patch, y);
  dispatch_call<dispatched::im2col>(image, patch, y, executor_ref(run));
}

/// intact::unfold() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void unfold(matrix_view<const std::uint8_t> x, const token_grid& grid, const stencil& around, std::uint8_t padding,
            matrix_view<std::uint8_t> y, const Executor& run = {}) {
  require_unfold(x, grid, around, y);
  dispatch_call<dispatched::unfold>(x, grid, around, padding, y, executor_ref(run));
}

/// intact::patch_merge() on the instruction set that is chosen when the program runs.
template <class X, class T = std::remove_const_t<X>, executor Executor = sequential>
void patch_merge(matrix_view<X> x, index_t height, index_t width, std::type_identity_t<T> padding, matrix_view<T> y,
                 const Executor& run = {}) {
  require_patch_merge(x, height, width, y);
  dispatch_call<dispatched::patch_merge>(matrix_view<const T>(x), height, width, padding, y, executor_ref(run));
}

/// intact::window_partition() on the instruction set that is chosen when the program runs.
template <class X, class T = std::remove_const_t<X>, executor Executor = sequential>
void window_partition(matrix_view<X> x, const window_grid& grid, std::type_identity_t<T> padding, matrix_view<T> y,
                      const Executor& run = {}) {
  require_window_partition(x, grid, y);
  dispatch_call<dispatched::window_partition>(matrix_view<const T>(x), grid, padding, y, executor_ref(run));
}

/// intact::window_reverse() on the instruction set that is chosen when the program runs.
template <class X, class T = std::remove_const_t<X>, executor Executor = sequential>
void window_reverse(matrix_view<X> x, const window_grid& grid, matrix_view<T> y, const Executor& run = {}) {
  require_window_reverse(x, grid, y);
  dispatch_call<dispatched::window_reverse>(matrix_view<const T>(x), grid, y, executor_ref(run));
}

}  // namespace dispatch
}  // namespace INTACT_UNIT
}  // namespace intact
