#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "intact/arith/log2_code.hpp"
#include "intact/kernel/masked_row.hpp"
#include "intact/simd/table_sum.hpp"
#include "intact/types/attention_codes.hpp"

// A table of exponentials, the sum of a row, and what follows from that alone: the level of every distance to the row's
// maximum.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Levels of 4-bit codes, and the zero level.
inline constexpr int log2_levels = 16;

/// The largest exponentials whose level, in a row whose exponentials add up to `sum`, is at least k, k in 1..16.
template <log2_rounding Rounding>
INTACT_INLINE void level_limits(std::uint64_t sum, std::uint64_t (&limits)[log2_levels + 1]) {
  constexpr bool at_root = Rounding == log2_rounding::round_log;
  const std::uint64_t scaled = at_root ? times_sqrt_2(sum) : sum;
  INTACT_UNROLL
  for (int level = 1; level <= log2_levels; ++level) {
    limits[level] = at_root ? scaled >> level : largest_at_level(level, scaled);
  }
}

/// The exponentials of all distances, and sums of them.
template <class Isa, class T>
class exponentials {
 public:
  explicit exponentials(const T* table) noexcept : sum_(table) {
    reversed_[0] = 0;
    for (int d = 0; d < 256; ++d) {
      reversed_[256 - d] = table[d];
    }
  }

  INTACT_INLINE T operator[](index_t distance) const { return reversed_[256 - distance]; }

  /// 0, then table[255] to table[0].
  INTACT_INLINE const T* rising() const { return reversed_; }

  /// To be added to a code: the exponential of `largest - code` stands there.
  INTACT_INLINE const T* of_codes(int largest) const { return reversed_ + (256 - largest); }

  /// The sum of the exponentials of `largest - code`, of visible keys alone.
  template <bool Masked>
  INTACT_INLINE T sum(const code_row& row, int largest) const {
    if (sum_.shift() == 0 && sum_.covers(row.count)) {
      return static_cast<T>(sum_(row.codes, Masked ? row.visible : nullptr, row.count, largest));
    }
    return sum_one_by_one<Masked>(row, largest);
  }

  /// The same in registers, of what a right shift leaves of each exponential.
  INTACT_INLINE const simd::table_sum<Isa>& shifted_sum() const { return sum_; }

 private:
  template <bool Masked>
  INTACT_INLINE T sum_one_by_one(const code_row& row, int largest) const {
    const T* const entries = of_codes(largest);
    constexpr index_t together = 4;
    T sums[together] = {};
    index_t j = 0;
    const auto add = [&](index_t i) {
      const bool visible = !Masked || row.visible[j + i] != 0;
      sums[i] += entries[visible ? row.codes[j + i] : largest - 256];  // 0 stands there
    };
    for (; j + together <= row.count; j += together) {
      INTACT_UNROLL
      for (index_t i = 0; i < together; ++i) {
        add(i);
      }
    }
    for (; j < row.count; ++j) {
      add(0);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  simd::table_sum<Isa> sum_;
  T reversed_[257];
};

/// The levels of all distances in such a row, up to the zero level.
template <attention_code Format, log2_rounding Rounding, class Table>
void levels_of_distances(const Table& table, std::uint64_t sum, std::uint8_t (&levels)[256]) noexcept {
  std::uint64_t limits[log2_levels + 1];
  level_limits<Rounding>(sum, limits);
  int level = 0;
  for (int distance = 0; distance < 256; ++distance) {
    while (level < attention_codes<Format>::last_code && table[distance] <= limits[level + 1]) {
      ++level;
    }
    levels[distance] = static_cast<std::uint8_t>(level);
  }
}

/// The level of one exponential in such a row, up to the zero level.
template <attention_code Format, log2_rounding Rounding>
INTACT_INLINE std::uint8_t level_of(std::uint64_t e, std::uint64_t sum) {
  int level = attention_codes<Format>::last_code;
  if (e != 0) {
    level = std::min(level, Rounding == log2_rounding::round_log ? log2_code_round_log(e, sum) : log2_code(e, sum));
  }
  return static_cast<std::uint8_t>(level);
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
