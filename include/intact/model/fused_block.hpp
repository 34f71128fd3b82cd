#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/model/block.hpp"
#include "intact/model/fused_attention.hpp"

namespace intact::inline INTACT_ABI {

/// Buffers of a call for `rows` rows of the stream.
struct fused_block_buffers {
  matrix_view<std::uint8_t> normalized;  ///< then the attention's context
  matrix_view<std::uint8_t> wide;        ///< q, k and v, then the perceptron's hidden codes

  template <class Workspace>
  static constexpr fused_block_buffers take(Workspace& memory, const block_shape& shape, index rows) {
    return {memory.template matrix<std::uint8_t>(rows, shape.attention.width),
            memory.template matrix<std::uint8_t>(rows, std::max(3 * shape.attention.width, shape.hidden))};
  }
};

/// Bytes of workspace that a fused block needs for a batch and a number of threads, for memory of any alignment.
constexpr std::size_t fused_block_bytes(const block_shape& shape, index batch = 1, index threads = 1) {
  workspace_size memory;
  fused_block_buffers::take(memory, shape, batch * shape.attention.tokens);
  return memory.bytes() +
         fused_attention_bytes(shape.attention.tokens, shape.attention.heads, shape.attention.head_size(), threads);
}

namespace detail {

/// The layer at the end of a branch, added to the stream in place.
template <class Isa, class Code, executor Executor>
void add_branch(matrix_view<const std::uint8_t> x, const linear_parameters& layer, const add_scale& addition,
                matrix_view<Code> stream, const Executor& run) {
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    linear<Isa>(x, layer.weights, requantize_and_add{layer.scale, addition, stream}, stream, run);
  } else {
    linear<Isa>(x, layer.weights, add_to_stream{layer.scale, stream}, stream, run);
  }
}

}  // namespace detail

/// The block of block.hpp, in place on the residual streams of a batch, without tensors between a product and the
/// operation behind it: the activation, the residual additions and the whole of attention run where their operands are.
///
/// Shapes:    stream (batch * tokens) x width of u8 or s16, images behind each other; the batch is stream.rows /
///            tokens.
/// Weights:   packed ones (pack.hpp) run on the fast kernels; others give the same bits, slowly.
/// Memory:    at least fused_block_bytes(shape, batch, run.threads()) bytes. Nothing is allocated.
/// Exactness: bit for bit what block() gives for each image, on every instruction set, with every executor.
/// Errors:    sizes that do not match, parameters out of range, a workspace that is too small: before anything is
///            written.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Isa = isa::native, class Code, executor Executor = sequential>
void fused_block(matrix_view<Code> stream, const block_parameters& p, const block_shape& shape, workspace memory,
                 const Executor& run = {}) {
  const index tokens = shape.attention.tokens, width = shape.attention.width, rows = stream.rows;
  const index batch = tokens == 0 ? 0 : rows / tokens;
  require_shape("block", "stream", stream, batch * tokens, width);
  require_block<Code>(p, shape);
  require_workspace("block", memory, fused_block_bytes(shape, batch, run.threads()));
  const fused_block_buffers buffer = fused_block_buffers::take(memory, shape, rows);
  const matrix_view<const std::uint8_t> normalized = buffer.normalized;

  layernorm<Isa>(stream, p.norm1, buffer.normalized, run);
  const matrix_view<std::uint8_t> qkv(buffer.wide.data, rows, 3 * width);
  linear<Isa>(normalized, p.attention.qkv.weights, requantize<std::uint8_t>{p.attention.qkv.scale}, qkv, run);
  const auto image = [&](index i) {
    const auto part = [&](index which) {
      return activations{qkv.row_block(i * tokens, tokens).column_block(which * width, width),
                         p.attention.qkv_zero_point};
    };
    return attention_operands{part(0), part(1), part(2)};
  };
  const auto context = [&](index i) { return buffer.normalized.row_block(i * tokens, tokens); };
  detail::attend_batch<Isa>(batch, image, context, shape.attention.heads, p.attention.logits, p.attention.weighting,
                            memory, run);
  detail::add_branch<Isa>(normalized, p.attention.proj, p.add1, stream, run);

  layernorm<Isa>(stream, p.norm2, buffer.normalized, run);
  const matrix_view<std::uint8_t> hidden(buffer.wide.data, rows, shape.hidden);
  linear<Isa>(normalized, p.mlp.fc1.weights, activate{p.mlp.fc1.scale, p.mlp.table}, hidden, run);
  detail::add_branch<Isa>(hidden, p.mlp.fc2, p.add2, stream, run);
}

}  // namespace intact::inline INTACT_ABI
