#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "intact/add.hpp"
#include "intact/layernorm.hpp"
#include "intact/model/attention.hpp"
#include "intact/model/mlp.hpp"

namespace intact::inline INTACT_ABI {

/// Sizes of a transformer block.
struct block_shape {
  attention_shape attention;
  index hidden = 0;
};

/// Parameters of a pre-norm transformer block on a residual stream of power-of-two-factor codes.
struct block_parameters {
  layernorm_parameters norm1;
  attention_parameters attention;
  add_scale add1;
  layernorm_parameters norm2;
  mlp_parameters mlp;
  add_scale add2;
};

/// Buffers of one call, taken from a workspace; what attention and the perceptron need follows them, one after the
/// other in the same place.
struct block_buffers {
  matrix_view<std::uint8_t> normalized;
  matrix_view<std::uint8_t> branch;

  template <class Workspace>
  static constexpr block_buffers take(Workspace& memory, const block_shape& shape) {
    return {memory.template matrix<std::uint8_t>(shape.attention.tokens, shape.attention.width),
            memory.template matrix<std::uint8_t>(shape.attention.tokens, shape.attention.width)};
  }
};

/// Bytes of workspace that a block of this shape needs, for memory of any alignment.
constexpr std::size_t block_workspace_bytes(const block_shape& shape) {
  workspace_size during_attention;
  block_buffers::take(during_attention, shape);
  workspace_size during_mlp = during_attention;
  attention_buffers::take(during_attention, shape.attention);
  mlp_buffers::take(during_mlp, shape.attention.tokens, shape.hidden);
  return std::max(during_attention.bytes(), during_mlp.bytes());
}

/// Checks a block's parameters against its sizes.
inline void require_block(const block_parameters& p, const block_shape& shape) {
  const index width = shape.attention.width;
  require_layernorm("block: norm1", p.norm1, width);
  require_attention(p.attention, shape.attention);
  require_add_scale("block: add1", p.add1, width);
  require_layernorm("block: norm2", p.norm2, width);
  require_mlp(p.mlp, width, shape.hidden);
  require_add_scale("block: add2", p.add2, width);
}

/// A transformer block of FQ-ViT, in place on the residual stream:
///
///     x <- x + proj(attention(norm1(x)));   x <- x + fc2(gelu(fc1(norm2(x))))
///
/// Shapes:    stream tokens x width, as `shape` says; parameters to match. Any number of tokens from 0.
/// Units:     the stream's codes have norm1's zero point and shifts on entry, add2's output scale on return.
/// Memory:    `memory` has at least block_workspace_bytes(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    sizes that do not match, parameters out of range, a workspace that is too small: before anything is
///            written.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Trace = no_trace>
void block(matrix_view<std::uint8_t> stream, const block_parameters& p, const block_shape& shape, workspace memory,
           index position = -1, Trace&& trace = {}) {
  require_shape("block", "stream", stream, shape.attention.tokens, shape.attention.width);
  require_block(p, shape);
  require_workspace("block", memory, block_workspace_bytes(shape));
  const block_buffers buffer = block_buffers::take(memory, shape);
  const auto show = [&](std::string_view name, matrix_view<const std::uint8_t> codes) {
    trace(trace_site{name, position}, codes);
  };

  layernorm(stream, p.norm1, buffer.normalized);
  show("norm1", buffer.normalized);
  attention(matrix_view<const std::uint8_t>(buffer.normalized), p.attention, shape.attention, buffer.branch, memory,
            position, trace);
  add(stream, buffer.branch, p.add1, stream);
  show("add1", stream);

  layernorm(stream, p.norm2, buffer.normalized);
  show("norm2", buffer.normalized);
  mlp(matrix_view<const std::uint8_t>(buffer.normalized), p.mlp, buffer.branch, memory, position, trace);
  add(stream, buffer.branch, p.add2, stream);
  show("add2", stream);
}

}  // namespace intact::inline INTACT_ABI
