#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/model/window_attention.hpp"
#include "intact/reference/add.hpp"
#include "intact/reference/model/attention.hpp"
#include "intact/reference/windows.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Buffers of one call, taken from a workspace.
struct window_attention_buffers {
  matrix_view<std::uint8_t> qkv;      ///< padded tokens x 3 width
  matrix_view<std::uint8_t> context;  ///< padded tokens x width
  matrix_view<std::uint8_t> logits;   ///< of one window and head
  matrix_view<std::uint8_t> codes;    ///< bytes of packed rows for attention_code::u4_clipped
  window_masks masks;                 ///< of shifted windows

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr window_attention_buffers take(Workspace& memory, const window_attention_shape& shape) {
    const index_t rows = shape.grid.padded_tokens(), tokens = shape.grid.tokens_per_window();
    return {.qkv = memory.template matrix<std::uint8_t>(rows, size_product(3, shape.width)),
            .context = memory.template matrix<std::uint8_t>(rows, shape.width),
            .logits = memory.template matrix<std::uint8_t>(tokens, tokens),
            .codes = memory.template matrix<std::uint8_t>(tokens, tokens),
            .masks = window_masks::take(memory, shape.grid)};
  }
};

namespace detail {

/// One window: its rows of q, k and v and of the context, its mask and its number.
struct window_rows {
  matrix_view<const std::uint8_t> qkv;
  matrix_view<std::uint8_t> context;
  key_mask mask;  ///< without elements all keys are visible
  index_t number;
};

/// All heads of one window, from its rows of qkv to its rows of the context.
template <class Trace>
void attend_window(const window_rows& window, const window_attention_parameters& p, const window_attention_shape& shape,
                   const window_attention_buffers& buffer, Trace& trace) {
  const index_t tokens = shape.grid.tokens_per_window(), size = shape.width / shape.heads;
  const attention_operands operands = p.attention.operands(window.qkv);
  for (index_t head = 0; head < shape.heads; ++head) {
    const auto of_head = [&](const quantized_matrix& all) {
      return quantized_matrix{all.codes.column_block(head * size, size), all.zero_point};
    };
    const quantized_matrix q = of_head(operands.q), k = of_head(operands.k), v = of_head(operands.v);
    const auto site = [&](traced_tensor name) { return trace_site{name, -1, head, window.number}; };

    reference::gemm(q, k, requantize<std::uint8_t, tensor_scale>{p.attention.logits}, buffer.logits);
    trace(site("attention_logits"), matrix_view<const std::uint8_t>(buffer.logits));
    reference::add(buffer.logits, p.position_bias.row_block(head * tokens, tokens), p.add_bias, buffer.logits);
    trace(site("biased_logits"), matrix_view<const std::uint8_t>(buffer.logits));
    const bool masked = window.mask.visible.rows != 0;
    attend(head_operands{.logits = buffer.logits,
                         .v = v,
                         .codes = buffer.codes,
                         .context = window.context.column_block(head * size, size),
                         .mask = masked ? &window.mask : nullptr},
           p.attention.softmax, site("attention"), trace);
  }
}

}  // namespace detail

/// Multi-head self-attention of Swin: inside windows, with a position bias, and masks where windows are shifted.
///
/// Formula:   as attention(), window by window, on codes of logits to which add() adds the bias's; in shifted windows
///            of the last row and column, tokens that are no neighbours do not attend to each other.
/// Shapes:    x shape.grid.padded_tokens() x width, in window order; y the same: u8, the branch's codes, or s16, the
///            residual stream that the branch is added to. Tokens of padding are keys like all others.
/// Exactness: every bit, on every target.
/// Errors:    sizes that do not match, parameters out of range, packed codes with shifted windows: before anything is
///            written.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.2; docs/numerics.md, section 12.
template <class Y, class Trace = no_trace>
void window_attention(matrix_view<const std::uint8_t> x, const window_attention_parameters& p,
                      const window_attention_shape& shape, matrix_view<Y> y, workspace memory, Trace&& trace = {}) {
  require_window_attention(p, shape);
  const index_t rows = shape.grid.padded_tokens();
  require_shape("window_attention", "x", x, rows, shape.width);
  require_shape("window_attention", "y", y, rows, shape.width);
  const window_attention_buffers buffer = window_attention_buffers::take(memory, shape);

  reference::linear(x, p.attention.qkv, buffer.qkv);
  trace(trace_site{"qkv"}, matrix_view<const std::uint8_t>(buffer.qkv));
  buffer.masks.compute(shape.grid);
  for (index_t window = 0; window < shape.grid.windows(); ++window) {
    const index_t first = window * shape.grid.tokens_per_window();
    const index_t tokens = shape.grid.tokens_per_window();
    detail::attend_window(detail::window_rows{.qkv = buffer.qkv.row_block(first, tokens),
                                              .context = buffer.context.row_block(first, tokens),
                                              .mask = buffer.masks.of(shape.grid, window),
                                              .number = window},
                          p, shape, buffer, trace);
  }
  trace(trace_site{"context"}, matrix_view<const std::uint8_t>(buffer.context));

  reference::linear_branch(buffer.context, p.attention.proj, y);
  if constexpr (std::is_same_v<Y, std::uint8_t>) {
    trace(trace_site{"proj"}, matrix_view<const std::uint8_t>(y));
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
