#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "intact/simd/octave_levels.hpp"
#include "intact/types/attention_codes.hpp"

// The levels of all distances in registers. In every octave of the exponentials there is at most one limit between two
// levels, and 16 bits of a sum's limits and of the exponentials decide nearly always. Where they do not, this says so.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// By how much limits differ from halves of one another: that of level k, of a row that adds up to S, is
/// 2S / 3 * 2^(1 - k) * (1 + y), y = 1 / (3 * 2^(k - 1) - 1) but for the first, or sqrt(1/2) * S * 2^(1 - k).
template <attention_code Format, log2_rounding Rounding>
struct limit_surplus {
  std::uint16_t y[64] = {}, y4[64] = {};  ///< floor(2^16 * y), floor(2^18 * y); all bits where there is no limit

  constexpr limit_surplus() {
    for (int level = 0; level < 64; ++level) {
      if (level < 1 || level > attention_codes<Format>::last_code) {
        y[level] = 0xffff;
      } else if (level > 1 && Rounding == log2_rounding::round_ratio) {
        const std::uint32_t divisor = (std::uint32_t{3} << (level - 1)) - 1;
        y[level] = static_cast<std::uint16_t>((1u << 16) / divisor);
        y4[level] = static_cast<std::uint16_t>((1u << 18) / divisor);
      }
    }
  }
};

/// Finds the levels of all distances, as levels_of_distances does, or of those in a register.
template <class Isa>
class octave_finder {
 public:
  static constexpr bool exists = simd::octave_levels<Isa>::exists;

  template <class T>
  explicit octave_finder(const T* table) noexcept : numbers_{{table, 1}, {table, 3}} {}

  /// The limits of a row, between the exponentials or between three times them.
  struct row_limits {
    simd::octave_limits limits;
    std::uint64_t thrice;  ///< 0 or 1
  };

  /// The limits between the levels of a row of `count` exponentials that add up to `sum`, each shifted to the right by
  /// `shift`. With its surplus of up to 1/5, a limit from 1.66 * 2^n on may be in the next octave. Three times such a
  /// limit is not; then it is compared with three times the exponentials.
  ///
  /// In units of 2^-16 below the leading one, a limit is reckoned from less than 0.001 too little and, if the sum was
  /// shifted, count * 2^17 / sum; what is cut off afterwards is less than 1 without surplus, else 1.2 + 1 + 1.25.
  template <attention_code Format, log2_rounding Rounding>
  INTACT_INLINE static row_limits limits(std::uint64_t sum, int shift, index_t count) {
    alignas(64) static constexpr limit_surplus<Format, Rounding> surplus;
    constexpr bool at_root = Rounding == log2_rounding::round_log;
    constexpr std::uint64_t first_limit = at_root ? 0x2d413ccc : 0x2aaaaaaa;  // 2^30 times sqrt(1/2), times 2/3
    constexpr std::uint16_t most = 0xa8f5;                                    // 2^16 times 0.66
    const int zeros = std::countl_zero(sum);
    const std::uint64_t cut = shift == 0 ? 0 : 1 + ((static_cast<std::uint64_t>(count) << 17) >> (63 - zeros));
    std::uint64_t limit = ((sum << zeros) >> 32) * first_limit;
    const std::uint64_t thrice = (std::uint64_t{most} - fraction(limit)) >> 63;
    limit *= 1 + 2 * thrice;  // a branch would be mispredicted in every fourth row
    const int octave = 65 - std::countl_zero(limit) - zeros + shift;
    // With the largest tolerance nothing is certain.
    const auto tolerance = static_cast<std::uint16_t>(cut > 256 ? 0xffff : (at_root ? 1 : 3) + cut);
    const std::uint16_t* const y4 = at_root ? nullptr : surplus.y4;
    return {{fraction(limit), octave, surplus.y, y4, attention_codes<Format>::last_code, tolerance}, thrice};
  }

  /// The levels of all distances. False if some are not certain: bit i of uncertain[j] is that of distance 64 * j + i.
  template <class Batch>
  INTACT_INLINE bool levels(const row_limits& row, Batch (&found)[4], std::uint64_t (&uncertain)[4]) const {
    return numbers_[row.thrice].find(row.limits, found, uncertain);
  }

  /// Those of a few distances in a register.
  template <class Batch>
  INTACT_INLINE bool levels(const row_limits& row, Batch distances, Batch& found) const {
    return numbers_[row.thrice].find(row.limits, distances, found);
  }

 private:
  /// The 16 bits below the leading one.
  INTACT_INLINE static std::uint16_t fraction(std::uint64_t x) {
    return static_cast<std::uint16_t>((x << std::countl_zero(x) << 1) >> 48);
  }

  simd::octave_levels<Isa> numbers_[2];  ///< the exponentials, and three times them
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
