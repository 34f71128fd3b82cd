#include "intact/rmsnorm.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "exact_layernorm.hpp"
#include "intact/build/layernorm.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

// RMSNorm against section 4 of docs/numerics.md by divisions in 128 bits. layernorm_builder_test compares it with
// infinite precision.

namespace intact_test::rmsnorm_test {
namespace {

/// Parameters that own their arrays.
struct owned_parameters {
  layernorm_parameters numbers;
  std::vector<std::uint8_t> shift;
  std::vector<std::int32_t> gain;
  std::vector<std::int64_t> bias;

  layernorm_parameters view() const {
    layernorm_parameters p = numbers;
    p.shift = shift;
    p.gain = gain;
    p.bias = bias;
    return p;
  }
};

/// Gains for which a root mean square is 20 to 80 codes, biases around the middle.
template <class Code>
owned_parameters random_parameters(index_t channels, generator& random) {
  owned_parameters p;
  p.numbers.zero_point = sizeof(Code) == 1 ? static_cast<int>(random.between(0, 255)) : 0;
  p.numbers.epsilon = static_cast<std::uint64_t>(random.between(1, 1000));
  p.numbers.epsilon_fraction = random.between(layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction);
  p.numbers.output_shift = 47;
  for (index_t c = 0; c < channels; ++c) {
    p.shift.push_back(static_cast<std::uint8_t>(random.between(0, layernorm_max_shift)));
    p.gain.push_back(static_cast<std::int32_t>(random.between(20 << 23, 80 << 23) * (2 * random.between(0, 1) - 1)));
    p.bias.push_back(random.between(100, 156) << 47);
  }
  return p;
}

/// The numbers of a row.
template <class Code>
std::vector<int128> numbers_of(const tensor<Code>& codes, index_t row, const owned_parameters& p) {
  std::vector<int128> x;
  for (index_t c = 0; c < codes.columns(); ++c) {
    x.push_back((int128{codes(row, c)} - p.numbers.zero_point) * power_of_two(p.shift[static_cast<std::size_t>(c)]));
  }
  return x;
}

/// C * sum x^2.
int128 mean_square(const std::vector<int128>& x) {
  int128 squares = 0;
  for (const int128 value : x) {
    squares += value * value;
  }
  return static_cast<int128>(x.size()) * squares;
}

/// x / root mean square with 24 fraction bits.
std::vector<int128> exact_normalized(std::vector<int128> x, const layernorm_parameters& p) {
  const exact_layernorm_row row(static_cast<int128>(x.size()), 0, mean_square(x), p);
  for (int128& value : x) {
    value = row.normalized(value);
  }
  return x;
}

template <class Code>
void check_rmsnorm(const tensor<Code>& x, const owned_parameters& p, const layout& where = {}) {
  tensor<std::uint8_t> y(x.rows(), x.columns(), where), expected(x.rows(), x.columns());
  rmsnorm(x.view(), p.view(), y.view());
  index_t broken = 0;
  for (index_t i = 0; i < x.rows(); ++i) {
    const std::vector<int128> normalized = exact_normalized(numbers_of(x, i, p), p.view());
    for (std::size_t c = 0; c < normalized.size(); ++c) {
      const int128 scaled = normalized[c] * p.gain[c] + p.bias[c];
      broken += scaled >= power_of_two(63) || scaled < -power_of_two(63) ? 1 : 0;
      expected(i, static_cast<index_t>(c)) = exact_layernorm_code(normalized[c], p.view(), c);
    }
  }
  REQUIRE(broken == 0);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

template <class Code>
void check_shapes(std::uint64_t seed) {
  constexpr std::int64_t low = std::numeric_limits<Code>::min(), high = std::numeric_limits<Code>::max();
  generator random(seed);
  for (const index_t rows : {0, 1, 5, 17}) {
    for (const index_t channels : {0, 1, 2, 3, 15, 16, 17, 33, 65, 192, 4096}) {
      CAPTURE(rows, channels);
      const owned_parameters p = random_parameters<Code>(channels, random);
      for (const layout& where : layouts) {
        tensor<Code> x(rows, channels, where);
        fill(x.view(), values::random, low, high, random);
        check_rmsnorm(x, p, where);
      }
      for (const values what : all_values) {
        tensor<Code> x(rows, channels);
        fill(x.view(), what, low, high, random);
        check_rmsnorm(x, p);
      }
    }
  }
}

TEST_CASE("rmsnorm: equals the formula in every bit [u8, s16]") {
  check_shapes<std::uint8_t>(60);
  check_shapes<std::int16_t>(61);
}

/// Rows of small numbers whose mean square, epsilon included, is one of the three numbers around `limit`.
template <class Code>
void check_mean_squares_around(std::int64_t limit, std::int64_t fraction, generator& random) {
  for (int round = 0; round < 30; ++round) {
    const index_t channels = random.between(1, 9);
    owned_parameters p = random_parameters<Code>(channels, random);
    p.numbers.zero_point = sizeof(Code) == 1 ? 77 : 0;
    p.numbers.epsilon_fraction = fraction;
    tensor<Code> x(1, channels);
    fill(x.view(), values::random, p.numbers.zero_point - 1, p.numbers.zero_point + 2, random);
    const auto sum = static_cast<std::int64_t>(mean_square(numbers_of(x, 0, p)));
    p.numbers.epsilon = static_cast<std::uint64_t>(std::max<std::int64_t>(limit - sum + round % 3 - 1, 1));
    CAPTURE(limit, fraction, channels, sum);
    check_rmsnorm(x, p);
  }
}

TEST_CASE("rmsnorm: takes the fraction of epsilon for mean squares below 2^20 [u8, s16]") {
  generator random(62);
  for (const int bits : {0, 1, 2, 3, 5, 8, 13, 18, 19, 20, 21}) {
    for (const std::int64_t fraction :
         {layernorm_min_epsilon_fraction, std::int64_t{0}, random.between(-99, 99), layernorm_max_epsilon_fraction}) {
      check_mean_squares_around<std::uint8_t>(std::int64_t{1} << bits, fraction, random);
      check_mean_squares_around<std::int16_t>(std::int64_t{1} << bits, fraction, random);
    }
  }
}

/// One channel is as far from 0 as can be, all others are 0: z is sqrt(C), which the gain takes to 120 codes.
template <class Code>
void check_one_channel(index_t channels, Code one, int zero_point, std::uint64_t epsilon) {
  generator random(63);
  owned_parameters p;
  p.numbers = {.zero_point = zero_point, .shift = {}, .epsilon = epsilon, .gain = {}, .bias = {}, .output_shift = 46};
  const auto count = static_cast<std::size_t>(channels);
  const double gain = std::rint(std::ldexp(120 / std::sqrt(static_cast<double>(channels)), 22));
  p.shift.assign(count, layernorm_max_shift);
  p.gain.assign(count, static_cast<std::int32_t>(gain));
  p.bias.assign(count, std::int64_t{257} << 45);
  tensor<Code> x(1, channels);
  tensor<std::uint8_t> y(1, channels);
  fill(x.view(), values::smallest, zero_point, zero_point, random);
  x(0, channels / 2) = one;
  CAPTURE(channels, int(one), zero_point, epsilon);
  check_rmsnorm(x, p);
  rmsnorm(x.view(), p.view(), y.view());
  if (epsilon == 1) {
    CHECK(int(y(0, channels / 2)) == (one > zero_point ? 248 : 8));
  }
}

TEST_CASE("rmsnorm: equals the formula [one channel is not 0, up to the most channels and the largest epsilon]") {
  for (const index_t channels :
       {index_t{1}, index_t{2}, index_t{7}, index_t{192}, index_t{4096}, layernorm_max_channels}) {
    check_one_channel<std::uint8_t>(channels, 255, 0, 1);
    check_one_channel<std::uint8_t>(channels, 0, 255, 1);
    check_one_channel<std::uint8_t>(channels, 255, 0, layernorm_max_epsilon);
    if (channels <= layernorm_max_channels_s16) {
      check_one_channel<std::int16_t>(channels, 32767, 0, 1);
      check_one_channel<std::int16_t>(channels, -32768, 0, 1);
      check_one_channel<std::int16_t>(channels, -32768, 0, layernorm_max_epsilon);
    }
  }
}

TEST_CASE("rmsnorm: equals the formula [the largest mean squares]") {
  generator random(64);
  for (const std::uint64_t epsilon : {std::uint64_t{1}, layernorm_max_epsilon}) {
    owned_parameters p = random_parameters<std::uint8_t>(layernorm_max_channels, random);
    p.numbers.epsilon = epsilon;
    p.numbers.zero_point = 255;
    p.shift.assign(p.shift.size(), layernorm_max_shift);
    tensor<std::uint8_t> x(1, layernorm_max_channels);
    fill(x.view(), values::smallest, 0, 255, random);
    check_rmsnorm(x, p);

    owned_parameters wide = random_parameters<std::int16_t>(layernorm_max_channels_s16, random);
    wide.numbers.epsilon = epsilon;
    wide.shift.assign(wide.shift.size(), layernorm_max_shift);
    tensor<std::int16_t> words(1, layernorm_max_channels_s16);
    fill(words.view(), values::smallest, -32768, 32767, random);
    check_rmsnorm(words, wide);
  }
}

TEST_CASE("rmsnorm: is the LayerNorm of a row and its negative, whose mean is 0") {
  // Sums of squares and channels are doubled, and so are C * x, the deviation and its epsilon's root.
  generator random(65);
  for (const index_t channels : {1, 2, 17, 192, 2048}) {
    owned_parameters p = random_parameters<std::int16_t>(channels, random), twice = p;
    p.numbers.epsilon += std::uint64_t{1} << 20;  // none of the fraction
    twice.numbers.epsilon = 4 * p.numbers.epsilon;
    const auto repeat = [](auto& array) {
      const auto once = array;
      array.insert(array.end(), once.begin(), once.end());
    };
    repeat(twice.shift);
    repeat(twice.gain);
    repeat(twice.bias);
    tensor<std::int16_t> x(9, channels), both(9, 2 * channels);
    fill(x.view(), values::random, -32767, 32767, random);
    for (index_t i = 0; i < 9; ++i) {
      for (index_t c = 0; c < channels; ++c) {
        both(i, c) = x(i, c);
        both(i, channels + c) = static_cast<std::int16_t>(-x(i, c));
      }
    }
    tensor<std::uint8_t> y(9, channels), of_both(9, 2 * channels);
    rmsnorm(x.view(), p.view(), y.view());
    layernorm(both.view(), twice.view(), of_both.view());
    CHECK(first_difference(y.view(), of_both.view().column_block(0, channels)) == "");
  }
}

TEST_CASE("rmsnorm: rows of zero become beta, and the sign of a single channel counts") {
  const std::vector<float> gamma{1, 1, 1};
  const std::vector<std::uint8_t> shift{0, 2, 3};
  std::vector<std::int32_t> gain(3);
  std::vector<std::int64_t> bias(3);
  const layernorm_spec target{.gamma = gamma,
                              .beta = {},
                              .epsilon = 1e-6,
                              .input_scale = 0.1,
                              .input_zero_point = 40,
                              .shift = shift,
                              .output_scale = 0.02,
                              .output_zero_point = 101};
  const layernorm_parameters p = build_rmsnorm(target, gain, bias);
  tensor<std::uint8_t> x(1, 3), y(1, 3);
  generator random(66);
  fill(x.view(), values::smallest, 40, 40, random);
  rmsnorm(x.view(), p, y.view());
  CHECK(y.memory() == std::vector<std::uint8_t>{101, 101, 101});

  layernorm_spec one = target;
  one.gamma = target.gamma.first(1);
  one.shift = target.shift.first(1);
  const layernorm_parameters of_one = build_rmsnorm(one, std::span(gain).first(1), std::span(bias).first(1));
  tensor<std::uint8_t> code(1, 1), sign(1, 1);
  for (const auto& [input, output] : {std::pair{0, 51}, {39, 51}, {40, 101}, {41, 151}, {255, 151}}) {
    code(0, 0) = static_cast<std::uint8_t>(input);
    rmsnorm(code.view(), of_one, sign.view());
    CHECK(int(sign(0, 0)) == output);
  }
}

TEST_CASE("rmsnorm: works in place") {
  generator random(67);
  for (const layout& where : layouts) {
    const owned_parameters p = random_parameters<std::uint8_t>(33, random);
    tensor<std::uint8_t> x(7, 33, where), expected(7, 33, where);
    fill(x.view(), values::random, 0, 255, random);
    rmsnorm(x.view(), p.view(), expected.view());
    rmsnorm(x.view(), p.view(), x.view());
    CHECK(x.memory() == expected.memory());
  }
}

TEST_CASE("rmsnorm: refuses shapes and parameters before anything is written") {
  generator random(68);
  const owned_parameters good = random_parameters<std::int16_t>(3, random);
  tensor<std::uint8_t> x(2, 3), y(2, 3);
  tensor<std::int16_t> wide(2, 3);
  const auto change = [&](auto member, auto value) {
    layernorm_parameters p = good.view();
    p.*member = value;
    return p;
  };
  CHECK(refusal([&] { rmsnorm(x.view(), good.view(), y.view().prefix(1, 3)); }) ==
        "intact::rmsnorm: y is 1 x 3; it must be 2 x 3");
  CHECK(refusal([&] {
          rmsnorm(x.view(), change(&layernorm_parameters::gain, std::span(good.gain).first(2)), y.view());
        }) == "intact::rmsnorm: size of gain is 2; it must be equal to 3");
  CHECK(refusal([&] { rmsnorm(x.view(), change(&layernorm_parameters::zero_point, 256), y.view()); }) ==
        "intact::rmsnorm: zero_point is 256; it must be at most 255");
  CHECK(refusal([&] { rmsnorm(wide.view(), change(&layernorm_parameters::zero_point, 1), y.view()); }) ==
        "intact::rmsnorm: zero_point is 1; it must be at most 0");
  CHECK(
      mentions(refusal([&] { rmsnorm(x.view(), change(&layernorm_parameters::epsilon, std::uint64_t{0}), y.view()); }),
               "intact::rmsnorm: epsilon is 0"));
  CHECK(y.memory() == tensor<std::uint8_t>(2, 3).memory());

  const owned_parameters many = random_parameters<std::int16_t>(4097, random);
  tensor<std::int16_t> wide_x(1, 4097);
  tensor<std::uint8_t> wide_y(1, 4097);
  CHECK(refusal([&] { rmsnorm(wide_x.view(), many.view(), wide_y.view()); }) ==
        "intact::rmsnorm: number of normalized channels is 4097; it must be at most 4096");
}

}  // namespace
}  // namespace intact_test::rmsnorm_test
