#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "intact/kernel/log_softmax/exp_sum.hpp"

// Levels by bisection: the distances at which the 16 levels begin are found in the table of exponentials, once per row.
// The level of a code is the number of these thresholds that its distance exceeds, found by bisection in registers of
// bytes, or by comparison with all of them where there is no shuffle of bytes. Exact; for all instruction sets with
// registers of bytes.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// The distances at which a row's levels begin.
struct level_thresholds {
  /// Of level k, k in 1..16: the last distance of a lower level, but at least 0; minus 128, as signed bytes.
  alignas(16) std::uint8_t last_distance[2 * log2_levels];
  /// The level of distance 0.
  std::uint8_t first_level;
};

/// Finds the distance at which the exponentials fall to a threshold, by hashing: exponentials with the same bit length
/// and the same leading bits share a bucket.
template <class Isa>
class threshold_search {
 public:
  template <class T>
  explicit threshold_search(const T* table) noexcept {
    index_t filled = 0;
    const auto fill = [&](index_t end, int place) {
      if (end > filled) {
        std::memset(place_ + filled, place, static_cast<std::size_t>(end - filled));
        filled = end;
      }
    };
    for (int d = max_distance; d > 0; --d) {
      fill(bucket_of(table[d]), max_distance - d);
    }
    fill(buckets, max_distance);
  }

  /// The largest distance above 0 whose exponential is above a threshold; 0 if there is none. Exponentials in higher
  /// buckets than the threshold's are above it; the same bucket seldom has more than two.
  template <class T>
  INTACT_INLINE int last_above(std::uint64_t threshold, const T* ascending) const {
    index_t place = place_[bucket_of(threshold)];
    place -= ascending[place] > threshold ? 1 : 0;
    place -= ascending[place] > threshold ? 1 : 0;
    if (ascending[place] > threshold) [[unlikely]] {
      do {
        --place;
      } while (ascending[place] > threshold);
    }
    return static_cast<int>(max_distance - place);
  }

 private:
  static constexpr int max_distance = softmax_distances - 1;
  /// Buckets do not decrease with the number.
  static constexpr int leading_bits = 7;
  static constexpr index_t buckets = index_t{65} << (leading_bits - 1);
  INTACT_INLINE static index_t bucket_of(std::uint64_t x) {
    const int zeros = std::countl_zero(x | 1);
    return static_cast<index_t>((x << zeros) >> (64 - leading_bits)) + (index_t{63 - zeros} << (leading_bits - 1));
  }

  /// The place, in `ascending`, of the largest exponential of a distance above 0 that is in this bucket or a lower one.
  std::uint8_t place_[buckets];
};

/// The thresholds of a row with the sum `sum`.
template <class Isa, log2_rounding Rounding, class T>
INTACT_INLINE level_thresholds find_thresholds(const exponentials<Isa, T>& table, const threshold_search<Isa>& search,
                                               std::uint64_t sum) {
  std::uint64_t of_exponentials[log2_levels + 1];
  exp_thresholds<Rounding>(sum, of_exponentials);
  level_thresholds thresholds{};
  INTACT_UNROLL
  for (int level = 1; level <= log2_levels; ++level) {
    thresholds.last_distance[level] =
        static_cast<std::uint8_t>(search.last_above(of_exponentials[level], table.ascending()) - 128);
  }
  thresholds.first_level = static_cast<std::uint8_t>(
      Rounding == log2_rounding::round_log ? log2_code_round_log(table[0], sum) : log2_code(table[0], sum));
  return thresholds;
}

/// Levels of registers of codes, where there is a shuffle of bytes.
template <class Isa, attention_code Format>
class bisection_levels {
  using bytes = simd::bytes<Isa>;
  using batch = typename bytes::batch;

 public:
  INTACT_INLINE bisection_levels(const level_thresholds& thresholds, int max_code)
      : maximum_(bytes::broadcast(static_cast<std::uint8_t>(max_code - 128))),
        first_level_(bytes::broadcast(thresholds.first_level > attention_codes<Format>::last_code
                                          ? attention_codes<Format>::last_code
                                          : thresholds.first_level)),
        level_8_(bytes::broadcast(thresholds.last_distance[8])),
        level_4_(bytes::lookup_table_16(thresholds.last_distance + 4)),
        level_2_(bytes::lookup_table_16(thresholds.last_distance + 2)),
        level_1_(bytes::lookup_table_16(thresholds.last_distance + 1)),
        level_16_(bytes::broadcast(thresholds.last_distance[16])) {}

  INTACT_INLINE batch operator()(batch codes) const {
    const batch distance = bytes::subtract(maximum_, codes);
    batch level = bytes::add_where_above(bytes::broadcast(0), distance, level_8_, bytes::broadcast(8));
    level = bytes::add_where_above(level, distance, bytes::lookup(level_4_, level), bytes::broadcast(4));
    level = bytes::add_where_above(level, distance, bytes::lookup(level_2_, level), bytes::broadcast(2));
    level = bytes::add_where_above(level, distance, bytes::lookup(level_1_, level), bytes::broadcast(1));
    if constexpr (Format == attention_code::u8_masked) {
      level = bytes::add_where_above(level, distance, level_16_, bytes::broadcast(1));
    }
    return bytes::max(level, first_level_);
  }

 private:
  batch maximum_, first_level_, level_8_, level_4_, level_2_, level_1_, level_16_;
};

/// The same without it: the thresholds that are exceeded are counted.
template <class Isa, attention_code Format>
class counted_levels {
  using bytes = simd::bytes<Isa>;
  using batch = typename bytes::batch;
  static constexpr int last_level = Format == attention_code::u8_masked ? log2_levels : log2_levels - 1;

 public:
  INTACT_INLINE counted_levels(const level_thresholds& thresholds, int max_code)
      : maximum_(bytes::broadcast(static_cast<std::uint8_t>(max_code - 128))),
        first_level_(bytes::broadcast(thresholds.first_level > attention_codes<Format>::last_code
                                          ? attention_codes<Format>::last_code
                                          : thresholds.first_level)) {
    INTACT_UNROLL
    for (int level = 1; level <= last_level; ++level) {
      last_distance_[level - 1] = bytes::broadcast(thresholds.last_distance[level]);
    }
  }

  INTACT_INLINE batch operator()(batch codes) const {
    const batch distance = bytes::subtract(maximum_, codes);
    batch level = bytes::broadcast(0);
    INTACT_UNROLL
    for (const batch& last : last_distance_) {
      level = bytes::add_where_above(level, distance, last, bytes::broadcast(1));
    }
    return bytes::max(level, first_level_);
  }

 private:
  batch maximum_, first_level_, last_distance_[static_cast<std::size_t>(last_level)];
};

template <class Isa, attention_code Format>
using threshold_levels =
    std::conditional_t<simd::has_byte_lookup<Isa>, bisection_levels<Isa, Format>, counted_levels<Isa, Format>>;

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
