#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "intact/kernel/add.hpp"
#include "intact/kernel/attention.hpp"
#include "intact/model/fused_attention.hpp"
#include "intact/model/window_attention.hpp"
#include "intact/types/executor.hpp"

// Attention inside windows without tensors between its steps: a window's keys and values are packed, and a band of its
// queries stays in the L1 cache from q * k^T through bias, mask and softmax to the product with V. Bit for bit what
// window_attention.hpp computes step by step.

namespace intact {
inline namespace INTACT_UNIT {

/// What a thread needs for one window and head.
struct window_scratch {
  kernel::attention_head_memory head;
  kernel::attention_scratch band;

  /// Queries that go through attention together: all of a window, if the L1 cache holds their logits.
  static constexpr index_t band_of(index_t tokens) {
    constexpr index_t least = kernel::gemm_tile_rows<std::int8_t>;
    return std::min(tokens, std::max(kernel::attention_band_bytes / std::max<index_t>(tokens, 1), least));
  }

  template <class Workspace>
  static constexpr window_scratch take(Workspace& memory, index_t tokens, index_t head_size) {
    return {kernel::attention_head_memory::take(memory, tokens, head_size),
            kernel::attention_scratch::take(memory, tokens, band_of(tokens))};
  }
};

/// Bytes of workspace for attention inside windows with `threads` threads, for memory of any alignment.
constexpr std::size_t fused_window_attention_bytes(const window_attention_shape& shape, index_t threads) {
  workspace_size memory;
  window_masks::take(memory, shape.grid);
  for (index_t t = 0; t < std::max<index_t>(threads, 1); ++t) {
    window_scratch::take(memory, shape.grid.tokens_per_window(), shape.per_window().head_size());
  }
  return memory.bytes();
}

namespace detail {

/// One head of one window.
struct window_head {
  quantized_matrix q, k, v;
  matrix_view<const std::uint8_t> bias;
  key_mask mask;
  matrix_view<std::uint8_t> context;
};

/// In registers, if the kernels of a band can compute it, else step by step.
template <class Isa>
void attend_window_head(const window_head& x, const window_attention_parameters& p, bool fits,
                        const kernel::softmax_row_encoder<Isa>& code_rows, const window_scratch& scratch) {
  const softmax_parameters& softmax = p.attention.softmax;
  const index_t tokens = x.k.codes.rows, band = window_scratch::band_of(tokens);
  const bool masked = x.mask.visible.rows != 0;
  kernel::attention_head head = {};
  if (fits) {
    head = kernel::prepare_head<Isa>(x.k, x.v, x.q.zero_point, scratch.head);
  }
  for (index_t first = 0; first < tokens; first += band) {
    const index_t rows = std::min(band, tokens - first);
    const quantized_matrix q{x.q.codes.row_block(first, rows), x.q.zero_point};
    const matrix_view<const std::uint8_t> bias = x.bias.row_block(first, rows);
    const key_mask mask{x.mask.visible.row_block(masked ? first : 0, masked ? rows : 0)};
    const matrix_view<std::uint8_t> context = x.context.row_block(first, rows);
    if (!fits) {
      no_trace trace;
      attend_with_bias(q, x.k, x.v, p, bias, mask, scratch.band.codes.prefix(rows, tokens),
                       scratch.band.shifts.slices.prefix(rows, tokens), context, {}, trace);
      continue;
    }
    const matrix_view<std::uint8_t> codes = kernel::band_logits<Isa>(q.codes, head, p.attention.logits, scratch.band);
    kernel::add<Isa>(codes, bias, p.add_bias, codes, 0, rows);
    masked ? code_rows(codes, mask) : code_rows(codes);
    kernel::band_context<Isa>(codes, head, softmax, context, scratch.band);
  }
}

}  // namespace detail

/// Attention inside windows, from codes of q, k and v to codes of the context, for a batch of images.
///
/// Shapes:    qkv (batch * shape.grid.padded_tokens()) x (3 * width) in window order, images behind each other; y the
///            same rows x width; any strides.
/// Memory:    at least fused_window_attention_bytes(shape, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    sizes that do not match, parameters out of range: before anything is written.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.2; docs/numerics.md, section 12.
template <class Isa = isa::native, executor Executor = sequential>
void fused_window_attention(matrix_view<const std::uint8_t> qkv, const window_attention_parameters& p,
                            const window_attention_shape& shape, matrix_view<std::uint8_t> y, workspace memory,
                            const Executor& run = {}) {
  require_window_attention(p, shape);
  const index_t windows = shape.grid.windows(), tokens = shape.grid.tokens_per_window();
  const index_t batch = windows == 0 ? 0 : qkv.rows / (windows * tokens), size = shape.width / shape.heads;
  require_shape("window_attention", "qkv", qkv, batch * windows * tokens, 3 * shape.width);
  require_shape("window_attention", "y", y, qkv.rows, shape.width);
  require_workspace("window_attention", memory, fused_window_attention_bytes(shape, run.threads()));
  const window_masks masks = window_masks::take(memory, shape.grid);
  masks.compute(shape.grid);

  const bool fits = attention_fits_kernels(p.attention.logits, size);
  const index_t units = batch * windows * shape.heads;
  const index_t tasks = std::clamp<index_t>(run.threads(), 1, std::max<index_t>(units, 1));
  const workspace scratch_memory = memory;
  run.for_each(tasks, [&](index_t task) {
    workspace mine = scratch_memory;
    window_scratch scratch{};
    for (index_t t = 0; t <= task; ++t) {
      scratch = window_scratch::take(mine, tokens, size);
    }
    const kernel::softmax_row_encoder<Isa> code_rows(p.attention.softmax);
    for (index_t unit = task * units / tasks; unit < (task + 1) * units / tasks; ++unit) {
      const index_t window = unit / shape.heads, head = unit % shape.heads;
      const auto part = [&](index_t which) {
        const auto rows = qkv.row_block(window * tokens, tokens);
        return quantized_matrix{rows.column_block(which * shape.width + head * size, size), p.attention.qkv_zero_point};
      };
      detail::attend_window_head<Isa>({part(0), part(1), part(2), p.position_bias.row_block(head * tokens, tokens),
                                       masks.of(shape.grid, window % windows),
                                       y.row_block(window * tokens, tokens).column_block(head * size, size)},
                                      p, fits, code_rows, scratch);
    }
  });
}

}  // namespace INTACT_UNIT
}  // namespace intact
