#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "intact/kernel/attention.hpp"
#include "intact/model/attention.hpp"
#include "intact/types/executor.hpp"

// Attention without tensors between its steps: a band of queries stays in the L1 cache from q * k^T through the softmax
// to the product with V. Bit for bit what attention.hpp computes step by step.

namespace intact::inline INTACT_ABI {

/// Queries, keys and values of one image: any numbers of queries and of keys, for cross-attention too. Head h is
/// columns [h * head size, (h + 1) * head size) of each.
struct attention_operands {
  activations q, k, v;
};

/// Whether the kernels of a band can compute attention. Otherwise a band goes through the steps of attention.hpp: where
/// 32 bits might not hold a logit, because the prescale of the scale leaves no room.
constexpr bool attention_fits_kernels(const tensor_scale& logits, index head_size) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const std::int64_t largest_logit = head_size * (255 * 128 + 255 * 255);
  return largest_logit <= (most >> logits.prescale);
}

/// Bytes of workspace for attention with `threads` threads, for memory of any alignment.
constexpr std::size_t fused_attention_bytes(index keys, index heads, index head_size, index threads) {
  workspace_size memory;
  memory.take<kernel::attention_head>(heads);
  memory.take<kernel::attention_head_memory>(heads);
  for (index h = 0; h < heads; ++h) {
    kernel::attention_head_memory::take(memory, keys, head_size);
  }
  for (index t = 0; t < std::max<index>(threads, 1); ++t) {
    kernel::attention_scratch::take(memory, keys, kernel::attention_band(keys));
  }
  return memory.bytes();
}

namespace detail {

/// A band, step by step.
inline void attend_band_by_steps(const activations& q, const activations& k, const activations& v,
                                 const tensor_scale& logits, const attention_weighting& p, matrix_view<std::uint8_t> y,
                                 const kernel::attention_scratch& scratch) {
  const matrix_view<std::uint8_t> codes(scratch.shifts.planes.data, y.rows, k.codes.rows);
  const matrix_view<std::uint8_t> band_logits = scratch.codes.prefix(y.rows, k.codes.rows);
  gemm(q, k, requantize<std::uint8_t, tensor_scale>{logits}, band_logits);
  no_trace trace;
  attend(band_logits, v, p, codes, y, {}, trace);
}

}  // namespace detail

/// Multi-head attention from codes of q, k and v to codes of the context.
///
/// Shapes:    q Tq x (heads * size), k and v Tk x (heads * size), y Tq x (heads * size); any strides.
/// Memory:    at least fused_attention_bytes(Tk, heads, size, run.threads()). Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    sizes that do not match, parameters out of range: before anything is written.
/// Source:    FQ-ViT, section 3.3; docs/numerics.md, sections 5 and 6.
template <class Isa = isa::native, executor Executor = sequential>
void fused_attention(const attention_operands& x, index heads, const tensor_scale& logits, const attention_weighting& p,
                     matrix_view<std::uint8_t> y, workspace memory, const Executor& run = {}) {
  const index queries = x.q.codes.rows, keys = x.k.codes.rows;
  require_at_least("attention", "heads", heads, 1);
  require_equal("attention", "columns of q modulo heads", x.q.codes.columns % heads, 0);
  const index size = x.q.codes.columns / heads;
  require_at_most("attention", "head size", size, gemm_max_depth_u8_u8);
  require_view("attention", "q", x.q.codes);
  require_shape("attention", "k", x.k.codes, keys, heads * size);
  require_shape("attention", "v", x.v.codes, keys, heads * size);
  require_shape("attention", "y", y, queries, heads * size);
  require_between("attention", "zero point of q", x.q.zero_point, 0, 255);
  require_between("attention", "zero point of k", x.k.zero_point, 0, 255);
  require_between("attention", "zero point of v", x.v.zero_point, 0, 255);
  require_scale("attention: logits", logits, keys);
  require_weighting(p, keys);
  require_workspace("attention", memory, fused_attention_bytes(keys, heads, size, run.threads()));

  const bool fits = attention_fits_kernels(logits, size);
  const auto part = [&](const activations& of, index head) {
    return activations{of.codes.column_block(head * size, size), of.zero_point};
  };
  kernel::attention_head* const prepared = memory.take<kernel::attention_head>(heads);
  kernel::attention_head_memory* const places = memory.take<kernel::attention_head_memory>(heads);
  for (index h = 0; h < heads; ++h) {
    places[h] = kernel::attention_head_memory::take(memory, keys, size);
  }
  if (fits) {
    run.for_each(heads, [&](index h) {
      prepared[h] = kernel::prepare_head<Isa>(part(x.k, h), part(x.v, h), x.q.zero_point, places[h]);
    });
  }

  // A unit is a band of a head; a task is a thread's share of them.
  const index band = kernel::attention_band(keys);
  const index bands = (queries + band - 1) / band;
  const index units = heads * bands;
  const index tasks = std::clamp<index>(run.threads(), 1, std::max<index>(units, 1));
  const workspace scratch_memory = memory;
  run.for_each(tasks, [&](index task) {
    workspace mine = scratch_memory;
    kernel::attention_scratch scratch{};
    for (index t = 0; t <= task; ++t) {
      scratch = kernel::attention_scratch::take(mine, keys, band);
    }
    const kernel::row_coder<Isa> code_rows(p);
    for (index unit = task * units / tasks; unit < (task + 1) * units / tasks; ++unit) {
      const index head = unit / bands, first = unit % bands * band;
      const index rows = std::min(band, queries - first);
      const auto q = part(x.q, head);
      const auto context = y.column_block(head * size, size).row_block(first, rows);
      if (fits) {
        const auto codes = kernel::band_logits<Isa>(q.codes.row_block(first, rows), prepared[head], logits, scratch);
        code_rows(codes);
        kernel::band_context<Isa>(codes, prepared[head], p, context, scratch);
      } else {
        detail::attend_band_by_steps({q.codes.row_block(first, rows), q.zero_point}, part(x.k, head), part(x.v, head),
                                     logits, p, context, scratch);
      }
    }
  });
}

}  // namespace intact::inline INTACT_ABI
