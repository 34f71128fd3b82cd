#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// A dyadic scale for a whole tensor. It takes an int32 accumulator a to
///
///     ((a << left_shift) * multiplier + offset) >> (32 + shift)
///
/// in 64 bits, `>>` rounding down. The offset holds everything that is added, in units of 2^-(32 + shift) of an output
/// code: the rounding half, the bias, the output's zero point and the correction for the input's zero point.
///
/// Range: 0 <= multiplier, |offset| < 2^62, 0 <= shift <= 30, 0 <= left_shift <= 30, and |a| << left_shift < 2^31 for
///        every a that can occur: then nothing overflows. build/scale.hpp builds such scales, free of ties.
struct tensor_scale {
  std::int32_t multiplier = 0;  ///< of the accumulator
  std::int64_t offset = 0;      ///< bias, zero points and rounding half, in units of 2^-(32 + shift) of an output code
  int shift = 0;                ///< to the right, beyond 32
  int left_shift = 0;           ///< of the accumulator, before the multiplication

  /// The scale of one output channel: the same for all.
  INTACT_INLINE constexpr const tensor_scale& channel(index_t) const { return *this; }

  INTACT_INLINE friend constexpr bool operator==(const tensor_scale&, const tensor_scale&) = default;
};

/// Dyadic scales, one per output channel, with the shift and the left_shift in common. Does not own its arrays.
struct channel_scale {
  std::span<const std::int32_t> multiplier;  ///< one per channel
  std::span<const std::int64_t> offset;      ///< one per channel, as of tensor_scale
  int shift = 0;                             ///< of all channels
  int left_shift = 0;                        ///< of all channels

  /// The scale of one channel.
  INTACT_INLINE constexpr tensor_scale channel(index_t n) const {
    return {.multiplier = multiplier[static_cast<std::size_t>(n)],
            .offset = offset[static_cast<std::size_t>(n)],
            .shift = shift,
            .left_shift = left_shift};
  }
};

/// How attention times V is divided by the row's sum of weights: the output is round(sum w * v / sum w * s_v / s_y +
/// zp).
struct row_divisor {
  std::int32_t factor = 0;  ///< round(s_v / s_y * 2^28), 1..2^30 - 1
  int zero_point = 0;       ///< of the output, 0..255

  INTACT_INLINE friend constexpr bool operator==(const row_divisor&, const row_divisor&) = default;
};

/// Scales of a residual addition, one pair per channel. Codes r (stream) and y (branch) become
///
///     ((r - stream_zero_point) * stream_multiplier[c] + (y - branch_zero_point) * branch_multiplier[c] + offset[c])
///       >> shift
///
/// in 32 bits, which the builder in build/add.hpp proves to suffice. Does not own its arrays.
struct add_parameters {
  std::span<const std::int32_t> stream_multiplier;  ///< one per channel
  std::span<const std::int32_t> branch_multiplier;  ///< one per channel
  std::span<const std::int32_t> offset;  ///< one per channel, with the sum's zero point and the rounding half
  int stream_zero_point = 0;             ///< 0..255
  int branch_zero_point = 0;             ///< 0..255
  int shift = 0;                         ///< 17..24
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Refuses a divisor out of range.
inline void require_row_divisor(const char* operation, const row_divisor& normalization) {
  require_between(operation, "normalization.factor", normalization.factor, 1, (1 << 30) - 1);
  require_between(operation, "normalization.zero_point", normalization.zero_point, 0, 255);
}

/// Checks the ranges of the fields; the accumulators are not known here.
inline void require_scale(const char* operation, const tensor_scale& scale, index_t /*channels*/) {
  constexpr std::int64_t offset_limit = (std::int64_t{1} << 62) - 1;
  require_at_least(operation, "scale.multiplier", scale.multiplier, 0);
  require_between(operation, "scale.offset", scale.offset, -offset_limit, offset_limit);
  require_between(operation, "scale.shift", scale.shift, 0, 30);
  require_between(operation, "scale.left_shift", scale.left_shift, 0, 30);
}

/// The same for a scale per channel; the channels are those of the output. The values of the arrays are not read.
inline void require_scale(const char* operation, const channel_scale& scale, index_t channels) {
  require_equal(operation, "size of scale.multiplier", std::ssize(scale.multiplier), channels);
  require_equal(operation, "size of scale.offset", std::ssize(scale.offset), channels);
  require_between(operation, "scale.shift", scale.shift, 0, 30);
  require_between(operation, "scale.left_shift", scale.left_shift, 0, 30);
}

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// Fraction bits of the multipliers.
inline constexpr int add_min_shift = 17;
/// The most of them.
inline constexpr int add_max_shift = 24;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks the scales of a residual addition against the number of channels.
inline void require_add_parameters(const char* operation, const add_parameters& scale, index_t channels) {
  require_equal(operation, "size of stream_multiplier", std::ssize(scale.stream_multiplier), channels);
  require_equal(operation, "size of branch_multiplier", std::ssize(scale.branch_multiplier), channels);
  require_equal(operation, "size of offset", std::ssize(scale.offset), channels);
  require_between(operation, "stream_zero_point", scale.stream_zero_point, 0, 255);
  require_between(operation, "branch_zero_point", scale.branch_zero_point, 0, 255);
  require_between(operation, "shift", scale.shift, add_min_shift, add_max_shift);
}

}  // namespace INTACT_UNIT
}  // namespace intact
