#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/add.hpp"
#include "intact/model/attention.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/windows.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Sizes of multi-head self-attention inside windows.
struct window_attention_shape {
  window_grid grid;
  index_t width = 0;
  index_t heads = 1;

  /// The attention of one window.
  INTACT_INLINE constexpr attention_shape per_window() const { return {grid.tokens_per_window(), width, heads}; }
};

/// Parameters of multi-head self-attention inside windows: attention, and a position bias added to the logits. The
/// softmax of `attention` is built for the scale of the sums.
struct window_attention_parameters {
  attention_parameters attention;
  matrix_view<const std::uint8_t> position_bias;  ///< (heads * T) x T codes: rows [h * T, (h + 1) * T) are head h's
  add_parameters add_bias;                        ///< per key, all alike: codes of logits and bias to biased logits
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Masks of shifted windows, by their place: 1 in the last row of windows, plus 2 in the last column. Those without
/// elements hide no key.
struct window_masks {
  std::array<matrix_view<std::uint8_t>, 4> visible;

  template <class Workspace>
  static constexpr window_masks take(Workspace& memory, const window_grid& grid) {
    window_masks masks;
    for (std::size_t place = 1; place < masks.visible.size() && grid.shift != 0; ++place) {
      masks.visible[place] = memory.template matrix<std::uint8_t>(grid.tokens_per_window(), grid.tokens_per_window());
    }
    return masks;
  }

  void compute(const window_grid& grid) const {
    for (std::size_t place = 1; place < visible.size() && grid.shift != 0; ++place) {
      shifted_window_mask(grid, place % 2 != 0, place / 2 != 0, visible[place]);
    }
  }

  constexpr key_mask of(const window_grid& grid, index_t window) const {
    const bool bottom = window / grid.windows_across() == grid.windows_down() - 1;
    const bool right = window % grid.windows_across() == grid.windows_across() - 1;
    return {visible[(bottom ? 1U : 0U) + (right ? 2U : 0U)]};
  }
};

/// Buffers of one call, taken from a workspace.
struct window_attention_buffers {
  matrix_view<std::uint8_t> qkv;
  matrix_view<std::uint8_t> context;
  matrix_view<std::uint8_t> logits;  ///< of one window and head
  matrix_view<std::uint8_t> codes;   ///< bytes of packed rows for attention_code::u4_clipped
  window_masks masks;

  template <class Workspace>
  static constexpr window_attention_buffers take(Workspace& memory, const window_attention_shape& shape) {
    const index_t rows = shape.grid.padded_tokens(), tokens = shape.grid.tokens_per_window();
    return {memory.template matrix<std::uint8_t>(rows, size_product(3, shape.width)),
            memory.template matrix<std::uint8_t>(rows, shape.width),
            memory.template matrix<std::uint8_t>(tokens, tokens), memory.template matrix<std::uint8_t>(tokens, tokens),
            window_masks::take(memory, shape.grid)};
  }
};

/// Checks the parameters of attention inside windows against its sizes.
inline void require_window_attention(const window_attention_parameters& p, const window_attention_shape& shape) {
  require_window_grid("window_attention", shape.grid);
  const attention_shape window = shape.per_window();
  require_attention(p.attention, window);
  require_shape("window_attention", "position_bias", p.position_bias, size_product(window.heads, window.tokens),
                window.tokens);
  require_add_parameters("window_attention: add_bias", p.add_bias, window.tokens);
  const softmax_parameters& softmax = p.attention.softmax;
  if (shape.grid.shift != 0 && softmax.kind != attention_kind::weights &&
      softmax.probabilities == attention_code::u4_clipped) {
    contract_failed(
        "intact::window_attention: shifted windows mask keys; packed codes (attention_code::u4_clipped) have no weight "
        "0");
  }
}

namespace detail {

/// Queries of one window and head with the keys and values of the window: logits, bias, softmax, product with V.
/// Without elements in `mask` all keys are visible. `bias` has a row for each query; `where` has the block, window and
/// head.
template <class Trace>
void attend_with_bias(const quantized_matrix& q, const quantized_matrix& k, const quantized_matrix& v,
                      const window_attention_parameters& p, matrix_view<const std::uint8_t> bias, const key_mask& mask,
                      matrix_view<std::uint8_t> logits, matrix_view<std::uint8_t> codes,
                      matrix_view<std::uint8_t> context, trace_site where, Trace& trace) {
  where.name = "attention_logits";
  gemm(q, k, requantize<std::uint8_t, tensor_scale>{p.attention.logits}, logits);
  trace(where, matrix_view<const std::uint8_t>(logits));
  where.name = "biased_logits";
  add(logits, bias, p.add_bias, logits);
  trace(where, matrix_view<const std::uint8_t>(logits));
  where.name = "attention";
  const bool masked = mask.visible.rows != 0;
  attend(logits, v, p.attention.softmax, codes, context, where, trace, masked ? &mask : nullptr);
}

/// All heads of one window, from its rows of qkv to its rows of the context.
template <class Trace>
void attend_window(const window_attention_parameters& p, const window_attention_shape& shape, index_t window,
                   const window_attention_buffers& buffer, index_t block, Trace& trace) {
  const index_t tokens = shape.grid.tokens_per_window(), size = shape.width / shape.heads;
  const matrix_view<std::uint8_t> qkv = buffer.qkv.row_block(window * tokens, tokens);
  const matrix_view<std::uint8_t> context = buffer.context.row_block(window * tokens, tokens);
  const key_mask mask = buffer.masks.of(shape.grid, window);
  for (index_t head = 0; head < shape.heads; ++head) {
    const auto part = [&](index_t which) {
      return quantized_matrix{qkv.column_block(which * shape.width + head * size, size), p.attention.qkv_zero_point};
    };
    attend_with_bias(part(0), part(1), part(2), p, p.position_bias.row_block(head * tokens, tokens), mask,
                     buffer.logits, buffer.codes, context.column_block(head * size, size), {"", block, head, window},
                     trace);
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
                      const window_attention_shape& shape, matrix_view<Y> y, workspace memory, index_t block = -1,
                      Trace&& trace = {}) {
  require_window_attention(p, shape);
  const index_t rows = shape.grid.padded_tokens();
  require_shape("window_attention", "x", x, rows, shape.width);
  require_shape("window_attention", "y", y, rows, shape.width);
  const window_attention_buffers buffer = window_attention_buffers::take(memory, shape);

  linear(x, p.attention.qkv, buffer.qkv);
  trace({"qkv", block}, matrix_view<const std::uint8_t>(buffer.qkv));
  buffer.masks.compute(shape.grid);
  for (index_t window = 0; window < shape.grid.windows(); ++window) {
    detail::attend_window(p, shape, window, buffer, block, trace);
  }
  trace({"context", block}, matrix_view<const std::uint8_t>(buffer.context));

  linear_branch(buffer.context, p.attention.proj, y);
  if constexpr (std::is_same_v<Y, std::uint8_t>) {
    trace({"proj", block}, matrix_view<const std::uint8_t>(y));
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
