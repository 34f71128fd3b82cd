#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/layernorm.hpp"
#include "intact/rmsnorm.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

// The builder of LayerNorm and RMSNorm parameters: each integer against its formula, and both operations with built
// parameters against real arithmetic. Sums of integers are exact there, the rest is long double, whose 64 bits leave an error of
// about 2^-50 codes.

namespace intact_test::layernorm_builder_test {
namespace {

/// A float LayerNorm with arrays of its own.
struct float_layernorm {
  std::vector<float> gamma, beta;
  std::vector<std::uint8_t> shift;
  double epsilon = 1e-6;
  double input_scale = 0.02;
  int input_zero_point = 128;
  double output_scale = 0.03;
  int output_zero_point = 128;

  explicit float_layernorm(std::size_t channels) : gamma(channels, 1), beta(channels, 0), shift(channels, 0) {}

  layernorm_spec target() const {
    return {gamma, beta, epsilon, input_scale, input_zero_point, shift, output_scale, output_zero_point};
  }
};

/// The result of build_layernorm.
struct built_layernorm {
  std::vector<std::int32_t> gain;
  std::vector<std::int64_t> bias;
  layernorm_parameters parameters;

  explicit built_layernorm(const float_layernorm& layer)
      : gain(layer.gamma.size()), bias(layer.gamma.size()), parameters(build_layernorm(layer.target(), gain, bias)) {}
  built_layernorm(const built_layernorm&) = delete;
  built_layernorm& operator=(const built_layernorm&) = delete;
};

/// The message with which a layer is refused, nothing having been written; empty if it is built.
std::string refusal_of(const layernorm_spec& target, std::size_t gains, std::size_t biases) {
  std::vector<std::int32_t> gain(gains, -7);
  std::vector<std::int64_t> bias(biases, -8);
  std::string message = refusal([&] { build_layernorm(target, gain, bias); });
  if (!message.empty()) {
    CHECK(gain == std::vector<std::int32_t>(gains, -7));
    CHECK(bias == std::vector<std::int64_t>(biases, -8));
  }
  return message;
}

std::string refusal_of(const float_layernorm& layer) {
  return refusal_of(layer.target(), layer.gamma.size(), layer.gamma.size());
}

float uniform(generator& random, double low, double high) {
  return static_cast<float>(low + (high - low) * static_cast<double>(random.between(0, 1 << 24)) / (1 << 24));
}

/// A layer such as models have: gains around 1 and up to 30 times smaller, an output scale for about four deviations.
float_layernorm random_layer(generator& random, std::size_t channels) {
  float_layernorm layer(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    layer.gamma[c] = uniform(random, 0.05, 1.5) * (random.between(0, 7) == 0 ? -1.0F : 1.0F);
    layer.beta[c] = uniform(random, -1, 1);
    layer.shift[c] = static_cast<std::uint8_t>(random.between(0, 3));
  }
  layer.epsilon = random.between(0, 1) == 0 ? 1e-6 : 1e-5;
  layer.input_scale = std::exp(static_cast<double>(uniform(random, std::log(0.002), std::log(0.1))));
  layer.input_zero_point = static_cast<int>(random.between(0, 255));
  layer.output_scale = static_cast<double>(uniform(random, 0.015, 0.06));
  layer.output_zero_point = static_cast<int>(random.between(0, 255));
  return layer;
}

enum class row_kind { random, bell, near_constant, constant, one_outlier, extremes };

void fill_row(generator& random, row_kind kind, std::span<std::uint8_t> row) {
  const int middle = static_cast<int>(random.between(1, 254));
  for (std::uint8_t& code : row) {
    const auto bits = static_cast<int>(random.between(0, 255));
    switch (kind) {
      case row_kind::random:
        code = static_cast<std::uint8_t>(bits);
        break;
      case row_kind::bell:
        code = static_cast<std::uint8_t>((bits + random.between(0, 255) + random.between(0, 255)) / 3);
        break;
      case row_kind::near_constant:
        code = static_cast<std::uint8_t>(middle + bits % 3 - 1);
        break;
      case row_kind::constant:
      case row_kind::one_outlier:
        code = static_cast<std::uint8_t>(middle);
        break;
      case row_kind::extremes:
        code = bits % 2 == 0 ? 0 : 255;
        break;
    }
  }
  if (kind == row_kind::one_outlier && !row.empty()) {
    row[static_cast<std::size_t>(random.between(0, std::ssize(row) - 1))] =
        static_cast<std::uint8_t>(random.between(0, 255));
  }
}

/// How codes compare with infinite precision.
struct comparison {
  std::int64_t elements = 0;
  std::int64_t different = 0;
  std::int64_t beyond_bound = 0;  ///< farther away than the inequality of docs/numerics.md, section 4, allows
  int largest_difference = 0;

  void operator+=(const comparison& other) {
    elements += other.elements;
    different += other.different;
    beyond_bound += other.beyond_bound;
    largest_difference = std::max(largest_difference, other.largest_difference);
  }
  double rate() const {
    return static_cast<double>(different) / static_cast<double>(std::max<std::int64_t>(elements, 1));
  }
};

std::ostream& operator<<(std::ostream& out, const comparison& seen) {
  return out << seen.different << " of " << seen.elements << " codes differ (" << seen.rate() << "), by at most "
             << seen.largest_difference;
}

/// The epsilon of a layer in units of C^2 times the variance, not rounded.
long double real_epsilon(const float_layernorm& layer) {
  const auto channels = static_cast<long double>(layer.gamma.size());
  const long double scale = layer.input_scale;
  return channels * channels * static_cast<long double>(layer.epsilon) / (scale * scale);
}

/// LayerNorm or RMSNorm.
template <normalization Kind, class Code>
void normalize(matrix_view<const Code> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y) {
  if constexpr (Kind == normalization::layernorm) {
    layernorm(x, p, y);
  } else {
    rmsnorm(x, p, y);
  }
}

/// Compares one row of codes with (x - mean) / deviation * gamma / s_y + beta / s_y + zp_y for the layer's own epsilon;
/// for RMSNorm the mean is 0.
template <normalization Kind = normalization::layernorm, class Code>
comparison compare_row(std::span<const Code> codes, const float_layernorm& layer, const layernorm_parameters& p,
                       std::span<const std::uint8_t> y) {
  const auto channels = static_cast<std::int64_t>(codes.size());
  const auto x = [&](std::size_t c) {
    return std::int64_t{codes[c] - layer.input_zero_point} * (std::int64_t{1} << layer.shift[c]);
  };
  std::int64_t sum = 0, squares = 0;
  for (std::size_t c = 0; c < codes.size(); ++c) {
    sum += Kind == normalization::layernorm ? x(c) : 0;
    squares += x(c) * x(c);
  }
  const std::int64_t variance = channels * squares - sum * sum;
  const bool is_small = static_cast<std::uint64_t>(variance) + p.epsilon < std::uint64_t{1} << 20;
  const long double rate =
      std::ldexp(1.0L, -29) + (is_small ? 0 : 1 / (static_cast<long double>(variance) + p.epsilon));
  const long double deviation = std::sqrt(static_cast<long double>(variance) + real_epsilon(layer));
  const long double output_scale = layer.output_scale;
  comparison seen;
  for (std::size_t c = 0; c < codes.size(); ++c) {
    const auto centred = static_cast<long double>(channels * x(c) - sum);
    const long double normalized = variance == 0 ? 0 : centred / deviation;
    const long double gain = static_cast<long double>(layer.gamma[c]) / output_scale;
    const long double beta = static_cast<long double>(layer.beta[c]) / output_scale;
    const long double value = normalized * gain + beta + layer.output_zero_point;
    const int exact = static_cast<int>(std::clamp(std::floor(value + 0.5L), 0.0L, 255.0L));
    const int difference = std::abs(exact - y[c]);

    const long double z = std::fabs(normalized), g = std::fabs(gain);
    const long double bound = g * (std::ldexp(1.0L, -25) + z * rate) + (z + 1) * std::ldexp(1.0L, 23 - p.output_shift) +
                              std::ldexp(0.5L, -p.output_shift) +
                              std::ldexp(g * z + std::fabs(beta) + 256, -50);  // what double and long double round
    const long double distance = std::fabs(std::clamp(value, 0.0L, 255.0L) - y[c]);
    seen += {1, difference != 0 ? 1 : 0, distance > 0.5L + bound ? 1 : 0, difference};
  }
  return seen;
}

/// Rows of random layers, of at least as many elements as asked for.
template <normalization Kind>
comparison measure_accuracy(generator& random, std::size_t channels, row_kind kind, std::int64_t elements) {
  comparison seen;
  std::vector<std::uint8_t> x(channels), y(channels);
  const auto columns = static_cast<index_t>(channels);
  while (seen.elements < elements) {
    const float_layernorm layer = random_layer(random, channels);
    const built_layernorm built(layer);
    for (int row = 0; row < 16; ++row) {
      fill_row(random, kind, x);
      normalize<Kind, std::uint8_t>({x.data(), 1, columns}, built.parameters, {y.data(), 1, columns});
      seen += compare_row<Kind, std::uint8_t>(x, layer, built.parameters, y);
    }
  }
  return seen;
}

/// Checks every integer of a built layer against docs/numerics.md, section 4.
void check_definition(const float_layernorm& layer, const built_layernorm& built) {
  const int k = built.parameters.output_shift, fraction_bits = k - 24;
  REQUIRE(k >= 1);
  REQUIRE(k <= 48);
  long double largest_gain = 0;
  std::int64_t largest_built_gain = 0;
  for (std::size_t c = 0; c < layer.gamma.size(); ++c) {
    CAPTURE(c, layer.gamma[c], layer.beta[c], layer.output_scale, k);
    const long double gain = static_cast<long double>(layer.gamma[c]) / layer.output_scale;
    CHECK(std::fabs(built.gain[c] - std::ldexp(gain, fraction_bits)) <= 0.5L + 1e-6L);
    largest_gain = std::max(largest_gain, std::fabs(gain));
    largest_built_gain = std::max<std::int64_t>(largest_built_gain, std::abs(std::int64_t{built.gain[c]}));

    // the builder computes in double precision: 52 bits of the bias, of which the first nine are whole codes
    const long double bias = static_cast<long double>(layer.beta[c]) / layer.output_scale + layer.output_zero_point;
    const long double rounding = 0.5L + std::ldexp(std::fabs(bias) + 256, k - 52);
    const long double half = std::ldexp(0.5L, k);
    CHECK(std::fabs(static_cast<long double>(built.bias[c]) - half - std::ldexp(bias, k)) <= rounding);
  }
  CHECK(largest_built_gain < std::int64_t{1} << 30);
  const bool one_more_fits = std::rint(std::ldexp(largest_gain, fraction_bits + 1)) < std::ldexp(1.0L, 30);
  CHECK((k == 48 || !one_more_fits));

  const long double epsilon = std::max(1.0L, std::rint(real_epsilon(layer)));
  CHECK(std::fabs(static_cast<long double>(built.parameters.epsilon) - epsilon) <= std::ldexp(epsilon, -50));
  if (epsilon < std::ldexp(1.0L, 20)) {  // beyond, no variance is small
    const long double fraction = std::ldexp(real_epsilon(layer) - epsilon, 30);
    CHECK(std::fabs(static_cast<long double>(built.parameters.epsilon_fraction) - fraction) <= 1);
  }
  CHECK(built.parameters.zero_point == layer.input_zero_point);
  CHECK(built.parameters.shift.data() == layer.shift.data());
  CHECK(built.parameters.gain.data() == built.gain.data());
  CHECK(built.parameters.bias.data() == built.bias.data());
}

TEST_CASE("build_layernorm: gives the integers of the definition [random layers]", "[layernorm_builder]") {
  generator random(1);
  for (const std::size_t channels : std::array<std::size_t, 7>{0, 1, 2, 7, 48, 192, 1024}) {
    for (int i = 0; i < 20; ++i) {
      float_layernorm layer = random_layer(random, channels);
      layer.output_scale *= std::exp2(static_cast<double>(uniform(random, -20, 10)));
      for (float& beta : layer.beta) {
        beta *= static_cast<float>(std::min(1.0, layer.output_scale * 1000));
      }
      check_definition(layer, built_layernorm(layer));
    }
  }
}

TEST_CASE("build_layernorm: gives the largest gain 30 bits", "[layernorm_builder]") {
  struct {
    float gamma;
    double output_scale;
    int output_shift;
  } const cases[] = {{1, 1, 48},
                     {63.9999F, 1, 48},
                     {64, 1, 47},  // 64 * 2^24 is not below 2^30
                     {-64, 1, 47},
                     {1, 1 / 127.9999, 47},
                     {1, 1 / 127.9999999999, 46},  // times 2^23 rounds to 2^30
                     {1, 1 / 128.0, 46},
                     {1, std::ldexp(1.0, -40), 13},
                     {1, std::ldexp(1.0, -52), 1}};
  for (const auto& [gamma, output_scale, output_shift] : cases) {
    float_layernorm layer(3);
    layer.gamma = {0, gamma, gamma / 3};
    layer.output_scale = output_scale;
    const built_layernorm built(layer);
    CAPTURE(gamma, output_scale);
    CHECK(built.parameters.output_shift == output_shift);
    check_definition(layer, built);
  }
}

TEST_CASE("build_layernorm: computes beta if gamma is zero", "[layernorm_builder]") {
  generator random(2);
  float_layernorm layer = random_layer(random, 64);
  std::fill(layer.gamma.begin(), layer.gamma.end(), 0.0F);
  layer.output_scale = 0.01;
  const built_layernorm built(layer);
  CHECK(built.parameters.output_shift == 48);
  CHECK(built.gain == std::vector<std::int32_t>(64, 0));
  check_definition(layer, built);
  std::vector<std::uint8_t> x(64), y(64);
  for (const row_kind kind : {row_kind::random, row_kind::constant}) {
    fill_row(random, kind, x);
    layernorm({x.data(), 1, 64}, built.parameters, {y.data(), 1, 64});
    for (std::size_t c = 0; c < 64; ++c) {
      const double value = static_cast<double>(layer.beta[c]) / layer.output_scale + layer.output_zero_point;
      CHECK(y[c] == std::clamp(std::rint(value), 0.0, 255.0));
    }
  }
}

TEST_CASE("build_rmsnorm: builds the parameters of a LayerNorm, an empty beta being 0", "[layernorm_builder]") {
  generator random(9);
  float_layernorm layer = random_layer(random, 33);
  std::vector<std::int32_t> gain(33);
  std::vector<std::int64_t> bias(33);
  const auto equals = [&](const built_layernorm& expected) {
    const layernorm_parameters built = build_rmsnorm(layer.target(), gain, bias);
    return gain == expected.gain && bias == expected.bias && built.epsilon == expected.parameters.epsilon &&
           built.epsilon_fraction == expected.parameters.epsilon_fraction &&
           built.output_shift == expected.parameters.output_shift &&
           built.zero_point == expected.parameters.zero_point && built.shift.data() == layer.shift.data();
  };
  CHECK(equals(built_layernorm(layer)));
  layer.beta.assign(33, 0);
  const built_layernorm without_beta(layer);
  layer.beta.clear();
  CHECK(equals(without_beta));
  layer.gamma[7] = std::numeric_limits<float>::infinity();
  CHECK(mentions(refusal([&] { build_rmsnorm(layer.target(), gain, bias); }),
                 "intact::build_rmsnorm: channel 7 has gamma inf and beta 0"));
  layer.beta.assign(32, 0);
  CHECK(mentions(refusal([&] { build_rmsnorm(layer.target(), gain, bias); }),
                 "intact::build_rmsnorm: size of beta is 32"));
}

TEST_CASE("build_layernorm: gives epsilon in units of the variance", "[layernorm_builder]") {
  struct {
    std::size_t channels;
    double epsilon;
    double input_scale;
    std::uint64_t expected;
    std::int64_t fraction;                                   ///< in units of 2^-30
  } const cases[] = {{1, 1e-6, 0.1, 1, 107374 - (1 << 30)},  // 10^-4: never zero
                     {192, 0, 0.1, 1, -(1 << 30)},
                     {0, 1e-6, 0.1, 1, -(1 << 30)},
                     {2, 0.625, 1, 2, 1 << 29},  // halves to even
                     {2, 0.875, 1, 4, -(1 << 29)},
                     {192, 1e-6, 0.02, 92, 171798692},  // 92.16
                     {768, 1e-5, 0.003, 655360, 0},     // exactly
                     {16, 1.0, std::ldexp(1.0, -26), std::uint64_t{1} << 60, 0}};
  for (const auto& [channels, epsilon, input_scale, expected, fraction] : cases) {
    float_layernorm layer(channels);
    layer.epsilon = epsilon;
    layer.input_scale = input_scale;
    CAPTURE(channels, epsilon, input_scale);
    const built_layernorm built(layer);
    CHECK(built.parameters.epsilon == expected);
    CHECK(built.parameters.epsilon_fraction == fraction);
  }
}

template <normalization Kind>
void check_accuracy(const char* name) {
  generator random(3);
  comparison all;
  for (const std::size_t channels : std::array<std::size_t, 12>{1, 2, 3, 4, 7, 48, 192, 384, 768, 1024, 3072, 4096}) {
    for (const row_kind kind : {row_kind::random, row_kind::bell, row_kind::near_constant, row_kind::constant,
                                row_kind::one_outlier, row_kind::extremes}) {
      const comparison seen = measure_accuracy<Kind>(random, channels, kind, 400'000);
      CAPTURE(channels, static_cast<int>(kind));
      CHECK(seen.largest_difference <= 1);
      CHECK(seen.beyond_bound == 0);
      CHECK(seen.rate() <= 1e-5);
      all += seen;
    }
  }
  std::cout << name << ": " << all << std::endl;
  CHECK(all.elements > 10'000'000);
  CHECK(all.rate() <= 5e-6);
}

TEST_CASE("build_layernorm: codes are within one of infinite precision [1 to 4,096 channels]",
          "[layernorm_builder][long]") {
  check_accuracy<normalization::layernorm>("LayerNorm");
  check_accuracy<normalization::rmsnorm>("RMSNorm");
}

/// Epsilons in units of C^2 times the variance, from 0 to the largest: below a part of the smallest fraction, beside
/// its steps and beside whole numbers, and around the variance from which the fraction is left out.
constexpr double epsilons_of_small_rows[] = {
    0,      1e-300,   0x1p-31, 0x1.8p-30, 1e-6, 0.0625, 0.25, 0.49999, 0.5,       0.50001,      0.75,
    1,      1.25,     1.49,    1.5,       2.5,  3.3,    7.5,  100.5,   1e4 + 0.5, 0x1p20 - 1.5, 0x1p20 - 0.5,
    0x1p20, 1e7 + .5, 1e12,    0x1p60};

/// All rows of differences below `steps`, in that many channels, or random ones if there are more than 4,096. Those of
/// RMSNorm are beside the zero point.
template <normalization Kind, class Code>
comparison compare_small_rows(index_t channels, int steps, std::span<const std::uint8_t> shift, double epsilon,
                              generator& random) {
  const auto count = static_cast<std::size_t>(channels);
  float_layernorm layer = random_layer(random, count);
  layer.shift.assign(shift.begin(), shift.end());
  layer.epsilon = epsilon * layer.input_scale * layer.input_scale / static_cast<double>(channels * channels);
  layer.input_zero_point = sizeof(Code) == 1 ? layer.input_zero_point : 0;
  const built_layernorm built(layer);
  std::int64_t rows = 1;
  for (index_t c = 0; c < channels && rows <= 4096; ++c) {
    rows *= steps;
  }
  const bool all = rows <= 4096;
  rows = std::min<std::int64_t>(rows, 4096);
  tensor<Code> x(rows, channels);
  tensor<std::uint8_t> y(rows, channels);
  for (index_t i = 0; i < rows; ++i) {
    constexpr std::int64_t low = std::numeric_limits<Code>::min(), high = std::numeric_limits<Code>::max();
    const std::int64_t near_zero = layer.input_zero_point - random.between(0, steps - 1);
    const std::int64_t least = Kind == normalization::layernorm ? random.between(low, high - steps + 1)
                                                                : std::clamp(near_zero, low, high - steps + 1);
    index_t rest = i;
    for (index_t c = 0; c < channels; ++c, rest /= steps) {
      x(i, c) = static_cast<Code>(least + (all ? rest % steps : random.between(0, steps - 1)));
    }
  }
  normalize<Kind, Code>(x.view(), built.parameters, y.view());
  comparison seen;
  for (index_t i = 0; i < rows; ++i) {
    seen += compare_row<Kind, Code>(std::span(x.view().row_block(i, 1).data, count), layer, built.parameters,
                                    std::span(y.view().row_block(i, 1).data, count));
  }
  return seen;
}

template <normalization Kind, class Code>
void check_small_rows(const char* name, std::uint64_t seed) {
  generator random(seed);
  struct {
    index_t channels;
    int steps;
  } const sizes[] = {{1, 256}, {2, 64}, {2, 256}, {3, 16}, {4, 4}, {4, 8}, {5, 5}, {6, 4}, {7, 2}, {12, 2}, {13, 3}};
  comparison all;
  for (const auto& [channels, steps] : sizes) {
    for (const double epsilon : epsilons_of_small_rows) {
      for (const int largest_shift : {0, 1, 3}) {
        std::vector<std::uint8_t> shift(static_cast<std::size_t>(channels));
        for (std::uint8_t& s : shift) {
          s = static_cast<std::uint8_t>(random.between(0, largest_shift));
        }
        const comparison seen = compare_small_rows<Kind, Code>(channels, steps, shift, epsilon, random);
        CAPTURE(channels, steps, epsilon, largest_shift);
        CHECK(seen.largest_difference <= 1);
        CHECK(seen.beyond_bound == 0);
        all += seen;
      }
    }
  }
  std::cout << name << ", rows of few channels and small differences, " << 8 * sizeof(Code) << " bits: " << all
            << std::endl;
  CHECK(all.elements > 2'000'000);
  CHECK(all.rate() <= 1e-5);
}

TEST_CASE("build_layernorm: codes of small rows are within one of infinite precision [u8, s16]",
          "[layernorm_builder][long]") {
  check_small_rows<normalization::layernorm, std::uint8_t>("LayerNorm", 5);
  check_small_rows<normalization::layernorm, std::int16_t>("LayerNorm", 6);
  check_small_rows<normalization::rmsnorm, std::uint8_t>("RMSNorm", 7);
  check_small_rows<normalization::rmsnorm, std::int16_t>("RMSNorm", 8);
}

TEST_CASE("build_layernorm: codes of rows one code apart are within one of infinite precision [few channels]",
          "[layernorm_builder]") {
  // two channels: C^2 times the variance is 1 and epsilon 0.04. As a whole number it is 1.
  float_layernorm layer(2);
  layer.input_scale = 0.01;
  const built_layernorm built(layer);
  CHECK(built.parameters.epsilon == 1);
  const std::array<std::uint8_t, 2> x{128, 129};
  std::array<std::uint8_t, 2> y{};
  layernorm({x.data(), 1, 2}, built.parameters, {y.data(), 1, 2});
  CHECK(compare_row<normalization::layernorm, std::uint8_t>(x, layer, built.parameters, y).different == 0);
  CHECK(y == std::array<std::uint8_t, 2>{95, 161});  // 1 / sqrt(1.04) / 0.03 = 32.7

  layernorm_parameters whole = built.parameters;
  whole.epsilon_fraction = 0;
  std::array<std::uint8_t, 2> flat{};
  layernorm({x.data(), 1, 2}, whole, {flat.data(), 1, 2});
  CHECK(flat == std::array<std::uint8_t, 2>{104, 152});  // 1 / sqrt(2) / 0.03 = 23.6
}

template <normalization Kind>
void check_most_channels() {
  generator random(4);
  const auto channels = static_cast<std::size_t>(layernorm_max_channels);
  float_layernorm layer = random_layer(random, channels);
  layer.output_scale = 0.06;  // gains of 28 bits and |z| of up to sqrt(2^19) * 2^24: sums of 62 bits
  const built_layernorm built(layer);
  std::vector<std::uint8_t> x(channels), y(channels);
  for (const row_kind kind : {row_kind::random, row_kind::one_outlier, row_kind::extremes}) {
    fill_row(random, kind, x);
    normalize<Kind, std::uint8_t>({x.data(), 1, layernorm_max_channels}, built.parameters,
                                  {y.data(), 1, layernorm_max_channels});
    const comparison seen = compare_row<Kind, std::uint8_t>(x, layer, built.parameters, y);
    CHECK(seen.largest_difference <= 1);
    CHECK(seen.beyond_bound == 0);
    CHECK(seen.rate() <= 1e-5);
  }
}

TEST_CASE("build_layernorm: codes are within one of infinite precision [the most channels]", "[layernorm_builder]") {
  check_most_channels<normalization::layernorm>();
  check_most_channels<normalization::rmsnorm>();
}

TEST_CASE("build_layernorm: sums of 63 bits keep 48 fraction bits, longer ones fewer", "[layernorm_builder]") {
  // with 48 fraction bits 2^63 is 32768 codes, of which sqrt(channels) * gamma and the rounding half take their share
  for (const std::size_t channels : std::array<std::size_t, 3>{1, 2, 1024}) {
    float_layernorm layer(channels);
    layer.output_scale = 1;
    layer.output_zero_point = 0;
    const float room = 32768 - std::sqrt(static_cast<float>(channels)) - 2;
    std::vector<std::uint8_t> x(channels, 0), y(channels);
    for (const float sign : {1.0F, -1.0F}) {
      std::fill(layer.beta.begin(), layer.beta.end(), sign * (room - 0.0625F));
      const built_layernorm built(layer);
      CHECK(built.parameters.output_shift == 48);
      for (const int outlier : {0, 255}) {
        x[0] = static_cast<std::uint8_t>(outlier);
        layernorm({x.data(), 1, static_cast<index_t>(channels)}, built.parameters,
                  {y.data(), 1, static_cast<index_t>(channels)});
        CHECK(y == std::vector<std::uint8_t>(channels, sign > 0 ? 255 : 0));
      }
      layer.beta.back() = sign * (room + 1.0625F);
      CHECK(built_layernorm(layer).parameters.output_shift == 48);
    }
  }
}

TEST_CASE("build_layernorm: a beta far beyond the codes gives the last code and costs other channels no bits",
          "[layernorm_builder]") {
  for (const float beta : {1e5F, 1e9F, 1e17F, 3e38F}) {
    for (const float sign : {1.0F, -1.0F}) {
      float_layernorm layer(4);
      layer.output_scale = 0.5;
      layer.output_zero_point = 100;
      layer.gamma = {10, 20, 1, 5};
      layer.beta = {0, sign * beta, 1, 2};
      const built_layernorm built(layer);
      CAPTURE(beta, sign, built.parameters.output_shift);
      CHECK(built.parameters.output_shift == 48);
      for (const std::vector<std::uint8_t>& x :
           {std::vector<std::uint8_t>{0, 255, 100, 200}, {255, 0, 255, 255}, {0, 0, 0, 0}}) {
        std::vector<std::uint8_t> y(4);
        layernorm({x.data(), 1, 4}, built.parameters, {y.data(), 1, 4});
        CHECK(compare_row(std::span<const std::uint8_t>(x), layer, built.parameters, y).different == 0);
        CHECK(y[1] == (sign > 0 ? 255 : 0));
      }
    }
  }
}

TEST_CASE("build_layernorm: steep channels get fewer fraction bits [the most channels]", "[layernorm_builder]") {
  constexpr std::size_t channels = layernorm_max_channels;
  float_layernorm layer(channels);
  layer.output_scale = 1;
  std::fill(layer.gamma.begin(), layer.gamma.end(), 63.9F);
  std::fill(layer.beta.begin(), layer.beta.end(), 3e38F);
  const built_layernorm built(layer);
  CHECK(built.parameters.output_shift >= 46);
  CHECK(built.parameters.output_shift < 48);
}

TEST_CASE("build_layernorm: refuses bad gamma and beta, naming channel and value", "[layernorm_builder]") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
  struct {
    float value;
    const char* named;
  } const cases[] = {{infinity, "inf"}, {-infinity, "-inf"}, {not_a_number, "nan"}};
  for (const auto& [value, named] : cases) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      for (const bool of_gamma : {true, false}) {
        float_layernorm layer(3);
        (of_gamma ? layer.gamma : layer.beta)[channel] = value;
        const std::string message = refusal_of(layer);
        CAPTURE(message);
        CHECK(mentions(message, "intact::build_layernorm"));
        CHECK(mentions(message, "channel " + std::to_string(channel)));
        CHECK(mentions(message, (of_gamma ? "gamma " : "beta ") + std::string(named)));
      }
    }
  }
  CHECK(refusal_of(float_layernorm(3)).empty());
}

TEST_CASE("build_layernorm: refuses a gamma that leaves no shift, naming channel and value", "[layernorm_builder]") {
  float_layernorm layer(3);
  layer.gamma = {0, 3e38F, 1};
  const std::string message = refusal_of(layer);
  CAPTURE(message);
  CHECK(mentions(message, "channel 1"));
  CHECK(mentions(message, "gamma 3e+38"));
}

TEST_CASE("build_layernorm: refuses bad scales, epsilons and zero points, naming the value", "[layernorm_builder]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
  const auto refuse = [](auto member, auto value) {
    float_layernorm layer(3);
    layer.*member = value;
    return refusal_of(layer);
  };
  for (const double bad : {0.0, -0.5, infinity, not_a_number}) {
    CAPTURE(bad);
    CHECK(mentions(refuse(&float_layernorm::input_scale, bad), "must be above 0 and finite"));
    CHECK(mentions(refuse(&float_layernorm::output_scale, bad), "must be above 0 and finite"));
  }
  CHECK(mentions(refuse(&float_layernorm::epsilon, -1e-6), "epsilon is -1e-06"));
  CHECK(mentions(refuse(&float_layernorm::epsilon, not_a_number), "epsilon is nan"));
  CHECK(mentions(refuse(&float_layernorm::epsilon, infinity), "epsilon is inf"));
  CHECK(mentions(refuse(&float_layernorm::epsilon, 1e15), "epsilon is 1e+15"));  // 9e15 / 0.02^2 > 2^61
  CHECK(mentions(refuse(&float_layernorm::input_scale, 1e-200), "epsilon is 1e-06, inf"));
  for (const int bad : {-1, 256, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
    const std::string value = "zero point is " + std::to_string(bad);
    CHECK(mentions(refuse(&float_layernorm::output_zero_point, bad), "output " + value));
    CHECK(mentions(refuse(&float_layernorm::input_zero_point, bad), "zero_point is " + std::to_string(bad)));
  }
  float_layernorm layer(3);
  layer.shift[2] = 4;
  CHECK(mentions(refusal_of(layer), "shift of a channel is 4"));
}

TEST_CASE("build_layernorm: refuses a bad scale, naming it", "[layernorm_builder]") {
  float_layernorm layer(3);
  layer.input_scale = -0.5;
  CHECK(mentions(refusal_of(layer), "input"));
  layer.input_scale = 0.5;
  layer.output_scale = -0.5;
  CHECK(mentions(refusal_of(layer), "output"));
}

TEST_CASE("build_layernorm: refuses arrays of other sizes", "[layernorm_builder]") {
  const float_layernorm layer(3);
  const std::vector<float> floats(4, 1);
  const std::vector<std::uint8_t> shifts(4, 0);
  for (const std::size_t size : std::array<std::size_t, 3>{0, 2, 4}) {
    const std::string value = " is " + std::to_string(size);
    CHECK(mentions(refusal_of(layer.target(), size, 3), "size of gain" + value));
    CHECK(mentions(refusal_of(layer.target(), 3, size), "size of bias" + value));
    layernorm_spec target = layer.target();
    target.beta = std::span(floats).first(size);
    CHECK(mentions(refusal_of(target, 3, 3), "size of beta" + value));
    target = layer.target();
    target.shift = std::span(shifts).first(size);
    CHECK(mentions(refusal_of(target, 3, 3), "size of shift" + value));
  }
  const float_layernorm too_many(static_cast<std::size_t>(layernorm_max_channels) + 1);
  CHECK(mentions(refusal_of(too_many), "number of normalized channels is 524289"));
}

}  // namespace
}  // namespace intact_test::layernorm_builder_test
