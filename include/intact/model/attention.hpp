#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "intact/kernel/attention.hpp"
#include "intact/model/attention_parameters.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/types/prepared_keys.hpp"
#include "intact/types/workspace.hpp"

// Attention without tensors between its steps: a band of queries stays in the L1 cache from q * k^T through the softmax
// to the product with V.

namespace intact {
inline namespace INTACT_UNIT {

/// Bytes of memory for the prepared keys and values of some heads, for memory of any alignment.
constexpr std::size_t prepared_keys_bytes(index_t keys, index_t heads, index_t head_size) {
  workspace_size memory;
  memory.take<attention_head>(heads);
  for (index_t h = 0; h < heads; ++h) {
    kernel::attention_head_memory::take(memory, keys, head_size);
  }
  return memory.bytes();
}

/// Bytes of workspace for attention to prepared keys with `threads` threads, for memory of any alignment.
constexpr std::size_t attention_workspace_bytes(index_t keys, index_t threads) {
  workspace_size memory;
  for (index_t t = 0; t < std::max<index_t>(threads, 1); ++t) {
    kernel::attention_scratch::take(memory, keys, kernel::attention_band(keys));
  }
  return memory.bytes();
}

/// Bytes of workspace for attention with `threads` threads, for memory of any alignment.
constexpr std::size_t attention_workspace_bytes(index_t keys, index_t heads, index_t head_size, index_t threads) {
  workspace_size memory;
  const index_t slots = std::max(heads, threads);
  memory.take<attention_head>(slots);
  memory.take<kernel::attention_head_memory>(slots);
  for (index_t i = 0; i < slots; ++i) {
    kernel::attention_head_memory::take(memory, keys, head_size);
  }
  return memory.bytes_and(attention_workspace_bytes(keys, threads));
}

/// Checks all arguments of attention with a number of threads.
inline void require_attention(const attention_operands& x, const multihead_parameters& p,
                              const matrix_view<std::uint8_t>& y, const workspace& memory, index_t threads) {
  require_multihead(x, p, y);
  require_workspace("attention", memory,
                    attention_workspace_bytes(x.k.codes.rows, p.heads, x.q.codes.columns / p.heads, threads));
}

namespace detail {

/// A head's columns of a matrix.
inline quantized_matrix head_of(const quantized_matrix& all, index_t head, index_t size) {
  return {all.codes.column_block(head * size, size), all.zero_point};
}

/// The queries of a head, and where its context goes.
struct attention_queries {
  matrix_view<const std::uint8_t> q;
  const key_mask& mask;
  matrix_view<std::uint8_t> y;
};

/// The attention of a batch whose images have the same sizes and zero points.
template <class Isa>
class batch_attention {
 public:
  batch_attention(index_t queries, index_t keys, index_t head_size, const multihead_parameters& p)
      : queries_(queries), keys_(keys), size_(head_size), p_(p) {}

  /// `image(i)` tells the operands of an image, `context(i)` where its context goes.
  template <class Image, class Context, executor Executor>
  void run(index_t images, const Image& image, const Context& context, workspace memory,
           const Executor& executor) const {
    const index_t threads = std::max<index_t>(executor.threads(), 1), slots = std::max(p_.heads, threads);
    attention_head* const prepared = memory.take<attention_head>(slots);
    kernel::attention_head_memory* const places = memory.take<kernel::attention_head_memory>(slots);
    for (index_t i = 0; i < slots; ++i) {
      places[i] = kernel::attention_head_memory::take(memory, keys_, size_);
    }
    const index_t all = images * p_.heads;
    // Whole heads, if they are evenly spread over the threads.
    if (all % threads == 0 || all >= 4 * threads) {
      share(all, memory, executor, [&](index_t task, const auto& encode_rows, const auto& scratch, index_t unit) {
        const attention_operands x = image(unit / p_.heads);
        const index_t h = unit % p_.heads;
        prepared[task] = prepare(x, h, places[task]);
        const attention_queries queries = queries_of(x.q, x.mask, context(unit / p_.heads), h);
        for (index_t band = 0; band < bands(); ++band) {
          attend_band(queries, band, prepared[task], encode_rows, scratch);
        }
      });
      return;
    }
    for (index_t i = 0; i < images; ++i) {
      const attention_operands x = image(i);
      executor.for_each(p_.heads, [&](index_t h) { prepared[h] = prepare(x, h, places[h]); });
      attend_heads(x.q, x.mask, prepared, context(i), memory, executor);
    }
  }

  /// All heads of an image whose keys and values have been prepared.
  template <executor Executor>
  void attend_heads(const quantized_matrix& q, const key_mask& mask, const attention_head* heads,
                    const matrix_view<std::uint8_t>& y, const workspace& memory, const Executor& executor) const {
    share(p_.heads * bands(), memory, executor,
          [&](index_t, const auto& encode_rows, const auto& scratch, index_t unit) {
            const index_t h = unit / bands();
            attend_band(queries_of(q, mask, y, h), unit % bands(), heads[h], encode_rows, scratch);
          });
  }

 private:
  index_t bands() const { return (queries_ + kernel::attention_band(keys_) - 1) / kernel::attention_band(keys_); }

  attention_head prepare(const attention_operands& x, index_t head, const kernel::attention_head_memory& memory) const {
    return kernel::prepare_head<Isa>(head_of(x.k, head, size_), head_of(x.v, head, size_), x.q.zero_point, memory);
  }

  attention_queries queries_of(const quantized_matrix& q, const key_mask& mask, const matrix_view<std::uint8_t>& y,
                               index_t head) const {
    return {.q = head_of(q, head, size_).codes, .mask = mask, .y = y.column_block(head * size_, size_)};
  }

  void attend_band(const attention_queries& x, index_t band, const attention_head& head,
                   const kernel::softmax_row_encoder<Isa>& encode_rows,
                   const kernel::attention_scratch& scratch) const {
    const index_t first = band * kernel::attention_band(keys_);
    const index_t count = std::min(kernel::attention_band(keys_), queries_ - first);
    const auto codes = kernel::band_logits<Isa>(x.q.row_block(first, count), head, p_.logits, scratch);
    if (x.mask.visible.rows == 0) {
      encode_rows(codes);
    } else {
      encode_rows(codes, x.mask.queries(first, count));
    }
    kernel::band_context<Isa>(codes, head, p_.softmax, x.y.row_block(first, count), scratch);
  }

  /// Spreads work units over the threads, each with tables and scratch memory of its own.
  template <executor Executor, class Unit>
  void share(index_t units, const workspace& memory, const Executor& executor, const Unit& run_unit) const {
    const index_t tasks = std::clamp<index_t>(executor.threads(), 1, std::max<index_t>(units, 1));
    executor.for_each(tasks, [&](index_t task) {
      const auto scratch = take_of_task(memory, task, [&](workspace& rest) {
        return kernel::attention_scratch::take(rest, keys_, kernel::attention_band(keys_));
      });
      const kernel::softmax_row_encoder<Isa> encode_rows(p_.softmax);
      const row_range mine = units_of_task(units, task, tasks);
      for (index_t unit = mine.begin; unit < mine.end; ++unit) {
        run_unit(task, encode_rows, scratch, unit);
      }
    });
  }

  index_t queries_, keys_, size_;
  const multihead_parameters& p_;
};

template <class Isa, class Image, class Context, executor Executor>
void attend_batch(index_t images, const Image& image, const Context& context, const multihead_parameters& p,
                  const workspace& memory, const Executor& run) {
  if (images > 0) {
    const attention_operands first = image(0);
    const batch_attention<Isa> attend(first.q.codes.rows, first.k.codes.rows, first.q.codes.columns / p.heads, p);
    attend.run(images, image, context, memory, run);
  }
}

}  // namespace detail

/// Multi-head attention from codes of q, k and v to codes of the context.
///
/// Formula:   per head: logits = requantize(q * k^T); codes = softmax(logits); y = codes * v, with p's scales. Masked
///            keys have weight 0.
/// Shapes:    q Tq x (heads * size), k and v Tk x (heads * size), y Tq x (heads * size); any strides. A mask Tq x Tk,
///            or 1 x Tk for all queries, or none; causal_mask and padding_mask (types/key_mask.hpp) make some.
/// Units:     q, k and v may have different scales and zero points.
/// Memory:    at least attention_workspace_bytes(Tk, heads, size, run.threads()). Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    sizes that do not match, parameters out of range, a mask for packed codes (attention_code::u4_clipped):
///            before anything is written.
/// Aliasing:  y must not overlap q, k, v or the mask.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, section 3.3; docs/numerics.md, sections 5 and 6.
template <class Isa = isa::native, executor Executor = sequential>
void attention(const attention_operands& x, const multihead_parameters& p, matrix_view<std::uint8_t> y,
               workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_attention(x, p, y, memory, run.threads());
  detail::attend_batch<Isa>(
      1, [&](index_t) { return x; }, [&](index_t) { return y; }, p, memory, run);
}

/// Checks the arguments of prepare_keys_values.
inline void require_prepare_keys_values(const quantized_matrix& k, const quantized_matrix& v, index_t heads,
                                        int query_zero_point, const workspace& memory) {
  require_at_least("prepare_keys_values", "heads", heads, 1);
  require_equal("prepare_keys_values", "columns of k modulo heads", k.codes.columns % heads, 0);
  const index_t keys = k.codes.rows, size = k.codes.columns / heads;
  require_at_most("prepare_keys_values", "head size", size, gemm_max_depth_u8_u8);
  require_view("prepare_keys_values", "k", k.codes);
  require_shape("prepare_keys_values", "v", v.codes, keys, k.codes.columns);
  require_zero_points("prepare_keys_values", {.q = query_zero_point, .k = k.zero_point, .v = v.zero_point});
  require_at_most("prepare_keys_values", "keys", keys, shift_matmul_max_keys);
  require_workspace("prepare_keys_values", memory, prepared_keys_bytes(keys, heads, size));
}

/// Prepares keys and values for any number of calls of attention, with queries of one zero point.
///
/// Shapes:    k and v Tk x (heads * size); any strides.
/// Memory:    at least prepared_keys_bytes(Tk, heads, size) bytes, which the result refers to. Nothing is allocated.
///            v must remain as long as the result, too; k need not.
/// Errors:    sizes that do not match, zero points out of range: before anything is written.
/// Aliasing:  the memory must not overlap k or v.
/// Runs on:   all instruction sets: the one that uses the result. A task per head.
template <class Isa = isa::native, executor Executor = sequential>
prepared_keys_values prepare_keys_values(const quantized_matrix& k, const quantized_matrix& v, index_t heads,
                                         int query_zero_point, workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_prepare_keys_values(k, v, heads, query_zero_point, memory);
  const index_t keys = k.codes.rows, size = k.codes.columns / heads;
  attention_head* const prepared = memory.take<attention_head>(heads);
  const workspace of_heads = memory;
  run.for_each(heads, [&](index_t h) {
    workspace rest = of_heads;
    kernel::attention_head_memory mine{};
    for (index_t i = 0; i <= h; ++i) {
      mine = kernel::attention_head_memory::take(rest, keys, size);
    }
    prepared[h] =
        kernel::prepare_head<Isa>(detail::head_of(k, h, size), detail::head_of(v, h, size), query_zero_point, mine);
  });
  return {.heads = {prepared, static_cast<std::size_t>(heads)},
          .keys = keys,
          .head_size = size,
          .query_zero_point = query_zero_point};
}

/// Checks all arguments of attention to prepared keys with a number of threads.
inline void require_attention(const prepared_operands& x, const multihead_parameters& p,
                              const matrix_view<std::uint8_t>& y, const workspace& memory, index_t threads) {
  const index_t queries = x.q.codes.rows, keys = x.keys.keys, size = x.keys.head_size;
  require_at_least("attention", "heads", p.heads, 1);
  require_equal("attention", "prepared heads", std::ssize(x.keys.heads), p.heads);
  require_equal("attention", "zero point of q", x.q.zero_point, x.keys.query_zero_point);
  require_shape("attention", "q", x.q.codes, queries, p.heads * size);
  require_shape("attention", "y", y, queries, p.heads * size);
  require_scale("attention: logits", p.logits, keys);
  require_softmax(p.softmax, keys);
  require_attention_mask(x.mask, p.softmax, queries, keys);
  require_workspace("attention", memory, attention_workspace_bytes(keys, threads));
}

/// The same attention with prepared keys and values, such as those of an encoder in cross-attention.
///
/// Shapes:    q Tq x (heads * size), y Tq x (heads * size); any strides; a mask as above.
/// Memory:    at least attention_workspace_bytes(Tk, run.threads()). Nothing is allocated.
/// Errors:    as above; another number of heads, another zero point of q than that of the preparation.
/// Aliasing:  y must not overlap q, the memory of the preparation, v or the mask.
/// Runs on:   all instruction sets; threads of the executor.
template <class Isa = isa::native, executor Executor = sequential>
void attention(const prepared_operands& x, const multihead_parameters& p, matrix_view<std::uint8_t> y, workspace memory,
               const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_attention(x, p, y, memory, run.threads());
  const detail::batch_attention<Isa> attend(x.q.codes.rows, x.keys.keys, x.keys.head_size, p);
  attend.attend_heads(x.q, x.mask, x.keys.heads.data(), y, memory, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
