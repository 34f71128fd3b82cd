#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/model/block.hpp"
#include "intact/model/window_attention.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Sizes of a Swin transformer block.
struct swin_block_shape {
  window_attention_shape attention;  ///< sizes of attention and its windows
  index_t hidden = 0;                ///< width of the perceptron's hidden layer

  /// A block of the same layers whose tokens are a window, or all tokens of the grid.
  INTACT_INLINE constexpr block_shape per_window() const { return {attention.per_window(), hidden}; }
  /// A block whose tokens are all tokens of the grid.
  INTACT_INLINE constexpr block_shape all_tokens() const {
    return {{.tokens = attention.grid.tokens(), .width = attention.width, .heads = attention.heads}, hidden};
  }
};

/// Parameters of a Swin transformer block: a block, and the parameters of attention inside windows.
struct swin_block_parameters {
  block_parameters block;                         ///< its softmax is built for biased logits
  int norm1_zero_point = 0;                       ///< of norm1's codes: the code of padding tokens in all channels
  matrix_view<const std::uint8_t> position_bias;  ///< as of window_attention_parameters
  add_parameters add_bias;                        ///< of logits and position bias

  /// The attention of the block, with its bias.
  INTACT_INLINE constexpr window_attention_parameters attention() const {
    return {.attention = block.attention, .position_bias = position_bias, .add_bias = add_bias};
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a block's parameters against its sizes, for a stream of codes of type u8 or s16.
template <class Code = std::uint8_t, class Kinds = all_weight_kinds>
void require_swin_block(const swin_block_parameters& p, const swin_block_shape& shape) {
  require_window_attention<Kinds>(p.attention(), shape.attention);
  require_block<Code, Kinds>(p.block, shape.per_window());
  require_between("swin_block", "norm1_zero_point", p.norm1_zero_point, 0, 255);
}

/// Buffers of a block for a batch.
template <class Code>
struct swin_block_buffers {
  matrix_view<std::uint8_t> normalized;  ///< of all tokens
  matrix_view<std::uint8_t> windows;     ///< in window order: norm1, then the attention's context
  matrix_view<Code> stream;              ///< in window order
  std::uint8_t* wide;                    ///< q, k and v in window order, then the perceptron's hidden codes of a band

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr swin_block_buffers take(Workspace& memory, const swin_block_shape& shape, index_t batch) {
    const index_t width = shape.attention.width;
    const index_t rows = size_product(batch, shape.attention.grid.tokens());
    const index_t padded = size_product(batch, shape.attention.grid.padded_tokens());
    return {.normalized = memory.template matrix<std::uint8_t>(rows, width),
            .windows = memory.template matrix<std::uint8_t>(padded, width),
            .stream = memory.template matrix<Code>(padded, width),
            .wide = memory.template take<std::uint8_t>(
                std::max(size_product(padded, size_product(3, width)),
                         size_product(band_rows(rows, width, shape.hidden), shape.hidden)))};
  }
};

/// Bytes of workspace that a block needs for a batch and a number of threads, for memory of any alignment.
template <class Code = std::uint8_t>
constexpr std::size_t swin_block_workspace_bytes(const swin_block_shape& shape, index_t batch = 1,
                                                 index_t threads = 1) {
  workspace_size memory;
  swin_block_buffers<Code>::take(memory, shape, batch);
  return memory.bytes_and(window_attention_workspace_bytes(shape.attention, threads));
}

/// Checks all arguments of swin_block with a number of threads.
template <class Kinds = all_weight_kinds, class Code>
void require_swin_block(const matrix_view<Code>& stream, const swin_block_parameters& p, const swin_block_shape& shape,
                        const workspace& memory, index_t threads) {
  require_swin_block<Code, Kinds>(p, shape);
  const index_t batch = shape.attention.grid.images_of(stream.rows);
  require_shape("swin_block", "stream", stream, batch * shape.attention.grid.tokens(), shape.attention.width);
  require_workspace("swin_block", memory, swin_block_workspace_bytes<Code>(shape, batch, threads));
}

namespace detail {

/// The first half of a block. The residual stream goes into window order and back, so that the projection adds to it
/// where it is computed.
template <class Isa, class Kinds, class Code, executor Executor>
void window_attention_half(matrix_view<Code> stream, const swin_block_parameters& p,
                           const window_attention_shape& shape, const swin_block_buffers<Code>& buffer,
                           workspace memory, const Executor& run) {
  const window_grid& grid = shape.grid;
  const index_t tokens = grid.tokens(), padded = grid.padded_tokens(), batch = grid.images_of(stream.rows);
  const auto padding = static_cast<std::uint8_t>(p.norm1_zero_point);
  layernorm<Isa>(stream, p.block.norm1, buffer.normalized, run);
  for (index_t i = 0; i < batch; ++i) {
    window_partition<Isa>(buffer.normalized.row_block(i * tokens, tokens), grid, padding,
                          buffer.windows.row_block(i * padded, padded), run);
    window_partition<Isa>(stream.row_block(i * tokens, tokens), grid, 0, buffer.stream.row_block(i * padded, padded),
                          run);
  }
  const linear_parameters& layer = p.block.attention.qkv;
  const matrix_view<std::uint8_t> qkv(buffer.wide, batch * padded, 3 * shape.width);
  linear<Isa, Kinds>(buffer.windows, layer.weights, requantize<std::uint8_t>{layer.scale}, qkv, run);
  window_attention<Isa>(qkv, p.attention(), shape, buffer.windows, memory, run);
  add_branch<Isa, Kinds>(buffer.windows, p.block.attention.proj, p.block.add1, buffer.stream, run);
  for (index_t i = 0; i < batch; ++i) {
    window_reverse<Isa>(buffer.stream.row_block(i * padded, padded), grid, stream.row_block(i * tokens, tokens), run);
  }
}

}  // namespace detail

/// A Swin transformer block, in place on the residual streams of a batch of grids of tokens:
///
///     x <- x + proj(window_attention(norm1(x)));   x <- x + fc2(gelu(fc1(norm2(x))))
///
/// Shapes:    stream (batch * tokens) x width of u8 or s16, one image after the other, row-major on the grid of
///            shape.attention.grid.tokens() tokens; parameters as `shape` says.
/// Units:     as of block().
/// Memory:    at least swin_block_workspace_bytes<Code>(shape, batch, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor; equal to reference::swin_block of each image.
/// Errors:    sizes that do not match, parameters out of range, weights of a kind that is not of Kinds, a workspace
///            that is too small: before anything is written.
/// Aliasing:  the stream is input and output; it must not overlap the parameters or the workspace.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.2; docs/numerics.md, section 12.
template <class Isa = isa::native, class Kinds = all_weight_kinds, class Code, executor Executor = sequential>
void swin_block(matrix_view<Code> stream, const swin_block_parameters& p, const swin_block_shape& shape,
                workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_swin_block<Kinds>(stream, p, shape, memory, run.threads());
  const auto buffer = swin_block_buffers<Code>::take(memory, shape, shape.attention.grid.images_of(stream.rows));
  detail::window_attention_half<Isa, Kinds>(stream, p, shape.attention, buffer, memory, run);

  const index_t each = band_rows(stream.rows, stream.columns, shape.hidden);
  detail::for_each_row_band(stream.rows, each, [&](index_t first, index_t count) {
    detail::mlp_half<Isa, Kinds>(stream.row_block(first, count), p.block, normalization::layernorm,
                                 buffer.normalized.row_block(first, count), buffer.wide, run);
  });
}

}  // namespace INTACT_UNIT
}  // namespace intact
