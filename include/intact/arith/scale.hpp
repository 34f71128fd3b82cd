#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/arith/integer_math.hpp"
#include "intact/types/scale.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// ((a << left_shift) * multiplier + offset) >> (32 + shift), unclamped; see tensor_scale for the range.
constexpr std::int64_t mul_shift(std::int32_t accumulator, const tensor_scale& scale) {
  const std::int64_t scaled = std::int64_t{accumulator} * (std::int64_t{1} << scale.left_shift);
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
  /// The multiplication and the shift for a row of this sum of weights.
  constexpr row_scale(const row_divisor& normalization, std::int64_t weight_sum)
      : zero_point_(normalization.zero_point) {
    if (weight_sum != 0) {
      const int e = std::min(bit_length(static_cast<std::uint64_t>(weight_sum)), 24);
      multiplier_ = (normalization.factor * (std::int64_t{1} << e) + (weight_sum >> 1)) / weight_sum;
      shift_ = 28 + e;
    }
  }

  /// y of an accumulator.
  constexpr std::int64_t operator()(std::int64_t accumulator) const {
    const std::int64_t offset = (2 * std::int64_t{zero_point_} + 1) * (std::int64_t{1} << (shift_ - 1));
    return (accumulator * multiplier_ + offset) >> shift_;
  }

 private:
  std::int64_t multiplier_ = 0;
  int shift_ = 28;
  int zero_point_;
};

/// The same scale in the form that matrix products take, for sums of w * v whose v still carries its zero point: the
/// correction is part of the offset. Range: 0 <= weight_sum <= 65535 * 2^15, v_zero_point -128..255.
constexpr tensor_scale row_tensor_scale(const row_divisor& normalization, std::int64_t weight_sum, int v_zero_point) {
  const std::int64_t half_and_zero_point = 2 * std::int64_t{normalization.zero_point} + 1;
  if (weight_sum == 0) {
    return {.offset = half_and_zero_point * (std::int64_t{1} << 31)};
  }
  const int e = std::min(bit_length(static_cast<std::uint64_t>(weight_sum)), 24);
  const std::int64_t multiplier = (normalization.factor * (std::int64_t{1} << e) + (weight_sum >> 1)) / weight_sum;
  const std::int64_t offset =
      half_and_zero_point * (std::int64_t{1} << (27 + e)) - v_zero_point * weight_sum * multiplier;
  const int left_shift = std::max(4 - e, 0);
  return {.multiplier = static_cast<std::int32_t>(multiplier),
          .offset = offset * (std::int64_t{1} << left_shift),
          .shift = e - 4 + left_shift,
          .left_shift = left_shift};
}

/// The sum of a stream's code and a branch's in channel n, by add_parameters's formula.
constexpr std::uint8_t add_codes(const add_parameters& scale, int stream, int branch, index_t n) {
  const auto channel = static_cast<std::size_t>(n);
  const std::int64_t sum = std::int64_t{stream - scale.stream_zero_point} * scale.stream_multiplier[channel] +
                           std::int64_t{branch - scale.branch_zero_point} * scale.branch_multiplier[channel] +
                           scale.offset[channel];
  return saturate<std::uint8_t>(sum >> scale.shift);
}

}  // namespace INTACT_UNIT
}  // namespace intact
