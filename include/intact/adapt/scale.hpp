#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "intact/arith/scale.hpp"
#include "intact/types/scale.hpp"

// Builders of dyadic scales from real factors, into memory of the caller's. Standard library only, nothing allocated.
// Next to the integers they give back the real numbers that these integers are exactly, so that an evaluation in
// double precision can be compared with the integers bit by bit.

namespace intact {
inline namespace INTACT_UNIT {

/// The accumulators that can occur, zero points not yet corrected.
struct accumulator_range {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

/// What a scale shall compute of an accumulator a: y = factor * (a - correction) + addend.
struct scale_target {
  double factor = 0;            ///< s_a * s_w / s_y, above 0
  double addend = 0;            ///< bias / s_y + zero point of y
  std::int64_t correction = 0;  ///< zero point of a times the sum of the channel's weights; within the range
  accumulator_range range;
};

/// What a built scale computes: y = a * factor + offset, rounded to nearest. Both numbers are exact in double, every
/// value in between is too, and no a of the range is a tie: any way of rounding to nearest gives the same code.
struct exact_scale {
  double factor = 0;
  double offset = 0;
};

/// One output channel of a layer: y = factor * sum((x - zero_point) * w) + addend.
struct linear_channel {
  std::span<const std::int8_t> weights;
  double factor = 0;   ///< s_x * s_w / s_y
  double addend = 0;   ///< bias / s_y + zero point of y
  int zero_point = 0;  ///< of the inputs x
};

/// The target of one output channel of a layer on codes of a type, u8 or s8: range and correction follow from its
/// weights.
/// Errors: a zero point that is no code of the type.
template <class Activation>
scale_target linear_target(const linear_channel& channel) {
  static_assert(std::is_same_v<Activation, std::uint8_t> || std::is_same_v<Activation, std::int8_t>,
                "inputs of layers are u8 or s8 codes");
  constexpr std::int64_t lowest = std::numeric_limits<Activation>::min();
  constexpr std::int64_t highest = std::numeric_limits<Activation>::max();
  require_between("linear_target", "zero_point", channel.zero_point, lowest, highest);
  scale_target target{channel.factor, channel.addend, 0, {}};
  for (const std::int8_t w : channel.weights) {
    target.correction += std::int64_t{channel.zero_point} * w;
    target.range.low += (w < 0 ? highest : lowest) * w;
    target.range.high += (w < 0 ? lowest : highest) * w;
  }
  return target;
}

/// The target of q * k^T: factor is s_q * s_k / sqrt(head size) / s_logits.
inline scale_target attention_logits_target(double factor, int logits_zero_point, index head_size) {
  const std::int64_t extreme = std::int64_t{255} * 255 * head_size;
  return {factor, static_cast<double>(logits_zero_point), 0, {-extreme, extreme}};
}

/// The target of attention times V: factor is s_v / s_context. The sum of a row's 2^-code is below 2.25, plus 2^-15 for
/// every key when codes are clipped at 15.
inline scale_target attention_context_target(double factor, int context_zero_point, index keys) {
  const std::int64_t extreme = 255 * ((std::int64_t{9} << 13) + keys);
  return {std::ldexp(factor, -15), static_cast<double>(context_zero_point), 0, {-extreme, extreme}};
}

/// The target of the sum of so many u8 codes whose mean is wanted: factor is s_x / s_y.
inline scale_target average_pool_target(double factor, int zero_point, int output_zero_point, index tokens) {
  const index count = tokens < 1 ? 1 : tokens;
  return {factor / static_cast<double>(count),
          static_cast<double>(output_zero_point),
          zero_point * tokens,
          {0, 255 * tokens}};
}

/// The target of u8 codes that become codes of another scale: factor is s_x / s_y.
inline scale_target rescale_target(double factor, int zero_point, int output_zero_point) {
  return {factor, static_cast<double>(output_zero_point), zero_point, {0, 255}};
}

namespace detail {

/// An odd multiplier m, an offset c and the number n of fraction bits: y = (a * m + c) >> n.
struct odd_scale {
  std::int64_t multiplier = 0;
  std::int64_t offset = 0;
  int fraction_bits = 0;
};

/// The inverse of an odd number modulo 2^64. Newton's iteration doubles the number of right bits, from three.
constexpr std::uint64_t inverse_of_odd(std::uint64_t m) {
  std::uint64_t inverse = m;
  for (int right_bits = 3; right_bits < 64; right_bits *= 2) {
    inverse *= 2 - m * inverse;
  }
  return inverse;
}

/// Whether an accumulator of the range makes (a << prescale) * m + c a multiple of 2^n. With half of 2^n inside c that
/// is a tie: the number to be rounded lies halfway between two codes. As m is odd, just one residue of a does so,
/// modulo 2^(n - prescale), and none if c is not a multiple of 2^prescale.
constexpr bool reaches_tie(const odd_scale& scale, const accumulator_range& range, int prescale = 0) {
  const int zeros = std::min(prescale, scale.fraction_bits);
  const std::int64_t step = std::int64_t{1} << zeros;
  if (scale.offset % step != 0) {
    return false;
  }
  const std::uint64_t mask = (std::uint64_t{1} << (scale.fraction_bits - zeros)) - 1;
  const std::uint64_t tie = (0 - static_cast<std::uint64_t>(scale.offset / step)) *
                                inverse_of_odd(static_cast<std::uint64_t>(scale.multiplier)) &
                            mask;
  const std::uint64_t first = (tie - static_cast<std::uint64_t>(range.low)) & mask;
  return first <= static_cast<std::uint64_t>(range.high) - static_cast<std::uint64_t>(range.low);
}

/// The farthest that an offset is moved: enough for any layer but a very long almost constant one.
inline constexpr int farthest_move = 1 << 21;

/// Moves the offset by 0, 1, -1, 2, ... until no accumulator is a tie; false if it would have to move by more than
/// `limit`. An offset without ties exists if the range is shorter than 2^n or there is a prescale.
constexpr bool avoid_ties(odd_scale& scale, const accumulator_range& range, int limit = farthest_move,
                          int prescale = 0) {
  const std::int64_t offset = scale.offset;
  for (int step = 0; step < 2 * limit; ++step) {
    scale.offset = offset + (step % 2 != 0 ? (step + 1) / 2 : -step / 2);
    if (!reaches_tie(scale, range, prescale)) {
      return true;
    }
  }
  return false;
}

/// Largest magnitude of a * m over the range.
inline double largest_product(const accumulator_range& range, double multiplier) {
  return std::max(std::fabs(static_cast<double>(range.low)), std::fabs(static_cast<double>(range.high))) * multiplier;
}

inline constexpr double largest_factor = 536870912.0;  // 2^29: a prescale of 30
inline constexpr double two_to_31 = 2147483648.0;
inline constexpr double two_to_53 = 9007199254740992.0;
/// Bound of 64-bit sums: 2^62, less what making multipliers odd and moving offsets can add.
inline constexpr double sum_limit = 4611686018427387904.0 - 4398046511104.0;

/// (a << prescale) in place of a: the same numbers from a smaller factor.
inline scale_target prescaled(const scale_target& target, int prescale) {
  const std::int64_t power = std::int64_t{1} << prescale;
  return {std::ldexp(target.factor, -prescale),
          target.addend,
          target.correction * power,
          {target.range.low * power, target.range.high * power}};
}

/// Whether int32 multipliers and 64-bit sums suffice at 32 + shift fraction bits.
inline bool shift_fits(const scale_target& target, int shift) {
  const double multiplier = std::rint(std::ldexp(target.factor, 32 + shift));
  const double offset = std::rint(std::ldexp(target.addend, 32 + shift)) + std::ldexp(1.0, 31 + shift) -
                        static_cast<double>(target.correction) * multiplier;
  return multiplier < two_to_31 && largest_product(target.range, multiplier) + std::fabs(offset) < sum_limit;
}

/// Whether double precision holds exactly every sum that the scale can make, its target being prescaled.
inline bool is_exact_in_double(const scale_target& target, double multiplier, double offset, int fraction_bits) {
  return largest_product(target.range, multiplier) + std::fabs(offset) + std::ldexp(1.0, fraction_bits - 1) < two_to_53;
}

/// The scale of n fraction bits for a prescaled target, not yet free of ties; no multiplier if it would not be exact.
inline odd_scale round_to_odd_scale(const scale_target& target, int n) {
  const double multiplier = std::max(1.0, 2.0 * std::floor(std::ldexp(target.factor, n) / 2.0) + 1.0);
  const double addend = std::rint(std::ldexp(target.addend, n));
  const double offset = addend + std::ldexp(1.0, n - 1) - static_cast<double>(target.correction) * multiplier;
  if (!(std::fabs(addend) < two_to_53) || !is_exact_in_double(target, multiplier, offset, n)) {
    return {};
  }
  return {static_cast<std::int64_t>(multiplier), static_cast<std::int64_t>(offset), n};
}

/// The channel's scale with the most fraction bits up to 32 + shift; refuses, naming the channel, if there is none.
inline odd_scale build_odd_scale(const scale_target& target, int shift, int prescale, index channel) {
  const scale_target scaled = prescaled(target, prescale);
  const std::int64_t accumulators = target.range.high - target.range.low + 1;
  for (int n = 32 + shift; n > 0; --n) {
    odd_scale scale = round_to_odd_scale(scaled, n);
    if (scale.multiplier == 0) {
      continue;
    }
    if (prescale == 0 && accumulators >= (std::int64_t{1} << n)) {
      contract_failed(
          "intact::build_scale: channel %td has %lld accumulators; with the factor %g they must be below %lld", channel,
          static_cast<long long>(accumulators), target.factor, static_cast<long long>(std::int64_t{1} << n));
    }
    if (static_cast<double>(scale.multiplier) * std::ldexp(1.0, 32 + shift - n) >= two_to_31) {
      contract_failed("intact::build_scale: channel %td has the factor %g; its multiplier does not fit 31 bits",
                      channel, target.factor);
    }
    if (avoid_ties(scale, target.range, farthest_move, prescale) &&
        is_exact_in_double(scaled, static_cast<double>(scale.multiplier), static_cast<double>(scale.offset), n)) {
      return scale;
    }
  }
  contract_failed("intact::build_scale: channel %td has the factor %g and the addend %g; no scale is exact in double",
                  channel, target.factor, target.addend);
}

/// Checks a target before any arithmetic is done on it.
inline void require_target(const scale_target& target, index channel) {
  if (!(target.factor > 0) || !(target.factor < largest_factor)) {
    contract_failed("intact::build_scale: channel %td has the factor %g; it must be above 0 and below 2^29", channel,
                    target.factor);
  }
  if (!(std::fabs(target.addend) < two_to_31)) {
    contract_failed("intact::build_scale: channel %td has the addend %g; its magnitude must be below 2^31", channel,
                    target.addend);
  }
  constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
  if (target.range.low < -limit || target.range.high > limit || target.range.low > target.range.high) {
    contract_failed("intact::build_scale: channel %td has accumulators from %lld to %lld; int32 must hold them",
                    channel, static_cast<long long>(target.range.low), static_cast<long long>(target.range.high));
  }
  if (target.correction < target.range.low || target.correction > target.range.high) {
    contract_failed(
        "intact::build_scale: channel %td has the correction %lld; it must be an accumulator from %lld to %lld",
        channel, static_cast<long long>(target.correction), static_cast<long long>(target.range.low),
        static_cast<long long>(target.range.high));
  }
}

/// The smallest p with factor < 2^(p - 1) for all channels; refuses if the accumulators leave no room for it.
inline int choose_prescale(std::span<const scale_target> targets) {
  int prescale = 0;
  double largest = 0;
  for (const scale_target& target : targets) {
    largest = std::max(largest, target.factor);
    while (target.factor >= std::ldexp(1.0, prescale - 1)) {
      ++prescale;
    }
  }
  for (std::size_t n = 0; n < targets.size(); ++n) {
    if (std::ldexp(largest_product(targets[n].range, 1.0), prescale) >= two_to_31) {
      contract_failed(
          "intact::build_scale: channel %zu has accumulators from %lld to %lld; times 2^%d, which the largest "
          "factor, %g, calls for, they must be below 2^31",
          n, static_cast<long long>(targets[n].range.low), static_cast<long long>(targets[n].range.high), prescale,
          largest);
    }
  }
  return prescale;
}

/// The largest shift up to 30 that fits every channel.
inline int choose_shift(std::span<const scale_target> targets, int prescale) {
  int shift = 30;
  for (std::size_t n = 0; n < targets.size(); ++n) {
    while (!shift_fits(prescaled(targets[n], prescale), shift)) {
      if (--shift < 0) {
        contract_failed(
            "intact::build_scale: channel %zu has the factor %g and the addend %g; 64-bit sums do not hold "
            "its products",
            n, targets[n].factor, targets[n].addend);
      }
    }
  }
  return shift;
}

}  // namespace detail

/// Builds dyadic scales, one per target, free of ties.
///
/// Formula:   y = ((a << prescale) * multiplier[n] + offset[n]) >> (32 + shift), with the largest shift up to 30 for
///            which int32 multipliers and 64-bit sums suffice on all channels. Per channel the multiplier is an odd
///            number of n <= 32 + shift fraction bits, the most for which all sums are exact in double, times
///            2^(32 + shift - n); the offset is nudged until no accumulator of the range is a tie.
/// Arrays:    multiplier and offset have the size of targets; exact too, or it is empty.
/// Exactness: the integers compute round(a * exact.factor + exact.offset) for every a of the range, in whatever way
///            halves are rounded, and double precision computes the same.
/// Errors:    sizes that differ; a factor that is not above 0 and finite; a range that int32 does not hold, also after
///            the prescale; a range so long, or a factor so large, that no such scale exists. Each names the channel;
///            nothing has been written then.
/// Returns:   the scale, as a view of the arrays.
/// Source:    docs/numerics.md, section 2.
inline channel_scale build_scale(std::span<const scale_target> targets, std::span<std::int32_t> multiplier,
                                 std::span<std::int64_t> offset, std::span<exact_scale> exact = {}) {
  require_equal("build_scale", "size of multiplier", std::ssize(multiplier), std::ssize(targets));
  require_equal("build_scale", "size of offset", std::ssize(offset), std::ssize(targets));
  if (!exact.empty()) {
    require_equal("build_scale", "size of exact", std::ssize(exact), std::ssize(targets));
  }
  for (std::size_t n = 0; n < targets.size(); ++n) {
    detail::require_target(targets[n], static_cast<index>(n));
  }
  const int prescale = detail::choose_prescale(targets);
  const int shift = detail::choose_shift(targets, prescale);
  const auto build = [&](std::size_t n) {
    return detail::build_odd_scale(targets[n], shift, prescale, static_cast<index>(n));
  };
  for (std::size_t n = 0; n < targets.size(); ++n) {
    build(n);  // refuses before anything is written
  }
  for (std::size_t n = 0; n < targets.size(); ++n) {
    const detail::odd_scale odd = build(n);
    const int zeros = 32 + shift - odd.fraction_bits;
    multiplier[n] = static_cast<std::int32_t>(odd.multiplier * (std::int64_t{1} << zeros));
    offset[n] = odd.offset * (std::int64_t{1} << zeros);
    if (!exact.empty()) {
      exact[n].factor = std::ldexp(static_cast<double>(odd.multiplier), prescale - odd.fraction_bits);
      exact[n].offset = std::ldexp(static_cast<double>(odd.offset), -odd.fraction_bits) - 0.5;
    }
  }
  return {multiplier, offset, shift, prescale};
}

/// The same for a whole tensor.
inline tensor_scale build_scale(const scale_target& target, exact_scale& exact) {
  tensor_scale scale;
  const channel_scale built = build_scale(std::span(&target, 1), std::span(&scale.multiplier, 1),
                                          std::span(&scale.offset, 1), std::span(&exact, 1));
  scale.shift = built.shift;
  scale.prescale = built.prescale;
  return scale;
}

/// The division of attention's rows by their sums: factor = round(ratio * 2^28) for the ratio s_v / s_y.
/// Errors: a ratio that is not in 2^-28..4, a zero point that is no code.
inline row_normalization build_normalization(double ratio, int zero_point) {
  const double factor = std::rint(std::ldexp(ratio, 28));
  if (!(factor >= 1) || !(factor < std::ldexp(1.0, 30))) {
    contract_failed("intact::build_normalization: the ratio of scales is %g; it must be at least 2^-28 and below 4",
                    ratio);
  }
  const row_normalization normalization{static_cast<std::int32_t>(factor), zero_point};
  require_normalization("build_normalization", normalization);
  return normalization;
}

}  // namespace INTACT_UNIT
}  // namespace intact
