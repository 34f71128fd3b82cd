#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "intact/model/block.hpp"
#include "intact/model/fused_attention.hpp"
#include "intact/model/fused_mlp.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Buffers of a call for `rows` rows of the stream.
struct fused_block_buffers {
  matrix_view<std::uint8_t> normalized;  ///< then the attention's context
  std::uint8_t* wide;                    ///< q, k and v of all rows, then the perceptron's hidden codes of a band

  template <class Workspace>
  static constexpr fused_block_buffers take(Workspace& memory, const block_shape& shape, index_t rows) {
    const index_t width = shape.attention.width, band = fused_band_rows(rows, width, shape.hidden);
    return {memory.template matrix<std::uint8_t>(rows, width),
            memory.template take<std::uint8_t>(
                std::max(size_product(rows, size_product(3, width)), size_product(band, shape.hidden)))};
  }
};

/// Bytes of workspace that a fused block needs for a batch and a number of threads, for memory of any alignment.
constexpr std::size_t fused_block_bytes(const block_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory;
  fused_block_buffers::take(memory, shape, size_product(batch, shape.attention.tokens));
  return memory.bytes_and(
      fused_attention_bytes(shape.attention.tokens, shape.attention.heads, shape.attention.head_size(), threads));
}

namespace detail {

/// The first steps of a block on a stream, in bands of `each` rows: norm1, then q, k and v.
template <class Isa, class Code, executor Executor>
void fused_qkv(matrix_view<Code> stream, const block_parameters& p, index_t each, matrix_view<std::uint8_t> normalized,
               matrix_view<std::uint8_t> qkv, const Executor& run) {
  for_each_fused_band(stream.rows, each, [&](index_t first, index_t count) {
    const matrix_view<std::uint8_t> x = normalized.row_block(first, count);
    layernorm<Isa>(stream.row_block(first, count), p.norm1, x, run);
    linear<Isa>(x, p.attention.qkv.weights, requantize<std::uint8_t>{p.attention.qkv.scale},
                qkv.row_block(first, count), run);
  });
}

/// What follows attention, on a stream in bands of `each` rows: the projection, then the perceptron. `context` becomes
/// norm2's codes.
template <class Isa, class Code, executor Executor>
void fused_after_attention(matrix_view<std::uint8_t> context, const block_parameters& p, index_t each,
                           std::uint8_t* hidden, matrix_view<Code> stream, const Executor& run) {
  for_each_fused_band(stream.rows, each, [&](index_t first, index_t count) {
    const matrix_view<Code> band = stream.row_block(first, count);
    const matrix_view<std::uint8_t> x = context.row_block(first, count);
    add_branch<Isa>(x, p.attention.proj, p.add1, band, run);
    fused_mlp_half<Isa>(band, p, x, {hidden, count, p.mlp.fc1.outputs()}, run);
  });
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
  const index_t tokens = shape.attention.tokens, width = shape.attention.width, rows = stream.rows;
  const index_t batch = tokens == 0 ? 0 : rows / tokens;
  require_shape("block", "stream", stream, batch * tokens, width);
  require_block<Code>(p, shape);
  require_workspace("block", memory, fused_block_bytes(shape, batch, run.threads()));
  const fused_block_buffers buffer = fused_block_buffers::take(memory, shape, rows);
  const matrix_view<std::uint8_t> normalized = buffer.normalized, qkv(buffer.wide, rows, 3 * width);
  const index_t each = fused_band_rows(rows, width, shape.hidden);
  detail::fused_qkv<Isa>(stream, p, each, normalized, qkv, run);
  const auto image = [&](index_t i) {
    const auto part = [&](index_t which) {
      return quantized_matrix{qkv.row_block(i * tokens, tokens).column_block(which * width, width),
                              p.attention.qkv_zero_point};
    };
    return attention_operands{part(0), part(1), part(2)};
  };
  const auto context = [&](index_t i) { return normalized.row_block(i * tokens, tokens); };
  detail::attend_batch<Isa>(batch, image, context, shape.attention.heads, p.attention.logits, p.attention.softmax,
                            memory, run);
  detail::fused_after_attention<Isa>(normalized, p, each, buffer.wide, stream, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
