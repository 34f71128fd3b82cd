#include "intact/build/fold.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::fold_test {
namespace {

/// Channels whose scales are powers of two times the shared one, so that all that follows is exact in double.
std::vector<affine_scale> random_channels(index_t count, generator& random) {
  std::vector<affine_scale> channels;
  for (index_t c = 0; c < count; ++c) {
    channels.push_back(
        {std::ldexp(1.0F, static_cast<int>(random.between(-12, -4))), static_cast<int>(random.between(0, 255))});
  }
  return channels;
}

constexpr affine_scale shared{1.0F / 128, 117};

/// A multiple of 2^-8 of 12 bits.
float random_value(generator& random) {
  return static_cast<float>(random.between(-2048, 2047)) / 256;
}

std::vector<float> random_values(index_t count, generator& random) {
  std::vector<float> made;
  for (index_t i = 0; i < count; ++i) {
    made.push_back(random_value(random));
  }
  return made;
}

double code_of(double x, const affine_scale& scale) {
  return std::clamp(std::rint(x / static_cast<double>(scale.scale) + scale.zero_point), 0.0, 255.0);
}

TEST_CASE("fold_into_layernorm: changes no code", "[fold]") {
  generator random(61);
  for (const index_t count : {0, 1, 2, 37, 192}) {
    const std::vector<affine_scale> channels = random_channels(count, random);
    const std::vector<float> gamma = random_values(count, random), beta = random_values(count, random);
    std::vector<float> new_gamma = gamma, new_beta = beta;
    fold_into_layernorm(channels, shared, new_gamma, new_beta);
    int inner = 0;
    for (int row = 0; row < 50; ++row) {
      for (std::size_t c = 0; c < channels.size(); ++c) {
        const double normalized = static_cast<double>(random_value(random)) / 16;
        const double x = normalized * static_cast<double>(gamma[c]) + static_cast<double>(beta[c]);
        const double moved = normalized * static_cast<double>(new_gamma[c]) + static_cast<double>(new_beta[c]);
        const double code = code_of(x, channels[c]);
        REQUIRE(code_of(moved, shared) == code);
        inner += code > 0 && code < 255 ? 1 : 0;
      }
    }
    CHECK((count < 37 || inner > 100));
  }
}

TEST_CASE("fold_into_layer: changes no output", "[fold]") {
  generator random(62);
  for (const index_t count : {0, 1, 3, 37, 192}) {
    for (const index_t rows : {0, 1, 5}) {
      const std::vector<affine_scale> channels = random_channels(count, random);
      tensor<float> weights(rows, count, layouts[1]);
      for (index_t n = 0; n < rows; ++n) {
        for (index_t c = 0; c < count; ++c) {
          // of 7 bits, as quantized ones: the sum of the folded bias then has less than 24
          weights(n, c) = static_cast<float>(random.between(-127, 127)) / 128;
        }
      }
      const std::vector<float> bias(static_cast<std::size_t>(rows), 0.25F);
      tensor<float> new_weights = weights;
      std::vector<float> new_bias = bias;
      fold_into_layer(channels, shared, new_weights.view(), new_bias);
      std::vector<int> codes;
      for (index_t c = 0; c < count; ++c) {
        codes.push_back(static_cast<int>(random.between(0, 255)));
      }
      for (index_t n = 0; n < rows; ++n) {
        double output = static_cast<double>(bias[static_cast<std::size_t>(n)]);
        double zero = static_cast<double>(new_bias[static_cast<std::size_t>(n)]), folded = 0;
        for (index_t c = 0; c < count; ++c) {
          const auto channel = static_cast<std::size_t>(c);
          output += static_cast<double>(weights(n, c)) * static_cast<double>(channels[channel].scale) *
                    (codes[channel] - channels[channel].zero_point);
          folded += static_cast<double>(new_weights(n, c)) * static_cast<double>(shared.scale) *
                    (codes[channel] - shared.zero_point);
        }
        // Multiples of 2^-19, all of them: the comparison is one of integers.
        CHECK(std::ldexp(folded + zero, 19) == std::ldexp(output, 19));
      }
      CHECK(new_weights.surroundings_untouched());
    }
  }
}

TEST_CASE("fold_into_layernorm, fold_into_layer: give values computed by hand", "[fold]") {
  // Scales 1/4 and 1 instead of 1/2, zero points 10 and 7 instead of 8.
  const std::vector<affine_scale> channels{{0.25F, 10}, {1.0F, 7}};
  const affine_scale half{0.5F, 8};
  std::vector<float> gamma{3, 5}, beta{-1, 2};
  fold_into_layernorm(channels, half, gamma, beta);
  CHECK(gamma == std::vector<float>{6, 2.5F});
  CHECK(beta == std::vector<float>{-2 + 0.5F * 2, 1 - 0.5F});
  std::vector<float> weights{8, 3}, bias{100};
  fold_into_layer(channels, half, {weights.data(), 1, 2}, bias);
  CHECK(weights == std::vector<float>{4, 6});
  CHECK(bias == std::vector<float>{100 - 8 * 0.25F * 2 + 3});
}

TEST_CASE("fold_into_layernorm, fold_into_layer: change nothing if channels share scale and zero point", "[fold]") {
  generator random(63);
  const std::vector<affine_scale> channels(20, affine_scale{0.0123F, 99});
  std::vector<float> gamma = random_values(20, random), beta = random_values(20, random);
  std::vector<float> weights = random_values(60, random), bias = random_values(3, random);
  const std::vector<float> old_gamma = gamma, old_beta = beta, old_weights = weights, old_bias = bias;
  fold_into_layernorm(channels, channels[0], gamma, beta);
  fold_into_layer(channels, channels[0], {weights.data(), 3, 20}, bias);
  CHECK(gamma == old_gamma);
  CHECK(beta == old_beta);
  CHECK(weights == old_weights);
  CHECK(bias == old_bias);
}

TEST_CASE("fold_into_layernorm, fold_into_layer: refuse values and sizes before anything is written", "[fold]") {
  std::vector<affine_scale> channels{{1, 0}, {1, 0}};
  std::vector<float> gamma{1, 2}, beta{3, 4}, weights{5, 6}, bias{7};
  const matrix_view<float> w(weights.data(), 1, 2);
  const affine_scale one{1, 0};
  for (const float bad :
       {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    channels[1].scale = bad;
    CHECK(mentions(refusal([&] { fold_into_layernorm(channels, one, gamma, beta); }),
                   "intact::fold_into_layernorm: channel 1 has the scale " + std::string(bad == 0 ? "0;" : "")));
    CHECK(mentions(refusal([&] { fold_into_layer(channels, one, w, bias); }),
                   "intact::fold_into_layer: channel 1 has the scale "));
    channels[1].scale = 1;
    CHECK(mentions(refusal([&] { fold_into_layer(channels, {bad, 0}, w, bias); }), "the shared scale is "));
  }
  channels[1].scale = 1e-38F;
  CHECK(mentions(refusal([&] { fold_into_layernorm(channels, {1e38F, 0}, gamma, beta); }), "folded into gamma"));
  channels[1].scale = 1e38F;
  CHECK(mentions(refusal([&] {
                   fold_into_layer(channels, {1e-3F, 0}, w, bias);
                 }),
                 "folded into weights, channel 1 becomes"));
  channels[1].scale = 1;
  gamma[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(mentions(refusal([&] { fold_into_layernorm(channels, one, gamma, beta); }), "gamma, channel 1 becomes nan"));
  gamma[1] = 2;
  CHECK(refusal([&] { fold_into_layernorm(channels, one, std::span(gamma).first(1), beta); }) ==
        "intact::fold_into_layernorm: size of gamma is 1; it must be equal to 2");
  CHECK(refusal([&] { fold_into_layernorm(channels, one, gamma, std::span(beta).first(1)); }) ==
        "intact::fold_into_layernorm: size of beta is 1; it must be equal to 2");
  CHECK(refusal([&] { fold_into_layer(channels, one, w.prefix(1, 1), bias); }) ==
        "intact::fold_into_layer: weights is 1 x 1; it must be 1 x 2");
  CHECK(refusal([&] { fold_into_layer(channels, one, w, std::span(bias).first(0)); }) ==
        "intact::fold_into_layer: size of bias is 0; it must be equal to 1");
  CHECK(gamma == std::vector<float>{1, 2});
  CHECK(beta == std::vector<float>{3, 4});
  CHECK(weights == std::vector<float>{5, 6});
  CHECK(bias == std::vector<float>{7});
}

}  // namespace
}  // namespace intact_test::fold_test
