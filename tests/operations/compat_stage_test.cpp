#include "intact/stage/compat.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "intact/gemm.hpp"
#include "intact/reference/gemm.hpp"
#include "tensor.hpp"
#if __has_include(<gemmlowp/fixedpoint/fixedpoint.h>)
#include <gemmlowp/fixedpoint/fixedpoint.h>
#define INTACT_TEST_GEMMLOWP 1
#endif

// The stages are compared with the definitions that the runtimes publish, in exact fractions:
//   PyTorch, ONNX    the nearest integer to a * f, halves to even;
//   TensorFlow Lite  the nearest integer to a * f, halves up;
//   gemmlowp         SaturatingRoundingDoublingHighMul, the nearest integer to a * m / 2^31, halves up, then
//                    RoundingDivideByPOT, the nearest integer to x / 2^p, halves away from zero.

namespace intact_test::compat_stage_test {
namespace {

constexpr std::int64_t smallest_s32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t largest_s32 = std::numeric_limits<std::int32_t>::max();

/// A rational number with a positive denominator.
struct fraction {
  int128 numerator;
  int128 denominator;

  int128 floor() const { return floor_divide(numerator, denominator); }
  bool is_half() const { return numerator % denominator != 0 && 2 * numerator % denominator == 0; }
};

int128 halves_up(const fraction& x) {
  return fraction{2 * x.numerator + x.denominator, 2 * x.denominator}.floor();
}
int128 halves_to_even(const fraction& x) {
  return x.is_half() ? (x.floor() % 2 == 0 ? x.floor() : x.floor() + 1) : halves_up(x);
}
int128 halves_away_from_zero(const fraction& x) {
  return x.numerator >= 0 ? halves_up(x) : -halves_up({-x.numerator, x.denominator});
}

/// A factor multiplier * 2^(exponent - 31).
struct factor {
  std::int32_t multiplier;
  int exponent;

  fraction times(int128 a) const {
    return {a * multiplier * power_of_two(std::max(exponent, 0)), power_of_two(31 + std::max(-exponent, 0))};
  }
};

/// The effect of each stage on a corrected accumulator, before the zero point and the clamp.
template <class Stage>
struct definition;

template <class Out>
struct definition<round_half_to_even<Out>> {
  static int128 rounded(int128 a, const factor& f) { return halves_to_even(f.times(a)); }
};
template <class Out>
struct definition<single_rounding<Out>> {
  static int128 rounded(int128 a, const factor& f) { return halves_up(f.times(a)); }
};
template <class Out>
struct definition<double_rounding<Out>> {
  static int128 rounded(int128 a, const factor& f) {
    const int128 shifted = clamp_to<std::int32_t>(a * power_of_two(std::max(f.exponent, 0)));
    const int128 high = halves_up({shifted * f.multiplier, power_of_two(31)});
    return halves_away_from_zero({high, power_of_two(std::max(-f.exponent, 0))});
  }
};

/// Channels of a gemm whose only weight is 1: for the codes 0..63 the corrected accumulators are bias..bias + 63.
struct channels {
  std::vector<std::int32_t> bias, multiplier, exponent;

  void add(const factor& f, int128 first) {
    bias.push_back(static_cast<std::int32_t>(std::clamp<int128>(first, smallest_s32, largest_s32 - 63)));
    multiplier.push_back(f.multiplier);
    exponent.push_back(f.exponent);
  }
  compat_scale scale(int zero_point) const { return {bias, multiplier, exponent, zero_point}; }
  index_t count() const { return std::ssize(bias); }
  factor factor_of(index_t n) const {
    return {multiplier[static_cast<std::size_t>(n)], exponent[static_cast<std::size_t>(n)]};
  }
};

/// The codes 0..63 through gemm.
template <class Stage>
tensor<typename Stage::output> all_codes(const Stage& stage, index_t count) {
  tensor<std::uint8_t> a(64, 1);
  tensor<std::int8_t> w(count, 1);
  for (index_t m = 0; m < 64; ++m) {
    a(m, 0) = static_cast<std::uint8_t>(m);
  }
  for (index_t n = 0; n < count; ++n) {
    w(n, 0) = 1;
  }
  tensor<typename Stage::output> y(64, count);
  reference::gemm(a.view(), w.view(), stage, y.view());
  return y;
}

/// Channels whose accumulators lie around those that give the output `code` and a half.
void add_channels_around(channels& c, const factor& f, std::int64_t code) {
  if (f.multiplier == 0) {
    c.add(f, code);
    return;
  }
  const fraction one = f.times(1);
  const int128 middle = floor_divide((2 * int128{code} + 1) * one.denominator, 2 * one.numerator);
  c.add(f, middle - 32);
}

template <class Out>
channels channels_for(int zero_point) {
  generator random(50);
  std::vector<std::int64_t> codes;
  for (const std::int64_t edge : {std::int64_t{std::numeric_limits<Out>::min()}, std::int64_t{0},
                                  std::int64_t{std::numeric_limits<Out>::max()}}) {
    for (std::int64_t distance = -2; distance <= 1; ++distance) {
      codes.push_back(edge - zero_point + distance);
    }
  }
  codes.push_back(random.between(std::numeric_limits<Out>::min(), std::numeric_limits<Out>::max()));
  channels all;
  for (int exponent = -31; exponent <= 30; ++exponent) {
    const auto any = static_cast<std::int32_t>(random.between(1 << 30, largest_s32));
    for (const std::int32_t multiplier :
         {0, 1 << 30, (1 << 30) + 1, 3 << 29, 5 << 28, std::int32_t{largest_s32}, any}) {
      const factor f{multiplier, exponent};
      for (const std::int64_t code : codes) {
        add_channels_around(all, f, code);
      }
      all.add(f, smallest_s32);
      all.add(f, largest_s32);
      all.add(f, random.between(smallest_s32, largest_s32));
    }
  }
  return all;
}

struct occurrences {
  std::int64_t wrong = 0;
  std::int64_t low = 0;       ///< clamped below
  std::int64_t high = 0;      ///< clamped above
  std::int64_t ties = 0;      ///< accumulators halfway between two codes that are not clamped
  std::int64_t negative = 0;  ///< ... of which below 0
};

template <class Stage>
occurrences compare(int zero_point) {
  using out = typename Stage::output;
  const channels all = channels_for<out>(zero_point);
  const tensor<out> y = all_codes(Stage{all.scale(zero_point)}, all.count());
  occurrences result;
  for (index_t n = 0; n < all.count(); ++n) {
    const factor f = all.factor_of(n);
    for (index_t m = 0; m < 64; ++m) {
      const int128 a = int128{all.bias[static_cast<std::size_t>(n)]} + m;
      const int128 code = definition<Stage>::rounded(a, f) + zero_point;
      result.wrong += y(m, n) != clamp_to<out>(code) ? 1 : 0;
      result.low += code < std::numeric_limits<out>::min() ? 1 : 0;
      result.high += code > std::numeric_limits<out>::max() ? 1 : 0;
      const bool tie = clamp_to<out>(code) == code && f.times(a).is_half();
      result.ties += tie ? 1 : 0;
      result.negative += tie && a < 0 ? 1 : 0;
    }
  }
  return result;
}

template <class Stage>
void check_stage() {
  using out = typename Stage::output;
  for (const int zero_point : {0, 7, int{std::numeric_limits<out>::max() >> 1}, std::is_unsigned_v<out> ? 255 : -128}) {
    CAPTURE(zero_point, std::numeric_limits<out>::digits, std::is_signed_v<out>);
    const occurrences found = compare<Stage>(zero_point);
    CHECK(found.wrong == 0);
    // Double rounding saturates at the ends of int32 itself.
    const bool reaches_ends = sizeof(out) < 4;
    CHECK((found.low > 1000 || !reaches_ends));
    CHECK((found.high > 1000 || !reaches_ends));
    CHECK(found.ties > 300);
    CHECK((found.negative > 100 || zero_point < std::int64_t{std::numeric_limits<out>::min()} + 128));
  }
}

TEMPLATE_TEST_CASE("round_half_to_even, single_rounding, double_rounding: equal their definitions [ties, both ends]",
                   "", std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::int32_t) {
  check_stage<round_half_to_even<TestType>>();
  check_stage<single_rounding<TestType>>();
  check_stage<double_rounding<TestType>>();
}

TEMPLATE_TEST_CASE("round_power_of_two: rounds halves up", "", std::uint8_t, std::int8_t, std::uint16_t, std::int16_t,
                   std::int32_t) {
  for (int shift = 1; shift <= 31; ++shift) {
    for (const int zero_point : {0, 7, std::is_unsigned_v<TestType> ? 255 : -128}) {
      std::vector<std::int32_t> bias;
      for (const std::int64_t low : {std::int64_t{std::numeric_limits<TestType>::min()}, std::int64_t{-2},
                                     std::int64_t{std::numeric_limits<TestType>::max()}}) {
        const int128 middle = (2 * int128{low - zero_point} + 1) * power_of_two(shift) / 2;
        bias.push_back(static_cast<std::int32_t>(std::clamp<int128>(middle - 128, smallest_s32, largest_s32 - 63)));
      }
      bias.push_back(static_cast<std::int32_t>(smallest_s32));
      bias.push_back(static_cast<std::int32_t>(largest_s32 - 63));
      const tensor<TestType> y = all_codes(round_power_of_two<TestType>{bias, shift, zero_point}, std::ssize(bias));
      index_t wrong = 0;
      for (index_t n = 0; n < std::ssize(bias); ++n) {
        for (index_t m = 0; m < 64; ++m) {
          const int128 a = int128{bias[static_cast<std::size_t>(n)]} + m;
          wrong += y(m, n) != clamp_to<TestType>(halves_up({a, power_of_two(shift)}) + zero_point) ? 1 : 0;
        }
      }
      CAPTURE(shift, zero_point);
      CHECK(wrong == 0);
    }
  }
}

/// Accumulators and biases at the ends of int32, whose sums have 33 bits, with the smallest and largest factors.
template <class Stage>
std::int64_t wrong_at_extremes() {
  using out = typename Stage::output;
  std::int64_t wrong = 0;
  const std::int64_t ends[] = {smallest_s32, smallest_s32 + 1, -1, 0, 1, largest_s32 - 1, largest_s32};
  for (const std::int64_t first : ends) {
    const std::vector<std::int32_t> bias{static_cast<std::int32_t>(first)};
    for (const std::int32_t factor_multiplier : {0, 1 << 30, (1 << 30) + 1, std::int32_t{largest_s32}}) {
      for (int factor_exponent = -31; factor_exponent <= 30; ++factor_exponent) {
        const std::vector<std::int32_t> multiplier{factor_multiplier}, exponent{factor_exponent};
        for (const int zero_point : {0, int{std::numeric_limits<out>::max() >> 1}}) {
          const Stage stage{{bias, multiplier, exponent, zero_point}};
          for (const std::int64_t a : ends) {
            const int128 code =
                definition<Stage>::rounded(int128{first} + a, {factor_multiplier, factor_exponent}) + zero_point;
            wrong += stage(static_cast<std::int32_t>(a), 0) != clamp_to<out>(code) ? 1 : 0;
          }
        }
      }
    }
  }
  return wrong;
}

TEMPLATE_TEST_CASE("round_half_to_even, single_rounding, double_rounding: accumulator plus bias may exceed int32", "",
                   std::uint8_t, std::int8_t, std::int32_t) {
  CHECK(wrong_at_extremes<round_half_to_even<TestType>>() == 0);
  CHECK(wrong_at_extremes<single_rounding<TestType>>() == 0);
  CHECK(wrong_at_extremes<double_rounding<TestType>>() == 0);
}

/// The accumulators -6..6 by a stage of one channel.
template <class Stage>
std::vector<int> minus_six_to_six(const Stage& stage) {
  tensor<std::uint8_t> a(13, 1);
  tensor<std::int8_t> w(1, 1);
  w(0, 0) = 1;
  for (index_t m = 0; m < 13; ++m) {
    a(m, 0) = static_cast<std::uint8_t>(m);
  }
  tensor<std::int8_t> y(13, 1);
  reference::gemm(a.view(), w.view(), stage, y.view());
  return {y.memory().begin(), y.memory().end()};
}

TEST_CASE("round_half_to_even, single_rounding, double_rounding: give codes worked out by hand [-6 to 6]") {
  const std::vector<std::int32_t> bias{-6}, multiplier{1 << 30}, none{0}, minus_one{-1};
  const compat_scale half{bias, multiplier, none, 0};
  CHECK(minus_six_to_six(round_half_to_even<std::int8_t>{half}) ==
        std::vector<int>{-3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3});
  const std::vector<int> up{-3, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3, 3};
  CHECK(minus_six_to_six(single_rounding<std::int8_t>{half}) == up);
  CHECK(minus_six_to_six(double_rounding<std::int8_t>{half}) == up);
  CHECK(minus_six_to_six(round_power_of_two<std::int8_t>{bias, 1, 0}) == up);

  const compat_scale quarter{bias, multiplier, minus_one, 0};
  CHECK(minus_six_to_six(round_half_to_even<std::int8_t>{quarter}) ==
        std::vector<int>{-2, -1, -1, -1, 0, 0, 0, 0, 0, 1, 1, 1, 2});
  const std::vector<int> quarter_up{-1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2};
  CHECK(minus_six_to_six(single_rounding<std::int8_t>{quarter}) == quarter_up);
  CHECK(minus_six_to_six(round_power_of_two<std::int8_t>{bias, 2, 0}) == quarter_up);
  // First to halves, up: -3 -2 -2 -1 -1 0 0 1 1 2 2 3 3. Then half of that, away from zero: 1/4 becomes 1.
  CHECK(minus_six_to_six(double_rounding<std::int8_t>{quarter}) ==
        std::vector<int>{-2, -1, -1, -1, -1, 0, 0, 1, 1, 1, 1, 2, 2});

  const std::vector<std::int32_t> two{2};
  const compat_scale doubled{bias, multiplier, two, 100};
  const std::vector<int> twice{88, 90, 92, 94, 96, 98, 100, 102, 104, 106, 108, 110, 112};
  CHECK(minus_six_to_six(round_half_to_even<std::int8_t>{doubled}) == twice);
  CHECK(minus_six_to_six(single_rounding<std::int8_t>{doubled}) == twice);
  CHECK(minus_six_to_six(double_rounding<std::int8_t>{doubled}) == twice);
}

TEST_CASE("round_half_to_even, single_rounding, double_rounding: codes are clamped to low..high") {
  const std::vector<std::int32_t> bias{-6}, multiplier{1 << 30}, two{2};
  const compat_scale doubled{bias, multiplier, two, 100};
  const std::vector<int> relu{100, 100, 100, 100, 100, 100, 100, 102, 104, 106, 108, 110, 112};
  CHECK(minus_six_to_six(round_half_to_even<std::int8_t>{doubled, 100}) == relu);
  CHECK(minus_six_to_six(single_rounding<std::int8_t>{doubled, 100}) == relu);
  CHECK(minus_six_to_six(double_rounding<std::int8_t>{doubled, 100}) == relu);
  const std::vector<int> both{95, 95, 95, 95, 96, 98, 100, 102, 104, 105, 105, 105, 105};
  CHECK(minus_six_to_six(round_half_to_even<std::int8_t>{doubled, 95, 105}) == both);
  CHECK(minus_six_to_six(single_rounding<std::int8_t>{doubled, 95, 105}) == both);
  CHECK(minus_six_to_six(double_rounding<std::int8_t>{doubled, 95, 105}) == both);
  CHECK(minus_six_to_six(round_power_of_two<std::int8_t>{bias, 1, 0, -1, 2}) ==
        std::vector<int>{-1, -1, -1, -1, -1, 0, 0, 1, 1, 2, 2, 2, 2});
}

TEST_CASE("compat_scale: the correction is part of the bias [weights, two activations]") {
  generator random(51);
  tensor<std::uint8_t> a(5, 9), b(3, 9);
  fill(a.view(), values::random, 0, 255, random);
  fill(b.view(), values::random, 0, 255, random);
  const std::vector<std::int32_t> bias{-1000, 0, 5000}, multiplier{1 << 30, 3 << 29, 1 << 30}, exponent{-10, -11, -9};
  const compat_scale scale{bias, multiplier, exponent, 100};
  tensor<std::int16_t> y(5, 3, layouts[1]);
  reference::gemm({a.view(), 120}, {b.view(), 130}, round_half_to_even<std::int16_t>{scale}, y.view());
  index_t wrong = 0;
  for (index_t m = 0; m < 5; ++m) {
    for (index_t n = 0; n < 3; ++n) {
      const auto channel = static_cast<std::size_t>(n);
      int128 sum = bias[channel];
      for (index_t k = 0; k < 9; ++k) {
        sum += (int128{a(m, k)} - 120) * (int128{b(n, k)} - 130);
      }
      const int128 code = halves_to_even(factor{multiplier[channel], exponent[channel]}.times(sum)) + 100;
      wrong += y(m, n) != clamp_to<std::int16_t>(code) ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
  CHECK(y.surroundings_untouched());
}

/// Calls gemm with three output channels.
template <class Stage>
void call(const Stage& stage) {
  tensor<std::uint8_t> a(2, 1);
  tensor<std::int8_t> w(3, 1);
  tensor<std::uint8_t> y(2, 3);
  try {
    reference::gemm(a.view(), w.view(), stage, y.view());
  } catch (...) {
    CHECK(y.memory() == tensor<std::uint8_t>(2, 3).memory());
    throw;
  }
}

template <class Stage>
void check_refusals() {
  const std::vector<std::int32_t> zeros(3), two(2), multiplier(3, 1 << 30), exponent{-31, 30, 0};
  const std::vector<std::int32_t> negative{0, 0, -1}, small{0, 0, (1 << 30) - 1}, too_low{0, -32, 0},
      too_high{0, 0, 31};
  CHECK_NOTHROW(call(Stage{{zeros, multiplier, exponent, 0}}));
  CHECK_THROWS_WITH(call(Stage{{two, multiplier, exponent, 0}}),
                    "intact::gemm: size of bias is 2; it must be equal to 3");
  CHECK_THROWS_WITH(call(Stage{{zeros, two, exponent, 0}}),
                    "intact::gemm: size of multiplier is 2; it must be equal to 3");
  CHECK_THROWS_WITH(call(Stage{{zeros, multiplier, two, 0}}),
                    "intact::gemm: size of exponent is 2; it must be equal to 3");
  CHECK_THROWS_WITH(call(Stage{{zeros, negative, exponent, 0}}),
                    "intact::gemm: multiplier of a channel is -1; it must be at least 0");
  CHECK_THROWS_WITH(call(Stage{{zeros, small, exponent, 0}}),
                    "intact::gemm: multiplier of a channel is 1073741823; it must be at least 1073741824");
  const std::int64_t largest = std::numeric_limits<typename Stage::output>::max();
  CHECK_THROWS_WITH(
      call(Stage{{zeros, multiplier, exponent, static_cast<int>(largest + 1)}}),
      "intact::gemm: zero_point is " + std::to_string(largest + 1) + "; it must be at most " + std::to_string(largest));
  CHECK_THROWS_WITH(call(Stage{{zeros, multiplier, too_low, 0}}),
                    "intact::gemm: exponent of a channel is -32; it must be at least -31");
  CHECK_THROWS_WITH(call(Stage{{zeros, multiplier, too_high, 0}}),
                    "intact::gemm: exponent of a channel is 31; it must be at most 30");
  CHECK_NOTHROW(call(Stage{{zeros, multiplier, exponent, 0}, 7, 7}));
  CHECK_THROWS_WITH(call(Stage{{zeros, multiplier, exponent, 0}, 7, 6}),
                    "intact::gemm: high is 6; it must be at least 7");
}

TEST_CASE("round_half_to_even, single_rounding, double_rounding: refuse scales and sizes") {
  check_refusals<round_half_to_even<std::uint8_t>>();
  check_refusals<single_rounding<std::uint8_t>>();
  check_refusals<double_rounding<std::uint8_t>>();
  const std::vector<std::int32_t> zeros(3), two(2);
  using stage = round_power_of_two<std::uint8_t>;
  CHECK_NOTHROW(call(stage{zeros, 1, 0}));
  CHECK_NOTHROW(call(stage{zeros, 31, 0}));
  CHECK_THROWS_WITH(call(stage{two, 1, 0}), "intact::gemm: size of bias is 2; it must be equal to 3");
  CHECK_THROWS_WITH(call(stage{zeros, 0, 0}), "intact::gemm: shift is 0; it must be at least 1");
  CHECK_THROWS_WITH(call(stage{zeros, 32, 0}), "intact::gemm: shift is 32; it must be at most 31");
  CHECK_THROWS_WITH(call(stage{zeros, 1, 0, 7, 6}), "intact::gemm: high is 6; it must be at least 7");
}

#ifdef INTACT_TEST_GEMMLOWP
TEST_CASE("double_rounding: equals gemmlowp's own functions [accumulators, exponents -31 to 0]") {
  generator random(52);
  std::int64_t wrong = 0;
  for (int i = 0; i < 200'000; ++i) {
    const auto a = static_cast<std::int32_t>(random.between(smallest_s32, largest_s32) >> random.between(0, 24));
    const std::int32_t multipliers[] = {1 << 30, 3 << 29,
                                        static_cast<std::int32_t>(random.between(1 << 30, largest_s32))};
    const std::vector<std::int32_t> bias{0}, multiplier{multipliers[random.between(0, 2)]},
        exponent{static_cast<std::int32_t>(random.between(-31, 0))};
    const double_rounding<std::int32_t> stage{{bias, multiplier, exponent, 0}};
    const std::int32_t high = gemmlowp::SaturatingRoundingDoublingHighMul(a, multiplier[0]);
    wrong += stage(a, 0) != gemmlowp::RoundingDivideByPOT(high, -exponent[0]) ? 1 : 0;
  }
  CHECK(wrong == 0);
}
#endif

}  // namespace
}  // namespace intact_test::compat_stage_test
