#pragma once

#include <cstdint>

#include "intact/arith/integer_math.hpp"
#include "intact/layernorm.hpp"
#include "intact/types/layernorm.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// One row: normalized = (x - mean) / deviation with 24 fraction bits, then the gain and the bias per channel. RMSNorm
/// takes 0 for the mean.
template <normalization Kind, class Code>
void layernorm_row(const Code* codes, index_t channels, const layernorm_parameters& p, std::uint8_t* y) {
  const auto value = [&](index_t c) { return (std::int64_t{codes[c]} - p.zero_point) << p.shift[std::size_t(c)]; };

  std::int64_t sum = 0;
  std::uint64_t squares = 0;
  for (index_t c = 0; c < channels; ++c) {
    sum += Kind == normalization::layernorm ? value(c) : 0;
    squares += static_cast<std::uint64_t>(value(c) * value(c));
  }
  std::uint64_t variance =
      static_cast<std::uint64_t>(channels) * squares - static_cast<std::uint64_t>(sum * sum) + p.epsilon;
  int fraction_bits = 0;
  if (variance < std::uint64_t{1} << layernorm_small_variance_bits) {
    fraction_bits = layernorm_epsilon_fraction_bits;
    const std::int64_t one = std::int64_t{1} << fraction_bits;
    const std::int64_t with_fraction = static_cast<std::int64_t>(variance) * one + p.epsilon_fraction;
    variance = static_cast<std::uint64_t>(with_fraction < one ? one : with_fraction);
  }

  const int even_length = (bit_length(variance) + 1) / 2 * 2;
  const std::int64_t deviation = integer_sqrt(variance << (62 - even_length));
  const std::int64_t reciprocal = ((std::int64_t{1} << 61) - 1) / deviation;
  const int normalize_shift = 6 + (even_length - fraction_bits) / 2;
  const std::int64_t half = std::int64_t{1} << (normalize_shift - 1);

  for (index_t c = 0; c < channels; ++c) {
    const std::int64_t normalized = ((channels * value(c) - sum) * reciprocal + half) >> normalize_shift;
    const std::int64_t scaled = normalized * p.gain[std::size_t(c)] + p.bias[std::size_t(c)];
    y[c] = saturate<std::uint8_t>(scaled >> p.output_shift);
  }
}

/// The specification of intact::layernorm().
template <class X>
void layernorm(matrix_view<X> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y) {
  require_layernorm<std::remove_const_t<X>>(x, p, y);
  for (index_t row = 0; row < x.rows; ++row) {
    layernorm_row<normalization::layernorm>(x.row_block(row, 1).data, x.columns, p, y.row_block(row, 1).data);
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
