#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "intact/kernel/attention.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/model/linear.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/softmax_parameters.hpp"
#include "intact/types/workspace.hpp"
#include "intact/weighted_matmul.hpp"

// Attention without tensors between its steps: a band of queries stays in the L1 cache from q * k^T through the softmax
// to the product with V.

namespace intact {
inline namespace INTACT_ABI {

/// Sizes of multi-head self-attention.
struct attention_shape {
  index_t tokens = 0;
  index_t width = 0;
  index_t heads = 1;

  INTACT_INLINE constexpr index_t head_size() const { return heads < 1 ? 0 : width / heads; }
};

/// Attention of several heads between its projections. Head h is columns [h * head size, (h + 1) * head size) of
/// queries, keys and values.
struct multihead_parameters {
  index_t heads = 1;
  tensor_scale logits;  ///< s_q * s_k / sqrt(head size) / s_logits
  softmax_parameters softmax = {};
};

/// Queries, keys and values of one image: any numbers of queries and of keys, for cross-attention too.
struct attention_operands {
  quantized_matrix q, k, v;
};

/// Parameters of multi-head self-attention. q, k and v share one scale and one zero point.
struct attention_parameters {
  linear_parameters qkv;
  int qkv_zero_point = 0;
  tensor_scale logits;  ///< s_qkv^2 / sqrt(head size) / s_logits
  softmax_parameters softmax = {};
  linear_parameters proj;  ///< to the branch's u8 scale or to the s16 stream's

  INTACT_INLINE constexpr multihead_parameters multihead(index_t heads) const { return {heads, logits, softmax}; }

  /// Queries, keys and values in the columns of one matrix, as the qkv layer makes them.
  INTACT_INLINE constexpr attention_operands operands(const matrix_view<const std::uint8_t>& codes) const {
    const index_t width = codes.columns / 3;
    const auto third = [&](index_t which) {
      return quantized_matrix{codes.column_block(which * width, width), qkv_zero_point};
    };
    return {third(0), third(1), third(2)};
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks the softmax and the product with V against the number of keys.
inline void require_softmax(const softmax_parameters& p, index_t keys) {
  const auto* const of_sum = std::get_if<log2_of_sum>(&p.weights);
  const auto* const divisor = std::get_if<row_divisor>(&p.context);
  const bool full = p.codes() == attention_code::u8_full;
  if (of_sum == nullptr && divisor == nullptr) {
    contract_failed("intact::attention: weights relative to the maximum do not sum to 1; their context needs a divisor");
  }
  if (full && (of_sum == nullptr || divisor != nullptr)) {
    contract_failed(
        "intact::attention: 8-bit codes (attention_code::u8_full) are relative to the sum, and their context has a "
        "scale");
  }
  if (of_sum != nullptr) {
    require_exp_table("attention", of_sum->exponential, keys);
  } else if (const auto* const of_max = std::get_if<log2_of_max>(&p.weights)) {
    require_softmax_table("attention", of_max->table, of_max->codes == attention_code::u4_clipped ? u4::max : 255);
  } else {
    require_softmax_table("attention", std::get_if<weights_of_max>(&p.weights)->table, 255);
  }
  if (divisor != nullptr) {
    require_at_most("attention", "tokens of normalized rows", keys, weighted_matmul_max_keys);
    require_row_divisor("attention", *divisor);
  } else {
    const tensor_scale& context = *std::get_if<tensor_scale>(&p.context);
    require_at_most("attention", "tokens", keys, shift_matmul_max_keys);
    require_scale("attention: context", context, keys);
    if (full) {
      require_equal("attention", "context.left_shift for attention_code::u8_full", context.left_shift, 0);
    }
  }
}

/// Checks the parameters of self-attention, projections included, against its sizes.
template <class Kinds = all_weight_kinds>
void require_attention(const attention_parameters& p, const attention_shape& shape) {
  require_at_least("attention", "heads", shape.heads, 1);
  require_equal("attention", "width % heads", shape.width % shape.heads, 0);
  require_at_most("attention", "head size", shape.head_size(), gemm_max_depth_u8_u8);
  require_linear<Kinds>("attention: qkv", p.qkv, size_product(3, shape.width), shape.width);
  require_between("attention", "qkv_zero_point", p.qkv_zero_point, 0, 255);
  require_scale("attention: logits", p.logits, shape.tokens);
  require_softmax(p.softmax, shape.tokens);
  require_linear<Kinds>("attention: proj", p.proj, shape.width, shape.width);
}

/// Checks attention between its projections against its operands.
inline void require_multihead(const attention_operands& x, const multihead_parameters& p,
                              const matrix_view<std::uint8_t>& y) {
  const index_t queries = x.q.codes.rows, keys = x.k.codes.rows;
  require_at_least("attention", "heads", p.heads, 1);
  require_equal("attention", "columns of q modulo heads", x.q.codes.columns % p.heads, 0);
  const index_t size = x.q.codes.columns / p.heads;
  require_at_most("attention", "head size", size, gemm_max_depth_u8_u8);
  require_view("attention", "q", x.q.codes);
  require_shape("attention", "k", x.k.codes, keys, p.heads * size);
  require_shape("attention", "v", x.v.codes, keys, p.heads * size);
  require_shape("attention", "y", y, queries, p.heads * size);
  require_between("attention", "zero point of q", x.q.zero_point, 0, 255);
  require_between("attention", "zero point of k", x.k.zero_point, 0, 255);
  require_between("attention", "zero point of v", x.v.zero_point, 0, 255);
  require_scale("attention: logits", p.logits, keys);
  require_softmax(p.softmax, keys);
}

/// Bytes of workspace for attention with `threads` threads, for memory of any alignment.
constexpr std::size_t attention_workspace_bytes(index_t keys, index_t heads, index_t head_size, index_t threads) {
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

/// The attention of a batch whose images have the same sizes and zero points.
template <class Isa>
class batch_attention {
 public:
  batch_attention(const attention_operands& first, const multihead_parameters& p)
      : queries_(first.q.codes.rows), keys_(first.k.codes.rows), size_(first.q.codes.columns / p.heads), p_(p) {}

  /// `image(i)` tells the operands of an image, `context(i)` where its context goes.
  template <class Image, class Context, executor Executor>
  void run(index_t images, const Image& image, const Context& context, workspace memory,
           const Executor& executor) const {
    const index_t threads = std::max<index_t>(executor.threads(), 1), slots = std::max(p_.heads, threads);
    kernel::attention_head* const prepared = memory.take<kernel::attention_head>(slots);
    kernel::attention_head_memory* const places = memory.take<kernel::attention_head_memory>(slots);
    for (index_t i = 0; i < slots; ++i) {
      places[i] = kernel::attention_head_memory::take(memory, keys_, size_);
    }
    const index_t all = images * p_.heads;
    // Whole heads, if they are evenly spread over the threads.
    if (all % threads == 0 || all >= 4 * threads) {
      share(all, memory, executor, [&](index_t task, const auto& encode_rows, const auto& scratch, index_t unit) {
        const index_t i = unit / p_.heads;
        const attention_part head = head_of(image(i), context(i), unit % p_.heads, size_);
        prepared[task] = kernel::prepare_head<Isa>(head.k, head.v, head.q.zero_point, places[task]);
        for (index_t band = 0; band < bands(); ++band) {
          attend_band(head, band, prepared[task], encode_rows, scratch);
        }
      });
      return;
    }
    for (index_t i = 0; i < images; ++i) {
      const auto head = [&](index_t h) { return head_of(image(i), context(i), h, size_); };
      executor.for_each(p_.heads, [&](index_t h) {
        const attention_part part = head(h);
        prepared[h] = kernel::prepare_head<Isa>(part.k, part.v, part.q.zero_point, places[h]);
      });
      share(p_.heads * bands(), memory, executor,
            [&](index_t, const auto& encode_rows, const auto& scratch, index_t unit) {
              const index_t h = unit / bands();
              attend_band(head(h), unit % bands(), prepared[h], encode_rows, scratch);
            });
    }
  }

 private:
  index_t bands() const { return (queries_ + kernel::attention_band(keys_) - 1) / kernel::attention_band(keys_); }

  void attend_band(const attention_part& x, index_t band, const kernel::attention_head& head,
                   const kernel::softmax_row_encoder<Isa>& encode_rows,
                   const kernel::attention_scratch& scratch) const {
    const index_t first = band * kernel::attention_band(keys_);
    const attention_part some = x.queries(first, std::min(kernel::attention_band(keys_), queries_ - first));
    const auto codes = kernel::band_logits<Isa>(some.q.codes, head, p_.logits, scratch);
    encode_rows(codes);
    kernel::band_context<Isa>(codes, head, p_.softmax, some.y, scratch);
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
      const kernel::softmax_row_encoder<Isa> encode_rows(p_.softmax);
      for (index_t unit = task * units / tasks; unit < (task + 1) * units / tasks; ++unit) {
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
    batch_attention<Isa>(image(0), p).run(images, image, context, memory, run);
  }
}

}  // namespace detail

/// Multi-head attention from codes of q, k and v to codes of the context.
///
/// Formula:   per head: logits = requantize(q * k^T); codes = softmax(logits); y = codes * v, with p's scales.
/// Shapes:    q Tq x (heads * size), k and v Tk x (heads * size), y Tq x (heads * size); any strides.
/// Memory:    at least attention_workspace_bytes(Tk, heads, size, run.threads()). Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    sizes that do not match, parameters out of range: before anything is written.
/// Aliasing:  y must not overlap q, k or v.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, section 3.3; docs/numerics.md, sections 5 and 6.
template <class Isa = isa::native, executor Executor = sequential>
void attention(const attention_operands& x, const multihead_parameters& p, matrix_view<std::uint8_t> y,
               workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_multihead(x, p, y);
  const index_t keys = x.k.codes.rows, size = x.q.codes.columns / p.heads;
  require_workspace("attention", memory, attention_workspace_bytes(keys, p.heads, size, run.threads()));
  detail::attend_batch<Isa>(
      1, [&](index_t) { return x; }, [&](index_t) { return y; }, p, memory, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
