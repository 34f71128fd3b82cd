#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <variant>

#include "intact/arith/scale.hpp"
#include "intact/kernel/activation_product.hpp"
#include "intact/kernel/log_softmax/row_loop.hpp"
#include "intact/kernel/max_softmax.hpp"
#include "intact/kernel/shift_matmul.hpp"
#include "intact/simd/byte_sum.hpp"
#include "intact/simd/transpose_bytes.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/prepared_keys.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/scale.hpp"
#include "intact/types/softmax_parameters.hpp"
#include "intact/types/workspace.hpp"

// Logits and codes of a band of queries, and the preparation of the keys and values of a head. The part of a logit that
// depends on the query alone goes into the row's offset.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Whether 32 bits hold every part of a logit, shifted left: the offset of a row's scale takes the part that depends on
/// the query. Otherwise that part is added to the accumulators.
constexpr bool logits_fit_offsets(const tensor_scale& logits, index_t head_size) {
  constexpr std::int64_t max_value = std::numeric_limits<std::int32_t>::max();
  const std::int64_t largest_logit = head_size * (255 * 128 + 255 * 255);
  return largest_logit <= (max_value >> logits.left_shift);
}

/// Scales of the logits of queries: `logits`, and the part of the product that depends on the query.
template <class Isa>
void query_scales(const matrix_view<const std::uint8_t>& q, int k_zero_point, const tensor_scale& logits,
                  tensor_scale* scales) noexcept {
  for (index_t i = 0; i < q.rows; ++i) {
    const std::int64_t share = (128 - k_zero_point) * simd::byte_sum<Isa>(q.data + i * q.stride, q.columns);
    scales[i] = logits;
    scales[i].offset += share * (std::int64_t{1} << logits.left_shift) * logits.multiplier;
  }
}

/// Memory of such a head.
struct attention_head_memory {
  std::uint8_t* keys;
  std::int32_t* key_sums;
  std::int32_t* start;
  value_memory values;

  template <class Workspace>
  static constexpr attention_head_memory take(Workspace& memory, index_t keys, index_t depth) {
    return {.keys = memory.template take<std::uint8_t>(packed_panel_bytes<std::int8_t>(keys, depth)),
            .key_sums = memory.template take<std::int32_t>(keys),
            .start = memory.template take<std::int32_t>(keys),
            .values = value_memory::take(memory, keys, depth)};
  }
};

template <class Isa>
attention_head prepare_head(const quantized_matrix& k, const quantized_matrix& v, int query_zero_point,
                            const attention_head_memory& memory) noexcept {
  return {pack_recentred<Isa>(k, query_zero_point, memory.keys, memory.key_sums, memory.start),
          prepare_values<Isa>(v, memory.values), memory.start, k.zero_point};
}

/// Scratch memory of a band of queries.
struct attention_scratch {
  matrix_view<std::uint8_t> codes;  ///< logits, then codes or weights
  shift_scratch shifts;
  std::int32_t* corrections;  ///< of logits, one for each query

  template <class Workspace>
  static constexpr attention_scratch take(Workspace& memory, index_t keys, index_t band) {
    return {.codes = memory.template matrix<std::uint8_t>(band, code_stride(keys)),
            .shifts = shift_scratch::take(memory, keys, band),
            .corrections = memory.template take<std::int32_t>(band)};
  }
};

/// Whether attention is multiplied with V as u8 weights, in place of codes where there are some.
inline bool has_weights(const softmax_parameters& p) noexcept {
  return std::holds_alternative<weights_of_max>(p.weights) || std::holds_alternative<weight_codes_of_max>(p.weights);
}

/// Turns logits into log2 codes, those of attention_code::u8_masked for attention_code::u4_clipped too, or weights, in
/// place. Its tables are prepared once for all bands.
template <class Isa>
class softmax_row_encoder {
 public:
  explicit softmax_row_encoder(const softmax_parameters& p) noexcept
      : of_sum_(std::get_if<log2_of_sum>(&p.weights)), table_(table_of(p)), masked_(masked_code(p)) {
    if (of_sum_ != nullptr) {
      exponentials_.emplace(of_sum_->exponential.data());
    } else if (const auto* const of_codes = std::get_if<weight_codes_of_max>(&p.weights)) {
      for (std::size_t d = 0; d < weights_.size(); ++d) {
        weights_[d] = of_codes->weights[of_codes->table[d]];
      }
      table_ = weights_.data();
    }
  }
  softmax_row_encoder(const softmax_row_encoder&) = delete;
  softmax_row_encoder& operator=(const softmax_row_encoder&) = delete;

  void operator()(const matrix_view<std::uint8_t>& codes) const noexcept {
    if (of_sum_ != nullptr) {
      code(logit_rows<false>{codes, {}}, codes);
    } else {
      max_softmax<Isa>(codes, table_, codes, {.begin = 0, .end = codes.rows});
    }
  }
  /// Where keys may be masked.
  void operator()(const matrix_view<std::uint8_t>& codes, const key_mask& mask) const noexcept {
    if (of_sum_ != nullptr) {
      code(logit_rows<true>{codes, mask}, codes);
    } else {
      max_softmax<Isa>(codes, table_, mask, masked_, codes, {.begin = 0, .end = codes.rows});
    }
  }

 private:
  /// The table of weights relative to the maximum.
  static const std::uint8_t* table_of(const softmax_parameters& p) noexcept {
    if (const auto* const of_max = std::get_if<log2_of_max>(&p.weights)) {
      return of_max->table.data();
    }
    const auto* const of_bytes = std::get_if<weights_of_max>(&p.weights);
    return of_bytes == nullptr ? nullptr : of_bytes->table.data();
  }

  /// The code or weight of a masked key.
  static std::uint8_t masked_code(const softmax_parameters& p) noexcept {
    return has_weights(p) ? 0 : attention_codes<attention_code::u8_masked>::last_code;
  }

  template <bool Masked>
  void code(const logit_rows<Masked>& logits, const matrix_view<std::uint8_t>& codes) const noexcept {
    of_sum_->codes == attention_code::u8_full ? code_with<attention_code::u8_full>(logits, codes)
                                              : code_with<attention_code::u8_masked>(logits, codes);
  }

  template <attention_code Format, bool Masked>
  void code_with(const logit_rows<Masked>& logits, const matrix_view<std::uint8_t>& codes) const noexcept {
    constexpr log2_rounding half = log2_rounding::round_ratio, root = log2_rounding::round_log;
    const row_range all{.begin = 0, .end = codes.rows};
    if (of_sum_->rounding == half) {
      log_softmax_rows<Isa, Format, half>(logits, *exponentials_, codes, all);
    } else {
      log_softmax_rows<Isa, Format, root>(logits, *exponentials_, codes, all);
    }
  }

  const log2_of_sum* of_sum_;  ///< nullptr: relative to the maximum
  const std::uint8_t* table_;
  std::array<std::uint8_t, softmax_distances> weights_;  ///< of the distances, for weight_codes_of_max
  std::uint8_t masked_;
  std::optional<prepared_exp_table<Isa, std::uint64_t>> exponentials_;
};

/// Logits of a band of queries, in the scratch memory.
template <class Isa>
matrix_view<std::uint8_t> band_logits(const matrix_view<const std::uint8_t>& q, const attention_head& head,
                                      const tensor_scale& logits, const attention_scratch& scratch) noexcept {
  tensor_scale* const of_rows = scratch.shifts.scales;
  const std::span<const tensor_scale> scales(of_rows, static_cast<std::size_t>(q.rows));
  const matrix_view<std::uint8_t> codes = scratch.codes.prefix(q.rows, head.keys.rows);
  if (!logits_fit_offsets(logits, q.columns)) {
    correct_rows<Isa>(q, head.key_zero_point, scratch.corrections);
    const requantize<std::uint8_t, tensor_scale> stage{logits};
    gemm_single_task<Isa>(q, head.keys,
                          row_corrected<requantize<std::uint8_t, tensor_scale>>{
                              stage, {scratch.corrections, static_cast<std::size_t>(q.rows)}},
                          codes, head.start);
    return codes;
  }
  query_scales<Isa>(q, head.key_zero_point, logits, of_rows);
  gemm_single_task<Isa>(q, head.keys, requantize_per_row<std::uint8_t>{scales}, codes, head.start);
  return codes;
}

/// Log2 codes or weights of a band, in the scratch memory, times V.
template <class Isa>
void band_context(const matrix_view<std::uint8_t>& band, const attention_head& head, const softmax_parameters& p,
                  const matrix_view<std::uint8_t>& y, const attention_scratch& scratch) noexcept {
  const matrix_view<const std::uint8_t> codes = band;
  const std::uint8_t most = p.codes() == attention_code::u4_clipped ? 15 : 255;
  const shift_operands<matrix_view<const std::uint8_t>> x{.codes = codes, .max_code = most, .v = head.values};
  const row_range all{.begin = 0, .end = y.rows};
  const auto* const divisor = std::get_if<row_divisor>(&p.context);
  const auto* const scale = std::get_if<tensor_scale>(&p.context);
  if (divisor != nullptr && has_weights(p)) {
    weighted_matmul<Isa>(codes, head.values, *divisor, y, all, scratch.shifts);
  } else if (divisor != nullptr) {
    shift_matmul<Isa>(x, *divisor, y, all, scratch.shifts);
  } else if (p.codes() == attention_code::u8_full) {
    shift_matmul<Isa>(x, requantize_s64<std::uint8_t>{*scale}, y, all, scratch.shifts);
  } else {
    const requantize<std::uint8_t, tensor_scale> stage{*scale};
    shift_matmul<Isa>(x, stage, y, all, scratch.shifts);
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
