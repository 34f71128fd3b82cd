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

namespace intact {
inline namespace INTACT_ABI {

/// Queries, keys and values of one image: any numbers of queries and of keys, for cross-attention too. Head h is
/// columns [h * head size, (h + 1) * head size) of each.
struct attention_operands {
  quantized_matrix q, k, v;
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Whether the kernels of a band can compute attention. Otherwise a band goes through the steps of attention.hpp: where
/// 32 bits might not hold a logit, because the left_shift of the scale leaves no room.
constexpr bool attention_fits_kernels(const tensor_scale& logits, index_t head_size) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const std::int64_t largest_logit = head_size * (255 * 128 + 255 * 255);
  return largest_logit <= (most >> logits.left_shift);
}

/// Bytes of workspace for attention with `threads` threads, for memory of any alignment.
constexpr std::size_t fused_attention_bytes(index_t keys, index_t heads, index_t head_size, index_t threads) {
  workspace_size memory;
  const index_t slots = std::max(heads, threads);
  memory.take<kernel::attention_head>(slots);
  memory.take<kernel::attention_head_memory>(slots);
  for (index_t i = 0; i < slots; ++i) {
    kernel::attention_head_memory::take(memory, keys, head_size);
  }
  for (index_t t = 0; t < std::max<index_t>(threads, 1); ++t) {
    kernel::attention_scratch::take(memory, keys, kernel::attention_band(keys));
  }
  return memory.bytes();
}

namespace detail {

/// A head of an image: its columns of the operands and of the context.
struct attention_part {
  quantized_matrix q, k, v;
  matrix_view<std::uint8_t> y;

  /// The same for some of the queries.
  attention_part queries(index_t first, index_t count) const {
    return {{q.codes.row_block(first, count), q.zero_point}, k, v, y.row_block(first, count)};
  }
};

inline attention_part head_of(const attention_operands& x, matrix_view<std::uint8_t> y, index_t head, index_t size) {
  const auto part = [&](const quantized_matrix& of) {
    return quantized_matrix{of.codes.column_block(head * size, size), of.zero_point};
  };
  return {part(x.q), part(x.k), part(x.v), y.column_block(head * size, size)};
}

/// A band, step by step.
inline void attend_band_by_steps(const attention_part& x, const tensor_scale& logits, const softmax_parameters& p,
                                 const kernel::attention_scratch& scratch) {
  const matrix_view<std::uint8_t> codes(scratch.shifts.slices.data, x.y.rows, x.k.codes.rows);
  const matrix_view<std::uint8_t> band_logits = scratch.codes.prefix(x.y.rows, x.k.codes.rows);
  gemm(x.q, x.k, requantize<std::uint8_t, tensor_scale>{logits}, band_logits);
  no_trace trace;
  attend(band_logits, x.v, p, codes, x.y, {}, trace);
}

/// The attention of a batch whose images have the same sizes and zero points.
template <class Isa>
class batch_attention {
 public:
  batch_attention(const attention_operands& first, index_t heads, const tensor_scale& logits,
                  const softmax_parameters& p)
      : queries_(first.q.codes.rows),
        keys_(first.k.codes.rows),
        heads_(heads),
        size_(first.q.codes.columns / heads),
        logits_(logits),
        p_(p),
        fits_(attention_fits_kernels(logits, size_)) {}

  /// `image(i)` tells the operands of an image, `context(i)` where its context goes.
  template <class Image, class Context, executor Executor>
  void run(index_t images, const Image& image, const Context& context, workspace memory,
           const Executor& executor) const {
    const index_t threads = std::max<index_t>(executor.threads(), 1), slots = std::max(heads_, threads);
    kernel::attention_head* const prepared = memory.take<kernel::attention_head>(slots);
    kernel::attention_head_memory* const places = memory.take<kernel::attention_head_memory>(slots);
    for (index_t i = 0; i < slots; ++i) {
      places[i] = kernel::attention_head_memory::take(memory, keys_, size_);
    }
    const index_t all = images * heads_;
    // Whole heads, if they are evenly spread over the threads.
    if (all % threads == 0 || all >= 4 * threads) {
      share(all, memory, executor, [&](index_t task, const auto& code_rows, const auto& scratch, index_t unit) {
        const index_t i = unit / heads_;
        const attention_part head = head_of(image(i), context(i), unit % heads_, size_);
        prepare(head, places[task], prepared[task]);
        for (index_t band = 0; band < bands(); ++band) {
          attend_band(head, band, prepared[task], code_rows, scratch);
        }
      });
      return;
    }
    for (index_t i = 0; i < images; ++i) {
      const auto head = [&](index_t h) { return head_of(image(i), context(i), h, size_); };
      executor.for_each(heads_, [&](index_t h) { prepare(head(h), places[h], prepared[h]); });
      share(heads_ * bands(), memory, executor, [&](index_t, const auto& code_rows, const auto& scratch, index_t unit) {
        const index_t h = unit / bands();
        attend_band(head(h), unit % bands(), prepared[h], code_rows, scratch);
      });
    }
  }

 private:
  index_t bands() const { return (queries_ + kernel::attention_band(keys_) - 1) / kernel::attention_band(keys_); }

  void prepare(const attention_part& x, const kernel::attention_head_memory& place,
               kernel::attention_head& head) const {
    if (fits_) {
      head = kernel::prepare_head<Isa>(x.k, x.v, x.q.zero_point, place);
    }
  }

  void attend_band(const attention_part& x, index_t band, const kernel::attention_head& head,
                   const kernel::softmax_row_encoder<Isa>& code_rows, const kernel::attention_scratch& scratch) const {
    const index_t first = band * kernel::attention_band(keys_);
    const attention_part some = x.queries(first, std::min(kernel::attention_band(keys_), queries_ - first));
    if (fits_) {
      const auto codes = kernel::band_logits<Isa>(some.q.codes, head, logits_, scratch);
      code_rows(codes);
      kernel::band_context<Isa>(codes, head, p_, some.y, scratch);
    } else {
      attend_band_by_steps(some, logits_, p_, scratch);
    }
  }

  /// Spreads units over the threads, each with tables and scratch memory of its own.
  template <executor Executor, class Unit>
  void share(index_t units, const workspace& memory, const Executor& executor, const Unit& run_unit) const {
    const index_t tasks = std::clamp<index_t>(executor.threads(), 1, std::max<index_t>(units, 1));
    executor.for_each(tasks, [&](index_t task) {
      workspace mine = memory;
      kernel::attention_scratch scratch{};
      for (index_t t = 0; t <= task; ++t) {
        scratch = kernel::attention_scratch::take(mine, keys_, kernel::attention_band(keys_));
      }
      const kernel::softmax_row_encoder<Isa> code_rows(p_);
      for (index_t unit = task * units / tasks; unit < (task + 1) * units / tasks; ++unit) {
        run_unit(task, code_rows, scratch, unit);
      }
    });
  }

  index_t queries_, keys_, heads_, size_;
  const tensor_scale& logits_;
  const softmax_parameters& p_;
  bool fits_;
};

template <class Isa, class Image, class Context, executor Executor>
void attend_batch(index_t images, const Image& image, const Context& context, index_t heads, const tensor_scale& logits,
                  const softmax_parameters& p, const workspace& memory, const Executor& run) {
  if (images > 0) {
    batch_attention<Isa>(image(0), heads, logits, p).run(images, image, context, memory, run);
  }
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
void fused_attention(const attention_operands& x, index_t heads, const tensor_scale& logits,
                     const softmax_parameters& p, matrix_view<std::uint8_t> y, workspace memory,
                     const Executor& run = {}) {
  const index_t queries = x.q.codes.rows, keys = x.k.codes.rows;
  require_at_least("attention", "heads", heads, 1);
  require_equal("attention", "columns of q modulo heads", x.q.codes.columns % heads, 0);
  const index_t size = x.q.codes.columns / heads;
  require_at_most("attention", "head size", size, gemm_max_depth_u8_u8);
  require_view("attention", "q", x.q.codes);
  require_shape("attention", "k", x.k.codes, keys, heads * size);
  require_shape("attention", "v", x.v.codes, keys, heads * size);
  require_shape("attention", "y", y, queries, heads * size);
  require_between("attention", "zero point of q", x.q.zero_point, 0, 255);
  require_between("attention", "zero point of k", x.k.zero_point, 0, 255);
  require_between("attention", "zero point of v", x.v.zero_point, 0, 255);
  require_scale("attention: logits", logits, keys);
  require_softmax(p, keys);
  require_workspace("attention", memory, fused_attention_bytes(keys, heads, size, run.threads()));

  const auto operands = [&](index_t) { return x; };
  const auto context = [&](index_t) { return y; };
  detail::attend_batch<Isa>(1, operands, context, heads, logits, p, memory, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
