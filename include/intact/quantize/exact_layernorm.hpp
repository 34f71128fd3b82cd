#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "intact/config/floating_point.hpp"
#include "intact/quantize/wide_integer.hpp"
#include "intact/types/layernorm.hpp"

// LayerNorm and RMSNorm of docs/numerics.md, section 4, in integers of 128 bits, by bisection and division.

namespace intact {
inline namespace INTACT_UNIT {

namespace double_precision {

/// floor(sqrt(x)) of an x below 2^64.
constexpr int128 floor_square_root(int128 x) {
  int128 low = 0, high = power_of_two(32);
  while (high - low > 1) {
    const int128 middle = (low + high) / 2;
    (middle * middle <= x ? low : high) = middle;
  }
  return low;
}

/// Sum, variance and reciprocal deviation of a row; of RMSNorm the sum is left out of all formulas, as 0.
struct exact_layernorm_row {
  int128 channels = 0;    ///< C
  int128 sum = 0;         ///< of the row's values
  int128 variance = 0;    ///< C * sum x^2 - (sum x)^2, without epsilon
  int128 reciprocal = 0;  ///< R
  int128 unit = 0;        ///< (C * x - sum) * R / unit is the normalized value in units of 2^-24

  /// Of shifted values, their zero point subtracted.
  exact_layernorm_row(std::span<const int128> x, std::uint64_t epsilon, std::int64_t epsilon_fraction,
                      normalization kind = normalization::layernorm)
      : channels(static_cast<int128>(x.size())) {
    int128 squares = 0;
    for (const int128 value : x) {
      sum += kind == normalization::rmsnorm ? 0 : value;
      squares += value * value;
    }
    variance = channels * squares - sum * sum;
    normalize(epsilon, epsilon_fraction);
  }
  /// The same with the epsilon of integer parameters.
  exact_layernorm_row(std::span<const int128> x, const layernorm_parameters& p,
                      normalization kind = normalization::layernorm)
      : exact_layernorm_row(x, p.epsilon, p.epsilon_fraction, kind) {}

  /// Of a row whose sums are known.
  exact_layernorm_row(int128 row_channels, int128 row_sum, int128 row_variance, const layernorm_parameters& p)
      : channels(row_channels), sum(row_sum), variance(row_variance) {
    normalize(p.epsilon, p.epsilon_fraction);
  }

  /// C times the distance from the mean.
  int128 centred(int128 x) const { return channels * x - sum; }
  /// C times the deviation, with the epsilon of parameters as it is.
  long double deviation(const layernorm_parameters& p) const {
    const long double fraction = std::ldexp(static_cast<long double>(p.epsilon_fraction), -30);
    return std::sqrt(static_cast<long double>(variance) + static_cast<long double>(p.epsilon) + fraction);
  }
  /// The normalized value in units of 2^-24, rounded.
  int128 normalized(int128 x) const { return floor_divide(centred(x) * reciprocal + unit / 2, unit); }

 private:
  /// V in units of 2^-30 throughout; those of 2^20 and more are whole.
  void normalize(std::uint64_t epsilon, std::int64_t epsilon_fraction) {
    const int128 whole = variance + static_cast<int128>(epsilon);
    const int128 fraction = whole < power_of_two(20) ? int128{epsilon_fraction} : 0;
    const int128 parts = std::max(whole * power_of_two(30) + fraction, power_of_two(30));
    int length = 0;
    while (parts >= power_of_two(length)) {
      length += 2;
    }
    const int128 radicand = length <= 62 ? parts * power_of_two(62 - length) : parts / power_of_two(length - 62);
    reciprocal = (power_of_two(61) - 1) / floor_square_root(radicand);
    unit = power_of_two(6 + (length - 30) / 2);
  }
};

/// The code of a normalized value.
inline std::uint8_t exact_layernorm_code(int128 normalized, const layernorm_parameters& p, std::size_t c) {
  return clamp_to<std::uint8_t>(floor_divide(normalized * p.gain[c] + p.bias[c], power_of_two(p.output_shift)));
}

}  // namespace double_precision

}  // namespace INTACT_UNIT
}  // namespace intact
