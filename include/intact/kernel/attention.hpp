#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "intact/arith/scale.hpp"
#include "intact/kernel/log_softmax/row_loop.hpp"
#include "intact/kernel/max_softmax.hpp"
#include "intact/kernel/shift_matmul.hpp"
#include "intact/simd/byte_sum.hpp"
#include "intact/simd/transpose_bytes.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/scale.hpp"
#include "intact/types/softmax_parameters.hpp"
#include "intact/types/workspace.hpp"

// What attention needs around its product with V (shift_matmul.hpp): keys as packed weights, recentred by 128, and
// rows' sums.
//
//     sum_k (q - zq) * (k - zk) = sum q * (k - 128) + (128 - zk) * sum q - zq * sum (k - zk)
//
// The last term depends on the key alone: sums start from it. The second depends on the query alone: it goes into the
// row's offset.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

namespace detail {

/// Up to four of `count` codes, minus 128, as s8 in a word; 0 behind them.
INTACT_INLINE std::uint32_t recentred(const std::uint8_t* codes, index_t count) {
  std::uint32_t word = 0x80808080u;
  if (count >= 4) {
    std::memcpy(&word, codes, sizeof word);
  } else {
    std::memcpy(&word, codes, static_cast<std::size_t>(count));
  }
  return word ^ 0x80808080u;
}

}  // namespace detail

/// Keys as the weights of q * k^T: rows are keys. `sums`: each key's sum of recentred codes, behind the panels;
/// `start`: what its sums start from, per key.
template <class Isa>
packed_weights<std::int8_t> pack_keys(const quantized_matrix& k, int q_zero_point, std::uint8_t* memory,
                                      std::int32_t* sums, std::int32_t* start) noexcept {
  using packed = packed_weights<std::int8_t>;
  const matrix_view<const std::uint8_t>& codes = k.codes;
  const index_t depth = codes.columns;
  const packed result{memory, sums, codes.rows, depth, codes.rows, depth};
  for (index_t p = 0; p < result.panels(); ++p) {
    const index_t first = p * packed::panel_width;
    const index_t existing = codes.rows - first < packed::panel_width ? codes.rows - first : packed::panel_width;
    std::uint8_t* const to = memory + (result.panel(p) - result.data);
    const index_t stride = result.width(p) * packed::step_bytes;
    const index_t blocks = existing / 4 * 4, block_depth = depth / 16 * 16;
    for (index_t n = 0; n < blocks; n += 4) {
      const std::uint8_t* rows[4];
      for (index_t i = 0; i < 4; ++i) {
        rows[i] = codes.data + (first + n + i) * codes.stride;
      }
      simd::transpose_recentred<Isa>(rows, block_depth, to + n * packed::step_bytes, stride);
    }
    for (index_t d = 0; d < depth; d += packed::step) {
      std::uint8_t* const step = to + d / packed::step * stride;
      for (index_t n = d < block_depth ? blocks : 0; n < existing; ++n) {
        const std::uint32_t word = detail::recentred(&codes(first + n, d), depth - d);
        std::memcpy(step + n * packed::step_bytes, &word, sizeof word);
      }
      std::memset(step + existing * packed::step_bytes, 0,
                  static_cast<std::size_t>(stride - existing * packed::step_bytes));
    }
  }
  for (index_t n = 0; n < codes.rows; ++n) {
    const std::int64_t sum = simd::byte_sum<Isa>(codes.data + n * codes.stride, depth);
    sums[n] = static_cast<std::int32_t>(sum - 128 * depth);
    start[n] = static_cast<std::int32_t>(-q_zero_point * (sum - k.zero_point * depth));
  }
  return result;
}

/// Scales of the logits of queries [begin, end): `logits`, and the part of the product that depends on the query.
template <class Isa>
void query_scales(const matrix_view<const std::uint8_t>& q, int k_zero_point, const tensor_scale& logits,
                  tensor_scale* scales) noexcept {
  for (index_t i = 0; i < q.rows; ++i) {
    const std::int64_t share = (128 - k_zero_point) * simd::byte_sum<Isa>(q.data + i * q.stride, q.columns);
    scales[i] = logits;
    scales[i].offset += share * (std::int64_t{1} << logits.left_shift) * logits.multiplier;
  }
}

/// A head's keys and values, ready for any number of queries.
struct attention_head {
  packed_weights<std::int8_t> keys;
  prepared_values values;
  const std::int32_t* start = nullptr;  ///< of each key's logits
  int key_zero_point = 0;
};

/// Memory of such a head.
struct attention_head_memory {
  std::uint8_t* keys;
  std::int32_t* key_sums;
  std::int32_t* start;
  value_memory values;

  template <class Workspace>
  static constexpr attention_head_memory take(Workspace& memory, index_t keys, index_t depth) {
    return {memory.template take<std::uint8_t>(packed_panel_bytes<std::int8_t>(keys, depth)),
            memory.template take<std::int32_t>(keys), memory.template take<std::int32_t>(keys),
            value_memory::take(memory, keys, depth)};
  }
};

template <class Isa>
attention_head prepare_head(const quantized_matrix& k, const quantized_matrix& v, int query_zero_point,
                            const attention_head_memory& memory) noexcept {
  return {pack_keys<Isa>(k, query_zero_point, memory.keys, memory.key_sums, memory.start),
          prepare_values<Isa>(v, memory.values), memory.start, k.zero_point};
}

/// What a band of queries needs.
struct attention_scratch {
  matrix_view<std::uint8_t> codes;  ///< logits, then codes or weights
  shift_scratch shifts;

  template <class Workspace>
  static constexpr attention_scratch take(Workspace& memory, index_t keys, index_t band) {
    return {memory.template matrix<std::uint8_t>(band, code_stride(keys)), shift_scratch::take(memory, keys, band)};
  }
};

/// Turns logits into log2 codes, those of attention_code::u8_masked for attention_code::u4_clipped too, or weights, in
/// place. Its tables are prepared once for all bands.
template <class Isa>
class softmax_row_encoder {
 public:
  explicit softmax_row_encoder(const softmax_parameters& p) noexcept : p_(p) {
    if (p.kind == attention_kind::log2_of_sum) {
      exponentials_.emplace(p.exponential.data());
    }
  }

  void operator()(const matrix_view<std::uint8_t>& codes) const noexcept {
    if (p_.kind == attention_kind::log2_of_sum) {
      code(logit_rows<false>{codes, {}}, codes);
    } else {
      max_softmax<Isa>(codes, p_.table.data(), codes, 0, codes.rows);
    }
  }
  /// Where keys may be masked.
  void operator()(const matrix_view<std::uint8_t>& codes, const key_mask& mask) const noexcept {
    if (p_.kind == attention_kind::log2_of_sum) {
      code(logit_rows<true>{codes, mask}, codes);
    } else {
      const std::uint8_t hidden =
          p_.kind == attention_kind::weights ? 0 : attention_codes<attention_code::u8_masked>::last_code;
      max_softmax<Isa>(codes, p_.table.data(), mask, hidden, codes, 0, codes.rows);
    }
  }

 private:
  template <bool Masked>
  void code(const logit_rows<Masked>& logits, const matrix_view<std::uint8_t>& codes) const noexcept {
    p_.probabilities == attention_code::u8_full ? code_with<attention_code::u8_full>(logits, codes)
                                                : code_with<attention_code::u8_masked>(logits, codes);
  }

  template <attention_code Format, bool Masked>
  void code_with(const logit_rows<Masked>& logits, const matrix_view<std::uint8_t>& codes) const noexcept {
    constexpr log2_rounding half = log2_rounding::round_ratio, root = log2_rounding::round_log;
    if (p_.rounding == half) {
      log_softmax_rows<Isa, Format, half>(logits, *exponentials_, codes, 0, codes.rows);
    } else {
      log_softmax_rows<Isa, Format, root>(logits, *exponentials_, codes, 0, codes.rows);
    }
  }

  const softmax_parameters& p_;
  std::optional<prepared_exp_table<Isa, std::uint64_t>> exponentials_;
};

/// Logits of a band of queries, in the scratch memory.
template <class Isa>
matrix_view<std::uint8_t> band_logits(const matrix_view<const std::uint8_t>& q, const attention_head& head,
                                      const tensor_scale& logits, const attention_scratch& scratch) noexcept {
  tensor_scale* const of_rows = scratch.shifts.scales;
  const std::span<const tensor_scale> scales(of_rows, static_cast<std::size_t>(q.rows));
  const matrix_view<std::uint8_t> codes = scratch.codes.prefix(q.rows, head.keys.rows);
  query_scales<Isa>(q, head.key_zero_point, logits, of_rows);
  gemm_single_task<Isa>(q, head.keys, requantize_per_row<std::uint8_t>{scales}, codes, head.start);
  return codes;
}

/// Log2 codes or weights of a band, in the scratch memory, times V.
template <class Isa>
void band_context(const matrix_view<std::uint8_t>& band, const attention_head& head, const softmax_parameters& p,
                  const matrix_view<std::uint8_t>& y, const attention_scratch& scratch) noexcept {
  const matrix_view<const std::uint8_t> codes = band;
  const std::uint8_t most = p.probabilities == attention_code::u4_clipped ? 15 : 255;
  if (p.kind == attention_kind::weights) {
    weighted_matmul<Isa>(codes, head.values, p.normalization, y, 0, y.rows, scratch.shifts);
  } else if (p.probabilities == attention_code::u8_full) {
    const requantize_s64<std::uint8_t> stage{p.context};
    shift_matmul<Isa>(codes, most, head.values, stage, y, 0, y.rows, scratch.shifts);
  } else if (p.normalize) {
    shift_matmul<Isa>(codes, most, head.values, p.normalization, y, 0, y.rows, scratch.shifts);
  } else {
    const requantize<std::uint8_t, tensor_scale> stage{p.context};
    shift_matmul<Isa>(codes, most, head.values, stage, y, 0, y.rows, scratch.shifts);
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
