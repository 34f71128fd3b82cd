#include "intact/build/scale.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/log_softmax.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

// The builder of dyadic scales, against 128-bit integers. Properties of every accumulator of a range is proved for the
// range as a whole: Euclid's algorithm finds the accumulators nearest to a tie without trying them all.

namespace intact_test::scale_test {
namespace {

// ------------------------------------------------------------------------------------------------ oracles

constexpr int128 absolute(int128 x) {
  return x < 0 ? -x : x;
}

/// x modulo 2^bits, in 0 .. 2^bits - 1.
constexpr int128 modulo(int128 x, int bits) {
  return x & (power_of_two(bits) - 1);
}

/// A real number in units of 2^-62, which hold every number that a scale is made of.
constexpr int unit_bits = 62;

/// Whether a double is exactly a number given in units.
bool equals(double x, int128 units) {
  const double scaled = std::ldexp(x, unit_bits);
  return scaled == std::floor(scaled) && static_cast<int128>(scaled) == units;
}

int128 in_units(double x) {
  const auto units = static_cast<int128>(std::ldexp(x, unit_bits));
  REQUIRE(equals(x, units));
  return units;
}

/// Compares the integers of a built scale, double precision under several ways of rounding to nearest, and exact
/// rational arithmetic, one accumulator at a time.
class rounding_oracle {
 public:
  rounding_oracle(const tensor_scale& scale, const realized_scale& exact)
      : scale_(scale), exact_(exact), factor_(in_units(exact.factor)), offset_(in_units(exact.offset)) {}

  bool agrees(std::int64_t accumulator) const {
    const int128 value = accumulator * factor_ + offset_;
    const int128 fraction = modulo(value, unit_bits);
    const int128 half = power_of_two(unit_bits - 1);
    const auto code = static_cast<std::int64_t>((value >> unit_bits) + (fraction > half ? 1 : 0));

    const double product = static_cast<double>(accumulator) * exact_.factor;
    const double sum = product + exact_.offset;
    const double above = sum + 0.5;
    const bool all_exact = equals(product, accumulator * factor_) && equals(sum, value) && equals(above, value + half);
    const auto expected = static_cast<double>(code);
    return fraction != half && all_exact && std::rint(sum) == expected && std::round(sum) == expected &&
           std::floor(above) == expected && mul_shift(static_cast<std::int32_t>(accumulator), scale_) == code;
  }

 private:
  tensor_scale scale_;
  realized_scale exact_;
  int128 factor_, offset_;
};

/// The smallest x >= 0 for which (step * x) mod modulus is in low..high, or -1. Euclid's algorithm: as long as no
/// multiple of the step lies there itself, the number of times that the modulus has to be taken off solves the same
/// problem modulo the step. 0 <= low <= high < modulus, 0 <= step < modulus.
int128 first_multiple_within(int128 step, int128 modulus, int128 low, int128 high) {
  if (low == 0) {
    return 0;
  }
  if (step == 0) {
    return -1;
  }
  const int128 x = (low + step - 1) / step;
  if (x * step <= high) {
    return x;
  }
  const int128 turns = first_multiple_within(modulus % step, step, (step - high % step) % step, step - low % step);
  return turns < 0 ? -1 : (low + modulus * turns + step - 1) / step;
}

/// Where the sums (a << left_shift) * multiplier + offset stand between multiples of 2^(32 + shift), which are the
/// ties.
class tie_distances {
 public:
  tie_distances(const tensor_scale& scale, const accumulator_range& range) : range_(range), bits_(32 + scale.shift) {
    const int128 step = int128{scale.multiplier} << scale.left_shift;
    step_ = modulo(step, bits_);
    start_ = modulo(range.low * step + scale.offset, bits_);
  }

  /// Some accumulator of the range whose sum is from..to above a multiple of 2^(32 + shift), or high + 1.
  std::int64_t find(int128 from, int128 to) const {
    const int128 low = modulo(from - start_, bits_), high = modulo(to - start_, bits_);
    const int128 x = low > high ? 0 : first_multiple_within(step_, power_of_two(bits_), low, high);
    return x < 0 || x > range_.high - range_.low ? range_.high + 1 : range_.low + static_cast<std::int64_t>(x);
  }

  bool any_tie() const { return find(0, 0) <= range_.high; }

  /// The accumulators nearest to a tie, from above and from below, in this order.
  std::array<std::int64_t, 2> nearest() const {
    int128 above = smallest([&](int128 distance) { return find(0, distance) <= range_.high; });
    int128 below = smallest([&](int128 distance) { return find(-distance, 0) <= range_.high; });
    return {find(0, above), find(-below, 0)};
  }

 private:
  /// The smallest distance for which a monotone predicate holds; it does for 2^bits - 1.
  template <class Predicate>
  int128 smallest(Predicate holds) const {
    int128 low = -1, high = power_of_two(bits_) - 1;
    while (high - low > 1) {
      const int128 middle = (low + high) / 2;
      (holds(middle) ? high : low) = middle;
    }
    return high;
  }

  accumulator_range range_;
  int bits_;
  int128 step_ = 0, start_ = 0;
};

// ------------------------------------------------------------------------------------------------ layers

owned_channel_scale built_scale(const std::vector<scale_spec>& specs) {
  return owned_channel_scale(specs);
}

/// The message with which build_scale refuses a layer, having written nothing; empty if it builds it.
std::string refusal_of(const std::vector<scale_spec>& specs) {
  std::vector<std::int32_t> multiplier(specs.size(), -7);
  std::vector<std::int64_t> offset(specs.size(), -8);
  std::vector<realized_scale> exact(specs.size(), realized_scale{-9, -10});
  std::string message = refusal([&] { build_scale(specs, multiplier, offset, exact); });
  if (!message.empty()) {
    CHECK(std::all_of(multiplier.begin(), multiplier.end(), [](std::int32_t m) { return m == -7; }));
    CHECK(std::all_of(offset.begin(), offset.end(), [](std::int64_t c) { return c == -8; }));
    CHECK(std::all_of(exact.begin(), exact.end(),
                      [](const realized_scale& e) { return e.factor == -9 && e.offset == -10; }));
  }
  CHECK(has_scale(specs) == message.empty());
  return message;
}

enum class weight_kind { random, small, extreme, positive, negative, zero };

std::vector<std::int8_t> make_weights(generator& random, std::size_t count, weight_kind kind) {
  std::vector<std::int8_t> weights(count);
  for (std::int8_t& w : weights) {
    const auto value = static_cast<int>(random.between(-128, 127));
    switch (kind) {
      case weight_kind::random:
        w = static_cast<std::int8_t>(value);
        break;
      case weight_kind::small:
        w = static_cast<std::int8_t>(value / 40);
        break;
      case weight_kind::extreme:
        w = value < 0 ? -128 : 127;
        break;
      case weight_kind::positive:
        w = 127;
        break;
      case weight_kind::negative:
        w = -128;
        break;
      case weight_kind::zero:
        w = 0;
        break;
    }
  }
  return weights;
}

double uniform(generator& random, double low, double high) {
  return low + (high - low) * std::ldexp(static_cast<double>(random.between(0, (std::int64_t{1} << 53) - 1)), -53);
}

template <class T, std::size_t N>
T one_of(generator& random, const std::array<T, N>& values) {
  return values[static_cast<std::size_t>(random.between(0, N - 1))];
}

double largest_magnitude(const accumulator_range& range) {
  return static_cast<double>(std::max(-range.low, range.high));
}

scale_spec u8_target(const std::vector<std::int8_t>& weights, double factor, double addend, int zero_point) {
  return linear_spec<std::uint8_t>({.weights = weights, .factor = factor, .addend = addend, .zero_point = zero_point});
}

/// A layer such as models have, and worse ones: one to four channels of up to `widest` weights, factors over nine
/// decades and up to 2^14 apart. Factors are kept small enough for the accumulators.
std::vector<scale_spec> random_layer(generator& random, double largest_factor, std::size_t widest) {
  constexpr std::array<std::size_t, 12> widths{1, 2, 3, 16, 48, 64, 100, 192, 384, 768, 1536, 3072};
  constexpr std::array<int, 3> zero_points{0, 128, 255};
  constexpr std::array<double, 4> addends{0, 1, 300, 5000};
  const std::size_t width = std::min(widest, one_of(random, widths));
  const int zero_point = one_of(random, zero_points);
  const double factor = std::pow(10.0, uniform(random, -9, std::log10(largest_factor)));
  const double room = std::ldexp(1.0, 48) / std::max(1.0, 4 * factor);  // for factor * largest accumulator^2
  std::vector<scale_spec> specs;
  for (std::int64_t n = random.between(1, 4); n > 0; --n) {
    const auto kind = static_cast<weight_kind>(random.between(0, 5));
    const double bias = uniform(random, -1, 1);  // one draw per statement: operands have no order
    const double widest_bias = one_of(random, addends);
    const double addend = bias * widest_bias + one_of(random, zero_points);
    const double below_largest = random.between(0, 1) == 0 ? 0 : uniform(random, 0, 14);
    scale_spec target =
        u8_target(make_weights(random, width, kind), factor * std::exp2(-below_largest), addend, zero_point);
    const double largest = std::max(1.0, largest_magnitude(target.range));
    target.factor = std::min(target.factor, room / largest / largest);
    specs.push_back(target);
  }
  return specs;
}

// ------------------------------------------------------------------------------------------------ the definition

/// The same channel for accumulators times 2^left_shift.
scale_spec with_prescale(const scale_spec& target, int left_shift) {
  const std::int64_t power = std::int64_t{1} << left_shift;
  return {target.factor / static_cast<double>(power),
          target.addend,
          power * target.correction,
          {power * target.range.low, power * target.range.high}};
}

/// A channel of docs/numerics.md, section 2, at n fraction bits, in exact arithmetic and before the nudge. The target
/// has its left_shift applied.
struct defined_channel {
  int128 largest = 0;  ///< magnitude of an accumulator
  int128 multiplier = 0;
  int128 offset = 0;
  int fraction_bits = 0;

  defined_channel(const scale_spec& target, int n)
      : largest(std::max(absolute(target.range.low), absolute(target.range.high))), fraction_bits(n) {
    const long double exact_multiplier = std::ldexp(static_cast<long double>(target.factor), n);
    multiplier = 2 * static_cast<int128>(exact_multiplier / 2) + 1;
    offset = static_cast<int128>(std::rint(std::ldexp(static_cast<long double>(target.addend), n))) +
             power_of_two(n - 1) - target.correction * multiplier;
  }

  bool exact_in_double(int128 nudge = 0) const {
    return largest * multiplier + absolute(offset + nudge) + power_of_two(fraction_bits - 1) < power_of_two(53);
  }
};

/// The most fraction bits, up to 62, for which double precision holds all sums of a target; 0 if there are none.
int most_fraction_bits(const scale_spec& target) {
  int n = 62;
  while (n > 0 && !defined_channel(target, n).exact_in_double()) {
    --n;
  }
  return n;
}

/// Whether int32 multipliers and 64-bit sums suffice for a prescaled target at a shift, with room to spare.
bool fits_shift(const scale_spec& target, int shift, int128 room = 0) {
  const auto multiplier =
      static_cast<int128>(std::rint(std::ldexp(static_cast<long double>(target.factor), 32 + shift)));
  const auto addend = static_cast<int128>(std::rint(std::ldexp(static_cast<long double>(target.addend), 32 + shift)));
  const int128 offset = addend + power_of_two(31 + shift) - target.correction * multiplier;
  const int128 largest = std::max(absolute(target.range.low), absolute(target.range.high));
  return multiplier < power_of_two(31) && largest * multiplier + absolute(offset) < power_of_two(62) - room;
}

/// A built channel in its odd form: y = ((a << left_shift) * multiplier + offset) >> fraction_bits.
struct odd_form {
  std::int64_t multiplier = 0;
  std::int64_t offset = 0;
  int fraction_bits = 0;
  std::int64_t nudge = 0;  ///< of the offset, in units of 2^-fraction_bits

  odd_form(const scale_spec& requested, const tensor_scale& scale) {
    const int zeros = std::countr_zero(static_cast<std::uint32_t>(scale.multiplier));
    REQUIRE(zeros < 31);
    multiplier = scale.multiplier >> zeros;
    offset = scale.offset >> zeros;
    REQUIRE(offset << zeros == scale.offset);
    fraction_bits = 32 + scale.shift - zeros;
    const defined_channel defined(with_prescale(requested, scale.left_shift), fraction_bits);
    nudge = static_cast<std::int64_t>(offset - defined.offset);
  }

  double nudge_in_codes() const { return std::ldexp(static_cast<double>(nudge), -fraction_bits); }

  /// The place of a nudge in the order 0, 1, -1, 2, ...
  std::int64_t steps() const { return nudge > 0 ? 2 * nudge - 1 : -2 * nudge; }
};

/// Checks the integers and the exact numbers of one built channel against the definition; returns its odd form.
odd_form check_channel(const scale_spec& requested, const tensor_scale& scale, const realized_scale& exact) {
  const scale_spec target = with_prescale(requested, scale.left_shift);
  REQUIRE(scale.multiplier > 0);
  const odd_form odd(requested, scale);
  const int n = odd.fraction_bits;
  const defined_channel defined(target, n);
  const bool nearest_odd = odd.multiplier == defined.multiplier;
  const bool exact_at_n = defined.exact_in_double(odd.nudge);
  const bool exact_above_n = n < 32 + scale.shift && defined_channel(target, n + 1).exact_in_double();
  CHECK(nearest_odd);
  CHECK(exact_at_n);
  CHECK_FALSE(exact_above_n);
  CHECK(equals(exact.factor, int128{odd.multiplier} << (unit_bits - n + scale.left_shift)));
  CHECK(equals(exact.offset, (odd.offset - power_of_two(n - 1)) * power_of_two(unit_bits - n)));
  CHECK(std::fabs(exact.factor - requested.factor) <= std::ldexp(1.0, scale.left_shift - n));
  const double ideal_offset = requested.addend - static_cast<double>(requested.correction) * exact.factor;
  const double rounding = std::ldexp(std::fabs(ideal_offset) + std::fabs(requested.addend), -51);
  CHECK(std::fabs(exact.offset - ideal_offset) <=
        std::ldexp(0.5 + static_cast<double>(std::abs(odd.nudge)), -n) + rounding);
  CHECK(std::abs(odd.nudge) <= 1 << 16);

  const bool fits_62_bits = defined.largest * scale.multiplier + absolute(scale.offset) < power_of_two(62);
  CHECK(fits_62_bits);

  // the nudge is the first of 0, 1, -1, 2, ... without a tie
  for (std::int64_t step = 0; step <= std::min<std::int64_t>(odd.steps(), 100); ++step) {
    const std::int64_t move = step % 2 != 0 ? (step + 1) / 2 : -step / 2;
    const std::int64_t moved = scale.offset + (move - odd.nudge) * (std::int64_t{1} << (32 + scale.shift - n));
    const tie_distances distances({scale.multiplier, moved, scale.shift, scale.left_shift}, requested.range);
    CHECK(distances.any_tie() == (step != odd.steps()));
  }
  return odd;
}

/// Checks that a layer computes what it says: at the ends of every channel's range, where sums are nearest to a tie,
/// near zero, and at random.
void check_results(const std::vector<scale_spec>& specs, const owned_channel_scale& layer, generator& random) {
  for (std::size_t n = 0; n < specs.size(); ++n) {
    const tensor_scale scale = layer.view().channel(static_cast<index_t>(n));
    const auto [low, high] = specs[n].range;
    const tie_distances distances(scale, specs[n].range);
    const auto [above, below] = distances.nearest();
    CHECK_FALSE(distances.any_tie());
    std::vector<std::int64_t> accumulators{low, high, 0, 1, -1, above, below, specs[n].correction};
    for (int i = 0; i < 24; ++i) {
      accumulators.push_back(random.between(low, high));
    }
    const rounding_oracle oracle(scale, layer.exact[n]);
    for (const std::int64_t a : accumulators) {
      if (a >= low && a <= high && !oracle.agrees(a)) {
        CAPTURE(n, a, scale.multiplier, scale.offset, scale.shift, scale.left_shift);
        FAIL_CHECK("the integers, double precision and exact arithmetic differ");
      }
    }
  }
}

/// Checks that left_shift and shift are the ones that the definition asks for. The builder may keep some of 2^62 free
/// for odd multipliers and nudges.
void check_layer(const std::vector<scale_spec>& specs, const channel_scale& scale) {
  const int128 builders_room = power_of_two(43);
  double largest_factor = 0;
  bool fits = true, fits_one_more = true;
  for (const scale_spec& target : specs) {
    largest_factor = std::max(largest_factor, target.factor);
    fits = fits && fits_shift(with_prescale(target, scale.left_shift), scale.shift);
    fits_one_more =
        fits_one_more && fits_shift(with_prescale(target, scale.left_shift), scale.shift + 1, builders_room);
  }
  CHECK(largest_factor < std::ldexp(1.0, scale.left_shift - 1));
  CHECK((scale.left_shift == 0 || largest_factor >= std::ldexp(1.0, scale.left_shift - 2)));
  CHECK(fits);
  CHECK((scale.shift == 30 || !fits_one_more));
}

// ------------------------------------------------------------------------------------------------ freedom from ties

TEST_CASE("inverse_of_odd: the product with the number is 1 modulo 2^64", "[scale]") {
  int wrong = 0;
  for (std::uint64_t m = 1; m < (1U << 16); m += 2) {
    wrong += m * detail::inverse_of_odd(m) == 1 ? 0 : 1;
  }
  generator random(1);
  constexpr auto most_negative = std::numeric_limits<std::int64_t>::min();
  constexpr auto most_positive = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < 100'000; ++i) {
    const auto m = static_cast<std::uint64_t>(random.between(most_negative, most_positive)) | 1;
    wrong += m * detail::inverse_of_odd(m) == 1 ? 0 : 1;
  }
  CHECK(wrong == 0);
  CHECK(detail::inverse_of_odd(1) == 1);
  CHECK(detail::inverse_of_odd(std::numeric_limits<std::uint64_t>::max()) == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("reaches_tie: equals a search [small scales]", "[scale]") {
  int wrong = 0;
  for (int n = 1; n <= 5; ++n) {
    for (std::int64_t m = 1; m < (1 << n); m += 2) {
      for (std::int64_t c = -(1 << n); c <= (1 << n); ++c) {
        for (std::int64_t low = -(1 << n); low <= (1 << n); low += 3) {
          bool tie = false;
          for (std::int64_t high = low; high < low + (2 << n); ++high) {
            tie = tie || (high * m + c) % (1 << n) == 0;
            wrong += detail::reaches_tie({m, c, n}, {low, high}) == tie ? 0 : 1;
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

/// Tries one scale of n bits on short ranges, and counts where reaches_tie and avoid_ties differ from a search.
int wrong_with_prescale(const detail::odd_scale& scale, int left_shift) {
  const std::int64_t modulus = std::int64_t{1} << scale.fraction_bits;
  int wrong = 0;
  for (const std::int64_t low : {-7, -1, 0, 3}) {
    for (std::int64_t high = low; high < low + std::min<std::int64_t>(12, modulus - 1); ++high) {
      const auto has_tie = [&](std::int64_t offset) {
        bool tie = false;
        for (std::int64_t a = low; a <= high; ++a) {
          tie = tie || (a * (std::int64_t{1} << left_shift) * scale.multiplier + offset) % modulus == 0;
        }
        return tie;
      };
      wrong += detail::reaches_tie(scale, {low, high}, left_shift) == has_tie(scale.offset) ? 0 : 1;
      detail::odd_scale moved = scale;
      const bool found = detail::avoid_ties(moved, {low, high}, static_cast<int>(modulus), left_shift);
      wrong += found && !has_tie(moved.offset) ? 0 : 1;
    }
  }
  return wrong;
}

TEST_CASE("reaches_tie, avoid_ties: equal a search [small scales, every left_shift]", "[scale]") {
  for (int n = 1; n <= 5; ++n) {
    for (int left_shift = 0; left_shift <= n + 2; ++left_shift) {
      int wrong = 0;
      for (std::int64_t m = 1; m < (1 << n); m += 2) {
        for (std::int64_t c = -(2 << n); c <= (2 << n); ++c) {
          wrong += wrong_with_prescale({m, c, n}, left_shift);
        }
      }
      CAPTURE(n, left_shift);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("reaches_tie: finds the only tie [long scales]", "[scale]") {
  generator random(2);
  int wrong = 0;
  for (int i = 0; i < 20'000; ++i) {
    const int n = static_cast<int>(random.between(20, 62));
    const auto m = random.between(0, (std::int64_t{1} << 31) - 1) | 1;
    const std::int64_t tie = random.between(-(std::int64_t{1} << 31), std::int64_t{1} << 31);
    const auto c = static_cast<std::int64_t>(-(int128{tie} * m) % power_of_two(n));
    wrong += detail::reaches_tie({m, c, n}, {tie, tie}) ? 0 : 1;
    wrong += detail::reaches_tie({m, c, n}, {tie - 1000, tie + 7}) ? 0 : 1;
    wrong += detail::reaches_tie({m, c, n}, {tie + 1, tie + 1000}) ? 1 : 0;
    wrong += detail::reaches_tie({m, c, n}, {tie - 1000, tie - 1}) ? 1 : 0;
  }
  CHECK(wrong == 0);
}

/// Moves every offset of a scale of n bits off the ties of every range shorter than 2^n, at several places, and counts
/// the results that are not the first of 0, 1, -1, 2, ... without a tie.
int wrong_moves(int n, int m) {
  const int modulus = 1 << n;
  // tie_at[c]: the one accumulator modulo 2^n for which a * m + c is a multiple of 2^n, by trying all
  std::vector<int> tie_at(static_cast<std::size_t>(modulus), -1);
  for (int a = 0; a < modulus; ++a) {
    tie_at[static_cast<std::size_t>((modulus - a * m % modulus) % modulus)] = a;
  }
  REQUIRE(std::find(tie_at.begin(), tie_at.end(), -1) == tie_at.end());

  int wrong = 0;
  const auto try_range = [&](int c, int low, int length) {
    const auto has_tie = [&](int offset) {
      const int tie = tie_at[static_cast<std::size_t>(offset & (modulus - 1))];
      return ((tie - low) & (modulus - 1)) < length;
    };
    int distance = 0;
    while (has_tie(c + distance) && has_tie(c - distance)) {
      ++distance;
    }
    detail::odd_scale scale{m, c, n};
    const bool found = detail::avoid_ties(scale, {low, low + length - 1});
    wrong += found && scale.offset == (has_tie(c + distance) ? c - distance : c + distance) ? 0 : 1;
  };
  for (int c = 0; c < modulus; ++c) {
    for (int length = 1; length < modulus; ++length) {
      try_range(c, -length / 2, length);
      if (n < 8) {
        try_range(c, 1 - length, length);
        try_range(c, 0, length);
        try_range(c, 1000, length);
      }
    }
  }
  return wrong;
}

TEST_CASE("avoid_ties: moves a scale to the nearest offset without a tie [small scales]", "[scale]") {
  for (int n = 1; n <= 8; ++n) {
    for (int m = 1; m < (1 << n); m += 2) {
      CAPTURE(n, m);
      CHECK(wrong_moves(n, m) == 0);
    }
  }
}

TEST_CASE("avoid_ties: stops at its limit", "[scale]") {
  detail::odd_scale scale{1, 0, 20};
  const accumulator_range range{-10, 10};
  CHECK_FALSE(detail::avoid_ties(scale, range, 10));
  scale.offset = 0;
  CHECK(detail::avoid_ties(scale, range, 11));
  CHECK(scale.offset == 11);
}

// ------------------------------------------------------------------------------------------------ built layers

TEST_CASE("build_scale: built layers are exact and free of ties [random layers]", "[scale]") {
  generator random(3);
  int prescaled = 0, nudged = 0, widest_spread = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::vector<scale_spec> specs =
        i % 8 == 0 ? random_layer(random, 300, 48) : random_layer(random, 0.499, 3072);
    CAPTURE(i);
    const owned_channel_scale layer = built_scale(specs);
    check_layer(specs, layer.view());
    for (std::size_t n = 0; n < specs.size(); ++n) {
      CAPTURE(n, specs[n].factor, specs[n].addend, specs[n].range.low, specs[n].range.high);
      const odd_form odd = check_channel(specs[n], layer.view().channel(static_cast<index_t>(n)), layer.exact[n]);
      nudged += odd.nudge != 0 ? 1 : 0;
      widest_spread += specs[0].factor >= std::ldexp(specs[n].factor, 13) ? 1 : 0;
    }
    check_results(specs, layer, random);
    prescaled += layer.left_shift > 0 ? 1 : 0;
  }
  // the generator reaches what it is made for
  CHECK(prescaled > 100);
  CHECK(nudged > 10);
  CHECK(widest_spread > 100);
}

TEST_CASE("build_scale: keeps 27 bits of the factors [ordinary layers]", "[scale]") {
  generator random(4);
  int fewest_bits = 64;
  double largest_error = 0, largest_error_up_to_1536 = 0, largest_nudge = 0;
  for (const std::size_t width : std::array<std::size_t, 6>{64, 192, 384, 768, 1536, 3072}) {
    for (int i = 0; i < 100; ++i) {
      std::vector<scale_spec> specs;
      for (int n = 0; n < 6; ++n) {
        const double addend = uniform(random, -300, 300);
        specs.push_back(u8_target(make_weights(random, width, weight_kind::random), 1, addend, 128));
      }
      const double lowest = 512 / largest_magnitude(specs[0].range);  // the products reach 512 codes
      const double factor = std::exp(uniform(random, std::log(lowest), std::log(0.49)));
      for (scale_spec& target : specs) {
        target.factor = factor * uniform(random, 0.25, 1);
      }
      const owned_channel_scale layer = built_scale(specs);
      for (std::size_t n = 0; n < specs.size(); ++n) {
        const odd_form odd = check_channel(specs[n], layer.view().channel(static_cast<index_t>(n)), layer.exact[n]);
        const double error = std::fabs(layer.exact[n].factor / specs[n].factor - 1);
        fewest_bits = std::min(fewest_bits, bit_length(static_cast<std::uint64_t>(odd.multiplier)));
        largest_error = std::max(largest_error, error);
        largest_error_up_to_1536 = std::max(largest_error_up_to_1536, width <= 1536 ? error : 0);
        largest_nudge = std::max(largest_nudge, std::fabs(odd.nudge_in_codes()));
      }
    }
  }
  std::cout << "ordinary layers: at least " << fewest_bits << " bits, relative error of a factor at most "
            << largest_error_up_to_1536 << " (K <= 1536) and " << largest_error << " (K = 3072), nudge at most "
            << largest_nudge << " codes" << std::endl;
  CHECK(fewest_bits >= 27);
  CHECK(largest_error_up_to_1536 <= std::ldexp(1.0, -27));
  CHECK(largest_error <= std::ldexp(1.0, -26));
  CHECK(largest_nudge < 4e-8);
}

TEST_CASE("build_scale: builds crowded ranges without ties, or refuses those of too many accumulators", "[scale]") {
  generator random(5);
  int built = 0, refused = 0;
  std::int64_t most_steps = 0;
  for (int i = 0; i < 4000; ++i) {
    const double factor = std::exp2(uniform(random, -10, -1.05));
    const auto half = static_cast<std::int64_t>(std::ldexp(uniform(random, 0.2, 0.8), 26) / std::sqrt(factor));
    const auto middle = static_cast<std::int64_t>(uniform(random, -0.3, 0.3) * static_cast<double>(half));
    const scale_spec target{factor, uniform(random, -100, 400), middle + half / 3, {middle - half, middle + half}};
    CAPTURE(i, target.factor, target.addend, target.range.low, target.range.high);
    if (refusal_of({target}).empty()) {
      const owned_channel_scale layer = built_scale({target});
      most_steps = std::max(most_steps, check_channel(target, layer.view().channel(0), layer.exact[0]).steps());
      check_results({target}, layer, random);
      ++built;
    } else {
      CHECK(target.range.high - target.range.low + 1 >= std::int64_t{1} << most_fraction_bits(target));
      ++refused;
    }
  }
  CHECK(built > 1000);
  CHECK(refused > 100);
  CHECK(most_steps > 100);
}

TEST_CASE("build_scale: an offset is not moved beyond the range of double precision", "[scale]") {
  // With 27 fraction bits the largest sum is 2^53 - 1, and the accumulator R - 3 is a tie, as 3 * m = 2^26 - 1. Moving
  // the offset by 1 would make the largest sum 2^53.
  constexpr int n = 27;
  constexpr std::int64_t m = ((1 << (n - 1)) - 1) / 3, half = 1 << (n - 1), largest = 1 << 24;
  constexpr std::int64_t offset = (std::int64_t{1} << 53) - 1 - half - largest * m;
  static_assert(3 * m == half - 1 && ((largest - 3) * m + offset) % (1 << n) == 0);
  const scale_spec target{std::ldexp(static_cast<double>(m), -n),
                          std::ldexp(static_cast<double>(offset - half), -n),
                          0,
                          {-largest, largest}};
  REQUIRE(defined_channel(target, n).exact_in_double());
  REQUIRE(defined_channel(target, n).offset == offset);

  const owned_channel_scale layer = built_scale({target});
  const odd_form odd(target, layer.view().channel(0));
  CHECK(odd.fraction_bits == n - 1);
  CHECK(defined_channel(target, n - 1).exact_in_double(odd.nudge));
  generator random(15);
  check_results({target}, layer, random);
}

TEST_CASE("build_scale: every result is exact [short ranges]", "[scale]") {
  for (const double factor : {1e-7, 0.003, 0.0625, 0.49, 0.5, 0.7, 1.0, 1.96, 7.5, 300.0}) {
    for (const double addend : {-0.5, 0.0, 0.5, 127.5, 128.0, 254.75}) {
      const scale_spec target{factor, addend, -321, {-3000, 3000}};
      realized_scale exact;
      const tensor_scale scale = build_scale(target, exact);
      const rounding_oracle oracle(scale, exact);
      int wrong = 0;
      for (std::int64_t a = target.range.low; a <= target.range.high; ++a) {
        wrong += oracle.agrees(a) ? 0 : 1;
      }
      CAPTURE(factor, addend);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("build_scale: builds a layer of no channels", "[scale]") {
  const owned_channel_scale layer = built_scale({});
  CHECK(layer.multiplier.empty());
  CHECK(layer.left_shift == 0);
}

TEST_CASE("build_scale: channels of zeros compute their addend", "[scale]") {
  generator random(6);
  const std::vector<std::int8_t> zeros(3072, 0);
  std::vector<scale_spec> specs{u8_target(make_weights(random, 3072, weight_kind::random), 0.01, 100, 128)};
  for (const double addend : {0.0, 0.5, -0.5, 127.49, 127.5, 128.0, -3.0, 254.500001}) {
    specs.push_back(u8_target(zeros, 1e-7, addend, 255));
  }
  const owned_channel_scale layer = built_scale(specs);
  check_results(specs, layer, random);
  for (std::size_t n = 1; n < specs.size(); ++n) {
    CHECK(specs[n].range.low == 0);
    CHECK(specs[n].range.high == 0);
    const odd_form odd = check_channel(specs[n], layer.view().channel(static_cast<index_t>(n)), layer.exact[n]);
    CHECK(std::fabs(layer.exact[n].offset - specs[n].addend) <= std::ldexp(1.5, -odd.fraction_bits));
  }
}

// ------------------------------------------------------------------------------------------------ named cases

TEST_CASE("build_scale: builds 3,072 full-range weights at a factor of 0.49", "[scale]") {
  generator random(7);
  std::vector<scale_spec> specs;
  for (int n = 0; n < 40; ++n) {
    const double addend = uniform(random, -100, 300);
    specs.push_back(u8_target(make_weights(random, 3072, weight_kind::random), 0.49, addend,
                              n % 3 == 0   ? 0
                              : n % 3 == 1 ? 128
                                           : 255));
  }
  const auto check = [&](const std::vector<scale_spec>& layer_specs) {
    const owned_channel_scale layer = built_scale(layer_specs);
    check_layer(layer_specs, layer.view());
    check_results(layer_specs, layer, random);
    for (std::size_t n = 0; n < layer_specs.size(); ++n) {
      const odd_form odd = check_channel(layer_specs[n], layer.view().channel(static_cast<index_t>(n)), layer.exact[n]);
      CHECK(bit_length(static_cast<std::uint64_t>(odd.multiplier)) >= 27);
      CHECK(std::fabs(odd.nudge_in_codes()) < 4e-8);
    }
  };
  check(specs);
  for (const scale_spec& target : specs) {
    check({target});
  }
}

TEST_CASE("build_scale: refuses 65,793 full-range weights at a factor of 0.1", "[scale]") {
  generator random(8);
  for (int i = 0; i < 5; ++i) {
    const scale_spec wide = u8_target(make_weights(random, 65793, weight_kind::random), 0.1, 128, 128);
    const scale_spec narrow = u8_target(make_weights(random, 64, weight_kind::random), 0.1, 128, 128);
    const std::string message = refusal_of({narrow, wide});
    CAPTURE(message);
    CHECK(mentions(message, "channel 1"));
    CHECK(mentions(message, std::to_string(wide.range.high - wide.range.low + 1) + " accumulators"));
    CHECK(mentions(message, "0.1"));
  }
}

TEST_CASE("build_scale: factors of one half and above take a left_shift", "[scale]") {
  generator random(9);
  struct {
    double factor;
    int left_shift;
  } const cases[] = {{0.4999999, 0}, {0.5, 1}, {0.7, 1}, {1, 2}, {1.96, 2}, {300, 10}};
  for (const auto& [factor, left_shift] : cases) {
    for (const std::size_t width : std::array<std::size_t, 3>{1, 2, 3}) {
      const std::vector<scale_spec> specs{
          u8_target(make_weights(random, width, weight_kind::random), factor, 3.25, 128),
          u8_target(make_weights(random, width, weight_kind::random), factor / 1000, 128, 128)};
      const owned_channel_scale layer = built_scale(specs);
      CAPTURE(factor, width);
      CHECK(layer.left_shift == left_shift);
      check_layer(specs, layer.view());
      check_results(specs, layer, random);
      for (std::size_t n = 0; n < specs.size(); ++n) {
        check_channel(specs[n], layer.view().channel(static_cast<index_t>(n)), layer.exact[n]);
      }
    }
  }
}

TEST_CASE("build_scale: factors far above one half are free of ties", "[scale]") {
  // addends that lie between two codes, and leave fewer fraction bits than the left_shift has
  generator random(16);
  for (int exponent = 8; exponent < 29; ++exponent) {
    for (const double addend : {0.5, 100.5, 1'000'000.5, 1'000'000'000.5, -1'000'000'000.5}) {
      const double factor = std::ldexp(uniform(random, 1, 2), exponent);
      const std::int64_t high = std::max(1, (1 << (29 - exponent)) - 1);
      const scale_spec target{factor, addend, 0, {0, high}};
      CAPTURE(factor, addend, high);
      if (refusal_of({target}).empty()) {
        const owned_channel_scale layer = built_scale({target});
        check_channel(target, layer.view().channel(0), layer.exact[0]);
        check_results({target}, layer, random);
      }
    }
  }
}

TEST_CASE("build_scale: refuses a left_shift for which int32 leaves no room", "[scale]") {
  struct {
    double factor;
    std::int64_t high;
    const char* power;
  } const cases[] = {{0.5, std::int64_t{1} << 30, "2^1"},
                     {1, std::int64_t{1} << 29, "2^2"},
                     {1.96, std::int64_t{1} << 29, "2^2"},
                     {300, std::int64_t{1} << 21, "2^10"}};
  for (const auto& [factor, high, power] : cases) {
    const std::string message = refusal_of({{0.01, 0, 0, {0, 0}}, {factor, 0, 0, {-high, 0}}});
    CAPTURE(message);
    CHECK(mentions(message, "channel 1"));
    CHECK(mentions(message, std::to_string(-high)));
    CHECK(mentions(message, std::string("times ") + power));
  }
  CHECK(refusal_of({{300, 0, 0, {0, (1 << 21) - 1}}}).empty());  // just room
}

// ------------------------------------------------------------------------------------------------ targets of tensors

/// Compares a target with all combinations of the lowest and the highest code.
template <class Activation>
void check_linear_spec(const std::vector<std::int8_t>& weights, int zero_point) {
  const scale_spec target =
      linear_spec<Activation>({.weights = weights, .factor = 0.25, .addend = 3.5, .zero_point = zero_point});
  std::int64_t low = std::numeric_limits<std::int64_t>::max(), high = -low, correction = 0;
  for (std::uint32_t corner = 0; corner < (1U << weights.size()); ++corner) {
    std::int64_t sum = 0;
    for (std::size_t k = 0; k < weights.size(); ++k) {
      const bool is_high = ((corner >> k) & 1) != 0;
      sum += (is_high ? std::numeric_limits<Activation>::max() : std::numeric_limits<Activation>::min()) * weights[k];
    }
    low = std::min(low, sum);
    high = std::max(high, sum);
  }
  for (const std::int8_t w : weights) {
    correction += zero_point * w;
  }
  CHECK(target.range.low == low);
  CHECK(target.range.high == high);
  CHECK(target.correction == correction);
  CHECK(target.factor == 0.25);
  CHECK(target.addend == 3.5);
  CHECK(refusal_of({target}).empty());
}

TEST_CASE("linear_spec: gives the range that the weights reach", "[scale]") {
  generator random(10);
  for (std::size_t width = 0; width <= 12; ++width) {
    for (const weight_kind kind :
         {weight_kind::random, weight_kind::extreme, weight_kind::positive, weight_kind::negative, weight_kind::zero}) {
      const std::vector<std::int8_t> weights = make_weights(random, width, kind);
      for (const int zero_point : {0, 255, static_cast<int>(random.between(1, 254))}) {
        check_linear_spec<std::uint8_t>(weights, zero_point);
      }
      for (const int zero_point : {-128, 127, static_cast<int>(random.between(-127, 126))}) {
        check_linear_spec<std::int8_t>(weights, zero_point);
      }
    }
  }
}

TEST_CASE("linear_spec: refuses a zero point that is no code of the inputs [any sum of weights]", "[scale]") {
  const std::vector<std::int8_t> none, cancelling{100, -100, 28, -28}, others{1, 2};
  for (const std::vector<std::int8_t>& weights : {none, cancelling, others}) {
    const auto of_u8 = [&](int zero_point) {
      return refusal([&] { linear_spec<std::uint8_t>({.weights = weights, .factor = 1, .zero_point = zero_point}); });
    };
    const auto of_s8 = [&](int zero_point) {
      return refusal([&] { linear_spec<std::int8_t>({.weights = weights, .factor = 1, .zero_point = zero_point}); });
    };
    CHECK(of_u8(300) == "intact::linear_spec: zero_point is 300; it must be at most 255");
    CHECK(of_u8(-9999) == "intact::linear_spec: zero_point is -9999; it must be at least 0");
    CHECK(of_u8(-1) == "intact::linear_spec: zero_point is -1; it must be at least 0");
    CHECK(of_s8(128) == "intact::linear_spec: zero_point is 128; it must be at most 127");
    CHECK(of_s8(-129) == "intact::linear_spec: zero_point is -129; it must be at least -128");
    CHECK(of_u8(0).empty());
    CHECK(of_u8(255).empty());
    CHECK(of_s8(-128).empty());
    CHECK(of_s8(127).empty());
  }
}

TEST_CASE("attention_logits_spec: built logits are exact [every head size]", "[scale]") {
  std::int64_t low = 0, high = 0;
  for (int q_zero = 0; q_zero < 256; ++q_zero) {
    for (int k_zero = 0; k_zero < 256; ++k_zero) {
      for (const int q : {0, 255}) {
        for (const int k : {0, 255}) {
          low = std::min<std::int64_t>(low, (q - q_zero) * (k - k_zero));
          high = std::max<std::int64_t>(high, (q - q_zero) * (k - k_zero));
        }
      }
    }
  }
  generator random(11);
  for (index_t head_size = 1; head_size <= 128; ++head_size) {
    const double factor = uniform(random, 0.1, 8) * 512 / static_cast<double>(high * head_size);
    const scale_spec target = attention_logits_spec(factor, 117, head_size);
    CHECK(target.range.low == low * head_size);
    CHECK(target.range.high == high * head_size);
    CHECK(target.factor == factor);
    CHECK(target.addend == 117);
    CHECK(target.correction == 0);
    const owned_channel_scale layer = built_scale({target});
    check_layer({target}, layer.view());
    check_channel(target, layer.view().channel(0), layer.exact[0]);
    check_results({target}, layer, random);
  }
}

/// The largest sum of 2^(15 - code) over rows of a number of keys, for rows that make it large: some logits at the
/// maximum, some at every one of a few distances below it, the rest far below.
template <attention_code Format>
std::int64_t largest_row_of_weights(index_t keys, const std::array<std::uint32_t, 256>& table) {
  std::int64_t largest = 0;
  std::vector<std::uint8_t> logits(static_cast<std::size_t>(keys)), storage(static_cast<std::size_t>(keys + 1));
  for (const index_t tops : {index_t{1}, index_t{2}, index_t{3}, keys / 2, keys}) {
    for (const int distance : {1, 2, 8, 30, 41, 60, 100, 255}) {
      for (const index_t near : {index_t{0}, keys / 3, keys}) {
        for (index_t j = 0; j < keys; ++j) {
          logits[static_cast<std::size_t>(j)] = static_cast<std::uint8_t>(j < tops          ? 255
                                                                          : j < tops + near ? 255 - distance
                                                                                            : 0);
        }
        const typename attention_codes<Format>::view codes(storage.data(), 1, keys);
        log_softmax<isa::native, Format>({logits.data(), 1, keys}, exp_table<std::uint32_t>(table), codes);
        std::int64_t sum = 0;
        for (index_t j = 0; j < keys; ++j) {
          sum += codes(0, j) > 15 ? 0 : 1 << (15 - codes(0, j));
        }
        largest = std::max(largest, sum);
      }
    }
  }
  return largest;
}

TEST_CASE("attention_context_spec: built contexts are exact and within their range [up to 82,000 keys]", "[scale]") {
  generator random(12);
  for (const index_t keys : {1, 2, 3, 17, 197, 577, 4096, 16384, 82000}) {
    const double factor = uniform(random, 0.05, 8);
    const scale_spec target = attention_context_spec(factor, 133, keys);
    std::array<std::uint32_t, 256> table;
    for (std::size_t d = 0; d < table.size(); ++d) {  // halves every 8 codes
      table[d] = static_cast<std::uint32_t>(std::ldexp(std::exp2(-static_cast<double>(d) / 8), 13));
    }
    CAPTURE(keys);
    const std::int64_t clipped = 255 * largest_row_of_weights<attention_code::u4_clipped>(keys, table);
    CHECK(255 * largest_row_of_weights<attention_code::u8_masked>(keys, table) <= target.range.high);
    CHECK(clipped <= target.range.high);
    CHECK(target.range.low == -target.range.high);
    CHECK(target.range.high < std::int64_t{1} << 26);
    CHECK(target.factor == factor / 32768);  // accumulators are in units of 2^-15
    CHECK(target.addend == 133);
    const owned_channel_scale layer = built_scale({target});
    CHECK(layer.left_shift == 0);
    check_layer({target}, layer.view());
    check_channel(target, layer.view().channel(0), layer.exact[0]);
    check_results({target}, layer, random);
  }
  CHECK(mentions(refusal_of({attention_context_spec(0.1, 0, 1 << 24)}), "int32 must hold them"));
}

// ------------------------------------------------------------------------------------------------ refusals

TEST_CASE("build_scale: refuses bad specs, naming channel and value", "[scale]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const scale_spec good{0.01, 1, 0, {-1000, 1000}};
  struct {
    scale_spec target;
    const char* named;
  } const cases[] = {
      {{-1e-300, 0, 0, {-1, 1}}, "the factor -1e-300"},
      {{536870911.9, 0, 0, {0, 0}}, "the factor 5.36871e+08"},
      {{-0.25, 0, 0, {-1, 1}}, "the factor -0.25"},
      {{not_a_number, 0, 0, {-1, 1}}, "the factor nan"},
      {{infinity, 0, 0, {-1, 1}}, "the factor inf"},
      {{-infinity, 0, 0, {-1, 1}}, "the factor -inf"},
      {{2147483648.0, 0, 0, {-1, 1}}, "the factor 2.14748e+09"},
      {{0.01, not_a_number, 0, {-1, 1}}, "the addend nan"},
      {{0.01, infinity, 0, {-1, 1}}, "the addend inf"},
      {{0.01, -2147483648.0, 0, {-1, 1}}, "the addend -2.14748e+09"},
      {{0.01, 2147483647.0, 0, {-1, 1}}, "the addend 2.14748e+09"},
      {{0.01, 0, 0, {-1, most + 1}}, "from -1 to 2147483648; int32"},
      {{0.01, 0, 0, {-most - 1, 1}}, "from -2147483648 to 1; int32"},
      {{0.01, 0, 0, {2, 1}}, "from 2 to 1; int32"},
      {{0.01, 0, 0, {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}},
       "from -9223372036854775808 to 9223372036854775807; int32"},
      {{0.01, 0, 2, {-1, 1}}, "the correction 2;"},
      {{0.01, 0, -2, {-1, 1}}, "the correction -2;"},
      {{0.1, 0, 0, {-most, most}}, "4294967295 accumulators"},
  };
  for (const auto& [target, named] : cases) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      std::vector<scale_spec> specs(3, good);
      specs[channel] = target;
      const std::string message = refusal_of(specs);
      CAPTURE(message, named);
      CHECK(mentions(message, "intact::build_scale"));
      CHECK(mentions(message, "channel " + std::to_string(channel)));
      CHECK(mentions(message, named));
    }
  }
  CHECK(refusal_of({good, good, good}).empty());
}

TEST_CASE("build_scale: refuses arrays of other sizes than the channels", "[scale]") {
  const std::vector<scale_spec> specs(3, scale_spec{0.01, 1, 0, {-1000, 1000}});
  std::vector<std::int32_t> multiplier(4, -7);
  std::vector<std::int64_t> offset(4, -8);
  std::vector<realized_scale> exact(4);
  for (const std::size_t size : std::array<std::size_t, 3>{0, 2, 4}) {
    const std::string n = std::to_string(size);
    const std::span good_multiplier = std::span(multiplier).first(3),
                    bad_multiplier = std::span(multiplier).first(size);
    const std::span good_offset = std::span(offset).first(3), bad_offset = std::span(offset).first(size);
    const std::span bad_exact = std::span(exact).first(size);
    CHECK(mentions(refusal([&] { build_scale(specs, bad_multiplier, good_offset); }), "size of multiplier is " + n));
    CHECK(mentions(refusal([&] { build_scale(specs, good_multiplier, bad_offset); }), "size of offset is " + n));
    if (size != 0) {
      CHECK(mentions(refusal([&] { build_scale(specs, good_multiplier, good_offset, bad_exact); }),
                     "size of exact is " + n));
    }
  }
  CHECK(std::all_of(multiplier.begin(), multiplier.end(), [](std::int32_t m) { return m == -7; }));
  CHECK(std::all_of(offset.begin(), offset.end(), [](std::int64_t c) { return c == -8; }));
}

TEST_CASE("build_scale: builds the same integers without realized_scale", "[scale]") {
  generator random(13);
  const std::vector<scale_spec> specs = random_layer(random, 0.499, 3072);
  const owned_channel_scale layer = built_scale(specs);
  std::vector<std::int32_t> multiplier(specs.size());
  std::vector<std::int64_t> offset(specs.size());
  const channel_scale scale = build_scale(specs, multiplier, offset);
  CHECK(multiplier == layer.multiplier);
  CHECK(offset == layer.offset);
  CHECK(scale.shift == layer.shift);
  CHECK(scale.multiplier.data() == multiplier.data());
  CHECK(scale.offset.data() == offset.data());
}

// ------------------------------------------------------------------------------------------------ far corners

TEST_CASE("build_scale: built scales pass the checks of the operations", "[scale]") {
  const auto passes = [](const scale_spec& target) {
    realized_scale exact;
    tensor_scale scale;
    const bool refused = !refusal([&] { scale = build_scale(target, exact); }).empty();
    return refused || refusal([&] { require_scale("test", scale, 1); }).empty();
  };
  for (int exponent = -1074; exponent < 31; ++exponent) {
    CAPTURE(exponent);
    CHECK(passes({std::ldexp(1.0, exponent), 100, 0, {0, 0}}));
    CHECK(passes({std::ldexp(1.0, exponent), 100, 0, {-5, 5}}));
  }
  for (int exponent = 0; exponent <= 31; ++exponent) {  // addends around powers of two
    for (const double distance : {-1.0, -0.5, 0.0, 0.5}) {
      for (const double less : {0.0, std::ldexp(1.0, -23), std::ldexp(1.0, -30)}) {
        const double addend = std::ldexp(1.0, exponent) + distance - less;
        CAPTURE(addend);
        CHECK(passes({0.001, addend, 0, {0, 0}}));
        CHECK(passes({0.001, -addend, 0, {0, 0}}));
      }
    }
  }
}

TEST_CASE("build_scale: builds an almost constant channel halfway between two codes", "[scale]") {
  // 2^20 + 1 accumulators, all of which lie within 2^-30 codes of a half: moved off by less than that, none is a tie
  const scale_spec target{1e-17, 0.5, 0, {-(1 << 19), 1 << 19}};
  CHECK(refusal_of({target}).empty());
}

TEST_CASE("build_scale: a factor of 0 gives the addend [other factors of any size]", "[scale]") {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  for (const double addend : {0.0, 0.5, -0.5, 127.5, 128.0, 254.75, -3.0, 1e9 + 0.5, -1e9 - 0.5}) {
    for (const double other : {0.0, 0.01, 0.7, 300.0}) {
      const std::int64_t room = other < 0.5 ? most : other < 1 ? most / 2 : most / 1024;
      const std::vector<scale_spec> specs{{other, 0, 0, {-100, 100}}, {0, addend, 5, {-room, room}}};
      const owned_channel_scale layer = built_scale(specs);
      CAPTURE(addend, other, layer.exact[1].offset);
      CHECK(layer.multiplier[1] == 0);
      CHECK(layer.exact[1].factor == 0);
      CHECK(std::fabs(layer.exact[1].offset - addend) <= std::ldexp(std::fabs(addend) + 1, -20));
      for (const std::int64_t a : {-room, std::int64_t{0}, room}) {
        CHECK(static_cast<double>(mul_shift(static_cast<std::int32_t>(a), layer.view().channel(1))) ==
              std::rint(layer.exact[1].offset));
        CHECK(rounding_oracle(layer.view().channel(1), layer.exact[1]).agrees(a));
      }
    }
  }
}

TEST_CASE("build_scale: builds almost constant channels halfway between two codes [ranges of any length]", "[scale]") {
  // the accumulators are more than an offset can be moved by: all outputs lie within 2^-10 codes of a half
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  for (const double addend : {0.5, 127.5, -100.5}) {
    for (const double factor : {1e-17, 1e-16, 1e-300}) {
      const scale_spec target{factor, addend, 0, {-most, most}};
      const owned_channel_scale layer = built_scale({target});
      CAPTURE(addend, factor);
      CHECK(layer.multiplier[0] == 0);
      for (const std::int64_t a : {-most, std::int64_t{0}, most}) {
        CHECK(rounding_oracle(layer.view().channel(0), layer.exact[0]).agrees(a));
        CHECK(std::fabs(layer.exact[0].offset - addend) < 0x1p-10);
      }
    }
  }
}

TEST_CASE("build_scale: a factor whose multiplier is rounded up to a power of two takes the next left_shift",
          "[scale]") {
  for (const auto& [factor, left_shift] : {std::pair(std::nextafter(0.5, 0.0), 1),
                                           {0.5 - 0x1p-33, 1},
                                           {0.5 - 0x1.8p-33, 0},
                                           {std::nextafter(256.0, 0.0), 10}}) {
    const scale_spec target{factor, 3.25, 0, {-1000, 1000}};
    const owned_channel_scale layer = built_scale({target});
    CAPTURE(factor);
    CHECK(layer.left_shift == left_shift);
    check_channel(target, layer.view().channel(0), layer.exact[0]);
  }
}

TEST_CASE("build_scale: builds a large layer with a factor above one half", "[scale]") {
  // a << 2 is a multiple of 4, so that any odd offset is free of ties, however long the range
  generator random(14);
  const scale_spec target = u8_target(make_weights(random, 3072, weight_kind::random), 1.96, 0, 128);
  CHECK(refusal_of({target}).empty());
}

TEST_CASE("build_scale: a refusal after a left_shift names the given factor", "[scale]") {
  const std::string message = refusal_of({{1.96, 0, 0, {-1'000'000'000, 1'000'000'000}}});
  CAPTURE(message);
  CHECK(mentions(message, "1.96"));
  CHECK(mentions(message, "-1000000000"));
}

TEST_CASE("build_scale: a refused left_shift names the factor that needs it", "[scale]") {
  const std::string message = refusal_of({{412, 0, 0, {-10, 10}}, {0.001, 0, 0, {-33'000'000, 33'000'000}}});
  CAPTURE(message);
  CHECK(mentions(message, "412"));
}

}  // namespace
}  // namespace intact_test::scale_test
