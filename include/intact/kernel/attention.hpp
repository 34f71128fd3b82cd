#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "intact/arith/scale.hpp"
#include "intact/kernel/gemm.hpp"
#include "intact/kernel/log_softmax.hpp"
#include "intact/kernel/max_softmax.hpp"
#include "intact/simd/planes.hpp"
#include "intact/types/activations.hpp"
#include "intact/types/attention_weighting.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/scale.hpp"
#include "intact/types/workspace.hpp"

// What attention needs around its matrix products: keys and values as packed weights, recentred by 128, and rows' sums.
//
//     sum_k (q - zq) * (k - zk) = sum q * (k - 128) + (128 - zk) * sum q - zq * sum (k - zk)
//
// The last term depends on the key alone: sums start from it. The second depends on the query alone: it goes into the
// row's offset.

namespace intact::inline INTACT_ABI::kernel {

namespace detail {

/// Up to four of `count` codes, minus 128, as s8 in a word; 0 behind them.
INTACT_INLINE std::uint32_t recentred(const std::uint8_t* codes, index count) {
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
packed_weights<std::int8_t> pack_keys(const activations& k, int q_zero_point, std::uint8_t* memory, std::int32_t* sums,
                                      std::int32_t* start) noexcept {
  using packed = packed_weights<std::int8_t>;
  const matrix_view<const std::uint8_t>& codes = k.codes;
  const index depth = codes.columns;
  const packed result{memory, sums, codes.rows, depth, codes.rows, depth};
  for (index p = 0; p < result.panels(); ++p) {
    const index first = p * packed::panel_width;
    const index existing = codes.rows - first < packed::panel_width ? codes.rows - first : packed::panel_width;
    std::uint8_t* to = memory + (result.panel(p) - result.data);
    for (index d = 0; d < depth; d += packed::step) {
      const std::uint8_t* from = &codes(first, d);
      for (index n = 0; n < existing; ++n) {
        const std::uint32_t word = detail::recentred(from + n * codes.stride, depth - d);
        std::memcpy(to + n * packed::step_bytes, &word, sizeof word);
      }
      const index bytes = result.width(p) * packed::step_bytes;
      std::memset(to + existing * packed::step_bytes, 0,
                  static_cast<std::size_t>(bytes - existing * packed::step_bytes));
      to += bytes;
    }
  }
  for (index n = 0; n < codes.rows; ++n) {
    const std::int64_t sum = simd::byte_sum<Isa>(&codes(n, 0), depth);
    sums[n] = static_cast<std::int32_t>(sum - 128 * depth);
    start[n] = static_cast<std::int32_t>(-q_zero_point * (sum - k.zero_point * depth));
  }
  return result;
}

/// Values as the weights of attention * v: rows are channels, the depth is the number of keys.
template <class Isa>
packed_weights<std::int8_t> pack_values(const matrix_view<const std::uint8_t>& v, std::uint8_t* memory,
                                        std::int32_t* sums) noexcept {
  using packed = packed_weights<std::int8_t>;
  const packed result{memory, sums, v.columns, v.rows, v.columns, v.rows};
  for (index p = 0; p < result.panels(); ++p) {
    const index first = p * packed::panel_width;
    const index existing = v.columns - first < packed::panel_width ? v.columns - first : packed::panel_width;
    std::uint8_t* to = memory + (result.panel(p) - result.data);
    for (index j = 0; j < v.rows; j += packed::step) {
      alignas(64) std::uint8_t rows[4][64];
      for (index i = 0; i < 4; ++i) {
        if (j + i < v.rows) {
          std::memcpy(rows[i], &v(j + i, first), static_cast<std::size_t>(existing));
          std::memset(rows[i] + existing, 128, static_cast<std::size_t>(64 - existing));
        } else {
          std::memset(rows[i], 128, 64);
        }
      }
      simd::interleave_recentred<Isa>(rows, result.width(p), to);
      to += result.width(p) * packed::step_bytes;
    }
  }
  if constexpr (simd::dot4<Isa, std::uint8_t>::offset != 0) {
    for (index c = 0; c < v.columns; ++c) {
      sums[c] = static_cast<std::int32_t>(-128 * v.rows);
      for (index j = 0; j < v.rows; ++j) {
        sums[c] += v(j, c);
      }
    }
  }
  return result;
}

/// Scales of the logits of queries [begin, end): `logits`, and the part of the product that depends on the query.
template <class Isa>
void query_scales(const matrix_view<const std::uint8_t>& q, int k_zero_point, const tensor_scale& logits,
                  tensor_scale* scales) noexcept {
  for (index i = 0; i < q.rows; ++i) {
    const std::int64_t share = (128 - k_zero_point) * simd::byte_sum<Isa>(q.data + i * q.stride, q.columns);
    scales[i] = logits;
    scales[i].offset += share * (std::int64_t{1} << logits.prescale) * logits.multiplier;
  }
}

/// Queries that go through attention together: their logits, codes and planes stay in the L1 cache.
constexpr index attention_band(index keys) {
  constexpr index bytes = 16384;
  const index rows = bytes / (keys < 1 ? 1 : keys) / gemm_tile_rows<std::int8_t> * gemm_tile_rows<std::int8_t>;
  return rows < gemm_tile_rows<std::int8_t> ? gemm_tile_rows<std::int8_t> : rows < 48 ? rows : 48;
}

/// A head's keys and values, ready for any number of queries.
struct attention_head {
  packed_weights<std::int8_t> keys;
  packed_weights<std::int8_t> values;
  const std::int32_t* start = nullptr;  ///< of each key's logits
  int query_zero_point = 0;
  int key_zero_point = 0;
  int value_zero_point = 0;
};

/// Memory of such a head.
struct attention_head_memory {
  std::uint8_t* keys;
  std::uint8_t* values;
  std::int32_t* key_sums;
  std::int32_t* value_sums;
  std::int32_t* start;

  template <class Workspace>
  static constexpr attention_head_memory take(Workspace& memory, index keys, index depth) {
    return {memory.template take<std::uint8_t>(packed_panel_bytes<std::int8_t>(keys, depth)),
            memory.template take<std::uint8_t>(packed_panel_bytes<std::int8_t>(depth, keys)),
            memory.template take<std::int32_t>(keys), memory.template take<std::int32_t>(depth),
            memory.template take<std::int32_t>(keys)};
  }
};

template <class Isa>
attention_head prepare_head(const activations& k, const activations& v, int query_zero_point,
                            const attention_head_memory& memory) noexcept {
  return {pack_keys<Isa>(k, query_zero_point, memory.keys, memory.key_sums, memory.start),
          pack_values<Isa>(v.codes, memory.values, memory.value_sums),
          memory.start,
          query_zero_point,
          k.zero_point,
          v.zero_point};
}

/// What a band of queries needs.
struct attention_scratch {
  matrix_view<std::uint8_t> codes;   ///< logits, then codes or weights
  matrix_view<std::uint8_t> planes;  ///< of the codes' rows, two by two: 2^(15 - code) = 256 * high + low
  tensor_scale* scales;

  template <class Workspace>
  static constexpr attention_scratch take(Workspace& memory, index keys, index band) {
    const index stride = (keys + simd::planes_room - 1) / simd::planes_room * simd::planes_room;
    return {memory.template matrix<std::uint8_t>(band, stride), memory.template matrix<std::uint8_t>(2 * band, stride),
            memory.template take<tensor_scale>(band)};
  }
};

/// The output stage of attention times V in two byte planes: rows come in pairs, of the high and of the low plane, and
/// their sums are one, 256 * high + low. `Wide`: which 32 bits may not hold; then the rows' scales have no prescale.
template <bool Wide>
struct requantize_plane_pairs {
  using output = std::uint8_t;
  const tensor_scale* rows;  ///< one for each pair
};

template <class Isa, bool Wide>
struct epilogue<Isa, requantize_plane_pairs<Wide>> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const requantize_plane_pairs<Wide>& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<std::uint8_t> y) {
    using rescaler = simd::rescaler<Isa>;
    INTACT_UNROLL
    for (unsigned pair = 0; pair < Rows / 2; ++pair) {
      const index row = at.m / 2 + pair;
      const tensor_scale& scale = stage.rows[row];
      s32<Isa>(&low)[N] = x[2 * pair + 1];
      if constexpr (Wide) {
        const auto factors = rescaler::broadcast(scale.multiplier, scale.offset);
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          low[j] = rescaler::right(rescaler::high_of_planes(x[2 * pair][j], low[j], factors), scale.shift);
        }
      } else {
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          low[j] = simd::add<Isa>(low[j], rescaler::left(x[2 * pair][j], 8));
        }
        rescale_row<Isa>(low, scale);
      }
      store_row<Isa>(low, y.data + row * y.stride + at.n, at.columns);
    }
  }
};

template <class Isa, class A, class Stage>
INTACT_INLINE void whole_gemm(const matrix_view<A>& a, const packed_weights<std::int8_t>& w, const Stage& stage,
                              const matrix_view<typename Stage::output>& y, const std::int32_t* start = nullptr) {
  const gemm_operands<std::uint8_t, std::int8_t, Stage> product{a, w, stage, y, start};
  gemm<Isa>(product, 0, gemm_units(a.rows, w));
}

/// The scale of a row whose weights sum to `sum`, with values recentred by 128.
constexpr tensor_scale context_scale(const attention_weighting& p, int v_zero_point, std::int64_t sum) {
  if (p.normalize) {
    return row_tensor_scale(p.normalization, sum, v_zero_point - 128);
  }
  tensor_scale scale = p.context;
  scale.offset += (128 - v_zero_point) * sum * (std::int64_t{1} << scale.prescale) * scale.multiplier;
  return scale;
}

/// Turns logits into log2 codes, those of tail::zero, or weights, in place. Its tables are prepared once for all bands.
template <class Isa>
class row_coder {
 public:
  explicit row_coder(const attention_weighting& p) noexcept : p_(p) {
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
      const std::uint8_t hidden = p_.kind == attention_kind::weights ? 0 : attention_codes<tail::zero>::zero;
      max_softmax<Isa>(codes, p_.table.data(), mask, hidden, codes, 0, codes.rows);
    }
  }

 private:
  template <bool Masked>
  void code(const logit_rows<Masked>& logits, const matrix_view<std::uint8_t>& codes) const noexcept {
    constexpr log2_rounding half = log2_rounding::at_one_and_a_half, root = log2_rounding::at_square_root_of_2;
    if (p_.rounding == half) {
      log_softmax_rows<Isa, tail::zero, half>(logits, *exponentials_, codes, 0, codes.rows);
    } else {
      log_softmax_rows<Isa, tail::zero, root>(logits, *exponentials_, codes, 0, codes.rows);
    }
  }

  const attention_weighting& p_;
  std::optional<prepared_exp_table<Isa, std::uint64_t>> exponentials_;
};

/// Logits of a band of queries, in the scratch memory.
template <class Isa>
matrix_view<std::uint8_t> band_logits(const matrix_view<const std::uint8_t>& q, const attention_head& head,
                                      const tensor_scale& logits, const attention_scratch& scratch) noexcept {
  const std::span<const tensor_scale> scales(scratch.scales, static_cast<std::size_t>(q.rows));
  const matrix_view<std::uint8_t> codes = scratch.codes.prefix(q.rows, head.keys.rows);
  query_scales<Isa>(q, head.key_zero_point, logits, scratch.scales);
  whole_gemm<Isa>(q, head.keys, requantize_rows<std::uint8_t>{scales}, codes, head.start);
  return codes;
}

/// Whether 32 bits hold the sums of attention times V. Rows of codes relative to the maximum are not bounded.
constexpr bool narrow_sums(const attention_weighting& p, index keys) {
  return p.kind != attention_kind::log2_of_max || keys < 512;
}

/// Log2 codes or weights of a band, in the scratch memory, times V.
template <class Isa>
void band_context(const matrix_view<std::uint8_t>& codes, const attention_head& head, const attention_weighting& p,
                  const matrix_view<std::uint8_t>& y, const attention_scratch& scratch) noexcept {
  const index rows = codes.rows, keys = codes.columns;
  if (p.kind == attention_kind::weights) {
    for (index i = 0; i < rows; ++i) {
      scratch.scales[i] = context_scale(p, head.value_zero_point, simd::byte_sum<Isa>(&codes(i, 0), keys));
    }
    const std::span<const tensor_scale> scales(scratch.scales, static_cast<std::size_t>(rows));
    whole_gemm<Isa>(matrix_view<const std::uint8_t>(codes), head.values, requantize_rows<std::uint8_t>{scales}, y);
    return;
  }
  const std::uint8_t most = p.probabilities == tail::clip ? 15 : 255;
  for (index i = 0; i < rows; ++i) {
    const std::int64_t sum =
        simd::split_codes<Isa>(&codes(i, 0), keys, most, &scratch.planes(2 * i, 0), &scratch.planes(2 * i + 1, 0));
    scratch.scales[i] = context_scale(p, head.value_zero_point, sum);
  }
  // What is behind the keys meets zeros of the packed values.
  const index whole_steps = packed_weights<std::int8_t>::steps(keys) * packed_weights<std::int8_t>::step;
  const matrix_view<const std::uint8_t> planes = scratch.planes.prefix(2 * rows, whole_steps);
  if (narrow_sums(p, keys)) {
    whole_gemm<Isa>(planes, head.values, requantize_plane_pairs<false>{scratch.scales}, y);
  } else {
    whole_gemm<Isa>(planes, head.values, requantize_plane_pairs<true>{scratch.scales}, y);
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
