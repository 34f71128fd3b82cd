#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "intact/kernel/exp_table.hpp"

// From which distance on each level begins: 16 numbers, found in the table of exponentials. A code is how many of them
// the distance has passed, found by bisection in registers of bytes.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Where a row's levels begin.
struct level_bounds {
  /// The last distance before level k, k in 1..16, but at least 0; as a signed number after subtracting 128.
  alignas(16) std::uint8_t last[2 * log2_levels];
  /// The level of the maximum itself.
  std::uint8_t first_level;
};

/// Finds distances by their exponentials.
template <class Isa>
class distance_finder {
 public:
  template <class T>
  explicit distance_finder(const T* table) noexcept {
    index_t filled = 0;
    const auto fill = [&](index_t end, int place) {
      if (end > filled) {
        std::memset(place_ + filled, place, static_cast<std::size_t>(end - filled));
        filled = end;
      }
    };
    for (int d = 255; d > 0; --d) {
      fill(bucket_of(table[d]), 255 - d);
    }
    fill(buckets, 255);
  }

  /// The largest distance, but for 0, whose exponential is above a limit; 0 if there is none. Those in higher buckets
  /// than the limit's are above it; of those in the same bucket there are seldom more than two.
  template <class T>
  INTACT_INLINE int last_above(std::uint64_t limit, const T* rising) const {
    index_t place = place_[bucket_of(limit)];
    place -= rising[place] > limit ? 1 : 0;
    place -= rising[place] > limit ? 1 : 0;
    while (rising[place] > limit)
      [[unlikely]] {
        --place;
      }
    return static_cast<int>(255 - place);
  }

 private:
  /// Numbers with the same length and the same leading bits share a bucket; buckets do not decrease.
  static constexpr int leading_bits = 7;
  static constexpr index_t buckets = index_t{65} << (leading_bits - 1);
  INTACT_INLINE static index_t bucket_of(std::uint64_t x) {
    const int zeros = std::countl_zero(x | 1);
    return static_cast<index_t>((x << zeros) >> (64 - leading_bits)) + (index_t{63 - zeros} << (leading_bits - 1));
  }

  /// Among 0 and table[255] to table[0], the place of the largest but table[0] that is in no higher bucket.
  std::uint8_t place_[buckets];
};

/// The levels of a row whose exponentials add up to `sum`.
template <class Isa, log2_rounding Rounding, class T>
INTACT_INLINE level_bounds bounds_of(const exponentials<Isa, T>& table, const distance_finder<Isa>& distances,
                                     std::uint64_t sum) {
  constexpr bool at_root = Rounding == log2_rounding::round_log;
  std::uint64_t limits[log2_levels + 1];
  level_limits<Rounding>(sum, limits);
  level_bounds bounds{};
  INTACT_UNROLL
  for (int level = 1; level <= log2_levels; ++level) {
    bounds.last[level] = static_cast<std::uint8_t>(distances.last_above(limits[level], table.rising()) - 128);
  }
  bounds.first_level =
      static_cast<std::uint8_t>(at_root ? log2_code_round_log(table[0], sum) : log2_code(table[0], sum));
  return bounds;
}

/// Levels of registers of codes.
template <class Isa, attention_code Format>
class level_search {
  using bytes = simd::bytes<Isa>;
  using batch = typename bytes::batch;

 public:
  INTACT_INLINE level_search(const level_bounds& bounds, int largest)
      : maximum_(bytes::broadcast(static_cast<std::uint8_t>(largest - 128))),
        first_level_(bytes::broadcast(bounds.first_level > attention_codes<Format>::last_code
                                          ? attention_codes<Format>::last_code
                                          : bounds.first_level)),
        eight_(bytes::broadcast(bounds.last[8])),
        four_(bytes::sixteen(bounds.last + 4)),
        two_(bytes::sixteen(bounds.last + 2)),
        one_(bytes::sixteen(bounds.last + 1)),
        sixteen_(bytes::broadcast(bounds.last[16])) {}

  INTACT_INLINE batch operator()(batch codes) const {
    const batch distance = bytes::subtract(maximum_, codes);
    batch level = bytes::add_where_above(bytes::broadcast(0), distance, eight_, bytes::broadcast(8));
    level = bytes::add_where_above(level, distance, bytes::lookup(four_, level), bytes::broadcast(4));
    level = bytes::add_where_above(level, distance, bytes::lookup(two_, level), bytes::broadcast(2));
    level = bytes::add_where_above(level, distance, bytes::lookup(one_, level), bytes::broadcast(1));
    if constexpr (Format == attention_code::u8_masked) {
      level = bytes::add_where_above(level, distance, sixteen_, bytes::broadcast(1));
    }
    return bytes::max(level, first_level_);
  }

 private:
  batch maximum_, first_level_, eight_, four_, two_, one_, sixteen_;
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
