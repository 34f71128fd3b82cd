#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/model/swin_block.hpp"
#include "intact/reference/layernorm.hpp"
#include "intact/reference/model/block.hpp"
#include "intact/reference/model/window_attention.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Buffers in window order of one call, taken from a workspace after block_buffers of all tokens.
template <class Code>
struct swin_window_buffers {
  matrix_view<std::uint8_t> normalized;  ///< padded tokens x width
  matrix_view<Code> branch;              ///< u8: the branch's codes; s16: the residual stream

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr swin_window_buffers take(Workspace& memory, const window_attention_shape& shape) {
    return {.normalized = memory.template matrix<std::uint8_t>(shape.grid.padded_tokens(), shape.width),
            .branch = memory.template matrix<Code>(shape.grid.padded_tokens(), shape.width)};
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
  mlp_buffers::take(during_mlp, shape.attention.grid.tokens(), shape.hidden, false);
  return std::max(during_attention.bytes(), during_mlp.bytes());
}

namespace detail {

/// The first half of a block, in place on the residual stream: x <- x + proj(window_attention(norm1(x))).
template <class Code, class Trace>
void window_attention_half(matrix_view<Code> stream, const swin_block_parameters& p,
                           const window_attention_shape& shape, const block_buffers& buffer, workspace memory,
                           Trace& trace) {
  const swin_window_buffers<Code> windows = swin_window_buffers<Code>::take(memory, shape);
  reference::layernorm(stream, p.block.norm1, buffer.normalized);
  trace(trace_site{"norm1"}, matrix_view<const std::uint8_t>(buffer.normalized));
  const auto padding = static_cast<std::uint8_t>(p.norm1_zero_point);
  reference::window_partition(buffer.normalized, shape.grid, padding, windows.normalized);
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    reference::window_attention(windows.normalized, p.attention(), shape, windows.branch, memory, trace);
    reference::window_reverse(windows.branch, shape.grid, buffer.branch);
    reference::add(stream, buffer.branch, p.block.add1, stream);
  } else {
    reference::window_partition(stream, shape.grid, 0, windows.branch);
    reference::window_attention(windows.normalized, p.attention(), shape, windows.branch, memory, trace);
    reference::window_reverse(windows.branch, shape.grid, stream);
  }
  trace(trace_site{"add1"}, matrix_view<const Code>(stream));
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
                workspace memory, Trace&& trace = {}) {
  require_swin_block<Code>(p, shape);
  require_shape("swin_block", "stream", stream, shape.attention.grid.tokens(), shape.attention.width);
  require_workspace("swin_block", memory, reference::swin_block_workspace_bytes<Code>(shape));
  const block_buffers buffer = block_buffers::take(memory, shape.all_tokens());
  detail::window_attention_half(stream, p, shape.attention, buffer, memory, trace);
  detail::mlp_half(stream, p.block, normalization::layernorm, buffer, memory, trace);
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
