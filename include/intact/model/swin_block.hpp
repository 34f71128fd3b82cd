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
  window_attention_shape attention;
  index_t hidden = 0;

  /// A block of the same layers whose tokens are a window, or all tokens of the grid.
  INTACT_INLINE constexpr block_shape per_window() const { return {attention.per_window(), hidden}; }
  INTACT_INLINE constexpr block_shape all_tokens() const {
    return {{attention.grid.tokens(), attention.width, attention.heads}, hidden};
  }
};

/// Parameters of a Swin transformer block: a block, and what attention inside windows adds to it.
struct swin_block_parameters {
  block_parameters block;                         ///< its softmax is built for biased logits
  int norm1_zero_point = 0;                       ///< of norm1's codes: what tokens of padding have in all channels
  matrix_view<const std::uint8_t> position_bias;  ///< as of window_attention_parameters
  add_parameters add_bias;

  INTACT_INLINE constexpr window_attention_parameters attention() const {
    return {block.attention, position_bias, add_bias};
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Buffers in window order of one call, taken from a workspace behind block_buffers of all tokens.
template <class Code>
struct swin_window_buffers {
  matrix_view<std::uint8_t> normalized;
  matrix_view<Code> branch;  ///< u8: the branch's codes; s16: the residual stream

  template <class Workspace>
  static constexpr swin_window_buffers take(Workspace& memory, const window_attention_shape& shape) {
    return {memory.template matrix<std::uint8_t>(shape.grid.padded_tokens(), shape.width),
            memory.template matrix<Code>(shape.grid.padded_tokens(), shape.width)};
  }
};

/// Bytes of workspace that a block of this shape and stream needs, for memory of any alignment.
template <class Code = std::uint8_t>
constexpr std::size_t swin_block_workspace_bytes(const swin_block_shape& shape) {
  workspace_size during_attention;
  block_buffers::take(during_attention, shape.all_tokens());
  workspace_size during_mlp = during_attention;
  swin_window_buffers<Code>::take(during_attention, shape.attention);
  window_attention_buffers::take(during_attention, shape.attention);
  mlp_buffers::take(during_mlp, shape.attention.grid.tokens(), shape.hidden);
  return std::max(during_attention.bytes(), during_mlp.bytes());
}

/// Checks a block's parameters against its sizes, for a stream of codes of type u8 or s16.
template <class Code = std::uint8_t>
void require_swin_block(const swin_block_parameters& p, const swin_block_shape& shape) {
  require_window_attention(p.attention(), shape.attention);
  require_block<Code>(p.block, shape.per_window());
  require_between("swin_block", "norm1_zero_point", p.norm1_zero_point, 0, 255);
}

namespace detail {

/// The first half of a block, in place on the residual stream: x <- x + proj(window_attention(norm1(x))).
template <class Code, class Trace>
void window_attention_half(matrix_view<Code> stream, const swin_block_parameters& p,
                           const window_attention_shape& shape, const block_buffers& buffer, workspace memory,
                           index_t position, Trace& trace) {
  const swin_window_buffers<Code> windows = swin_window_buffers<Code>::take(memory, shape);
  layernorm(stream, p.block.norm1, buffer.normalized);
  trace(trace_site{"norm1", position}, matrix_view<const std::uint8_t>(buffer.normalized));
  const auto padding = static_cast<std::uint8_t>(p.norm1_zero_point);
  window_partition(buffer.normalized, shape.grid, padding, windows.normalized);
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    window_attention(windows.normalized, p.attention(), shape, windows.branch, memory, position, trace);
    window_reverse(windows.branch, shape.grid, buffer.branch);
    add(stream, buffer.branch, p.block.add1, stream);
  } else {
    window_partition(stream, shape.grid, 0, windows.branch);
    window_attention(windows.normalized, p.attention(), shape, windows.branch, memory, position, trace);
    window_reverse(windows.branch, shape.grid, stream);
  }
  trace(trace_site{"add1", position}, matrix_view<const Code>(stream));
}

}  // namespace detail

/// A Swin transformer block, in place on the residual stream of a grid of tokens:
///
///     x <- x + proj(window_attention(norm1(x)));   x <- x + fc2(gelu(fc1(norm2(x))))
///
/// Shapes:    stream shape.attention.grid.tokens() x width of u8 or s16, row-major on the grid; parameters to match.
/// Units:     as of block().
/// Memory:    `memory` has at least swin_block_workspace_bytes<Code>(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    sizes that do not match, parameters out of range, a workspace that is too small: before anything is
///            written.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.2; docs/numerics.md, section 12.
template <class Code, class Trace = no_trace>
void swin_block(matrix_view<Code> stream, const swin_block_parameters& p, const swin_block_shape& shape,
                workspace memory, index_t position = -1, Trace&& trace = {}) {
  require_swin_block<Code>(p, shape);
  require_shape("swin_block", "stream", stream, shape.attention.grid.tokens(), shape.attention.width);
  require_workspace("swin_block", memory, swin_block_workspace_bytes<Code>(shape));
  const block_buffers buffer = block_buffers::take(memory, shape.all_tokens());
  detail::window_attention_half(stream, p, shape.attention, buffer, memory, position, trace);
  detail::mlp_half(stream, p.block, buffer, memory, position, trace);
}

}  // namespace INTACT_UNIT
}  // namespace intact
