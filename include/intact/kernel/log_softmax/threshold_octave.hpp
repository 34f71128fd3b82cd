#pragma once

#include <bit>
#include <cstdint>

#include "intact/simd/octave_search.hpp"
#include "intact/types/attention_codes.hpp"

// Levels by per-octave threshold search: all distances of a row at once, or those of one register. Each octave of the
// exponentials has at most one threshold between two levels, and the 16 bits after the leading one decide nearly always
// on which side of it an exponential is. Undecided lanes are reported in a mask; the caller recomputes them exactly.
// docs/numerics.md, section 5, derives threshold_rounding_slack.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Thresholds relative to halves of the one before: in a row with the sum S, that of level k is
/// t[k] = r * S * 2^(1 - k) * (1 + y[k]), r = 2/3, y[1] = 0 and y[k] = 1 / (3 * 2^(k - 1) - 1), or r = sqrt(1/2), y =
/// 0.
template <attention_code Format, log2_rounding Rounding>
struct threshold_excess {
  std::uint16_t y[64] = {}, y4[64] = {};  ///< floor(2^16 * y), floor(2^18 * y); all bits where there is no threshold

  constexpr threshold_excess() {
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

/// Computed thresholds are too small by less than threshold_rounding_slack + 1 units of 2^-16 after the leading one.
/// `cut`: the contribution of shifting the exponentials. With the largest slack nothing is decided.
template <log2_rounding Rounding>
INTACT_INLINE std::uint16_t threshold_rounding_slack(std::uint64_t cut) {
  return static_cast<std::uint16_t>(cut > 256 ? 0xffff : (Rounding == log2_rounding::round_log ? 1 : 3) + cut);
}

/// Finds levels, as distance_levels does. Where simd::octave_search<Isa> exists.
template <class Isa>
class octave_levels {
 public:
  template <class T>
  explicit octave_levels(const T* table) noexcept : numbers_{{table, 1}, {table, 3}} {}

  /// The thresholds of a row, of the exponentials or of three times them.
  struct row_thresholds {
    simd::octave_thresholds thresholds;
    std::uint64_t scaled_by_3;  ///< 0 or 1
  };

  /// The thresholds of a row of `count` exponentials, each shifted to the right by `shift`, with the sum `sum`. Where
  /// t[1] is above 1.66 * 2^n, t[2] may be 1.2 times the half of it, in the same octave. Three times such a threshold
  /// is at most 1.5 * 2^(n + 2); it is compared with three times the exponentials.
  template <attention_code Format, log2_rounding Rounding>
  INTACT_INLINE static row_thresholds thresholds(std::uint64_t sum, int shift, index_t count) {
    alignas(64) static constexpr threshold_excess<Format, Rounding> excess;
    constexpr bool round_log = Rounding == log2_rounding::round_log;
    constexpr std::uint64_t r = round_log ? 0x2d413ccc : 0x2aaaaaaa;  // 2^30 times sqrt(1/2), times 2/3
    constexpr std::uint16_t max_fraction = 0xa8f5;                    // 2^16 times 0.66
    const int zeros = std::countl_zero(sum);
    const std::uint64_t cut = shift == 0 ? 0 : 1 + ((static_cast<std::uint64_t>(count) << 17) >> (63 - zeros));
    std::uint64_t first = ((sum << zeros) >> 32) * r;
    const std::uint64_t scaled_by_3 = (std::uint64_t{max_fraction} - fraction(first)) >> 63;
    first *= 1 + 2 * scaled_by_3;  // a branch would be mispredicted in every fourth row
    return {{.fraction = fraction(first),
             .octave = 65 - std::countl_zero(first) - zeros + shift,
             .y = excess.y,
             .y4 = round_log ? nullptr : excess.y4,
             .last_level = attention_codes<Format>::last_code,
             .slack = threshold_rounding_slack<Rounding>(cut)},
            scaled_by_3};
  }

  /// The levels of all distances. False if some are undecided: bit i of undecided_mask[j] is that of distance
  /// 64 * j + i.
  template <class Batch>
  INTACT_INLINE bool levels(const row_thresholds& row, Batch (&found)[4], std::uint64_t (&undecided_mask)[4]) const {
    return numbers_[row.scaled_by_3].find(row.thresholds, found, undecided_mask);
  }

  /// The levels of the distances in a register. False if some are undecided.
  template <class Batch>
  INTACT_INLINE bool levels(const row_thresholds& row, Batch distances, Batch& found) const {
    return numbers_[row.scaled_by_3].find(row.thresholds, distances, found);
  }

 private:
  /// The 16 bits after the leading one.
  INTACT_INLINE static std::uint16_t fraction(std::uint64_t x) {
    return static_cast<std::uint16_t>((x << std::countl_zero(x) << 1) >> 48);
  }

  simd::octave_search<Isa> numbers_[2];  ///< the exponentials, and three times them
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
