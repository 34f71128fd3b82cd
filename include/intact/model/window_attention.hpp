#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "intact/kernel/add.hpp"
#include "intact/kernel/attention.hpp"
#include "intact/model/attention.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/windows.hpp"

// Attention inside windows without tensors between its steps: a window's keys and values are packed, and a band of its
// queries stays in the L1 cache from q * k^T through bias, mask and softmax to the product with V.

namespace intact {
inline namespace INTACT_ABI {

/// Sizes of multi-head self-attention inside windows.
struct window_attention_shape {
  window_grid grid;   ///< tokens and windows
  index_t width = 0;  ///< channels of all heads
  index_t heads = 1;  ///< number of heads

  /// The attention of one window.
  INTACT_INLINE constexpr attention_shape per_window() const {
    return {.tokens = grid.tokens_per_window(), .width = width, .heads = heads};
  }
};

/// Parameters of multi-head self-attention inside windows: attention, and a position bias added to the logits. The
/// softmax of `attention` is built for the scale of the sums.
struct window_attention_parameters {
  attention_parameters attention;                 ///< of the tokens of a window
  matrix_view<const std::uint8_t> position_bias;  ///< (heads * T) x T codes: rows [h * T, (h + 1) * T) are head h's
  add_parameters add_bias;                        ///< per key, all alike: codes of logits and bias to biased logits
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Masks of shifted windows, by their place: 1 in the last row of windows, plus 2 in the last column. Those without
/// elements hide no key.
struct window_masks {
  std::array<matrix_view<std::uint8_t>, 4> visible;  ///< one per place

  /// Takes the masks from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr window_masks take(Workspace& memory, const window_grid& grid) {
    window_masks masks;
    for (std::size_t place = 1; place < masks.visible.size() && grid.shift != 0; ++place) {
      masks.visible[place] = memory.template matrix<std::uint8_t>(grid.tokens_per_window(), grid.tokens_per_window());
    }
    return masks;
  }

  /// Fills the masks.
  void compute(const window_grid& grid) const {
    for (std::size_t place = 1; place < visible.size() && grid.shift != 0; ++place) {
      shifted_window_mask(grid, place % 2 != 0, place / 2 != 0, visible[place]);
    }
  }

  /// The mask of a window, by its number.
  constexpr key_mask of(const window_grid& grid, index_t window) const {
    const bool bottom = window / grid.windows_across() == grid.windows_down() - 1;
    const bool right = window % grid.windows_across() == grid.windows_across() - 1;
    return {visible[(bottom ? 1U : 0U) + (right ? 2U : 0U)]};
  }
};

/// Checks the parameters of attention inside windows against its sizes.
template <class Kinds = all_weight_kinds>
void require_window_attention(const window_attention_parameters& p, const window_attention_shape& shape) {
  require_window_grid("window_attention", shape.grid);
  const attention_shape window = shape.per_window();
  require_attention<Kinds>(p.attention, window);
  require_shape("window_attention", "position_bias", p.position_bias, size_product(window.heads, window.tokens),
                window.tokens);
  require_add_parameters("window_attention: add_bias", p.add_bias, window.tokens);
  if (shape.grid.shift != 0 && p.attention.softmax.codes() == attention_code::u4_clipped) {
    contract_failed(
        "intact::window_attention: shifted windows mask keys; packed codes (attention_code::u4_clipped) have no weight "
        "0");
  }
}

/// Scratch memory of a thread for one window and head.
struct window_scratch {
  kernel::attention_head_memory head;  ///< of one head
  kernel::attention_scratch band;      ///< of a band of rows

  /// Queries of a band: all of a window, if the L1 cache holds their logits.
  static constexpr index_t band_of(index_t tokens) {
    constexpr index_t least = kernel::gemm_tile_rows<std::int8_t>;
    return std::min(tokens, std::max(kernel::attention_band_bytes / std::max<index_t>(tokens, 1), least));
  }

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr window_scratch take(Workspace& memory, index_t tokens, index_t head_size) {
    return {.head = kernel::attention_head_memory::take(memory, tokens, head_size),
            .band = kernel::attention_scratch::take(memory, tokens, band_of(tokens))};
  }
};

/// Bytes of workspace for attention inside windows with `threads` threads, for memory of any alignment.
constexpr std::size_t window_attention_workspace_bytes(const window_attention_shape& shape, index_t threads) {
  workspace_size memory;
  window_masks::take(memory, shape.grid);
  for (index_t t = 0; t < std::max<index_t>(threads, 1); ++t) {
    window_scratch::take(memory, shape.grid.tokens_per_window(), shape.per_window().head_size());
  }
  return memory.bytes();
}

/// Checks all arguments of window_attention with a number of threads.
inline void require_window_attention(const matrix_view<const std::uint8_t>& qkv, const window_attention_parameters& p,
                                     const window_attention_shape& shape, const matrix_view<std::uint8_t>& y,
                                     const workspace& memory, index_t threads) {
  require_window_attention(p, shape);
  const index_t rows = shape.grid.padded_tokens(), batch = rows == 0 ? 0 : qkv.rows / rows;
  require_shape("window_attention", "qkv", qkv, batch * rows, 3 * shape.width);
  require_shape("window_attention", "y", y, qkv.rows, shape.width);
  require_workspace("window_attention", memory, window_attention_workspace_bytes(shape, threads));
}

namespace detail {

/// One head of one window.
struct window_head {
  quantized_matrix q, k, v;
  matrix_view<const std::uint8_t> bias;
  key_mask mask;
  matrix_view<std::uint8_t> context;
};

/// From q, k and v of one head of a window to its context.
template <class Isa>
void attend_window_head(const window_head& x, const window_attention_parameters& p,
                        const kernel::softmax_row_encoder<Isa>& encode_rows, const window_scratch& scratch) {
  const index_t tokens = x.k.codes.rows, band = window_scratch::band_of(tokens);
  const bool masked = x.mask.visible.rows != 0;
  const attention_head head = kernel::prepare_head<Isa>(x.k, x.v, x.q.zero_point, scratch.head);
  for (index_t first = 0; first < tokens; first += band) {
    const index_t rows = std::min(band, tokens - first);
    const matrix_view<std::uint8_t> codes =
        kernel::band_logits<Isa>(x.q.codes.row_block(first, rows), head, p.attention.logits, scratch.band);
    kernel::add<Isa>(codes, x.bias.row_block(first, rows), p.add_bias, codes, {.begin = 0, .end = rows});
    if (masked) {
      encode_rows(codes, key_mask{x.mask.visible.row_block(first, rows)});
    } else {
      encode_rows(codes);
    }
    kernel::band_context<Isa>(codes, head, p.attention.softmax, x.context.row_block(first, rows), scratch.band);
  }
}

}  // namespace detail

/// Attention inside windows, from codes of q, k and v to codes of the context, for a batch of images.
///
/// Shapes:    qkv (batch * shape.grid.padded_tokens()) x (3 * width) in window order, one image after the other; y the
///            same rows x width; any strides.
/// Memory:    at least window_attention_workspace_bytes(shape, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    sizes that do not match, parameters out of range: before anything is written.
/// Aliasing:  y must not overlap qkv, the position biases or the workspace.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.2; docs/numerics.md, section 12.
template <class Isa = isa::native, executor Executor = sequential>
void window_attention(matrix_view<const std::uint8_t> qkv, const window_attention_parameters& p,
                      const window_attention_shape& shape, matrix_view<std::uint8_t> y, workspace memory,
                      const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_window_attention(qkv, p, shape, y, memory, run.threads());
  const index_t windows = shape.grid.windows(), tokens = shape.grid.tokens_per_window();
  const index_t batch = windows == 0 ? 0 : qkv.rows / (windows * tokens), size = shape.width / shape.heads;
  const window_masks masks = window_masks::take(memory, shape.grid);
  masks.compute(shape.grid);

  const index_t units = batch * windows * shape.heads;
  const index_t tasks = std::clamp<index_t>(run.threads(), 1, std::max<index_t>(units, 1));
  run.for_each(tasks, [&](index_t task) {
    const auto scratch =
        take_of_task(memory, task, [&](workspace& rest) { return window_scratch::take(rest, tokens, size); });
    const kernel::softmax_row_encoder<Isa> encode_rows(p.attention.softmax);
    const row_range mine = units_of_task(units, task, tasks);
    for (index_t unit = mine.begin; unit < mine.end; ++unit) {
      const index_t window = unit / shape.heads, head = unit % shape.heads;
      const attention_operands operands = p.attention.operands(qkv.row_block(window * tokens, tokens));
      const auto of_head = [&](const quantized_matrix& all) {
        return quantized_matrix{all.codes.column_block(head * size, size), all.zero_point};
      };
      detail::attend_window_head<Isa>(
          {of_head(operands.q), of_head(operands.k), of_head(operands.v),
           p.position_bias.row_block(head * tokens, tokens), masks.of(shape.grid, window % windows),
           y.row_block(window * tokens, tokens).column_block(head * size, size)},
          p, encode_rows, scratch);
    }
  });
}

}  // namespace INTACT_UNIT
}  // namespace intact
