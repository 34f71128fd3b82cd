#pragma once

#include <cstdint>

#include "intact/arith/integer_math.hpp"

namespace intact::inline INTACT_ABI {

/// -log2(e / sum), rounded as FQ-ViT rounds: first sum / e to the nearest integer r (halves to even), then to the power
/// of two below or above r, above from 1.5 times on. Decided with shifts and comparisons, without the division: with
/// A = 2 * sum + e it is 0 if A < 4e, 1 if A <= 6e, and otherwise 1 + ceil(log2(A / 3e)) - (1 if the power is passed).
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

}  // namespace intact::inline INTACT_ABI
