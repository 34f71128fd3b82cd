#include "intact/stage/fused.hpp"

#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "intact/activation.hpp"
#include "intact/add.hpp"
#include "intact/arith/scale.hpp"
#include "intact/gemm.hpp"
#include "intact/reference/gemm.hpp"
#include "refusal.hpp"
#include "stage_cases.hpp"
#include "tensor.hpp"

namespace intact_test::fused_stage_test {
namespace {

constexpr int largest_factor = (1 << 30) - 1;
constexpr std::int64_t largest_weight_sum = std::int64_t{65535} * 255;

/// Rows whose accumulators still carry the zero point of v, in both forms, with all digits.
class row_comparison {
 public:
  /// `accumulator`: the sum of w * v, at most 255 times the sum of w.
  void compare(const row_divisor& normalization, std::int64_t weight_sum, int v_zero_point, std::int64_t accumulator) {
    const tensor_scale scale = row_tensor_scale(normalization, weight_sum, v_zero_point);
    const bool fits = refusal([&] { require_scale("", scale, 0); }).empty() && scale.left_shift <= 3 &&
                      accumulator * (std::int64_t{1} << scale.left_shift) <= largest_multiplier;
    const std::int64_t expected = row_scale(normalization, weight_sum)(accumulator - v_zero_point * weight_sum);
    ++compared;
    if (!fits || mul_shift(static_cast<std::int32_t>(accumulator), scale) != expected) {
      ++wrong;
    }
  }

  std::int64_t compared = 0;
  std::int64_t wrong = 0;
};

TEST_CASE("row_tensor_scale: equals row_scale [all accumulators of small sums of weights]") {
  row_comparison rows;
  for (const int factor : {1, 3, 1 << 28, 123456789, largest_factor}) {
    for (const int zero_point : {0, 77, 255}) {
      for (const int v_zero_point : {0, 1, 128, 255}) {
        for (std::int64_t weight_sum = 0; weight_sum <= 40; ++weight_sum) {
          for (std::int64_t a = 0; a <= 255 * weight_sum; a += weight_sum < 20 ? 1 : 7) {
            rows.compare({factor, zero_point}, weight_sum, v_zero_point, a);
          }
        }
      }
    }
  }
  CHECK(rows.compared > 1'000'000);
  CHECK(rows.wrong == 0);
}

TEST_CASE("row_tensor_scale: equals row_scale [large sums of weights]") {
  generator random(1);
  row_comparison rows;
  for (int i = 0; i < 200'000; ++i) {
    const int bits = static_cast<int>(random.between(1, 24));
    const std::int64_t power = std::int64_t{1} << bits;
    const std::int64_t sums[] = {power - 1, power, power + 1, random.between(power / 2, power), largest_weight_sum};
    const std::int64_t weight_sum = std::min(sums[random.between(0, 4)], largest_weight_sum);
    const std::int64_t factors[] = {1, largest_factor, random.between(1, largest_factor)};
    const row_divisor normalization{static_cast<std::int32_t>(factors[random.between(0, 2)]),
                                    static_cast<int>(random.between(0, 255))};
    // At most what int32 holds, as sums of products do.
    const std::int64_t most = std::min(255 * weight_sum, largest_multiplier);
    const std::int64_t accumulators[] = {0, most, random.between(0, most)};
    rows.compare(normalization, weight_sum, static_cast<int>(random.between(0, 255)),
                 accumulators[random.between(0, 2)]);
  }
  CHECK(rows.wrong == 0);
}

constexpr index_t row_count = 5;
constexpr index_t channel_count = 65;

/// A product for the stages: its operands and the arrays that stages point to.
struct fused_case {
  explicit fused_case(std::uint64_t seed)
      : random(seed),
        a(row_count, 9),
        w(channel_count, 9),
        arrays(row_count, channel_count, layouts[1], all_scales[seed % 4], 9 * 255 * 128, random) {
    fill(a.view(), values::random, 0, 255, random);
    fill(w.view(), values::random, -128, 127, random);
  }

  /// The product with a stage, by the specification.
  template <class Stage>
  tensor<typename Stage::output> run(const Stage& stage) const {
    tensor<typename Stage::output> y(row_count, channel_count);
    reference::gemm(a.view(), w.view(), stage, y.view());
    return y;
  }

  generator random;
  tensor<std::uint8_t> a;
  tensor<std::int8_t> w;
  stage_arrays arrays;
};

TEST_CASE("requantize_lut: equals requantize_u12, then activation") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const fused_case one(seed);
    const auto fused = stage_of<requantize_lut>(one.arrays);
    const tensor<std::uint16_t> codes = one.run(requantize_u12{fused.scale});
    tensor<std::uint8_t> expected(row_count, channel_count);
    activation(codes.view(), fused.table, expected.view());
    CHECK(first_difference(one.run(fused).view(), expected.view()) == "");
  }
}

TEST_CASE("requantize_add: equals requantize, then add") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const fused_case one(seed);
    const auto fused = stage_of<requantize_add>(one.arrays);
    const tensor<std::uint8_t> branch = one.run(requantize<std::uint8_t>{fused.scale});
    tensor<std::uint8_t> expected(row_count, channel_count);
    add(fused.stream, branch.view(), fused.addition, expected.view());
    CHECK(first_difference(one.run(fused).view(), expected.view()) == "");
  }
}

TEST_CASE("requantize_per_row: equals requantize with the scale of the row") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const fused_case one(seed);
    const auto fused = stage_of<requantize_per_row<std::int8_t>>(one.arrays);
    const tensor<std::int8_t> together = one.run(fused);
    for (index_t m = 0; m < row_count; ++m) {
      const requantize<std::int8_t, tensor_scale> of_row{fused.rows[static_cast<std::size_t>(m)]};
      const tensor<std::int8_t> alone = one.run(of_row);
      CHECK(first_difference(together.view().row_block(m, 1), alone.view().row_block(m, 1)) == "");
    }
  }
}

}  // namespace
}  // namespace intact_test::fused_stage_test
