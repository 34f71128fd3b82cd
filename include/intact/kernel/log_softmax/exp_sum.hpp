#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "intact/arith/log2_code.hpp"
#include "intact/kernel/masked_row.hpp"
#include "intact/simd/table_sum.hpp"
#include "intact/types/attention_codes.hpp"

// The exponentials of a row, their sum S, and the levels that follow from S by exact comparisons: level k is the log2
// code round(-log2(e / S)), limited to the last code of the format.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Levels of 4-bit codes, and the zero level.
inline constexpr int log2_levels = 16;

/// thresholds[k], k in 1..16: the largest exponential whose level, in a row with the sum `sum`, is at least k.
template <log2_rounding Rounding>
INTACT_INLINE void exp_thresholds(std::uint64_t sum, std::uint64_t (&thresholds)[log2_levels + 1]) {
  constexpr bool round_log = Rounding == log2_rounding::round_log;
  const std::uint64_t scaled = round_log ? times_sqrt_2(sum) : sum;
  INTACT_UNROLL
  for (int level = 1; level <= log2_levels; ++level) {
    thresholds[level] = round_log ? scaled >> level : largest_at_level(level, scaled);
  }
}

/// The exponentials of all distances to a row's maximum, and their sums over rows.
template <class Isa, class T>
class exponentials {
 public:
  explicit exponentials(const T* table) noexcept : sum_(table) {
    ascending_[0] = 0;
    for (index_t d = 0; d < softmax_distances; ++d) {
      ascending_[softmax_distances - d] = table[d];
    }
  }

  INTACT_INLINE T operator[](index_t distance) const { return ascending_[softmax_distances - distance]; }

  /// 0, then the exponentials of the largest distance to distance 0.
  INTACT_INLINE const T* ascending() const { return ascending_; }

  /// entries_by_code(max_code)[code] is the exponential of the distance max_code - code.
  INTACT_INLINE const T* entries_by_code(int max_code) const { return ascending_ + (softmax_distances - max_code); }

  /// The sum over a row whose largest visible code is max_code, of visible keys alone.
  template <bool Masked>
  INTACT_INLINE T sum(const code_row& row, int max_code) const {
    if constexpr (simd::table_sum<Isa>::exists) {
      if (sum_.shift() == 0 && sum_.covers(row.count)) {
        return static_cast<T>(sum_(row.codes, Masked ? row.visible : nullptr, row.count, max_code));
      }
    }
    return sum_one_by_one<Masked>(row, max_code);
  }

  /// The sum in registers of the exponentials, each shifted to the right.
  INTACT_INLINE const simd::table_sum<Isa>& shifted_sum() const { return sum_; }

 private:
  template <bool Masked>
  INTACT_INLINE T sum_one_by_one(const code_row& row, int max_code) const {
    const T* const entries = entries_by_code(max_code);
    const index_t code_of_zero = max_code - softmax_distances;  // entries[code_of_zero] is 0
    constexpr index_t accumulators = 4;
    T sums[accumulators] = {};
    index_t j = 0;
    const auto add = [&](index_t i) {
      const bool visible = !Masked || row.visible[j + i] != 0;
      sums[i] += entries[visible ? index_t{row.codes[j + i]} : code_of_zero];
    };
    for (; j + accumulators <= row.count; j += accumulators) {
      INTACT_UNROLL
      for (index_t i = 0; i < accumulators; ++i) {
        add(i);
      }
    }
    for (; j < row.count; ++j) {
      add(0);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  simd::table_sum<Isa> sum_;
  T ascending_[softmax_distances + 1];
};

/// The levels of all distances in a row with the sum `sum`, up to the last code.
template <attention_code Format, log2_rounding Rounding, class Table>
void distance_levels(const Table& table, std::uint64_t sum, std::uint8_t (&levels)[softmax_distances]) noexcept {
  std::uint64_t thresholds[log2_levels + 1];
  exp_thresholds<Rounding>(sum, thresholds);
  int level = 0;
  for (index_t distance = 0; distance < softmax_distances; ++distance) {
    while (level < attention_codes<Format>::last_code && table[distance] <= thresholds[level + 1]) {
      ++level;
    }
    levels[distance] = static_cast<std::uint8_t>(level);
  }
}

/// The level of one exponential in a row with the sum `sum`, up to the last code.
template <attention_code Format, log2_rounding Rounding>
INTACT_INLINE std::uint8_t exact_level(std::uint64_t e, std::uint64_t sum) {
  int level = attention_codes<Format>::last_code;
  if (e != 0) {
    level = std::min(level, Rounding == log2_rounding::round_log ? log2_code_round_log(e, sum) : log2_code(e, sum));
  }
  return static_cast<std::uint8_t>(level);
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
