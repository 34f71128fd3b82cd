#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "intact/kernel/log_softmax/exp_sum.hpp"
#include "intact/kernel/log_softmax/threshold_bisection.hpp"
#include "intact/kernel/log_softmax/threshold_octave.hpp"
#include "intact/kernel/masked_row.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/simd/reduce_16_registers.hpp"
#include "intact/types/attention_codes.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/types/row_range.hpp"

// Log-Int-Softmax on bytes. The sum of a row's exponentials fixes the level of every distance to the row's maximum.
// Levels are found by octave on AVX-512, else by bisection; undecided lanes are recomputed exactly. Plain C++ and 8-bit
// codes, which have more than 16 levels, compare numbers one by one.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// For plain C++, which compares without further tables.
struct no_levels {
  INTACT_INLINE explicit no_levels(const void*) {}
};

template <class Isa>
inline constexpr bool finds_levels_by_octave = simd::octave_search<Isa>::exists;

template <class Isa>
using level_method = std::conditional_t<finds_levels_by_octave<Isa>, octave_levels<Isa>,
                                        std::conditional_t<simd::bytes<Isa>::exists, threshold_search<Isa>, no_levels>>;

/// A table of exponentials, prepared once for all rows.
template <class Isa, class T>
struct prepared_exp_table {
  explicit prepared_exp_table(const T* table) noexcept : values(table), find(table) {}

  exponentials<Isa, T> values;
  level_method<Isa> find;
};

/// Rows of logits, some of whose keys may be masked.
template <bool Masked>
struct logit_rows {
  matrix_view<const std::uint8_t> logits;
  key_mask mask;

  INTACT_INLINE code_row operator()(index_t i) const {
    return {
        .codes = logits.data + i * logits.stride, .count = logits.columns, .visible = Masked ? mask.row(i) : nullptr};
  }
};

/// The codes of a row without a visible key.
template <attention_code Format>
INTACT_INLINE void store_last_codes(const typename attention_codes<Format>::view& codes, index_t row, index_t count) {
  for (index_t j = 0; j < count; ++j) {
    store_code(codes, row, j, attention_codes<Format>::last_code);
  }
}

/// A range of rows of 8-bit codes.
template <class Isa, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_u8(const logit_rows<Masked>& rows, const exponentials<Isa, T>& table,
                                  const matrix_view<std::uint8_t>& codes, row_range range) {
  for (index_t i = range.begin; i < range.end; ++i) {
    const code_row x = rows(i);
    const int largest = max_code<Isa, Masked>(x);
    const T sum = table.template sum<Masked>(x, largest);
    const T* const entries = table.entries_by_code(largest);
    for (index_t j = 0; j < x.count; ++j) {
      const std::uint64_t e = Masked && x.visible[j] == 0 ? 0 : entries[x.codes[j]];
      codes(i, j) = exact_level<attention_code::u8_full, Rounding>(e, sum);
    }
  }
}

/// A range of rows in plain C++.
template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_scalar(const logit_rows<Masked>& rows, const exponentials<Isa, T>& table,
                                      const typename attention_codes<Format>::view& codes, row_range range) {
  for (index_t i = range.begin; i < range.end; ++i) {
    const code_row x = rows(i);
    const int largest = max_code<Isa, Masked>(x);
    const T sum = table.template sum<Masked>(x, largest);
    if (Masked && sum == 0) {
      store_last_codes<Format>(codes, i, x.count);
      continue;
    }
    std::uint8_t levels[softmax_distances];
    distance_levels<Format, Rounding>(table, sum, levels);
    for (index_t j = 0; j < x.count; ++j) {
      store_code(codes, i, j,
                 Masked && x.visible[j] == 0 ? attention_codes<Format>::last_code : levels[largest - x.codes[j]]);
    }
  }
}

/// The sum of a row of exponentials, each shifted to the right by `shift`.
struct row_sum {
  std::uint64_t sum;
  int shift;
};

/// A row: the levels of all distances are found first, then those of its codes are looked up.
template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_row(const code_row& x, int largest, const row_sum& row,
                                   const prepared_exp_table<Isa, T>& table,
                                   const typename attention_codes<Format>::view& codes, index_t i) {
  using bytes = simd::bytes<Isa>;
  const auto thresholds = table.find.template thresholds<Format, Rounding>(row.sum, row.shift, x.count);
  typename bytes::batch levels[4];
  std::uint64_t undecided_mask[4];
  if (!table.find.levels(thresholds, levels, undecided_mask)) [[unlikely]] {
    const std::uint64_t exact = table.values.template sum<Masked>(x, largest);
    std::uint8_t corrected[softmax_distances];
    std::memcpy(corrected, levels, sizeof corrected);
    for (int j = 0; j < 4; ++j) {
      for (std::uint64_t rest = undecided_mask[j]; rest != 0; rest &= rest - 1) {
        const int distance = 64 * j + std::countr_zero(rest);
        corrected[distance] = exact_level<Format, Rounding>(table.values[distance], exact);
      }
    }
    std::memcpy(levels, corrected, sizeof corrected);
  }
  const simd::byte_table<Isa> entries(levels);
  const auto maximum = bytes::broadcast(static_cast<std::uint8_t>(largest));
  const auto level = [&](auto row_codes) { return entries(bytes::subtract(maximum, row_codes)); };
  transform_row<Isa, Masked>(x, level, codes, i, attention_codes<Format>::last_code);
}

/// A range of rows, in blocks: all maxima, then all sums, then all codes. One row at a time would wait for its
/// maximum and its sum.
template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_octave(const logit_rows<Masked>& rows, const prepared_exp_table<Isa, T>& table,
                                      const typename attention_codes<Format>::view& codes, row_range range) {
  const simd::table_sum<Isa>& shifted_sum = table.values.shifted_sum();
  constexpr index_t block = 16;
  int largest[block];
  row_sum sums[block];
  for (index_t first = range.begin; first < range.end; first += block) {
    const index_t count = range.end - first < block ? range.end - first : block;
    for (index_t i = 0; i < count; ++i) {
      largest[i] = max_code<Isa, Masked>(rows(first + i));
    }
    for (index_t i = 0; i < count; ++i) {
      const code_row x = rows(first + i);
      if (shifted_sum.covers(x.count)) {
        sums[i] = {shifted_sum(x.codes, x.visible, x.count, largest[i]), shifted_sum.shift()};
      } else {
        sums[i] = {table.values.template sum<Masked>(x, largest[i]), 0};
      }
    }
    for (index_t i = 0; i < count; ++i) {
      const code_row x = rows(first + i);
      if (sums[i].sum != 0) {
        log_softmax_row<Isa, Format, Rounding, Masked>(x, largest[i], sums[i], table, codes, first + i);
      } else {
        store_last_codes<Format>(codes, first + i, x.count);
      }
    }
  }
}

/// A row that fits a register: only the levels of its own distances are found. False if some are undecided; then
/// nothing has been stored.
template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE bool log_softmax_one_register(const code_row& x, std::uint8_t largest, const row_sum& row,
                                            const prepared_exp_table<Isa, T>& table,
                                            const typename attention_codes<Format>::view& codes, index_t i) {
  using bytes = simd::bytes<Isa>;
  const auto thresholds = table.find.template thresholds<Format, Rounding>(row.sum, row.shift, x.count);
  const auto distances = bytes::subtract(bytes::broadcast(largest), load_codes<Isa>(x.codes, x.count, 0));
  auto levels = distances;
  if (!table.find.levels(thresholds, distances, levels)) [[unlikely]] {
    return false;
  }
  if constexpr (Masked) {
    const auto zero = bytes::broadcast(attention_codes<Format>::last_code);
    levels = bytes::select(load_codes<Isa>(x.visible, x.count, 0), levels, zero);
  }
  store_codes<Isa>(levels, codes, i, 0, x.count);
  return true;
}

/// Most keys of a row whose sum of 24-bit numbers fits 32 bits, and rows whose maxima and sums are found before their
/// codes: enough for the latency of one row's maximum and sum to be hidden by the work on others.
inline constexpr index_t short_row = 256;
inline constexpr index_t rows_per_task_short = 32;

/// A range of rows of up to short_row keys, sixteen at a time.
template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_short_rows(const logit_rows<Masked>& rows, const prepared_exp_table<Isa, T>& table,
                                          const typename attention_codes<Format>::view& codes, row_range range) {
  using reduce = simd::reduce_16_registers<Isa>;
  const simd::table_sum<Isa>& shifted_sum = table.values.shifted_sum();
  const bool one_register = rows.logits.columns <= simd::bytes<Isa>::width;
  alignas(64) std::uint8_t largest[rows_per_task_short];
  alignas(64) std::uint32_t sums[rows_per_task_short];
  for (index_t first = range.begin; first < range.end; first += rows_per_task_short) {
    const index_t count = range.end - first < rows_per_task_short ? range.end - first : rows_per_task_short;
    // Sixteen at a time may be more than there are: the last row is repeated.
    const auto row = [&](index_t i) { return rows(first + (i < count ? i : count - 1)); };
    for (index_t i = 0; i < count; i += 16) {
      reduce::max_u8([&](index_t j) { return max_codes<Isa, Masked>(row(i + j)); }, largest + i);
    }
    for (index_t i = 0; i < count; i += 16) {
      reduce::sum_s32(
          [&](index_t j) {
            const code_row x = row(i + j);
            return shifted_sum.sum_lanes(x.codes, x.visible, x.count, largest[i + j]);
          },
          sums + i);
    }
    for (index_t i = 0; i < count; ++i) {
      const code_row x = rows(first + i);
      const row_sum sum{sums[i], shifted_sum.shift()};
      if (sum.sum == 0) {
        store_last_codes<Format>(codes, first + i, x.count);
      } else if (!one_register || !log_softmax_one_register<Isa, Format, Rounding, Masked>(x, largest[i], sum, table,
                                                                                           codes, first + i)) {
        log_softmax_row<Isa, Format, Rounding, Masked>(x, largest[i], sum, table, codes, first + i);
      }
    }
  }
}

/// A range of rows, in blocks: the thresholds of all rows, then the codes. One row at a time would wait until its
/// thresholds, just stored, can be loaded into registers.
template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_bisection(const logit_rows<Masked>& rows, const prepared_exp_table<Isa, T>& table,
                                         const typename attention_codes<Format>::view& codes, row_range range) {
  constexpr index_t block = 8;
  level_thresholds thresholds[block] = {};
  int largest[block];
  for (index_t first = range.begin; first < range.end; first += block) {
    const index_t count = range.end - first < block ? range.end - first : block;
    for (index_t i = 0; i < count; ++i) {
      const code_row x = rows(first + i);
      largest[i] = max_code<Isa, Masked>(x);
      const T sum = table.values.template sum<Masked>(x, largest[i]);
      if (!Masked || sum != 0) {  // else no key is visible, and no level is read
        thresholds[i] = find_thresholds<Isa, Rounding>(table.values, table.find, sum);
      }
    }
    for (index_t i = 0; i < count; ++i) {
      const threshold_levels<Isa, Format> levels(thresholds[i], largest[i]);
      transform_row<Isa, Masked>(rows(first + i), levels, codes, first + i, attention_codes<Format>::last_code);
    }
  }
}

/// A range of rows of at least one key.
template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax_rows(const logit_rows<Masked>& rows, const prepared_exp_table<Isa, T>& table,
                                    const typename attention_codes<Format>::view& codes, row_range range) {
  if constexpr (Format == attention_code::u8_full) {
    log_softmax_u8<Isa, Rounding>(rows, table.values, codes, range);
  } else if constexpr (!simd::bytes<Isa>::exists) {
    log_softmax_scalar<Isa, Format, Rounding>(rows, table.values, codes, range);
  } else if constexpr (finds_levels_by_octave<Isa>) {
    if constexpr (simd::reduce_16_registers<Isa>::exists) {
      if (rows.logits.columns <= short_row) {
        const index_t rest = range.size() % 16;
        const index_t sixteens = rest > 8 ? range.end : range.end - rest;  // few rows cost as much as sixteen
        log_softmax_short_rows<Isa, Format, Rounding>(rows, table, codes,
                                                      row_range{.begin = range.begin, .end = sixteens});
        range.begin = sixteens;
      }
    }
    log_softmax_octave<Isa, Format, Rounding>(rows, table, codes, range);
  } else {
    log_softmax_bisection<Isa, Format, Rounding>(rows, table, codes, range);
  }
}

template <class Isa, attention_code Format, log2_rounding Rounding, bool Masked, class T>
INTACT_INLINE void log_softmax(const logit_rows<Masked>& rows, const T* table,
                               const typename attention_codes<Format>::view& codes, row_range range) noexcept {
  if constexpr (Format == attention_code::u8_full) {
    log_softmax_u8<Isa, Rounding>(rows, exponentials<Isa, T>(table), codes, range);
  } else {
    log_softmax_rows<Isa, Format, Rounding>(rows, prepared_exp_table<Isa, T>(table), codes, range);
  }
}

template <class Isa, attention_code Format, log2_rounding Rounding, class T>
void log_softmax(matrix_view<const std::uint8_t> logits, const T* table,
                 const typename attention_codes<Format>::view& codes, row_range range) noexcept {
  log_softmax<Isa, Format, Rounding>(logit_rows<false>{logits, {}}, table, codes, range);
}

template <class Isa, attention_code Format, log2_rounding Rounding, class T>
void log_softmax(matrix_view<const std::uint8_t> logits, const T* table, const key_mask& mask,
                 const matrix_view<std::uint8_t>& codes, row_range range) noexcept {
  log_softmax<Isa, Format, Rounding>(logit_rows<true>{logits, mask}, table, codes, range);
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
