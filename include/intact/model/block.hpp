#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "intact/kernel/rotate.hpp"
#include "intact/model/attention.hpp"
#include "intact/model/mlp.hpp"
#include "intact/rmsnorm.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Sizes and kinds of the layers of a transformer block.
struct block_shape {
  attention_shape attention;                      ///< tokens, width, heads
  index_t hidden = 0;                             ///< width of the perceptron's hidden layer
  normalization norm = normalization::layernorm;  ///< norm1 and norm2
  bool gated = false;                             ///< whether the perceptron has a gate

  /// Hidden codes of a row that are in memory at a time: those of the gate and of the layer that it multiplies.
  INTACT_INLINE constexpr index_t hidden_codes() const { return gated ? size_product(2, hidden) : hidden; }
};

/// Parameters of a pre-norm transformer block. On a residual stream of u8 codes with power-of-two factors the branches
/// are u8 codes too, which add1 and add2 add to it. On a stream of s16 codes proj and fc2 add to it themselves, and
/// add1 and add2 stay empty.
struct block_parameters {
  layernorm_parameters norm1;      ///< before attention
  attention_parameters attention;  ///< with its projections
  add_parameters add1 = {};        ///< of a u8 stream: after attention
  layernorm_parameters norm2;      ///< before the perceptron
  mlp_parameters mlp;              ///< fc1, activation, fc2
  add_parameters add2 = {};        ///< of a u8 stream: after the perceptron
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a block's parameters against its sizes, for a stream of codes of type u8 or s16.
template <class Code = std::uint8_t, class Kinds = all_weight_kinds>
void require_block(const block_parameters& p, const block_shape& shape) {
  const index_t width = shape.attention.width;
  require_layernorm<Code>("block: norm1", p.norm1, width);
  require_attention<Kinds>(p.attention, shape.attention);
  require_layernorm<Code>("block: norm2", p.norm2, width);
  require_mlp<Kinds>(p.mlp, width, shape.hidden, shape.gated);
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    require_add_parameters("block: add1", p.add1, width);
    require_add_parameters("block: add2", p.add2, width);
  }
}

/// Buffers of a call for `rows` rows of the stream.
struct block_buffers {
  matrix_view<std::uint8_t> normalized;  ///< then the attention's context
  std::uint8_t* wide;                    ///< q, k and v of all rows, then the perceptron's hidden codes of a band

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr block_buffers take(Workspace& memory, const block_shape& shape, index_t rows) {
    const index_t width = shape.attention.width, hidden = shape.hidden_codes();
    const index_t of_hidden = size_product(band_rows(rows, width, hidden), hidden);
    return {
        .normalized = memory.template matrix<std::uint8_t>(rows, width),
        .wide = memory.template take<std::uint8_t>(std::max(size_product(rows, size_product(3, width)), of_hidden))};
  }
};

/// Bytes of workspace that a block needs for a batch and a number of threads, for memory of any alignment.
constexpr std::size_t block_workspace_bytes(const block_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory;
  block_buffers::take(memory, shape, size_product(batch, shape.attention.tokens));
  return memory.bytes_and(
      attention_workspace_bytes(shape.attention.tokens, shape.attention.heads, shape.attention.head_size(), threads));
}

/// Checks all arguments of block with a number of threads.
template <class Kinds = all_weight_kinds, class Code>
void require_block(const matrix_view<Code>& stream, const block_parameters& p, const block_shape& shape,
                   const workspace& memory, index_t threads) {
  const index_t tokens = shape.attention.tokens, batch = tokens == 0 ? 0 : stream.rows / tokens;
  require_shape("block", "stream", stream, batch * tokens, shape.attention.width);
  require_block<Code, Kinds>(p, shape);
  require_workspace("block", memory, block_workspace_bytes(shape, batch, threads));
}

namespace detail {

/// LayerNorm or RMSNorm.
template <class Isa, class X, executor Executor>
void normalize_rows(normalization kind, matrix_view<X> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
                    const Executor& run) {
  if (kind == normalization::rmsnorm) {
    rmsnorm<Isa>(x, p, y, run);
  } else {
    layernorm<Isa>(x, p, y, run);
  }
}

/// The layers of a block, and how many rows go through them at a time.
struct block_layers {
  const block_parameters& p;
  const block_shape& shape;
  index_t band;
};

/// Norms of queries and keys, in place on each head's columns of q, k and v.
template <class Isa, executor Executor>
void normalize_heads(const attention_parameters& p, const attention_shape& shape, matrix_view<std::uint8_t> qkv,
                     const Executor& run) {
  const auto* const norms = std::get_if<qk_norm_parameters>(&p.norms);
  if (norms == nullptr || shape.width == 0) {
    return;
  }
  for_each_row_range(run, qkv.rows, rows_per_task, [&](row_range rows) {
    for (index_t head = 0; head < 2 * shape.heads; ++head) {  // those of keys are after those of queries
      const matrix_view<std::uint8_t> codes = qkv.column_block(head * shape.head_size(), shape.head_size());
      kernel::layernorm<Isa>(matrix_view<const std::uint8_t>(codes), *shape.qk_norm,
                             head < shape.heads ? norms->q : norms->k, codes, rows);
    }
  });
}

/// Rotary positions of queries and keys, in place on rows of q, k and v of a batch, from row `first` on.
template <class Isa, executor Executor>
void rotate_heads(const attention_parameters& p, const attention_shape& shape, index_t first,
                  matrix_view<std::uint8_t> qkv, const Executor& run) {
  const auto* const tables = std::get_if<rotation_parameters>(&p.rotation);
  if (tables == nullptr || shape.width == 0) {
    return;
  }
  for_each_row_range(run, qkv.rows, rows_per_task, [&](row_range rows) {
    for (index_t i = rows.begin; i < rows.end; ++i) {
      const index_t position = (first + i) % shape.tokens - *shape.rotary_prefix;
      if (position < 0) {
        continue;
      }
      const rotation_parameters angles{tables->cosine.row_block(position, 1), tables->sine.row_block(position, 1)};
      const auto rotate_part = [&](index_t part, int zero_point) {
        const matrix_view<std::uint8_t> codes = qkv.row_block(i, 1).column_block(part * shape.width, shape.width);
        kernel::rotate<Isa>({codes, zero_point}, angles, codes, {0, 1});
      };
      rotate_part(0, p.zero_points.q);
      rotate_part(1, p.zero_points.k);
    }
  });
}

/// The first steps of a block on a stream, in bands of rows: norm1, then q, k and v, and their norms and rotary
/// positions if there are any.
template <class Isa, class Kinds, class Code, executor Executor>
void project_qkv(matrix_view<Code> stream, const block_layers& layers, matrix_view<std::uint8_t> normalized,
                 matrix_view<std::uint8_t> qkv, const Executor& run) {
  const linear_parameters& layer = layers.p.attention.qkv;
  for_each_row_band(stream.rows, layers.band, [&](index_t first, index_t count) {
    const matrix_view<std::uint8_t> x = normalized.row_block(first, count);
    normalize_rows<Isa>(layers.shape.norm, stream.row_block(first, count), layers.p.norm1, x, run);
    linear<Isa, Kinds>(x, layer.weights, requantize<std::uint8_t>{layer.scale}, qkv.row_block(first, count), run);
    normalize_heads<Isa>(layers.p.attention, layers.shape.attention, qkv.row_block(first, count), run);
    rotate_heads<Isa>(layers.p.attention, layers.shape.attention, first, qkv.row_block(first, count), run);
  });
}

/// The gate's codes become their products with the layer that they multiply, whose codes are after them in memory.
template <class Isa, class Kinds, executor Executor>
void multiply_by_gate(matrix_view<const std::uint8_t> normalized, const gate_parameters& p,
                      matrix_view<std::uint8_t> hidden, const Executor& run) {
  const matrix_view<std::uint8_t> up(hidden.data + hidden.rows * hidden.columns, hidden.rows, hidden.columns);
  linear<Isa, Kinds>(normalized, p.up.weights, requantize<std::uint8_t>{p.up.scale}, up, run);
  multiply<Isa>({hidden, p.activation_zero_point}, {up, p.up_zero_point},
                requantize<std::uint8_t, tensor_scale>{p.product}, hidden, run);
}

/// The second half of a block, in place on a band of the stream. `normalized` has the stream's shape, `memory` is for
/// the hidden codes.
template <class Isa, class Kinds, class Code, executor Executor>
void mlp_half(matrix_view<Code> stream, const block_parameters& p, normalization norm,
              matrix_view<std::uint8_t> normalized, std::uint8_t* memory, const Executor& run) {
  const matrix_view<std::uint8_t> hidden(memory, stream.rows, p.mlp.fc1.outputs());
  normalize_rows<Isa>(norm, stream, p.norm2, normalized, run);
  linear<Isa, Kinds>(normalized, p.mlp.fc1.weights, requantize_lut{p.mlp.fc1.scale, p.mlp.table}, hidden, run);
  if (const auto* const gate = std::get_if<gate_parameters>(&p.mlp.gate)) {
    multiply_by_gate<Isa, Kinds>(normalized, *gate, hidden, run);
  }
  add_branch<Isa, Kinds>(hidden, p.mlp.fc2, p.add2, stream, run);
}

/// The steps after attention, on a stream in bands of rows: the projection, then the perceptron. `context` becomes
/// norm2's codes.
template <class Isa, class Kinds, class Code, executor Executor>
void after_attention(matrix_view<std::uint8_t> context, const block_layers& layers, std::uint8_t* hidden,
                     matrix_view<Code> stream, const Executor& run) {
  const block_parameters& p = layers.p;
  for_each_row_band(stream.rows, layers.band, [&](index_t first, index_t count) {
    const matrix_view<Code> band = stream.row_block(first, count);
    const matrix_view<std::uint8_t> x = context.row_block(first, count);
    add_branch<Isa, Kinds>(x, p.attention.proj, p.add1, band, run);
    mlp_half<Isa, Kinds>(band, p, layers.shape.norm, x, hidden, run);
  });
}

}  // namespace detail

/// A transformer block of FQ-ViT, in place on the residual streams of a batch of images:
///
///     x <- x + proj(attention(norm1(x)));   x <- x + fc2(f(fc1(norm2(x))))
///
/// f is the activation function. With a gate (SwiGLU, GeGLU) the last step is x <- x + fc2(f(fc1(y)) * up(y)), y being
/// norm2(x). Attention may normalize the queries and keys of each head (QK-norm) and rotate them by the positions of
/// their tokens (rotary positions). There are no tensors between a product and the operation that follows it, but for
/// the gate's product: the activation, the residual additions and all of attention run where their operands are.
///
/// Shapes:    stream (batch * tokens) x width of u8 or s16, one image after the other; the batch is stream.rows /
///            tokens. Parameters as `shape` says. Any number of tokens from 0.
/// Units:     u8: the stream's codes have norm1's zero point and shifts on entry, add2's output scale on return;
///            s16: one scale throughout, zero point 0, sums saturate.
/// Memory:    at least block_workspace_bytes(shape, batch, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor; equal to reference::block.
/// Errors:    sizes that do not match, parameters out of range, weights of a kind that is not of Kinds, a workspace
///            that is too small: before anything is written.
/// Aliasing:  the stream is input and output; it must not overlap the parameters or the workspace.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Isa = isa::native, class Kinds = all_weight_kinds, class Code, executor Executor = sequential>
void block(matrix_view<Code> stream, const block_parameters& p, const block_shape& shape, workspace memory,
           const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_block<Kinds>(stream, p, shape, memory, run.threads());
  const index_t tokens = shape.attention.tokens, width = shape.attention.width, rows = stream.rows;
  const index_t batch = tokens == 0 ? 0 : rows / tokens;
  const block_buffers buffer = block_buffers::take(memory, shape, rows);
  const matrix_view<std::uint8_t> normalized = buffer.normalized, qkv(buffer.wide, rows, 3 * width);
  const detail::block_layers layers{.p = p, .shape = shape, .band = band_rows(rows, width, shape.hidden_codes())};
  detail::project_qkv<Isa, Kinds>(stream, layers, normalized, qkv, run);
  const auto image = [&](index_t i) { return p.attention.operands(qkv.row_block(i * tokens, tokens)); };
  const auto context = [&](index_t i) { return normalized.row_block(i * tokens, tokens); };
  detail::attend_batch<Isa>(batch, image, context, p.attention.multihead(shape.attention.heads), memory, run);
  detail::after_attention<Isa, Kinds>(normalized, layers, buffer.wide, stream, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
