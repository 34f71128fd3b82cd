#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Log-sqrt2 codes: the probability of code q is 2^(-q/2), that is, 2^-k for code 2k and 2^-k times the square root of
/// 1/2 for code 2k + 1. Codes above 31 have weight 0.
inline constexpr int log_sqrt2_largest_code = 31;

/// A scale for the two sums that log-sqrt2 codes make, one of the even and one of the odd codes:
///
///     (even * even_multiplier + odd * odd_multiplier + offset) >> (32 + shift)
///
/// in 64 bits. Range: multipliers 0..2^30 - 1, |offset| < 2^62, 0 <= shift <= 30: then nothing overflows, whatever the
/// sums. Built by build/log_sqrt2.hpp.
struct log_sqrt2_scale {
  std::int32_t even_multiplier = 0;  ///< of sums of even codes
  std::int32_t odd_multiplier = 0;   ///< even_multiplier times the square root of 1/2, rounded
  std::int64_t offset = 0;           ///< (zero point of the output + 1/2) * 2^(32 + shift)
  int shift = 0;                     ///< 0..30
};

/// The largest multiplier: two products with sums of 32 bits stay below 2^62.
inline constexpr std::int32_t log_sqrt2_max_multiplier = (1 << 30) - 1;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a scale's fields.
inline void require_log_sqrt2_scale(const char* operation, const log_sqrt2_scale& scale) {
  constexpr std::int64_t offset_limit = (std::int64_t{1} << 62) - 1;
  require_between(operation, "scale.even_multiplier", scale.even_multiplier, 0, log_sqrt2_max_multiplier);
  require_between(operation, "scale.odd_multiplier", scale.odd_multiplier, 0, log_sqrt2_max_multiplier);
  require_between(operation, "scale.offset", scale.offset, -offset_limit, offset_limit);
  require_between(operation, "scale.shift", scale.shift, 0, 30);
}

}  // namespace INTACT_UNIT
}  // namespace intact
