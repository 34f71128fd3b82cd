#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "intact/arith/integer_math.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "intact/types/log_sqrt2_scale.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[i, c] = clamp((E * even_multiplier + O * odd_multiplier + offset) >> (32 + shift)), where E sums
/// (v[j, c] - zp) << (15 - k) over the codes 2k of row i, and O the same over the codes 2k + 1.
template <class Codes>
void log_sqrt2_matmul(Codes codes, matrix_view<const std::uint8_t> v, int v_zero_point, const log_sqrt2_scale& scale,
                      matrix_view<std::uint8_t> y) {
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      std::int64_t sums[2] = {0, 0};
      for (index_t j = 0; j < v.rows; ++j) {
        const int code = codes(i, j);
        if (code <= log_sqrt2_largest_code) {
          sums[code % 2] += (std::int64_t{v(j, c)} - v_zero_point) * (std::int64_t{1} << (15 - code / 2));
        }
      }
      const auto even = static_cast<std::int32_t>(sums[0]), odd = static_cast<std::int32_t>(sums[1]);
      const std::int64_t scaled =
          std::int64_t{even} * scale.even_multiplier + std::int64_t{odd} * scale.odd_multiplier + scale.offset;
      y(i, c) = saturate<std::uint8_t>(scaled >> (32 + scale.shift));
    }
  }
}

/// 2^(15 - q/2) rounded to nearest, for q = 0..31, and 0 for all other codes: floor(sqrt(2^(32 - q))) is twice that,
/// rounded down.
inline constexpr auto log_sqrt2_weights = [] {
  std::array<std::uint16_t, 256> weights{};
  for (int code = 0; code <= log_sqrt2_largest_code; ++code) {
    weights[static_cast<std::size_t>(code)] =
        static_cast<std::uint16_t>((integer_sqrt(std::uint64_t{1} << (32 - code)) + 1) >> 1);
  }
  return weights;
}();

/// Every row divided by its sum of weights.
template <class Codes>
void log_sqrt2_matmul(Codes codes, matrix_view<const std::uint8_t> v, int v_zero_point,
                      const row_divisor& normalization, matrix_view<std::uint8_t> y) {
  const auto weight = [&](index_t i, index_t j) {
    return std::int64_t{log_sqrt2_weights[static_cast<std::size_t>(codes(i, j))]};
  };
  weighted_matmul(weight, v, v_zero_point, normalization, y);
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
