#pragma once

#include <cstdint>
#include <span>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Variances C * sum x^2 - (sum x)^2 + epsilon (of RMSNorm C * sum x^2 + epsilon) below 2^20 are so small that a part
/// of 1 in epsilon matters. They take epsilon with so many fraction bits.
inline constexpr int layernorm_small_variance_bits = 20;
/// Fraction bits of epsilon in such variances.
inline constexpr int layernorm_epsilon_fraction_bits = 30;
static_assert(layernorm_small_variance_bits % 2 == 0 && layernorm_epsilon_fraction_bits % 2 == 0,
              "square roots take bits in pairs");

/// How a row is normalized: LayerNorm by its mean and its deviation, RMSNorm by the root of its mean square alone.
enum class normalization { layernorm, rmsnorm };

/// Parameters of an integer LayerNorm or RMSNorm. The real number of an input code is
/// ((code - zero_point) << shift[c]) * s, with a power of two per channel (PTF, "power-of-two factor"). The input's
/// scale s cancels. Built by build/layernorm.hpp. Owns nothing.
struct layernorm_parameters {
  int zero_point = 0;                   ///< of the input codes, 0..255
  std::span<const std::uint8_t> shift;  ///< per channel, 0..3
  std::uint64_t epsilon = 1;            ///< in units of the variance: max(1, round(C^2 * eps / s^2))
  std::span<const std::int32_t> gain;   ///< round(gamma[c] / s_y * 2^G), with output_shift = 24 + G
  std::span<const std::int64_t> bias;   ///< round((beta[c] / s_y + zp_y) * 2^output_shift), plus the rounding half
  int output_shift = 1;                 ///< 1..48
  std::int64_t epsilon_fraction = 0;    ///< round((C^2 * eps / s^2 - epsilon) * 2^30), -2^30..2^29
};

}  // namespace INTACT_ABI
}  // namespace intact
