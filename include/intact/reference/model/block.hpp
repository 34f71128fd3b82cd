#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/model/block.hpp"
#include "intact/reference/add.hpp"
#include "intact/reference/model/attention.hpp"
#include "intact/reference/model/mlp.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Buffers of one call, taken from a workspace. The buffers of attention follow them, then those of the perceptron in
/// the same place.
struct block_buffers {
  matrix_view<std::uint8_t> normalized;  ///< tokens x width
  matrix_view<std::uint8_t> branch;      ///< tokens x width

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr block_buffers take(Workspace& memory, const block_shape& shape) {
    return {.normalized = memory.template matrix<std::uint8_t>(shape.attention.tokens, shape.attention.width),
            .branch = memory.template matrix<std::uint8_t>(shape.attention.tokens, shape.attention.width)};
  }
};

/// Bytes of workspace that a block of this shape needs, for memory of any alignment.
constexpr std::size_t block_workspace_bytes(const block_shape& shape) {
  workspace_size during_attention;
  block_buffers::take(during_attention, shape);
  workspace_size during_mlp = during_attention;
  attention_buffers::take(during_attention, shape.attention);
  mlp_buffers::take(during_mlp, shape.attention.tokens, shape.hidden, shape.gated);
  return std::max(during_attention.bytes(), during_mlp.bytes());
}

namespace detail {

/// The second half of a block, in place on the residual stream: x <- x + fc2(f(fc1(norm2(x)))), with a gate
/// x <- x + fc2(f(fc1(norm2(x))) * up(norm2(x))).
template <class Code, class Trace>
void mlp_half(matrix_view<Code> stream, const block_parameters& p, normalization norm, const block_buffers& buffer,
              workspace memory, Trace& trace) {
  const matrix_view<const std::uint8_t> normalized = buffer.normalized;
  detail::normalize(norm, stream, p.norm2, buffer.normalized);
  trace(trace_site{"norm2"}, normalized);
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    reference::mlp(normalized, p.mlp, buffer.branch, memory, trace);
    reference::add(stream, buffer.branch, p.add2, stream);
  } else {
    reference::mlp(normalized, p.mlp, stream, memory, trace);
  }
  trace(trace_site{"add2"}, matrix_view<const Code>(stream));
}

}  // namespace detail

/// A transformer block of FQ-ViT, in place on the residual stream:
///
///     x <- x + proj(attention(norm1(x)));   x <- x + fc2(f(fc1(norm2(x))))
///
/// f is the activation function; a gate makes the last step x <- x + fc2(f(fc1(y)) * up(y)), y = norm2(x).
///
/// Shapes:    stream tokens x width of u8 or s16, as `shape` says; parameters to match. Any number of tokens from 0.
/// Units:     u8: the stream's codes have norm1's zero point and shifts on entry, add2's output scale on return;
///            s16: one scale throughout, zero point 0, sums saturate.
/// Memory:    `memory` has at least block_workspace_bytes(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    sizes that do not match, parameters out of range, a workspace that is too small: before anything is
///            written.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Code, class Trace = no_trace>
void block(matrix_view<Code> stream, const block_parameters& p, const block_shape& shape, workspace memory,
           Trace&& trace = {}) {
  require_shape("block", "stream", stream, shape.attention.tokens, shape.attention.width);
  require_block<Code>(p, shape);
  require_workspace("block", memory, reference::block_workspace_bytes(shape));
  const block_buffers buffer = block_buffers::take(memory, shape);
  const matrix_view<const std::uint8_t> normalized = buffer.normalized;

  detail::normalize(shape.norm, stream, p.norm1, buffer.normalized);
  trace(trace_site{"norm1"}, normalized);
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    reference::attention(normalized, p.attention, shape.attention, buffer.branch, memory, trace);
    reference::add(stream, buffer.branch, p.add1, stream);
  } else {
    reference::attention(normalized, p.attention, shape.attention, stream, memory, trace);
  }
  trace(trace_site{"add1"}, matrix_view<const Code>(stream));
  detail::mlp_half(stream, p, shape.norm, buffer, memory, trace);
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
