#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

#include "intact/arith/scale.hpp"
#include "intact/kernel/combine_slices.hpp"
#include "intact/kernel/gemm.hpp"
#include "intact/simd/exponent_slices.hpp"
#include "intact/simd/transpose_bytes.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/prepared_keys.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/row_range.hpp"
#include "intact/types/scale.hpp"

// Attention times V as products of bytes. Values are packed as weights, recentred by 128; u8 attention weights are used
// as activations without change. Codes are split into exponent slices (simd/exponent_slices.hpp): the slices of a row
// are neighbouring rows of one product, so that a tile holds all sums of an output and combines them. The zero point of
// V is applied afterwards:
//
//     sum_j w[j] * (v[j] - zp) = sum_j w[j] * (v[j] - 128) + (128 - zp) * sum_j w[j]
//
// Plain C++ shifts V's codes instead.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// The memory of prepared_values.
struct value_memory {
  std::uint8_t* panels;
  std::int32_t* sums;

  template <class Workspace>
  static constexpr value_memory take(Workspace& memory, index_t keys, index_t channels) {
    return {.panels = memory.template take<std::uint8_t>(packed_panel_bytes<std::int8_t>(channels, keys)),
            .sums = memory.template take<std::int32_t>(channels)};
  }
};

template <class Isa>
prepared_values prepare_values(const quantized_matrix& values, const value_memory& memory) noexcept {
  using packed = packed_weights<std::int8_t>;
  const matrix_view<const std::uint8_t>& v = values.codes;
  const packed result{.data = memory.panels,
                      .sums = memory.sums,
                      .rows = v.columns,
                      .columns = v.rows,
                      .packed_rows = v.columns,
                      .packed_columns = v.rows};
  for (index_t p = 0; p < result.panels(); ++p) {
    const index_t first = p * packed::panel_width;
    const index_t existing = v.columns - first < packed::panel_width ? v.columns - first : packed::panel_width;
    std::uint8_t* to = memory.panels + (result.panel(p) - result.data);
    alignas(64) std::uint8_t padded[4][packed::panel_width];
    for (index_t j = 0; j < v.rows; j += packed::step) {
      const std::uint8_t* rows[4];
      for (index_t i = 0; i < 4; ++i) {
        const bool exists = j + i < v.rows;
        if (exists && existing % 16 == 0) {
          rows[i] = &v(j + i, first);
          continue;
        }
        std::memset(padded[i], 128, sizeof padded[i]);  // which recentres to 0
        if (exists) {
          std::memcpy(padded[i], &v(j + i, first), static_cast<std::size_t>(existing));
        }
        rows[i] = padded[i];
      }
      simd::interleave_recentred<Isa>(rows, result.width(p), to);
      to += result.width(p) * packed::step_bytes;
    }
  }
  if constexpr (simd::dot4<Isa, std::uint8_t>::offset != 0) {
    for (index_t c = 0; c < v.columns; ++c) {
      memory.sums[c] = static_cast<std::int32_t>(-128 * v.rows);
      for (index_t j = 0; j < v.rows; ++j) {
        memory.sums[c] += v(j, c);
      }
    }
  }
  return {values, result};
}

/// The part of the L1 cache for the logits of a band, which are replaced by its codes.
inline constexpr index_t attention_band_bytes = 32768;

/// Rows of a band of attention: whole tiles, at least three, which share the reads of keys and values if those are
/// many, and at most eleven, or as many as the keys have: self-attention has as many queries.
constexpr index_t attention_band(index_t keys) {
  constexpr index_t tile = gemm_tile_rows<std::int8_t>;
  const index_t tiles_in_cache = attention_band_bytes / std::max<index_t>(keys, 1) / tile;
  return tile * std::clamp<index_t>(std::min(tiles_in_cache, group_count(keys, tile)), 3, 11);
}

/// Bytes from one row of codes or of a slice to the next.
constexpr index_t code_stride(index_t keys) {
  return (keys + simd::slice_padding - 1) / simd::slice_padding * simd::slice_padding;
}

/// The memory of a band: of `band` rows with two slices, of fewer with more.
struct shift_scratch {
  matrix_view<std::uint8_t> slices;
  std::uint8_t* row;          ///< of codes that are not packed
  tensor_scale* scales;       ///< of normalized rows
  std::int64_t* corrections;  ///< (128 - zero point) * sum of weights, of rows that are not

  template <class Workspace>
  static constexpr shift_scratch take(Workspace& memory, index_t keys, index_t band) {
    const index_t stride = code_stride(keys);
    constexpr index_t least = u8_slices / u4_slices;
    const index_t rows = band < least ? least : band;
    return {.slices = memory.template matrix<std::uint8_t>(index_t{u4_slices} * rows, stride),
            .row = memory.template take<std::uint8_t>(stride),
            .scales = memory.template take<tensor_scale>(rows),
            .corrections = memory.template take<std::int64_t>(rows)};
  }
};

/// A row of codes, one in each byte.
INTACT_INLINE const std::uint8_t* bytes_of_row(const matrix_view<const std::uint8_t>& codes, index_t i, std::uint8_t*) {
  return first_of_row(codes, i);
}
INTACT_INLINE const std::uint8_t* bytes_of_row(const packed_view<u4, const std::uint8_t>& codes, index_t i,
                                               std::uint8_t* row) {
  const std::uint8_t* const pairs = codes.columns == 0 ? codes.data : codes.data + i * codes.stride / 2;
  for (index_t k = 0; k < codes.columns / 2; ++k) {
    row[2 * k] = pairs[k] & 15;
    row[2 * k + 1] = pairs[k] >> 4;
  }
  if (codes.columns % 2 != 0) {
    row[codes.columns - 1] = pairs[codes.columns / 2] & 15;
  }
  return row;
}

/// The operands of attention times V. Codes above `max_code` count as `max_code`.
template <class Codes>
struct shift_operands {
  const Codes& codes;
  std::uint8_t max_code;
  const prepared_values& v;
};

/// A range of rows of codes as slices. Calls set(i, sum) with the sum of each row's weights.
template <class Isa, unsigned Slices, class Codes, class Set>
matrix_view<const std::uint8_t> split_rows(const shift_operands<Codes>& x, row_range rows, const shift_scratch& scratch,
                                           const Set& set) {
  const index_t keys = x.codes.columns, stride = scratch.slices.stride;
  for (index_t i = 0; i < rows.size(); ++i) {
    const std::uint8_t* const row = bytes_of_row(x.codes, rows.begin + i, scratch.row);
    set(i, simd::split_exponents<Isa, Slices>(row, keys, x.max_code, scratch.slices.data + index_t{Slices} * i * stride,
                                              stride));
  }
  // Bytes after the keys are multiplied by zeros of the packed values.
  const index_t whole_steps = packed_weights<std::int8_t>::steps(keys) * packed_weights<std::int8_t>::step;
  return scratch.slices.prefix(index_t{Slices} * rows.size(), whole_steps);
}

/// Rows of a band with an output stage.
template <class Isa, unsigned Slices, class Codes, class Stage>
void shift_band(const shift_operands<Codes>& x, const Stage& stage, const matrix_view<typename Stage::output>& y,
                row_range rows, const shift_scratch& scratch) {
  const auto slices = split_rows<Isa, Slices>(x, rows, scratch, [&](index_t i, std::int64_t sum) {
    scratch.corrections[i] = (128 - x.v.codes.zero_point) * sum;
  });
  const combine_slices<Slices, Stage> combined{.stage = stage, .corrections = scratch.corrections, .first = rows.begin};
  gemm_single_task<Isa>(slices, x.v.packed, combined, y);
}

/// Whether none of a band's codes needs more than three slices.
template <class Isa>
bool three_slices_suffice(const matrix_view<const std::uint8_t>& codes, row_range rows) {
  int largest = 0;
  for (index_t i = rows.begin; i < rows.end; ++i) {
    const int row_max = simd::max_weighted_code<Isa>(first_of_row(codes, i), codes.columns);
    largest = row_max > largest ? row_max : largest;
  }
  return largest < 24;
}

/// Calls band(row_range) for up to `band_rows` rows at a time.
template <class Band>
INTACT_INLINE void for_each_band(row_range rows, index_t band_rows, const Band& band) {
  for (index_t first = rows.begin; first < rows.end; first += band_rows) {
    band(row_range{.begin = first, .end = rows.end - first < band_rows ? rows.end : first + band_rows});
  }
}

/// Plain C++: sums of V's codes, shifted, a panel of channels at a time. Calls finish(sum, channel).
template <class Sum, int FractionBits, class Finish>
void shift_row(const std::uint8_t* codes, std::uint8_t max_code, const quantized_matrix& v, const Finish& finish) {
  using wrapping = std::make_unsigned_t<Sum>;
  constexpr index_t width = packed_weights<std::int8_t>::panel_width;
  for (index_t first = 0; first < v.codes.columns; first += width) {
    const index_t count = v.codes.columns - first < width ? v.codes.columns - first : width;
    wrapping sums[width] = {};
    for (index_t j = 0; j < v.codes.rows; ++j) {
      const int shift = FractionBits - (codes[j] < max_code ? codes[j] : max_code);
      if (shift < 0) {
        continue;
      }
      const std::uint8_t* const from = &v.codes(j, first);
      for (index_t c = 0; c < count; ++c) {
        sums[c] += static_cast<wrapping>(from[c] - v.zero_point) << shift;
      }
    }
    for (index_t c = 0; c < count; ++c) {
      finish(static_cast<Sum>(sums[c]), first + c);
    }
  }
}

/// A range of rows of attention times V, with an output stage for accumulators of 32 or of 64 bits.
template <class Isa, class Codes, class Stage>
void shift_matmul(const shift_operands<Codes>& x, const Stage& stage, const matrix_view<typename Stage::output>& y,
                  row_range rows, const shift_scratch& scratch) noexcept {
  constexpr bool wide = takes_64_bits<Stage>;
  if constexpr (!simd::is_vector<Isa>) {
    using sum = std::conditional_t<wide, std::int64_t, std::int32_t>;
    for (index_t i = rows.begin; i < rows.end; ++i) {
      shift_row<sum, wide ? 44 : 15>(bytes_of_row(x.codes, i, scratch.row), x.max_code, x.v.codes,
                                     [&](sum a, index_t c) { y(i, c) = apply_stage(stage, a, i, c); });
    }
  } else if constexpr (wide) {
    for_each_band(rows, scratch.slices.rows / index_t{u8_slices}, [&](row_range band) {
      if (three_slices_suffice<Isa>(x.codes, band)) {
        shift_band<Isa, short_u8_slices>(x, stage, y, band, scratch);
      } else {
        shift_band<Isa, u8_slices>(x, stage, y, band, scratch);
      }
    });
  } else {
    for_each_band(rows, scratch.slices.rows / index_t{u4_slices},
                  [&](row_range band) { shift_band<Isa, u4_slices>(x, stage, y, band, scratch); });
  }
}

/// The same with rows divided by their sums of weights 2^(15 - code).
template <class Isa, class Codes>
void shift_matmul(const shift_operands<Codes>& x, const row_divisor& normalization, const matrix_view<std::uint8_t>& y,
                  row_range rows, const shift_scratch& scratch) noexcept {
  if constexpr (!simd::is_vector<Isa>) {
    for (index_t i = rows.begin; i < rows.end; ++i) {
      const std::uint8_t* const row = bytes_of_row(x.codes, i, scratch.row);
      std::int64_t weights = 0;
      for (index_t j = 0; j < x.codes.columns; ++j) {
        const int shift = 15 - (row[j] < x.max_code ? row[j] : x.max_code);
        weights += shift < 0 ? 0 : 1 << shift;
      }
      const row_scale scale(normalization, weights);
      const auto finish = [&](std::int64_t a, index_t c) { y(i, c) = saturate<std::uint8_t>(scale(a)); };
      if (x.codes.columns <= std::numeric_limits<std::int32_t>::max() / (255 << 15)) {
        shift_row<std::int32_t, 15>(row, x.max_code, x.v.codes, finish);
      } else {
        shift_row<std::int64_t, 15>(row, x.max_code, x.v.codes, finish);
      }
    }
  } else {
    for_each_band(rows, scratch.slices.rows / index_t{u4_slices}, [&](row_range band) {
      const auto slices = split_rows<Isa, u4_slices>(x, band, scratch, [&](index_t i, std::int64_t sum) {
        scratch.scales[i] = row_tensor_scale(normalization, sum, x.v.codes.zero_point - 128);
      });
      const combine_and_normalize combined{.scales = scratch.scales, .first = band.begin};
      gemm_single_task<Isa>(slices, x.v.packed, combined, y);
    });
  }
}

/// A range of rows with u8 weights.
template <class Isa>
void weighted_matmul(const matrix_view<const std::uint8_t>& weights, const prepared_values& v,
                     const row_divisor& normalization, const matrix_view<std::uint8_t>& y, row_range rows,
                     const shift_scratch& scratch) noexcept {
  for_each_band(rows, scratch.slices.rows / index_t{u4_slices}, [&](row_range band) {
    for (index_t i = 0; i < band.size(); ++i) {
      const std::int64_t sum = simd::byte_sum<Isa>(first_of_row(weights, band.begin + i), weights.columns);
      scratch.scales[i] = row_tensor_scale(normalization, sum, v.codes.zero_point - 128);
    }
    const std::span<const tensor_scale> scales(scratch.scales, static_cast<std::size_t>(band.size()));
    gemm_single_task<Isa>(weights.row_block(band.begin, band.size()), v.packed,
                          requantize_per_row<std::uint8_t>{scales}, y.row_block(band.begin, band.size()));
  });
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
