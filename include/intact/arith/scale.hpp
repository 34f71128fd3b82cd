#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/arith/integer_math.hpp"
#include "intact/types/scale.hpp"

namespace intact::inline INTACT_ABI {

/// ((a << prescale) * multiplier + offset) >> (32 + shift), unclamped; see tensor_scale for the range.
constexpr std::int64_t rescale(std::int32_t accumulator, const tensor_scale& scale) {
  const std::int64_t scaled = std::int64_t{accumulator} * (std::int64_t{1} << scale.prescale);
  return (scaled * scale.multiplier + scale.offset) >> (32 + scale.shift);
}

/// The scale of one row of attention times V whose weights sum to P: one division per row.
///
///     e = min(bit_length(P), 24);  m = ((factor << e) + (P >> 1)) / P;   y = (a * m + ((2 * zp + 1) << (27 + e))) >>
///     (28 + e)
///
/// Range: 0 <= P < 2^32 and |a| <= 255 * P; P = 0: y = zp.
class row_scale {
 public:
  constexpr row_scale(const row_normalization& normalization, std::int64_t weight_sum)
      : zero_point_(normalization.zero_point) {
    if (weight_sum != 0) {
      const int e = std::min(bit_length(static_cast<std::uint64_t>(weight_sum)), 24);
      multiplier_ = (normalization.factor * (std::int64_t{1} << e) + (weight_sum >> 1)) / weight_sum;
      shift_ = 28 + e;
    }
  }

  constexpr std::int64_t operator()(std::int64_t accumulator) const {
    const std::int64_t offset = (2 * std::int64_t{zero_point_} + 1) * (std::int64_t{1} << (shift_ - 1));
    return (accumulator * multiplier_ + offset) >> shift_;
  }

 private:
  std::int64_t multiplier_ = 0;
  int shift_ = 28;
  int zero_point_;
};

}  // namespace intact::inline INTACT_ABI
