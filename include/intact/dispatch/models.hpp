#pragma once

#include <cstdint>
#include <span>

#include "intact/dispatch/call.hpp"

// Attention, blocks and models on the instruction set that is chosen when the program runs. Each has the parameters and
// the contract of the function of the same name in namespace intact, but for the template arguments Isa and Kinds:
// weights may be of any kind. Arguments are checked here, in the caller's unit. Executors of any type are passed by
// reference.

namespace intact {
inline namespace INTACT_UNIT {
namespace INTACT_HIDDEN dispatch {

/// intact::attention() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void attention(const attention_operands& x, const multihead_parameters& p, matrix_view<std::uint8_t> y,
               workspace memory, const Executor& run = {}) {
  require_attention(x, p, y, memory, run.threads());
  dispatch_call<dispatched::attention>(x, p, y, memory, executor_ref(run));
}

/// intact::prepare_keys_values() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
prepared_keys_values prepare_keys_values(const quantized_matrix& k, const quantized_matrix& v, index_t heads,
                                         int query_zero_point, workspace memory, const Executor& run = {}) {
  require_prepare_keys_values(k, v, heads, query_zero_point, memory);
  prepared_keys_values prepared;
  dispatch_call<dispatched::prepare_keys_values>(k, v, heads, query_zero_point, memory, &prepared, executor_ref(run));
  return prepared;
}
/// intact::attention() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void attention(const prepared_operands& x, const multihead_parameters& p, matrix_view<std::uint8_t> y, workspace memory,
               const Executor& run = {}) {
  require_attention(x, p, y, memory, run.threads());
  dispatch_call<dispatched::attention>(x, p, y, memory, executor_ref(run));
}

/// intact::window_attention() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void window_attention(matrix_view<const std::uint8_t> qkv, const window_attention_parameters& p,
                      const window_attention_shape& shape, matrix_view<std::uint8_t> y, workspace memory,
                      const Executor& run = {}) {
  require_window_attention(qkv, p, shape, y, memory, run.threads());
  dispatch_call<dispatched::window_attention>(qkv, p, shape, y, memory, executor_ref(run));
}

/// intact::block() on the instruction set that is chosen when the program runs.
template <class Code, executor Executor = sequential>
void block(matrix_view<Code> stream, const block_parameters& p, const block_shape& shape, workspace memory,
           const Executor& run = {}) {
  require_block(stream, p, shape, memory, run.threads());
  dispatch_call<dispatched::block>(stream, p, shape, memory, executor_ref(run));
}

/// intact::vit() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
         const classifier_outputs& y, workspace memory, const Executor& run = {}) {
  require_vit(images, p, shape, y, memory, run.threads());
  dispatch_call<dispatched::vit>(images, p, shape, y, memory, executor_ref(run));
}

/// intact::vit_features() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void vit_features(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                  matrix_view<std::uint8_t> y, workspace memory, const Executor& run = {}) {
  require_vit_features(images, p, shape, y, memory, run.threads());
  dispatch_call<dispatched::vit_features>(images, p, shape, y, memory, executor_ref(run));
}

/// intact::swin_block() on the instruction set that is chosen when the program runs.
template <class Code, executor Executor = sequential>
void swin_block(matrix_view<Code> stream, const swin_block_parameters& p, const swin_block_shape& shape,
                workspace memory, const Executor& run = {}) {
  require_swin_block(stream, p, shape, memory, run.threads());
  dispatch_call<dispatched::swin_block>(stream, p, shape, memory, executor_ref(run));
}

/// intact::swin_features() on the instruction set that is chosen when the program runs.
template <class Code, executor Executor = sequential>
void swin_features(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                   std::span<const matrix_view<Code>> maps, workspace memory, const Executor& run = {}) {
  require_swin_features(images, p, shape, maps, memory, run.threads());
  dispatch_call<dispatched::swin_features>(images, p, shape, maps, memory, executor_ref(run));
}

/// intact::swin() on the instruction set that is chosen when the program runs.
template <executor Executor = sequential>
void swin(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
          const classifier_outputs& y, workspace memory, const Executor& run = {}) {
  require_swin(images, p, shape, y, memory, run.threads());
  dispatch_call<dispatched::swin>(images, p, shape, y, memory, executor_ref(run));
}

}  // namespace dispatch
}  // namespace INTACT_UNIT
}  // namespace intact
