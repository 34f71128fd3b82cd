#include "intact/build/compat.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "intact/gemm.hpp"
#include "intact/row_sums.hpp"
#include "intact/stage/row_corrected.hpp"
#include "tensor.hpp"
#include "wide_integer.hpp"

// Builders of other runtimes' layers, against integers that are taken from the bits of the numbers.

namespace intact_test::compat_layer_test {
namespace {

/// The multiplier and exponent of a normal double above 0, from its bits.
fixed_point_factor factor_of_bits(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const std::uint64_t fraction = (bits & ((std::uint64_t{1} << 52) - 1)) | (std::uint64_t{1} << 52);
  int exponent = static_cast<int>(bits >> 52) - 1022;
  std::uint64_t multiplier = (fraction + (std::uint64_t{1} << 21)) >> 22;
  if (multiplier >> 31 != 0) {
    multiplier >>= 1;
    ++exponent;
  }
  return exponent < -31 ? fixed_point_factor{} : fixed_point_factor{static_cast<std::int32_t>(multiplier), exponent};
}

bool equal(const fixed_point_factor& a, const fixed_point_factor& b) {
  return a.multiplier == b.multiplier && a.exponent == b.exponent;
}

TEST_CASE("quantize_multiplier: rounds a double to 31 bits, halves away from 0") {
  generator random(60);
  std::int64_t wrong = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto fraction = static_cast<std::uint64_t>(random.between(0, (std::int64_t{1} << 52) - 1));
    const auto exponent = static_cast<std::uint64_t>(random.between(1022 - 34, 1022 + 29));
    const std::uint64_t around_half = (fraction >> 22 << 22) + (1 << 21) - 1 + fraction % 3;
    for (const std::uint64_t bits : {fraction, around_half}) {
      const double x = std::bit_cast<double>(exponent << 52 | (bits & ((std::uint64_t{1} << 52) - 1)));
      wrong += equal(quantize_multiplier(x), factor_of_bits(x)) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(equal(quantize_multiplier(0), {0, 0}));
  CHECK(equal(quantize_multiplier(1), {1 << 30, 1}));
  CHECK(equal(quantize_multiplier(std::ldexp(1.0, -32)), {1 << 30, -31}));
  CHECK(equal(quantize_multiplier(std::ldexp(0.99, -32)), {0, 0}));
  CHECK(equal(quantize_multiplier(1 - std::ldexp(1.0, -33)), {1 << 30, 1}));
  CHECK(equal(quantize_multiplier(std::ldexp(0.75, 30)), {3 << 29, 30}));
  CHECK_THROWS_WITH(quantize_multiplier(std::ldexp(1.0, 30)),
                    "intact::quantize_multiplier: exponent of the factor is 31; it must be at most 30");
  CHECK_THROWS_WITH(quantize_multiplier(-1),
                    "intact::quantize_multiplier: factor is -1; it must be at least 0 and finite");
  CHECK_THROWS(quantize_multiplier(std::nan("")));
}

TEST_CASE("factor_rule: rounds in the order of the runtime") {
  const float input = 0.1f, weight = 0.3f, output = 0.7f;
  const std::vector<float> scales{weight};
  const std::vector<std::int8_t> codes{1};
  const matrix_view<const std::int8_t> w(codes.data(), 1, 1);
  const compat_layer_spec spec{{input, 0}, {output, 0}, scales};
  const auto factor = [&](factor_rule rule) {
    const compat_layer layer(spec, w, rule);
    const compat_scale scale = layer.scale(0);
    return fixed_point_factor{scale.multiplier[0], scale.exponent[0]};
  };
  const float product = input * weight;
  const float quotient = product / output;
  CHECK(
      equal(factor(factor_rule::tflite_per_channel), factor_of_bits(double{input} * double{weight} / double{output})));
  CHECK(equal(factor(factor_rule::tflite_per_tensor), factor_of_bits(double{product} / double{output})));
  CHECK(equal(factor(factor_rule::float32), factor_of_bits(double{quotient})));
  CHECK(!equal(factor(factor_rule::tflite_per_channel), factor(factor_rule::tflite_per_tensor)));
  CHECK(!equal(factor(factor_rule::tflite_per_tensor), factor(factor_rule::float32)));
  CHECK(factor(factor_rule::float32).multiplier % 128 == 0);
  CHECK(compat_layer(spec, w, factor_rule::float32).factors()[0] == quotient);
}

template <class A, class W>
void check_layer(int weight_zero_point, std::uint64_t seed) {
  generator random(seed);
  constexpr index_t rows = 7, channels = 37, depth = 45;
  const int input_zero_point =
      static_cast<int>(random.between(std::numeric_limits<A>::min(), std::numeric_limits<A>::max()));
  tensor<A> a(rows, depth);
  tensor<W> w(channels, depth, layouts[1]);
  fill(a.view(), values::random, std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), random);
  fill(w.view(), values::random, std::numeric_limits<W>::min(), std::numeric_limits<W>::max(), random);
  std::vector<std::int32_t> bias;
  std::vector<float> scales;
  for (index_t n = 0; n < channels; ++n) {
    bias.push_back(static_cast<std::int32_t>(random.between(-5000, 5000)));
    scales.push_back(static_cast<float>(random.between(1, 1000)) / 16384);
  }
  const compat_layer layer({{0.0625f, input_zero_point}, {2.5f, 3}, scales, weight_zero_point, bias},
                           std::as_const(w).view(), factor_rule::tflite_per_channel);
  const single_rounding<std::int8_t> stage{layer.scale(3)};
  tensor<std::int8_t> y(rows, channels);
  if (layer.row_factor() == 0) {
    gemm(std::as_const(a).view(), layer.weights(), stage, y.view());
  } else {
    std::vector<std::int32_t> sums(static_cast<std::size_t>(rows));
    row_sums(std::as_const(a).view(), layer.row_factor(), std::span(sums));
    gemm(std::as_const(a).view(), layer.weights(), row_corrected<single_rounding<std::int8_t>>{stage, sums}, y.view());
  }
  index_t wrong = 0;
  for (index_t m = 0; m < rows; ++m) {
    for (index_t n = 0; n < channels; ++n) {
      const auto channel = static_cast<std::size_t>(n);
      int128 sum = bias[channel];
      for (index_t k = 0; k < depth; ++k) {
        sum += (int128{a(m, k)} - input_zero_point) * (int128{w(n, k)} - weight_zero_point);
      }
      const fixed_point_factor f = factor_of_bits(0.0625 * double{scales[channel]} / 2.5);
      const int128 code =
          floor_divide(2 * sum * f.multiplier + power_of_two(31 - f.exponent), power_of_two(32 - f.exponent)) + 3;
      wrong += y(m, n) != clamp_to<std::int8_t>(code) ? 1 : 0;
    }
  }
  CAPTURE(weight_zero_point, input_zero_point);
  CHECK(wrong == 0);
  CHECK((layer.row_factor() == 0) == (weight_zero_point == (std::is_unsigned_v<W> ? 128 : 0)));
}

TEST_CASE("compat_layer: applies zero points of activations and weights [u8, s8]") {
  std::uint64_t seed = 70;
  for (const int zero_point : {0, 128, 1, 255, 77}) {
    check_layer<std::uint8_t, std::uint8_t>(zero_point, seed++);
    check_layer<std::int8_t, std::uint8_t>(zero_point, seed++);
  }
  for (const int zero_point : {0, -128, 1, 127}) {
    check_layer<std::uint8_t, std::int8_t>(zero_point, seed++);
    check_layer<std::int8_t, std::int8_t>(zero_point, seed++);
  }
}

/// Codes of a layer with s8 activations are those with u8 activations, codes and zero points being moved by 128: an
/// operation that takes u8 follows a layer that writes u8, without a conversion between them.
TEST_CASE("compat_layer: u8 codes with the zero point moved by 128 are the s8 codes [three stages]") {
  generator random(90);
  tensor<std::int8_t> a(9, 33), w(21, 33);
  tensor<std::uint8_t> moved(9, 33);
  fill(a.view(), values::random, -128, 127, random);
  fill(w.view(), values::random, -128, 127, random);
  for (index_t m = 0; m < 9; ++m) {
    for (index_t k = 0; k < 33; ++k) {
      moved(m, k) = static_cast<std::uint8_t>(static_cast<std::uint8_t>(a(m, k)) ^ 0x80);
    }
  }
  const std::vector<float> scales{0.01f};
  const compat_layer signed_layer({{0.5f, -20}, {0.9f, 0}, scales}, std::as_const(w).view(),
                                  factor_rule::tflite_per_tensor);
  const compat_layer unsigned_layer({{0.5f, -20 + 128}, {0.9f, 0}, scales}, std::as_const(w).view(),
                                    factor_rule::tflite_per_tensor);
  const auto check = [&](const auto& s8_stage, const auto& u8_stage, const auto& u8_input_stage) {
    tensor<std::int8_t> y(9, 21);
    tensor<std::uint8_t> from_s8(9, 21), from_u8(9, 21);
    gemm(std::as_const(a).view(), signed_layer.weights(), s8_stage, y.view());
    gemm(std::as_const(a).view(), signed_layer.weights(), u8_stage, from_s8.view());
    gemm(std::as_const(moved).view(), unsigned_layer.weights(), u8_input_stage, from_u8.view());
    index_t wrong = 0;
    for (index_t m = 0; m < 9; ++m) {
      for (index_t n = 0; n < 21; ++n) {
        const int expected = static_cast<std::uint8_t>(y(m, n)) ^ 0x80;
        wrong += from_s8(m, n) != expected || from_u8(m, n) != expected ? 1 : 0;
      }
    }
    CHECK(wrong == 0);
  };
  check(single_rounding<std::int8_t>{signed_layer.scale(-5), -5, 60},
        single_rounding<std::uint8_t>{signed_layer.scale(-5 + 128), -5 + 128, 60 + 128},
        single_rounding<std::uint8_t>{unsigned_layer.scale(-5 + 128), -5 + 128, 60 + 128});
  check(double_rounding<std::int8_t>{signed_layer.scale(7)}, double_rounding<std::uint8_t>{signed_layer.scale(7 + 128)},
        double_rounding<std::uint8_t>{unsigned_layer.scale(7 + 128)});
  check(round_half_to_even<std::int8_t>{signed_layer.scale(-128)},
        round_half_to_even<std::uint8_t>{signed_layer.scale(0)},
        round_half_to_even<std::uint8_t>{unsigned_layer.scale(0)});
}

TEST_CASE("compat_layer: refuses sizes, scales and zero points") {
  const std::vector<float> two_scales{0.5f, 0.5f}, three_scales{0.5f, 0.5f, 0.5f}, no_scale{0.5f, 0.0f};
  const std::vector<std::int32_t> bias{0}, large{0, std::numeric_limits<std::int32_t>::max()};
  const float at_limit = 0x1p30f, below_limit = std::nextafter(at_limit, 0.0f);
  const std::vector<std::int8_t> codes{1, 2, 3, 4, 5, 6};
  const matrix_view<const std::int8_t> w(codes.data(), 2, 3);
  const auto build = [&](const compat_layer_spec& spec) { compat_layer(spec, w, factor_rule::float32); };
  CHECK_NOTHROW(build({{1, 0}, {1, 0}, two_scales}));
  CHECK_THROWS_WITH(build({{1, 0}, {1, 0}, three_scales}),
                    "intact::compat_layer: size of weight_scale is 3; it must be equal to 2");
  CHECK_THROWS_WITH(build({{1, 0}, {1, 0}, two_scales, 0, bias}),
                    "intact::compat_layer: size of bias is 1; it must be equal to 2");
  CHECK_THROWS_WITH(build({{1, 0}, {1, 0}, two_scales, 128}),
                    "intact::compat_layer: weight_zero_point is 128; it must be at most 127");
  CHECK_THROWS_WITH(build({{1, 256}, {1, 0}, two_scales}),
                    "intact::compat_layer: input.zero_point is 256; it must be at most 255");
  CHECK_THROWS_WITH(build({{1, 0}, {1, 0}, no_scale}),
                    "intact::compat_layer: weight_scale of channel 1 is 0; it must be above 0 and finite");
  CHECK_THROWS_WITH(build({{1, 0}, {-1, 0}, two_scales}),
                    "intact::compat_layer: output.scale is -1; it must be above 0 and finite");
  CHECK_NOTHROW(build({{1, 0}, {1, 0}, two_scales, 0, large}));
  CHECK_THROWS_WITH(build({{1, -1}, {1, 0}, two_scales, 0, large}),
                    "intact::compat_layer: bias of channel 1, less input.zero_point times the sum of its weights, is "
                    "2147483662; it must fit 32 bits");
  CHECK_NOTHROW(build({{1, 0}, {1, 0}, std::span(&below_limit, 1)}));
  CHECK_THROWS_WITH(
      build({{1, 0}, {1, 0}, std::span(&at_limit, 1)}),
      "intact::compat_layer: input.scale * weight_scale / output.scale of channel 0 is 1.07374e+09; it must "
      "be below 2^30");
}

TEST_CASE("compat_layer: refuses more columns than gemm or, with a row factor, row_sums takes") {
  const std::vector<std::int8_t> codes(static_cast<std::size_t>(gemm_max_depth_u8_s8 + 1));
  const std::vector<float> scale{1};
  const auto build = [&](index_t columns, int zero_point) {
    compat_layer({{1, 0}, {1, 0}, scale, zero_point}, matrix_view<const std::int8_t>(codes.data(), 1, columns),
                 factor_rule::float32);
  };
  CHECK_NOTHROW(build(gemm_max_depth_u8_s8, 0));
  CHECK_THROWS_WITH(build(gemm_max_depth_u8_s8 + 1, 0),
                    "intact::compat_layer: columns of weights is 65794; it must be at most 65793");
  CHECK_NOTHROW(build(33025, 1));
  CHECK_THROWS_WITH(build(33026, 1), "intact::compat_layer: columns of weights is 33026; it must be at most 33025");
}

TEST_CASE("fused_activation_codes: equal those of TensorFlow Lite [ReLU, ReLU6, none]") {
  constexpr float infinite = std::numeric_limits<float>::infinity();
  const auto check = [](const code_range& found, int low, int high) {
    CHECK(found.low == low);
    CHECK(found.high == high);
  };
  check(fused_activation_codes({0.1f, -5}, 0, infinite, s8_codes), -5, 127);
  check(fused_activation_codes({0.1f, -5}, 0, 6, s8_codes), -5, 55);
  check(fused_activation_codes({0.01f, 3}, 0, 6, u8_codes), 3, 255);
  check(fused_activation_codes({0.5f, 10}, -1.25f, 1.25f, u8_codes), 7, 13);
  check(fused_activation_codes({0.1f, 3}, -infinite, infinite, u8_codes), 0, 255);
  CHECK_THROWS(fused_activation_codes({0.1f, 3}, 1, 0, u8_codes));
  CHECK_THROWS(fused_activation_codes({0.0f, 3}, 0, 1, u8_codes));
}

}  // namespace
}  // namespace intact_test::compat_layer_test
