#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "intact/config/compiler.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Bits needed to write x: the position of the highest set bit plus one; bit_length(0) = 0.
constexpr int bit_length(std::uint64_t x) {
  return 64 - std::countl_zero(x);
}

namespace detail {

/// For the upper byte t of a number n of 64 bits whose upper two bits are not both 0: the root of n / 2^48, that is
/// floor(sqrt(256 * t + 255)), less than 1 away from the real one on either side.
inline constexpr auto square_root_of_upper_byte = [] {
  std::array<std::uint8_t, 256> roots{};
  int root = 0;
  for (int t = 0; t < 256; ++t) {
    while ((root + 1) * (root + 1) <= 256 * t + 255) {
      ++root;
    }
    roots[static_cast<std::size_t>(t)] = static_cast<std::uint8_t>(root);
  }
  return roots;
}();

}  // namespace detail

/// floor(sqrt(x)), exact for every x: a table and two steps of Newton's method, in integers.
///
/// With n = x shifted left by an even number of bits, so that it is at least 2^62, the table has sqrt(n / 2^48) within
/// 1. A step takes an error e of a root w to e^2 / (2w), so the first has sqrt(n / 2^32) from above within
/// (2^8)^2 / (2 * 2^15) = 1, and the second sqrt(n) from above within (2^16)^2 / (2 * 2^31) = 1. Rounding down takes
/// off less than 1.
constexpr std::uint32_t integer_sqrt(std::uint64_t x) {
  if (x == 0) {
    return 0;
  }
  const int half_shift = std::countl_zero(x) / 2;
  const std::uint64_t n = x << (2 * half_shift);
  const std::uint32_t first = detail::square_root_of_upper_byte[static_cast<std::size_t>(n >> 56)];
  const std::uint32_t second = (first << 7) + static_cast<std::uint32_t>(n >> 41) / first;
  std::uint64_t root = (std::uint64_t{second} << 15) + (n >> 17) / second;
  root -= root * root - 1 >= n ? 1 : 0;  // root^2 > n, written so that 2^32 squared, which wraps to 0, is above n too
  return static_cast<std::uint32_t>(root >> half_shift);
}

/// x limited to the range of an integer type of 8, 16 or 32 bits.
template <class T>
constexpr T saturate(std::int64_t x) {
  constexpr std::int64_t low = std::numeric_limits<T>::min();
  constexpr std::int64_t high = std::numeric_limits<T>::max();
  return static_cast<T>(x < low ? low : x > high ? high : x);
}

/// x limited to low..high.
template <class T>
constexpr T clamp_code(std::int64_t x, T low, T high) {
  return x < low ? low : x > high ? high : static_cast<T>(x);
}

}  // namespace INTACT_UNIT
}  // namespace intact
