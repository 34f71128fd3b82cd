#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "exact_layernorm.hpp"
#include "intact/layernorm.hpp"
#include "tensor.hpp"

// layernorm of s16 codes: the residual stream of the precise recipe.

namespace intact_test::layernorm_s16_test {
namespace {

/// LayerNorm parameters that own their arrays, and the real numbers that they were rounded from.
struct s16_parameters {
  std::vector<std::uint8_t> shift;
  std::uint64_t epsilon = 1;
  std::vector<std::int32_t> gain;
  std::vector<std::int64_t> bias;
  int output_shift = 48;
  std::vector<long double> gamma;  ///< over the output's scale
  std::vector<long double> beta;   ///< over the output's scale, plus its zero point
  std::int64_t epsilon_fraction = 0;

  layernorm_parameters view() const { return {0, shift, epsilon, gain, bias, output_shift, epsilon_fraction}; }

  void add_channel(long double channel_gamma, long double channel_beta, int channel_shift) {
    shift.push_back(static_cast<std::uint8_t>(channel_shift));
    gamma.push_back(channel_gamma);
    beta.push_back(channel_beta);
  }

  /// gain and bias as section 4 of docs/numerics.md rounds them.
  void round() {
    long double largest = 0;
    for (const long double g : gamma) {
      largest = std::max(largest, std::fabs(g));
    }
    while (std::rint(std::ldexp(largest, output_shift - 24)) >= std::ldexp(1.0L, 30)) {
      --output_shift;
    }
    for (std::size_t c = 0; c < gamma.size(); ++c) {
      gain.push_back(static_cast<std::int32_t>(std::rint(std::ldexp(gamma[c], output_shift - 24))));
      bias.push_back(static_cast<std::int64_t>(std::rint(std::ldexp(beta[c], output_shift))) +
                     (std::int64_t{1} << (output_shift - 1)));
    }
  }
};

/// Three deviations fill the codes, around their middle; shifts up to the given one.
s16_parameters random_parameters(index_t channels, int largest_shift, generator& random) {
  s16_parameters p;
  p.epsilon = static_cast<std::uint64_t>(random.between(1, 1'000'000));
  p.epsilon_fraction = random.between(layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction);
  for (index_t c = 0; c < channels; ++c) {
    const auto sign = static_cast<long double>(2 * random.between(0, 1) - 1);
    p.add_channel(sign * static_cast<long double>(random.between(20'000, 80'000)) / 1000,
                  static_cast<long double>(random.between(100'000, 156'000)) / 1000,
                  static_cast<int>(random.between(0, largest_shift)));
  }
  p.round();
  return p;
}

/// The numbers of a row.
std::vector<int128> numbers_of(const tensor<std::int16_t>& codes, index_t row, const s16_parameters& p) {
  std::vector<int128> x;
  for (index_t c = 0; c < codes.columns(); ++c) {
    x.push_back(int128{codes(row, c)} * power_of_two(p.shift[static_cast<std::size_t>(c)]));
  }
  return x;
}

/// Codes that were compared: with the formula, and with infinite precision.
struct precision {
  std::int64_t codes = 0;
  std::int64_t wrong = 0;
  std::int64_t different = 0;
  std::int64_t farther = 0;   ///< by more than one code
  std::int64_t extremes = 0;  ///< codes 0 and 255

  void operator+=(const precision& other) {
    codes += other.codes;
    wrong += other.wrong;
    different += other.different;
    farther += other.farther;
    extremes += other.extremes;
  }
};

/// Section 4 of docs/numerics.md by divisions in 128 bits, and (x - mean) / deviation * gamma + beta in 64 significant
/// bits, for one row of codes y.
precision compare_row(const std::vector<int128>& x, const s16_parameters& p, const std::uint8_t* y) {
  const exact_layernorm_row row(x, p.view());
  const long double deviation = row.deviation(p.view());
  precision result;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const int128 normalized = row.normalized(x[c]);
    const int128 scaled = normalized * p.gain[c] + p.bias[c];
    const std::uint8_t code = exact_layernorm_code(normalized, p.view(), c);
    const long double real = static_cast<long double>(row.centred(x[c])) / deviation * p.gamma[c] + p.beta[c];
    const int nearest = static_cast<int>(std::clamp(std::rint(real), 0.0L, 255.0L));
    ++result.codes;
    result.wrong += y[c] != code || scaled >= power_of_two(63) || scaled < -power_of_two(63) ? 1 : 0;
    result.different += code != nearest ? 1 : 0;
    result.farther += code - nearest > 1 || nearest - code > 1 ? 1 : 0;
    result.extremes += code == 0 || code == 255 ? 1 : 0;
  }
  return result;
}

precision compare(const tensor<std::int16_t>& x, const s16_parameters& p, const layout& where = {}) {
  tensor<std::uint8_t> y(x.rows(), x.columns(), where);
  layernorm(x.view(), p.view(), y.view());
  CHECK(y.surroundings_untouched());
  precision all;
  for (index_t i = 0; i < x.rows(); ++i) {
    all += compare_row(numbers_of(x, i, p), p, y.view().row_block(i, 1).data);
  }
  return all;
}

/// Bell-shaped codes around 0, narrow and wide, with an outlier in some rows as trained models have them.
void fill_stream(tensor<std::int16_t>& x, generator& random) {
  for (index_t i = 0; i < x.rows(); ++i) {
    const std::int64_t spread = std::int64_t{1} << random.between(2, 13);
    for (index_t c = 0; c < x.columns(); ++c) {
      const std::int64_t code =
          random.between(-spread, spread) + random.between(-spread, spread) + random.between(-spread, spread);
      x(i, c) = static_cast<std::int16_t>(code);
    }
    if (i % 4 == 0 && x.columns() != 0) {
      x(i, random.between(0, x.columns() - 1)) = static_cast<std::int16_t>(i % 8 == 0 ? 32767 : -32768);
    }
  }
}

TEST_CASE("layernorm: equals the formula, and within one code of infinite precision [2 million s16 elements]") {
  static_assert(std::numeric_limits<long double>::digits >= 64, "this oracle needs more bits than double has");
  generator random(100);
  precision all;
  for (const index_t channels : {3, 64, 192, 384, 768, 1024, 4095, 4096}) {
    for (const int largest_shift : {0, layernorm_max_shift}) {
      const index_t rows = 130'000 / channels + 1;
      tensor<std::int16_t> x(rows, channels);
      fill_stream(x, random);
      all += compare(x, random_parameters(channels, largest_shift, random));
    }
  }
  CAPTURE(all.codes, all.different);
  CHECK(all.codes > 2'000'000);
  CHECK(all.wrong == 0);
  CHECK(all.farther == 0);
  CHECK(all.different * 100'000 < all.codes);
  CHECK(all.extremes * 10 < all.codes);  // most codes are not clamped
}

TEST_CASE("layernorm: reads any stride and writes only its own elements [s16]") {
  generator random(101);
  for (const auto& [rows, channels] : {std::pair<index_t, index_t>{0, 7},
                                       {5, 0},
                                       {0, 0},
                                       {1, 1},
                                       {3, 1},
                                       {2, 2},
                                       {3, 17},
                                       {2, 33},
                                       {3, 65},
                                       {197, 192}}) {
    for (const layout& where : layouts) {
      tensor<std::int16_t> x(rows, channels, where);
      fill_stream(x, random);
      CAPTURE(rows, channels, where.gap);
      CHECK(compare(x, random_parameters(channels, 3, random), where).wrong == 0);
    }
  }
}

TEST_CASE("layernorm: takes the fraction of epsilon for variances below 2^20 [s16]") {
  generator random(107);
  for (const std::int64_t limit : {std::int64_t{1}, std::int64_t{1} << 10, std::int64_t{1} << 20}) {
    for (int round = 0; round < 200; ++round) {
      const index_t channels = random.between(2, 9);
      s16_parameters p = random_parameters(channels, 3, random);
      tensor<std::int16_t> x(1, channels);
      const std::int64_t least = random.between(-32768, 32764);
      fill(x.view(), values::random, least, least + 3, random);
      const auto variance = static_cast<std::int64_t>(exact_layernorm_row(numbers_of(x, 0, p), p.view()).variance);
      p.epsilon = static_cast<std::uint64_t>(std::max<std::int64_t>(limit - variance + round % 3 - 1, 1));
      CAPTURE(channels, variance, p.epsilon, p.epsilon_fraction);
      CHECK(compare(x, p).wrong == 0);
    }
  }
}

/// Parameters whose channels are alike.
s16_parameters equal_channels(index_t channels, long double gamma, long double beta, int shift, std::uint64_t epsilon) {
  s16_parameters p;
  p.epsilon = epsilon;
  for (index_t c = 0; c < channels; ++c) {
    p.add_channel(gamma, beta, shift);
  }
  p.round();
  return p;
}

TEST_CASE("layernorm: equals the formula [s16, the largest variances]") {
  generator random(102);
  for (const index_t channels : {1, 2, 3, 192, 4095, 4096}) {
    for (const int shift : {0, 3}) {
      for (const std::uint64_t epsilon : {std::uint64_t{1}, std::uint64_t{12345}, layernorm_max_epsilon}) {
        const s16_parameters p = equal_channels(channels, 60, 128, shift, epsilon);
        tensor<std::int16_t> x(2, channels);
        fill(x.view(), values::alternating, -32768, 32767, random);
        CAPTURE(channels, shift, epsilon);
        CHECK(compare(x, p).wrong == 0);
        CHECK(compare(x, p).farther == 0);
        if (channels % 2 == 0 && epsilon == 1) {
          // Every value is one deviation from the mean.
          tensor<std::uint8_t> codes(2, channels);
          layernorm(x.view(), p.view(), codes.view());
          CHECK(int{codes(0, 0)} == 68);
          CHECK(int{codes(0, 1)} == 188);
        }
      }
    }
  }
}

TEST_CASE("layernorm: equals the formula [s16, one channel at the other end than all others]") {
  generator random(103);
  for (const index_t channels : {2, 3, 192, 4096}) {
    for (const auto& [others, one] : {std::pair{-32768, 32767}, std::pair{32767, -32768}}) {
      const long double gamma = 120 / std::sqrt(static_cast<long double>(channels - 1));
      const s16_parameters p = equal_channels(channels, gamma, 128, 3, 1);
      tensor<std::int16_t> x(1, channels);
      tensor<std::uint8_t> y(1, channels);
      fill(x.view(), values::smallest, others, others, random);
      x(0, channels / 2) = static_cast<std::int16_t>(one);
      CAPTURE(channels, one);
      CHECK(compare(x, p).wrong == 0);
      layernorm(x.view(), p.view(), y.view());
      CHECK(int{y(0, channels / 2)} == (one > 0 ? 248 : 8));
    }
  }
}

TEST_CASE("layernorm: constant rows, and rows of one channel, become beta [s16]") {
  generator random(104);
  for (const index_t channels : {1, 2, 192, 4096}) {
    const s16_parameters p = equal_channels(channels, -70, 99.25L, 3, 1);
    for (const int code : {-32768, -1, 0, 1, 32767}) {
      tensor<std::int16_t> x(2, channels);
      tensor<std::uint8_t> y(2, channels);
      fill(x.view(), values::smallest, code, code, random);
      layernorm(x.view(), p.view(), y.view());
      CHECK(y.memory() == std::vector<std::uint8_t>(static_cast<std::size_t>(2 * channels), 99));
    }
  }
}

TEST_CASE("layernorm: normalizes s16 rows of u8 codes as u8 rows") {
  generator random(105);
  const s16_parameters p = random_parameters(192, 3, random);
  tensor<std::uint8_t> bytes(5, 192), of_bytes(5, 192), of_words(5, 192);
  tensor<std::int16_t> words(5, 192);
  fill(bytes.view(), values::random, 0, 255, random);
  for (index_t i = 0; i < 5; ++i) {
    for (index_t c = 0; c < 192; ++c) {
      words(i, c) = static_cast<std::int16_t>(bytes(i, c) - 131);
    }
  }
  layernorm_parameters of_u8 = p.view();
  of_u8.zero_point = 131;
  layernorm(bytes.view(), of_u8, of_bytes.view());
  layernorm(words.view(), p.view(), of_words.view());
  CHECK(of_words.memory() == of_bytes.memory());
}

TEST_CASE("layernorm: refuses zero points, more than 4,096 channels and shapes that do not fit [s16]") {
  generator random(106);
  const s16_parameters good = random_parameters(3, 3, random);
  tensor<std::int16_t> x(2, 3);
  tensor<std::uint8_t> y(2, 3);
  fill(x.view(), values::random, -32768, 32767, random);
  const auto call = [&](const layernorm_parameters& p) { layernorm(x.view(), p, y.view()); };
  layernorm_parameters p = good.view();
  p.zero_point = 1;
  CHECK_THROWS_WITH(call(p), "intact::layernorm: zero_point is 1; it must be at most 0");
  p.zero_point = -1;
  CHECK_THROWS_WITH(call(p), "intact::layernorm: zero_point is -1; it must be at least 0");
  p = good.view();
  p.gain = p.gain.first(2);
  CHECK_THROWS_WITH(call(p), "intact::layernorm: size of gain is 2; it must be equal to 3");
  const std::vector<std::uint8_t> shifts{0, 4, 0};
  p = good.view();
  p.shift = shifts;
  CHECK_THROWS_WITH(call(p), "intact::layernorm: shift of a channel is 4; it must be at most 3");
  CHECK_THROWS_WITH(layernorm(x.view().prefix(1, 3), good.view(), y.view()),
                    "intact::layernorm: y is 2 x 3; it must be 1 x 3");
  CHECK(y.memory() == tensor<std::uint8_t>(2, 3).memory());
  CHECK_NOTHROW(call(good.view()));

  const s16_parameters wide = random_parameters(4097, 0, random);
  tensor<std::int16_t> wide_x(1, 4097);
  tensor<std::uint8_t> wide_y(1, 4097);
  fill(wide_x.view(), values::random, 0, 255, random);
  CHECK_THROWS_WITH(layernorm(wide_x.view(), wide.view(), wide_y.view()),
                    "intact::layernorm: number of normalized channels is 4097; it must be at most 4096");
  CHECK(wide_y.memory() == tensor<std::uint8_t>(1, 4097).memory());
}

}  // namespace
}  // namespace intact_test::layernorm_s16_test
