#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "intact/arith/scale.hpp"
#include "intact/build/scale_spec.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/types/scale.hpp"

// Builders of dyadic scales from real factors, into memory of the caller's. Standard library only, nothing allocated.
// Next to the integers they give back the real numbers that these integers are exactly, so that an evaluation in
// double precision can be compared with the integers bit by bit.

namespace intact {
inline namespace INTACT_UNIT {

/// The function that a built scale computes: y = a * factor + offset, rounded to nearest. Both numbers are exact in
/// double, every value in between is too, and no a of the range is a tie: any way of rounding to nearest gives the
/// same code.
struct realized_scale {
  double factor = 0;  ///< codes per unit of the accumulator
  double offset = 0;  ///< in codes of the output

  friend bool operator==(const realized_scale&, const realized_scale&) = default;
};

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

/// Whether an accumulator of the range makes (a << left_shift) * m + c a multiple of 2^n. With half of 2^n inside c
/// that is a tie: the number to be rounded lies halfway between two codes. As m is odd, just one residue of a does so,
/// modulo 2^(n - left_shift), and none if c is not a multiple of 2^left_shift.
constexpr bool reaches_tie(const odd_scale& scale, const accumulator_range& range, int left_shift = 0) {
  const int zeros = std::min(left_shift, scale.fraction_bits);
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
/// `limit`. An offset without ties exists if the range is shorter than 2^n or there is a left_shift.
constexpr bool avoid_ties(odd_scale& scale, const accumulator_range& range, int limit = farthest_move,
                          int left_shift = 0) {
  const std::int64_t offset = scale.offset;
  for (int step = 0; step < 2 * limit; ++step) {
    scale.offset = offset + (step % 2 != 0 ? (step + 1) / 2 : -step / 2);
    if (!reaches_tie(scale, range, left_shift)) {
      return true;
    }
  }
  return false;
}

/// Largest magnitude of a * m over the range.
inline double largest_product(const accumulator_range& range, double multiplier) {
  return std::max(std::fabs(static_cast<double>(range.low)), std::fabs(static_cast<double>(range.high))) * multiplier;
}

inline constexpr double two_to_31 = 2147483648.0;
inline constexpr double two_to_53 = 9007199254740992.0;
/// Bound of 64-bit sums: 2^62, less the largest change by making multipliers odd and moving offsets.
inline constexpr double sum_limit = 4611686018427387904.0 - 4398046511104.0;

/// (a << left_shift) in place of a: the same numbers from a smaller factor.
inline scale_spec prescaled(const scale_spec& target, int left_shift) {
  const std::int64_t power = std::int64_t{1} << left_shift;
  return {.factor = std::ldexp(target.factor, -left_shift),
          .addend = target.addend,
          .correction = target.correction * power,
          .range = {target.range.low * power, target.range.high * power}};
}

/// Whether int32 multipliers and 64-bit sums suffice at 32 + shift fraction bits.
inline bool shift_fits(const scale_spec& target, int shift) {
  const double multiplier = std::rint(std::ldexp(target.factor, 32 + shift));
  const double offset = std::rint(std::ldexp(target.addend, 32 + shift)) + std::ldexp(1.0, 31 + shift) -
                        static_cast<double>(target.correction) * multiplier;
  return multiplier < two_to_31 && largest_product(target.range, multiplier) + std::fabs(offset) < sum_limit;
}

/// Whether double precision holds exactly every sum that the scale can make, its target being prescaled.
inline bool is_exact_in_double(const scale_spec& target, double multiplier, double offset, int fraction_bits) {
  return largest_product(target.range, multiplier) + std::fabs(offset) + std::ldexp(1.0, fraction_bits - 1) < two_to_53;
}

/// The scale of n fraction bits for a prescaled target, not yet free of ties; no multiplier if it would not be exact.
inline odd_scale round_to_odd_scale(const scale_spec& target, int n) {
  const double multiplier = std::max(1.0, 2.0 * std::floor(std::ldexp(target.factor, n) / 2.0) + 1.0);
  const double addend = std::rint(std::ldexp(target.addend, n));
  const double offset = addend + std::ldexp(1.0, n - 1) - static_cast<double>(target.correction) * multiplier;
  if (!(std::fabs(addend) < two_to_53) || !is_exact_in_double(target, multiplier, offset, n)) {
    return {};
  }
  return {.multiplier = static_cast<std::int64_t>(multiplier),
          .offset = static_cast<std::int64_t>(offset),
          .fraction_bits = n};
}

/// The scale whose outputs are the addend, whatever the accumulator; free of ties.
inline odd_scale constant_scale(double addend, int n) {
  const std::int64_t offset =
      static_cast<std::int64_t>(std::rint(std::ldexp(addend, n))) + (std::int64_t{1} << (n - 1));
  return {.multiplier = 0, .offset = offset % (std::int64_t{1} << n) == 0 ? offset + 1 : offset, .fraction_bits = n};
}

/// Why a channel has no scale.
enum class scale_problem { none, factor, addend, range, correction, left_shift, sums, accumulators };

/// The channel's scale; if it has none, with how many fraction bits its accumulators are too many.
struct found_scale {
  odd_scale scale;
  scale_problem problem = scale_problem::none;
};

/// Looks for the channel's scale with the most fraction bits up to 32 + shift.
inline found_scale find_odd_scale(const scale_spec& target, int shift, int left_shift) {
  const scale_spec scaled = prescaled(target, left_shift);
  const std::int64_t accumulators = target.range.high - target.range.low + 1;
  int n = 32 + shift;
  for (; n > 0; --n) {
    odd_scale scale = round_to_odd_scale(scaled, n);
    if (scale.multiplier == 0) {
      continue;
    }
    if (target.factor == 0) {
      return {constant_scale(target.addend, n)};
    }
    if (left_shift == 0 && accumulators >= (std::int64_t{1} << n)) {
      break;
    }
    if (!avoid_ties(scale, target.range, farthest_move, left_shift)) {
      if (scale.multiplier == 1) {  // outputs within two codes of each other, halfway between two codes
        return {constant_scale(target.addend, n)};
      }
    } else if (is_exact_in_double(scaled, static_cast<double>(scale.multiplier), static_cast<double>(scale.offset),
                                  n)) {
      return {scale};
    }
  }
  return {{.multiplier = 0, .offset = 0, .fraction_bits = n}, scale_problem::accumulators};
}

/// Looks for a problem of a target before any arithmetic is done on it.
inline scale_problem check_spec(const scale_spec& target) {
  constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
  if (!(target.factor >= 0) || !(std::rint(4 * target.factor) < two_to_31)) {  // a left_shift of 30
    return scale_problem::factor;
  }
  if (!(std::fabs(target.addend) < two_to_31)) {
    return scale_problem::addend;
  }
  if (target.range.low < -limit || target.range.high > limit || target.range.low > target.range.high) {
    return scale_problem::range;
  }
  return target.correction < target.range.low || target.correction > target.range.high ? scale_problem::correction
                                                                                       : scale_problem::none;
}

/// The smallest p for which the multiplier of factor * 2^-p fits 31 bits, on all channels.
inline int choose_prescale(std::span<const scale_spec> specs) {
  int left_shift = 0;
  for (const scale_spec& target : specs) {
    while (std::rint(std::ldexp(target.factor, 32 - left_shift)) >= two_to_31) {
      ++left_shift;
    }
  }
  return left_shift;
}

/// Prescale and shift of all channels of a layer, or the first channel that has no scale and the reason.
struct scale_plan {
  int left_shift = 0;
  int shift = 30;  ///< the largest that fits every channel
  scale_problem problem = scale_problem::none;
  std::size_t channel = 0;
  int fraction_bits = 0;  ///< for which a channel has too many accumulators

  explicit scale_plan(std::span<const scale_spec> specs) {
    if (!find(specs, check_spec)) {
      return;
    }
    left_shift = choose_prescale(specs);
    const auto leaves_room = [&](const scale_spec& target) {
      const bool room = std::ldexp(largest_product(target.range, 1.0), left_shift) < two_to_31;
      return room ? scale_problem::none : scale_problem::left_shift;
    };
    const auto fits_sums = [&](const scale_spec& target) {
      while (shift >= 0 && !shift_fits(prescaled(target, left_shift), shift)) {
        --shift;
      }
      return shift >= 0 ? scale_problem::none : scale_problem::sums;
    };
    const auto has_odd_scale = [&](const scale_spec& target) {
      const found_scale found = find_odd_scale(target, shift, left_shift);
      fraction_bits = found.scale.fraction_bits;
      return found.problem;
    };
    if (find(specs, leaves_room) && find(specs, fits_sums)) {
      find(specs, has_odd_scale);
    }
  }

 private:
  /// Whether no channel has a problem.
  template <class Check>
  bool find(std::span<const scale_spec> specs, Check check) {
    for (channel = 0; channel < specs.size() && problem == scale_problem::none; ++channel) {
      problem = check(specs[channel]);
    }
    channel -= problem == scale_problem::none ? 0 : 1;
    return problem == scale_problem::none;
  }
};

/// Reports a channel that has no scale, with the reason.
[[noreturn]] inline void refuse_scale(const scale_plan& plan, std::span<const scale_spec> specs) {
  constexpr const char* operation = "intact::build_scale: channel";
  const scale_spec& target = specs[plan.channel];
  const std::size_t n = plan.channel;
  const auto low = static_cast<long long>(target.range.low), high = static_cast<long long>(target.range.high);
  switch (plan.problem) {
    case scale_problem::factor:
      contract_failed("%s %zu has the factor %g; it must be at least 0 and below 2^29", operation, n, target.factor);
    case scale_problem::addend:
      contract_failed("%s %zu has the addend %g; its magnitude must be below 2^31", operation, n, target.addend);
    case scale_problem::range:
      contract_failed("%s %zu has accumulators from %lld to %lld; int32 must hold them", operation, n, low, high);
    case scale_problem::correction:
      contract_failed("%s %zu has the correction %lld; it must be an accumulator from %lld to %lld", operation, n,
                      static_cast<long long>(target.correction), low, high);
    case scale_problem::left_shift: {
      const auto larger = [](const scale_spec& a, const scale_spec& b) { return a.factor < b.factor; };
      contract_failed(
          "%s %zu has accumulators from %lld to %lld; times 2^%d, which the largest factor, %g, calls for, they must "
          "be below 2^31",
          operation, n, low, high, plan.left_shift, std::max_element(specs.begin(), specs.end(), larger)->factor);
    }
    case scale_problem::sums:
      contract_failed("%s %zu has the factor %g and the addend %g; 64-bit sums do not hold its products", operation, n,
                      target.factor, target.addend);
    default:
      contract_failed("%s %zu has %lld accumulators; with the factor %g they must be below %lld", operation, n,
                      high - low + 1, target.factor, static_cast<long long>(std::int64_t{1} << plan.fraction_bits));
  }
}

}  // namespace detail

/// Whether build_scale has a scale for the targets.
inline bool has_scale(std::span<const scale_spec> specs) {
  return detail::scale_plan(specs).problem == detail::scale_problem::none;
}

/// Builds dyadic scales, one per target, free of ties.
///
/// Formula:   y = ((a << left_shift) * multiplier[n] + offset[n]) >> (32 + shift), with the largest shift up to 30 for
///            which int32 multipliers and 64-bit sums suffice on all channels. Per channel the multiplier is an odd
///            number of n <= 32 + shift fraction bits, the most for which all sums are exact in double, times
///            2^(32 + shift - n); the offset is nudged until no accumulator of the range is a tie.
/// Arrays:    multiplier and offset have the size of targets; exact too, or it is empty.
/// Exactness: the integers compute round(a * exact.factor + exact.offset) for every a of the range, in whatever way
///            halves are rounded, and double precision computes the same.
///            A factor of 0, as of a channel without weights, gives the multiplier 0; so does one so small that the
///            outputs of all accumulators lie within two codes of each other and no offset avoids their ties.
/// Errors:    sizes that differ; a factor that is negative or not finite; a range that int32 does not hold, also after
///            the left_shift; a range so long, or a factor so large, that no such scale exists. Each names the channel;
///            nothing has been written then. has_scale() tells beforehand.
/// Returns:   the scale, as a view of the arrays.
/// Source:    docs/numerics.md, section 2.
inline channel_scale build_scale(std::span<const scale_spec> specs, std::span<std::int32_t> multiplier,
                                 std::span<std::int64_t> offset, std::span<realized_scale> exact = {}) {
  require_equal("build_scale", "size of multiplier", std::ssize(multiplier), std::ssize(specs));
  require_equal("build_scale", "size of offset", std::ssize(offset), std::ssize(specs));
  if (!exact.empty()) {
    require_equal("build_scale", "size of exact", std::ssize(exact), std::ssize(specs));
  }
  const detail::scale_plan plan(specs);
  if (plan.problem != detail::scale_problem::none) {
    detail::refuse_scale(plan, specs);  // before anything is written
  }
  for (std::size_t n = 0; n < specs.size(); ++n) {
    const detail::odd_scale odd = detail::find_odd_scale(specs[n], plan.shift, plan.left_shift).scale;
    const int zeros = 32 + plan.shift - odd.fraction_bits;
    multiplier[n] = static_cast<std::int32_t>(odd.multiplier * (std::int64_t{1} << zeros));
    offset[n] = odd.offset * (std::int64_t{1} << zeros);
    if (!exact.empty()) {
      exact[n].factor = std::ldexp(static_cast<double>(odd.multiplier), plan.left_shift - odd.fraction_bits);
      exact[n].offset = std::ldexp(static_cast<double>(odd.offset), -odd.fraction_bits) - 0.5;
    }
  }
  return {.multiplier = multiplier, .offset = offset, .shift = plan.shift, .left_shift = plan.left_shift};
}

/// The same for a whole tensor.
inline tensor_scale build_scale(const scale_spec& target, realized_scale& exact) {
  tensor_scale scale;
  const channel_scale built = build_scale(std::span(&target, 1), std::span(&scale.multiplier, 1),
                                          std::span(&scale.offset, 1), std::span(&exact, 1));
  scale.shift = built.shift;
  scale.left_shift = built.left_shift;
  return scale;
}

/// Whether build_row_divisor has a factor for a ratio of scales.
inline bool has_normalization(double ratio) {
  return ratio > 0 && std::rint(std::ldexp(ratio, 28)) < std::ldexp(1.0, 30);
}

/// The division of attention's rows by their sums: factor = max(1, round(ratio * 2^28)) for the ratio s_v / s_y. All
/// outputs are the zero point up to a ratio of 2^-9.
/// Errors: a ratio that is not above 0 and, rounded so, below 4, a zero point that is no code.
inline row_divisor build_row_divisor(double ratio, int zero_point) {
  if (!has_normalization(ratio)) {
    contract_failed("intact::build_row_divisor: the ratio of scales is %g; it must be above 0 and below 4", ratio);
  }
  const double factor = std::max(1.0, std::rint(std::ldexp(ratio, 28)));
  const row_divisor normalization{.factor = static_cast<std::int32_t>(factor), .zero_point = zero_point};
  require_row_divisor("build_row_divisor", normalization);
  return normalization;
}

}  // namespace INTACT_UNIT
}  // namespace intact
