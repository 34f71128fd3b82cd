#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "intact/arith/log2_code.hpp"
#include "intact/kernel/byte_row.hpp"
#include "intact/simd/octave_levels.hpp"
#include "intact/simd/table_sum.hpp"
#include "intact/types/attention_codes.hpp"

// A table of exponentials, prepared once for all rows: for the sum of a row, and for what depends on the sum alone, the
// level of every distance to the row's maximum.

namespace intact::inline INTACT_ABI::kernel {

/// Levels of 4-bit codes, and the zero level.
inline constexpr int log2_levels = 16;

/// The largest exponentials whose level, in a row whose exponentials add up to `sum`, is at least k, k in 1..16.
template <log2_rounding Rounding>
INTACT_INLINE void level_limits(std::uint64_t sum, std::uint64_t (&limits)[log2_levels + 1]) {
  constexpr bool at_root = Rounding == log2_rounding::at_square_root_of_2;
  const std::uint64_t scaled = at_root ? times_square_root_of_2(sum) : sum;
  INTACT_UNROLL
  for (int level = 1; level <= log2_levels; ++level) {
    limits[level] = at_root ? scaled >> level : largest_at_level(level, scaled);
  }
}

/// The exponentials, and sums of them.
template <class Isa, class T>
class exponentials {
 public:
  explicit exponentials(const T* table) noexcept : sum_(table) {
    reversed_[0] = 0;
    for (int d = 0; d < 256; ++d) {
      reversed_[256 - d] = table[d];
    }
  }

  INTACT_INLINE T operator[](index distance) const { return reversed_[256 - distance]; }

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

  /// In registers, of what is left of all exponentials by a right shift, if that is possible.
  INTACT_INLINE const simd::table_sum<Isa>& shifted_sum() const { return sum_; }

 private:
  template <bool Masked>
  INTACT_INLINE T sum_one_by_one(const code_row& row, int largest) const {
    const T* const entries = of_codes(largest);
    constexpr index together = 4;
    T sums[together] = {};
    index j = 0;
    const auto add = [&](index i) {
      const T e = entries[row.codes[j + i]];
      sums[i] += !Masked || row.visible[j + i] != 0 ? e : T{0};
    };
    for (; j + together <= row.count; j += together) {
      INTACT_UNROLL
      for (index i = 0; i < together; ++i) {
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

/// The levels of all distances, up to the zero level.
template <tail Tail, log2_rounding Rounding, class Table>
void levels_of_distances(const Table& table, std::uint64_t sum, std::uint8_t (&levels)[256]) noexcept {
  std::uint64_t limits[log2_levels + 1];
  level_limits<Rounding>(sum, limits);
  int level = 0;
  for (int distance = 0; distance < 256; ++distance) {
    while (level < attention_codes<Tail>::zero && table[distance] <= limits[level + 1]) {
      ++level;
    }
    levels[distance] = static_cast<std::uint8_t>(level);
  }
}

/// The level of one exponential, up to the zero level.
template <tail Tail, log2_rounding Rounding>
INTACT_INLINE std::uint8_t level_of(std::uint64_t e, std::uint64_t sum) {
  int level = attention_codes<Tail>::zero;
  if (e != 0) {
    level = std::min(level, Rounding == log2_rounding::at_square_root_of_2 ? log2_code_at_square_root_of_2(e, sum)
                                                                           : log2_code(e, sum));
  }
  return static_cast<std::uint8_t>(level);
}

/// By how much limits differ from halves of one another: that of level k, of a row that adds up to S, is
/// 2S / 3 * 2^(1 - k) * (1 + y), y = 1 / (3 * 2^(k - 1) - 1) but for the first, or sqrt(1/2) * S * 2^(1 - k).
template <tail Tail, log2_rounding Rounding>
struct limit_surplus {
  std::uint16_t y[64] = {}, y4[64] = {};  ///< floor(2^16 * y), floor(2^18 * y); all bits where there is no limit

  constexpr limit_surplus() {
    for (int level = 0; level < 64; ++level) {
      if (level < 1 || level > attention_codes<Tail>::zero) {
        y[level] = 0xffff;
      } else if (level > 1 && Rounding == log2_rounding::at_one_and_a_half) {
        const std::uint32_t divisor = (std::uint32_t{3} << (level - 1)) - 1;
        y[level] = static_cast<std::uint16_t>((1u << 16) / divisor);
        y4[level] = static_cast<std::uint16_t>((1u << 18) / divisor);
      }
    }
  }
};

/// The same as the above, found by octaves. For few rows that is not certain.
template <class Isa>
class octaves {
 public:
  static constexpr bool exist = simd::octave_levels<Isa>::exists;

  template <class T>
  explicit octaves(const T* table) noexcept : numbers_{{table, 1}, {table, 3}} {}

  /// False if some levels are not certain: bit i of uncertain[j] is that of distance 64 * j + i. The row of `count` exponentials adds up to `sum`, but for the `shift` last
  /// bits of each of them.
  ///
  /// Limits of 1.66 * 2^n to 2^(n+1) would be in the next octave with their surplus, which is up to 1/5; three times as
  /// large they would not, and the exponentials can be taken three times, too. Limits are reckoned from less than 2^-28
  /// too little, and if the sum was shifted, from at most count / 2^31 too little, where 2^-17 is half a unit. Their
  /// parts are cut off: for 1.5, a limit is less than 3.46 units larger than reckoned, and a unit for each 2^14 keys.
  template <tail Tail, log2_rounding Rounding>
  INTACT_INLINE bool levels(std::uint64_t sum, int shift, index count, std::uint8_t (&found)[256],
                            std::uint64_t (&uncertain)[4]) const {
    alignas(64) static constexpr limit_surplus<Tail, Rounding> surplus;
    constexpr bool at_root = Rounding == log2_rounding::at_square_root_of_2;
    constexpr std::uint64_t first_limit = at_root ? 0x2d413ccc : 0x2aaaaaaa;  // 2^30 times sqrt(1/2), times 2/3
    constexpr std::uint16_t most = 0xa8f5;                                    // 2^16 times 0.66
    const int zeros = std::countl_zero(sum);
    std::uint64_t limit = ((sum << zeros) >> 32) * first_limit;
    const std::uint64_t thrice = fraction(limit) > most ? 1 : 0;
    limit += 2 * thrice * limit;  // without a branch, which would be mispredicted in every fourth row
    const std::uint64_t cut = shift == 0 ? 0 : 1 + ((static_cast<std::uint64_t>(count) << 17) >> (63 - zeros));
    if (cut > 256) [[unlikely]] {
      std::fill_n(uncertain, 4, ~std::uint64_t{0});
      return false;
    }
    const auto tolerance = static_cast<std::uint16_t>((at_root ? 1 : 3) + cut);
    const int octave = 65 - std::countl_zero(limit) - zeros + shift;
    const std::uint16_t* const y4 = at_root ? nullptr : surplus.y4;
    return numbers_[thrice].find({fraction(limit), octave, surplus.y, y4, attention_codes<Tail>::zero, tolerance},
                                 found, uncertain);
  }

 private:
  /// The 16 bits below the leading one.
  INTACT_INLINE static std::uint16_t fraction(std::uint64_t x) {
    return static_cast<std::uint16_t>((x << std::countl_zero(x) << 1) >> 48);
  }

  simd::octave_levels<Isa> numbers_[2];  ///< the exponentials, and three times them
};

}  // namespace intact::inline INTACT_ABI::kernel
