#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "intact/config/compiler.hpp"

namespace intact::inline INTACT_ABI {

/// Bits needed to write x: the position of the highest set bit plus one; bit_length(0) = 0.
constexpr int bit_length(std::uint64_t x) {
  return 64 - std::countl_zero(x);
}

/// floor(sqrt(x)), exact for every x, one bit of the root per step.
constexpr std::uint32_t integer_sqrt(std::uint64_t x) {
  std::uint64_t root = 0;
  for (std::uint64_t bit = std::uint64_t{1} << 62; bit != 0; bit >>= 2) {
    const bool fits = x >= root + bit;
    x -= fits ? root + bit : 0;
    root = (root >> 1) + (fits ? bit : 0);
  }
  return static_cast<std::uint32_t>(root);
}

/// x limited to the range of an integer type of 8, 16 or 32 bits.
template <class T>
constexpr T saturate(std::int64_t x) {
  constexpr std::int64_t low = std::numeric_limits<T>::min();
  constexpr std::int64_t high = std::numeric_limits<T>::max();
  return static_cast<T>(x < low ? low : x > high ? high : x);
}

}  // namespace intact::inline INTACT_ABI
