#pragma once

#include <cstdint>

#include "intact/simd/byte_sum.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// The longest rows of row_sums: 255 * 255 times it fits int32.
inline constexpr index_t row_sums_max_columns = 33025;

namespace kernel {

template <class Isa>
std::int64_t sum_of_row(const std::uint8_t* a, index_t count) noexcept {
  return simd::byte_sum<Isa>(a, count);
}

/// The sum of the codes plus 128, piece by piece, minus 128 for each.
template <class Isa>
std::int64_t sum_of_row(const std::int8_t* a, index_t count) noexcept {
  constexpr index_t piece = 1024;
  std::uint8_t codes[static_cast<std::size_t>(piece)];
  std::int64_t sum = -128 * count;
  for (index_t k = 0; k < count; k += piece) {
    const index_t length = count - k < piece ? count - k : piece;
    for (index_t i = 0; i < length; ++i) {
      codes[i] = static_cast<std::uint8_t>(a[k + i] + 128);
    }
    sum += simd::byte_sum<Isa>(codes, length);
  }
  return sum;
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
