#pragma once

#include <cstdint>

#include "intact/arith/integer_math.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// -log2(e / sum), rounded as FQ-ViT rounds: first sum / e to the nearest integer r (halves to even), then to the power
/// of two below or above r, above from 1.5 times on. Decided with shifts and comparisons, without the division: with
/// A = 2 * sum + e it is 0 if A < 4e, 1 if A <= 6e, and otherwise 1 + floor(log2(A / 3e)).
///
/// Range: 0 < e <= sum, 2 * sum + e and 6 * e below 2^64.
constexpr int log2_code(std::uint64_t e, std::uint64_t sum) {
  const std::uint64_t a = 2 * sum + e;
  if (a < 4 * e) {
    return 0;
  }
  if (a <= 6 * e) {
    return 1;
  }
  const int distance = bit_length(a) - bit_length(3 * e);
  return 1 + distance - (((3 * e) << distance) > a ? 1 : 0);
}

/// Whether a^2 < b^2 / 2, that is 2 * a^2 < b^2, in 128 bits. Never equal, but for a = b = 0: sqrt(2) is irrational.
constexpr bool below_square_root_of_half(std::uint64_t a, std::uint64_t b) {
  struct wide {
    std::uint64_t high, low;
  };
  const auto square = [](std::uint64_t x) {
    const std::uint64_t low = x & 0xffffffff, high = x >> 32;
    const std::uint64_t middle = low * high;  // twice, at bit 32
    const std::uint64_t below = low * low + (middle << 33);
    return wide{high * high + (middle >> 31) + (below < low * low ? 1 : 0), below};
  };
  const wide a2 = square(a), b2 = square(b);
  if ((a2.high >> 63) != 0) {
    return false;
  }
  const wide twice{(a2.high << 1) | (a2.low >> 63), a2.low << 1};
  return twice.high < b2.high || (twice.high == b2.high && twice.low < b2.low);
}

/// -log2(e / sum) rounded to nearest: with 2^k the largest power not above sum / e, k, or k + 1 if 2 * (e * 2^k)^2 <
/// sum^2.
///
/// Range: 0 < e <= sum < 2^63.
constexpr int log2_code_round_log(std::uint64_t e, std::uint64_t sum) {
  int k = bit_length(sum) - bit_length(e);
  k -= (e << k) > sum ? 1 : 0;
  return k + (below_square_root_of_half(e << k, sum) ? 1 : 0);
}

/// The largest e whose log2_code, for the given sum, is at least `level`: log2_code's comparisons solved for e.
///
/// Range: 1 <= level <= 62, 0 < sum, 2 * sum below 2^64.
constexpr std::uint64_t largest_at_level(int level, std::uint64_t sum) {
  return level == 1   ? 2 * sum / 3                                         // not 2 * sum + e < 4e
         : level == 2 ? (2 * sum - 1) / 5                                   // not 2 * sum + e <= 6e
                      : 2 * sum / ((std::uint64_t{3} << (level - 1)) - 1);  // 2 * sum + e >= 3e * 2^(level - 1)
}

/// floor(sum * sqrt(2)) for sums below 2^63. Divided by 2^level it is the largest e whose log2_code_round_log
/// is at least `level`.
constexpr std::uint64_t times_sqrt_2(std::uint64_t sum) {
  constexpr std::uint64_t root_high = 0xb504f333, root_low = 0xf9de6484;  // halves of floor(sqrt(2) * 2^63)
  const std::uint64_t high = sum >> 32, low = sum & 0xffffffff;
  const std::uint64_t middle = high * root_low + (low * root_low >> 32);
  const std::uint64_t below = low * root_high + (middle & 0xffffffff);
  const std::uint64_t upper = high * root_high + (middle >> 32) + (below >> 32);
  // The product's bits from 63 on are the root or 1 less.
  const std::uint64_t next = (upper << 1 | (below >> 31 & 1)) + 1;
  return below_square_root_of_half(sum, next) ? next - 1 : next;
}

}  // namespace INTACT_UNIT
}  // namespace intact
