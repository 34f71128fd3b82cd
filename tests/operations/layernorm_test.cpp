#include "intact/layernorm.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "exact_layernorm.hpp"
#include "tensor.hpp"

namespace intact_test::layernorm_test {
namespace {

/// LayerNorm parameters that own their arrays.
struct owned_parameters {
  int zero_point = 0;
  std::vector<std::uint8_t> shift;
  std::uint64_t epsilon = 1;
  std::vector<std::int32_t> gain;
  std::vector<std::int64_t> bias;
  int output_shift = 48;
  std::int64_t epsilon_fraction = 0;

  layernorm_parameters view() const { return {zero_point, shift, epsilon, gain, bias, output_shift, epsilon_fraction}; }
};

/// The real numbers of the integers: gamma / s_y and beta / s_y + zp_y.
struct real_parameters {
  std::vector<long double> gamma;
  std::vector<long double> beta;
};

/// gain and bias as section 4 of docs/numerics.md rounds them.
owned_parameters rounded(const real_parameters& real, int zero_point, std::vector<std::uint8_t> shift,
                         std::uint64_t epsilon) {
  long double largest = 0;
  for (const long double gamma : real.gamma) {
    largest = std::max(largest, std::fabs(gamma));
  }
  int gain_bits = 24;
  while (std::rint(std::ldexp(largest, gain_bits)) >= std::ldexp(1.0L, 30)) {
    --gain_bits;
  }
  owned_parameters p{zero_point, std::move(shift), epsilon, {}, {}, 24 + gain_bits};
  for (std::size_t c = 0; c < real.gamma.size(); ++c) {
    p.gain.push_back(static_cast<std::int32_t>(std::rint(std::ldexp(real.gamma[c], gain_bits))));
    p.bias.push_back(static_cast<std::int64_t>(std::rint(std::ldexp(real.beta[c], p.output_shift))) +
                     (std::int64_t{1} << (p.output_shift - 1)));
  }
  return p;
}

/// gamma of 0.5 to 2 and either sign over an output scale for which three deviations fill the codes, beta around the
/// middle.
real_parameters random_real(index_t channels, generator& random) {
  real_parameters real;
  for (index_t c = 0; c < channels; ++c) {
    const auto sign = static_cast<long double>(2 * random.between(0, 1) - 1);
    real.gamma.push_back(sign * static_cast<long double>(random.between(20'000, 80'000)) / 1000);
    real.beta.push_back(static_cast<long double>(random.between(100'000, 156'000)) / 1000);
  }
  return real;
}

std::vector<std::uint8_t> random_shifts(index_t channels, generator& random) {
  std::vector<std::uint8_t> shift;
  for (index_t c = 0; c < channels; ++c) {
    shift.push_back(static_cast<std::uint8_t>(random.between(0, layernorm_max_shift)));
  }
  return shift;
}

owned_parameters random_parameters(index_t channels, generator& random) {
  const real_parameters real = random_real(channels, random);
  const auto zero_point = static_cast<int>(random.between(0, 255));
  const auto epsilon = static_cast<std::uint64_t>(random.between(1, 1000));
  owned_parameters p = rounded(real, zero_point, random_shifts(channels, random), epsilon);
  p.epsilon_fraction = random.between(layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction);
  return p;
}

/// The numbers of a row.
std::vector<int128> numbers_of(const tensor<std::uint8_t>& codes, index_t row, const owned_parameters& p) {
  std::vector<int128> x;
  for (index_t c = 0; c < codes.columns(); ++c) {
    x.push_back((int128{codes(row, c)} - p.zero_point) * power_of_two(p.shift[static_cast<std::size_t>(c)]));
  }
  return x;
}

/// Section 4 of docs/numerics.md up to the normalized values, by divisions in 128 bits.
std::vector<int128> exact_normalized(const tensor<std::uint8_t>& codes, index_t i, const owned_parameters& p) {
  std::vector<int128> x = numbers_of(codes, i, p);
  const exact_layernorm_row row(x, p.view());
  REQUIRE(row.reciprocal <= std::numeric_limits<std::int32_t>::max());
  for (int128& value : x) {
    value = row.normalized(value);
  }
  return x;
}

/// The rest of section 4.
tensor<std::uint8_t> exact_codes(const tensor<std::uint8_t>& codes, const owned_parameters& p) {
  tensor<std::uint8_t> y(codes.rows(), codes.columns());
  for (index_t i = 0; i < codes.rows(); ++i) {
    const std::vector<int128> normalized = exact_normalized(codes, i, p);
    for (std::size_t c = 0; c < normalized.size(); ++c) {
      const int128 scaled = normalized[c] * p.gain[c] + p.bias[c];
      if (scaled >= power_of_two(63) || scaled < -power_of_two(63)) {
        FAIL("the parameters of this test break the contract");
      }
      y(i, static_cast<index_t>(c)) = exact_layernorm_code(normalized[c], p.view(), c);
    }
  }
  return y;
}

void check_layernorm(const tensor<std::uint8_t>& x, const owned_parameters& p, const layout& where = {}) {
  tensor<std::uint8_t> y(x.rows(), x.columns(), where);
  layernorm(x.view(), p.view(), y.view());
  CHECK(first_difference(y.view(), exact_codes(x, p).view()) == "");
  CHECK(y.surroundings_untouched());
}

struct layernorm_shape {
  index_t rows;
  index_t columns;
};

constexpr layernorm_shape layernorm_shapes[] = {
    {0, 7},    {5, 0},   {0, 0},              // no rows, no channels
    {1, 1},    {3, 1},   {2, 2},   {3, 3},    // one channel: always at the mean; the smallest
    {1, 192},  {5, 192}, {1, 384}, {2, 768},  // widths of DeiT and Swin
    {2, 15},   {2, 16},  {3, 17},  {3, 31},   // around registers of 16 bytes,
    {2, 32},   {2, 33},  {2, 63},  {3, 65},   // of 32 and 64
    {1, 4096}, {4097, 3}                      // the widest with room in 32 bits; many tokens
};

TEST_CASE("layernorm: equals the formula in every bit") {
  generator random(29);
  for (const layernorm_shape& shape : layernorm_shapes) {
    CAPTURE(shape.rows, shape.columns);
    const owned_parameters p = random_parameters(shape.columns, random);
    for (const layout& where : layouts) {
      tensor<std::uint8_t> x(shape.rows, shape.columns, where);
      fill(x.view(), values::random, 0, 255, random);
      check_layernorm(x, p, where);
    }
    for (const values what : all_values) {
      tensor<std::uint8_t> x(shape.rows, shape.columns);
      fill(x.view(), what, 0, 255, random);
      check_layernorm(x, p);
    }
  }
}

TEST_CASE("layernorm: equals the formula [variances of every length]") {
  generator random(30);
  for (int bits = 0; bits <= 61; ++bits) {
    // Nearly constant rows: the variance is epsilon and little more.
    owned_parameters p = random_parameters(3, random);
    for (const std::int64_t step : {-1, 0, 1}) {
      p.epsilon = (std::uint64_t{1} << bits) + static_cast<std::uint64_t>(bits == 0 || bits == 61 ? 0 : step);
      tensor<std::uint8_t> x(8, 3);
      fill(x.view(), values::random, 100, 101, random);
      check_layernorm(x, p);
    }
  }
}

TEST_CASE("layernorm: small variances are those of version 1 [no fraction of epsilon]") {
  // Section 4 without its line on small variances, from version 1 of the model files.
  generator random(46);
  for (int round = 0; round < 2000; ++round) {
    const index_t channels = random.between(1, 9);
    owned_parameters p = random_parameters(channels, random);
    p.epsilon = std::uint64_t{1} << random.between(0, 20);
    p.epsilon_fraction = 0;
    tensor<std::uint8_t> x(1, channels), y(1, channels);
    fill(x.view(), values::random, 100, 103, random);
    layernorm(x.view(), p.view(), y.view());
    const std::vector<int128> numbers = numbers_of(x, 0, p);
    const exact_layernorm_row row(numbers, p.view());
    const auto v = static_cast<std::uint64_t>(row.variance) + p.epsilon;
    const int half_length = (bit_length(v) + 1) / 2;
    const int128 reciprocal = (power_of_two(61) - 1) / floor_square_root(int128{v} << (62 - 2 * half_length));
    for (std::size_t c = 0; c < numbers.size(); ++c) {
      const int128 unit = power_of_two(6 + half_length);
      const int128 normalized = floor_divide(row.centred(numbers[c]) * reciprocal + unit / 2, unit);
      REQUIRE(y(0, static_cast<index_t>(c)) == exact_layernorm_code(normalized, p.view(), c));
    }
  }
}

/// Takes the normalized values apart: gain and bias are such that the output is 128 plus the error of the last bit.
void check_last_bit(const tensor<std::uint8_t>& x, owned_parameters p) {
  p.output_shift = 1;
  const std::vector<int128> normalized = exact_normalized(x, 0, p);
  p.gain.assign(normalized.size(), 2);
  p.bias.clear();
  for (const int128 z : normalized) {
    p.bias.push_back(static_cast<std::int64_t>(2 * (128 - z)));
  }
  tensor<std::uint8_t> y(1, x.columns());
  layernorm(x.view(), p.view(), y.view());
  CAPTURE(x.columns(), p.epsilon);
  CHECK(y.memory() == std::vector<std::uint8_t>(normalized.size(), 128));
}

/// Nearly constant rows whose variance, epsilon included, is one of the three numbers around `limit`.
void check_variances_around(std::int64_t limit, std::int64_t fraction, generator& random) {
  for (int round = 0; round < 60; ++round) {
    const index_t channels = random.between(1, 9);
    owned_parameters p = random_parameters(channels, random);
    p.epsilon_fraction = fraction;
    tensor<std::uint8_t> x(1, channels);
    fill(x.view(), values::random, 100, 103, random);
    const auto variance = static_cast<std::int64_t>(exact_layernorm_row(numbers_of(x, 0, p), p.view()).variance);
    p.epsilon = static_cast<std::uint64_t>(std::max<std::int64_t>(limit - variance + round % 3 - 1, 1));
    CAPTURE(limit, fraction, channels, variance);
    check_layernorm(x, p);
    check_last_bit(x, p);
  }
}

TEST_CASE("layernorm: takes the fraction of epsilon for variances below 2^20") {
  generator random(45);
  for (int bits = 0; bits <= 22; ++bits) {
    for (const std::int64_t fraction :
         {layernorm_min_epsilon_fraction, layernorm_min_epsilon_fraction + 1, std::int64_t{-1}, std::int64_t{0},
          std::int64_t{1}, random.between(0, layernorm_max_epsilon_fraction), layernorm_max_epsilon_fraction}) {
      check_variances_around(std::int64_t{1} << bits, fraction, random);
    }
  }
}

TEST_CASE("layernorm: normalized values are exact to the last of their 24 fraction bits") {
  generator random(44);
  for (const index_t channels :
       {index_t{1}, index_t{2}, index_t{3}, index_t{64}, index_t{192}, index_t{768}, index_t{4096}}) {
    for (int i = 0; i < 20; ++i) {
      tensor<std::uint8_t> x(1, channels);
      fill(x.view(), values::random, random.between(0, 128), random.between(128, 255), random);
      check_last_bit(x, random_parameters(channels, random));
    }
  }
}

TEST_CASE("layernorm: normalized values are exact to the last bit [variances that are powers of two]") {
  // Then the deviation may be a power of two as well, and values may lie just below the middle between two.
  for (int exponent = 18; exponent <= 61; ++exponent) {
    for (const int distance : {1, 2, 3, 255}) {
      tensor<std::uint8_t> x(1, 2);
      x(0, 0) = static_cast<std::uint8_t>(distance);
      x(0, 1) = 0;
      const std::uint64_t epsilon = (std::uint64_t{1} << exponent) - static_cast<std::uint64_t>(distance * distance);
      check_last_bit(x, {0, {0, 0}, epsilon, {}, {}, 1});
    }
  }
}

TEST_CASE("layernorm: equals the formula [every zero point, shift and output shift]") {
  generator random(31);
  for (const int zero_point : {0, 1, 128, 254, 255}) {
    for (std::uint8_t shift = 0; shift <= layernorm_max_shift; ++shift) {
      owned_parameters p = random_parameters(7, random);
      p.zero_point = zero_point;
      p.shift.assign(7, shift);
      tensor<std::uint8_t> x(4, 7);
      fill(x.view(), values::random, 0, 255, random);
      check_layernorm(x, p);
    }
  }
  for (int output_shift = 1; output_shift <= 48; ++output_shift) {
    owned_parameters p = random_parameters(7, random);
    p.output_shift = output_shift;
    for (std::size_t c = 0; c < 7; ++c) {
      p.gain[c] = static_cast<std::int32_t>(random.between(-(1 << 29), 1 << 29)) >> std::max(0, 40 - output_shift) / 2;
      p.bias[c] = random.between(0, 255) << output_shift;
    }
    tensor<std::uint8_t> x(4, 7);
    fill(x.view(), values::random, 0, 255, random);
    check_layernorm(x, p);
  }
}

/// One channel is as far from the others as can be: z is sqrt(C - 1), which gamma takes to 120 codes.
void check_outlier(index_t channels, std::uint8_t others, std::uint8_t one, int zero_point, std::uint64_t epsilon) {
  generator random(32);
  real_parameters real;
  const auto count = static_cast<std::size_t>(channels);
  real.gamma.assign(count, 120 / std::sqrt(static_cast<long double>(std::max<index_t>(channels - 1, 1))));
  real.beta.assign(count, 128);
  const owned_parameters p = rounded(real, zero_point, std::vector<std::uint8_t>(count, layernorm_max_shift), epsilon);
  tensor<std::uint8_t> x(1, channels), y(1, channels);
  fill(x.view(), values::smallest, others, others, random);
  x(0, channels / 2) = one;
  CAPTURE(channels, int(others), int(one), zero_point, epsilon);
  check_layernorm(x, p);
  layernorm(x.view(), p.view(), y.view());
  if (epsilon == 1) {
    CHECK(int(y(0, channels / 2)) == (channels == 1 ? 128 : one > others ? 248 : 8));
  }
}

TEST_CASE("layernorm: equals the formula [outliers, up to the most channels and the largest epsilon]") {
  for (const index_t channels :
       {index_t{1}, index_t{2}, index_t{7}, index_t{192}, index_t{4096}, layernorm_max_channels}) {
    check_outlier(channels, 0, 255, 0, 1);
    check_outlier(channels, 255, 0, 255, 1);
    check_outlier(channels, 255, 0, 0, layernorm_max_epsilon);
  }
}

TEST_CASE("layernorm: equals the formula [the largest variance of the most channels]") {
  constexpr index_t channels = layernorm_max_channels;
  generator random(33);
  real_parameters real;
  real.gamma.assign(channels, 60);
  real.beta.assign(channels, 128);
  for (const std::uint64_t epsilon : {std::uint64_t{1}, layernorm_max_epsilon}) {
    const owned_parameters p = rounded(real, 0, std::vector<std::uint8_t>(channels, layernorm_max_shift), epsilon);
    tensor<std::uint8_t> x(1, channels);
    fill(x.view(), values::alternating, 0, 255, random);
    check_layernorm(x, p);
  }
}

TEST_CASE("layernorm: constant rows become beta [any epsilon]") {
  generator random(34);
  real_parameters real = random_real(192, random);
  for (const std::uint64_t epsilon : {std::uint64_t{1}, std::uint64_t{1000}, layernorm_max_epsilon}) {
    owned_parameters p = rounded(real, 77, std::vector<std::uint8_t>(192, 2), epsilon);
    for (const int code : {0, 77, 255}) {
      tensor<std::uint8_t> x(2, 192), y(2, 192);
      fill(x.view(), values::smallest, code, code, random);
      layernorm(x.view(), p.view(), y.view());
      index_t wrong = 0;
      for (index_t c = 0; c < 192; ++c) {
        wrong += y(1, c) != std::lround(real.beta[static_cast<std::size_t>(c)]) ? 1 : 0;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("layernorm: gives beta, clamped at both ends [no gain]") {
  real_parameters real;
  real.gamma.assign(4, 0);
  real.beta = {-3, 0.25L, 254.75L, 300};
  const owned_parameters p = rounded(real, 10, {0, 1, 2, 3}, 1);
  CHECK(p.output_shift == 48);
  tensor<std::uint8_t> x(1, 4), y(1, 4);
  generator random(35);
  fill(x.view(), values::random, 0, 255, random);
  layernorm(x.view(), p.view(), y.view());
  CHECK(y.memory() == std::vector<std::uint8_t>{0, 0, 255, 255});
}

TEST_CASE("layernorm: works in place") {
  generator random(36);
  for (const layout& where : layouts) {
    const owned_parameters p = random_parameters(33, random);
    tensor<std::uint8_t> x(7, 33, where);
    fill(x.view(), values::random, 0, 255, random);
    const tensor<std::uint8_t> expected = exact_codes(x, p);
    layernorm(x.view(), p.view(), x.view());
    CHECK(first_difference(x.view(), expected.view()) == "");
    CHECK(x.surroundings_untouched());
  }
}

TEST_CASE("layernorm: needs no data for rows of no channels") {
  const owned_parameters p{0, {}, 1, {}, {}, 48};
  for (const index_t stride : {index_t{0}, index_t{5}}) {
    const matrix_view<std::uint8_t> nothing(nullptr, 3, 0, stride);
    layernorm(matrix_view<const std::uint8_t>(nothing), p.view(), nothing);
  }
  SUCCEED("nothing was read");
}

/// Codes compared with (x - mean) / deviation * gamma / s_y + beta / s_y + zp_y in 64 significant bits.
struct precision {
  std::int64_t codes = 0;
  std::int64_t different = 0;
  std::int64_t farther = 0;  ///< by more than one code
};

precision compare_with_reals(index_t rows, index_t channels, generator& random) {
  const real_parameters real = random_real(channels, random);
  const owned_parameters p = rounded(real, 128, random_shifts(channels, random), 7);
  tensor<std::uint8_t> x(rows, channels), y(rows, channels);
  for (index_t i = 0; i < rows; ++i) {
    const std::int64_t spread = random.between(1, 42);  // bell-shaped codes, narrow and wide
    for (index_t c = 0; c < channels; ++c) {
      x(i, c) = static_cast<std::uint8_t>(128 + random.between(-spread, spread) + random.between(-spread, spread) +
                                          random.between(-spread, spread));
    }
  }
  layernorm(x.view(), p.view(), y.view());
  precision result;
  for (index_t i = 0; i < rows; ++i) {
    const std::vector<int128> numbers = numbers_of(x, i, p);
    const exact_layernorm_row row(numbers, p.view());
    const long double deviation = row.deviation(p.view());
    for (index_t c = 0; c < channels; ++c) {
      const auto channel = static_cast<std::size_t>(c);
      const long double exact =
          static_cast<long double>(row.centred(numbers[channel])) / deviation * real.gamma[channel] +
          real.beta[channel];
      const int expected = static_cast<int>(std::clamp(std::rint(exact), 0.0L, 255.0L));
      ++result.codes;
      result.different += y(i, c) != expected ? 1 : 0;
      result.farther += std::abs(y(i, c) - expected) > 1 ? 1 : 0;
    }
  }
  return result;
}

TEST_CASE("layernorm: is within one code of infinite precision, and differs in fewer than 1 of 100,000 codes") {
  static_assert(std::numeric_limits<long double>::digits >= 64, "this oracle needs more bits than double has");
  generator random(37);
  precision all;
  for (const index_t channels : {index_t{3}, index_t{192}, index_t{384}, index_t{768}, index_t{1024}, index_t{4096}}) {
    const precision some = compare_with_reals(150'000 / channels, channels, random);
    all.codes += some.codes;
    all.different += some.different;
    all.farther += some.farther;
  }
  INFO(all.different << " of " << all.codes << " codes differ from infinite precision");
  CHECK(all.codes > 890'000);
  CHECK(all.farther == 0);
  CHECK(all.different * 100'000 < all.codes);
}

}  // namespace
}  // namespace intact_test::layernorm_test
