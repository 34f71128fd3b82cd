#include "intact/quantize/weight_rounding.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "catch.hpp"
#include "intact/quantize/range_search.hpp"
#include "intact/quantize/tensor_rounding.hpp"
#include "quantized_model.hpp"
#include "refusal.hpp"

namespace intact_test::weight_rounding_test {

TEST_CASE("round_weights: compensated rounding has a smaller error of outputs than rounding to nearest") {
  random_parameters random(3);
  const float_matrix weight = random.matrix(11, 24), mixing = random.matrix(24, 24);
  const double_matrix inputs = (random.matrix(60, 24) * mixing).cast<double>();  // correlated
  const double_matrix moments = inputs.transpose() * inputs;
  for (const weight_kind kind : {weight_kind::s8, weight_kind::s4, weight_kind::grouped_s4}) {
    const quantization_recipe recipe{.weights = kind, .weight_group = 5};
    const auto error = [&](const scaled_weights& packed) {
      const double_matrix wrong = (weight - real_weights(packed)).cast<double>();
      return (wrong * moments).cwiseProduct(wrong).sum();
    };
    const double plain = error(quantize_layer(view_of(weight), recipe));
    const double nearest =
        error(pack_rounded_weights(round_weights(weight, moments, recipe, weight_rounding::nearest), kind));
    const double compensated =
        error(pack_rounded_weights(round_weights(weight, moments, recipe, weight_rounding::compensated), kind));
    CAPTURE(static_cast<int>(kind), plain, nearest, compensated);
    CHECK(nearest <= plain);
    CHECK(compensated < 0.8 * nearest);
  }
}

TEST_CASE("round_weights: weights of 0 have the code 0, a single weight an error below a step") {
  const quantization_recipe s8;
  const rounded_weights zero =
      round_weights(float_matrix::Zero(2, 3), double_matrix::Identity(3, 3), s8, weight_rounding::compensated);
  CHECK(zero.codes == row_major_matrix<std::int8_t>::Zero(2, 3));
  const rounded_weights one =
      round_weights(float_matrix::Constant(1, 1, -2), double_matrix::Identity(1, 1), s8, weight_rounding::compensated);
  CHECK(std::fabs(static_cast<float>(one.codes(0, 0)) * one.steps.scale[0] + 2) < 0.01F);
}

TEST_CASE("round_weights: refuses arguments, naming them") {
  const auto rounds = [](const float_matrix& weight, const double_matrix& moments, index_t group = 2) {
    return refusal([&] {
      round_weights(weight, moments, {.weights = weight_kind::grouped_s4, .weight_group = group},
                    weight_rounding::nearest);
    });
  };
  const float_matrix weight = float_matrix::Constant(2, 3, 1);
  const double_matrix moments = double_matrix::Identity(3, 3);
  CHECK(rounds(weight, moments).empty());
  CHECK(mentions(rounds(weight, double_matrix::Identity(2, 3)), "intact::round_weights: rows of moments is 2"));
  CHECK(mentions(rounds(weight, double_matrix::Identity(3, 4)), "intact::round_weights: columns of moments is 4"));
  CHECK(mentions(rounds(weight, moments, 0), "intact::round_weights: weight_group is 0"));
  CHECK(mentions(rounds(weight, moments * std::numeric_limits<double>::infinity()), "moments have a value"));
  float_matrix infinite = weight;
  infinite(1, 2) = std::numeric_limits<float>::infinity();
  CHECK(mentions(rounds(infinite, moments), "weights has the value inf at row 1, column 2"));
}

TEST_CASE("search_scale: finds the range of least error, one end after the other") {
  // The error is the distance of both ends of the codes from -0.55 and 0.3, which are within 0.05 of candidates.
  const auto error = [](const affine_scale& scale) {
    const double low = static_cast<double>(dequantize_code(0, scale));
    const double high = static_cast<double>(dequantize_code(255, scale));
    return std::fabs(low + 0.55) + std::fabs(high - 0.3);
  };
  const affine_scale found = search_scale({-1, 1}, error);
  CHECK(std::fabs(dequantize_code(0, found) + 0.55F) < 0.06F);
  CHECK(std::fabs(dequantize_code(255, found) - 0.3F) < 0.06F);
  const affine_scale whole = search_scale({0.5F, 2}, [](const affine_scale& scale) { return -scale.scale; });
  CHECK(whole.scale == 2.0F / 255);  // widened to contain 0, not shrunk
  CHECK(whole.zero_point == 0);
  CHECK(!refusal([&] {
           search_scale({-std::numeric_limits<float>::max(), std::numeric_limits<float>::max()}, error);
         }).empty());
}

}  // namespace intact_test::weight_rounding_test
