#include "intact/average_pool.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "intact/build/scale.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::average_pool_test {
namespace {

struct pool_scale {
  realized_scale exact;
  tensor_scale scale;
};

pool_scale build_pool(double factor, int zero_point, int output_zero_point, index_t tokens) {
  pool_scale made;
  made.scale = build_scale(average_pool_spec(factor, zero_point, output_zero_point, tokens), made.exact);
  return made;
}

TEST_CASE("average_pool: sums of codes are exact", "[average_pool]") {
  for (const index_t tokens : {0, 1, 2, 49, 1000}) {
    for (const index_t channels : {0, 1, 7, 96}) {
      for (const values what : all_values) {
        for (const layout& where : layouts) {
          tensor<std::uint8_t> x(tokens, channels, where);
          tensor<std::int32_t> y(1, channels, where);
          generator random(3);
          fill(x.view(), what, 0, 255, random);
          average_pool(x.view(), raw_accumulator{}, y.view());
          for (index_t c = 0; c < channels; ++c) {
            std::int64_t sum = 0;
            for (index_t t = 0; t < tokens; ++t) {
              sum += x(t, c);
            }
            REQUIRE(y(0, c) == sum);
          }
          CHECK(y.surroundings_untouched());
        }
      }
    }
  }
}

TEST_CASE("average_pool: means are real numbers rounded, and nearly those of the codes' values", "[average_pool]") {
  generator random(4);
  for (const index_t tokens : {1, 9, 49, 3136}) {
    for (const double factor : {0.01, 0.37, 1.0, 2.5}) {
      const int zero_point = static_cast<int>(random.between(0, 255)),
                output = static_cast<int>(random.between(0, 255));
      const pool_scale built = build_pool(factor, zero_point, output, tokens);
      tensor<std::uint8_t> x(tokens, 300), y(1, 300);
      fill(x.view(), values::random, 0, 255, random);
      average_pool(x.view(), requantize<std::uint8_t, tensor_scale>{built.scale}, y.view());
      for (index_t c = 0; c < 300; ++c) {
        double sum = 0, value = 0;
        for (index_t t = 0; t < tokens; ++t) {
          sum += x(t, c);
          value += x(t, c) - zero_point;
        }
        REQUIRE(y(0, c) == std::clamp(std::rint(sum * built.exact.factor + built.exact.offset), 0.0, 255.0));
        const double mean = value / static_cast<double>(tokens) * factor + output;
        REQUIRE(std::fabs(y(0, c) - std::clamp(mean, 0.0, 255.0)) <= 0.5 + 1e-6);
      }
    }
  }
}

TEST_CASE("average_pool: sums fit int32 [the most tokens]", "[average_pool]") {
  static_assert(average_pool_max_tokens == 8421504);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(average_pool_max_tokens), 255);
  tensor<std::int32_t> y(1, 1);
  average_pool(matrix_view<const std::uint8_t>(codes.data(), average_pool_max_tokens, 1), raw_accumulator{}, y.view());
  CHECK(y(0, 0) == 2147483520);
  CHECK(refusal([&] {
          average_pool(matrix_view<const std::uint8_t>(codes.data(), average_pool_max_tokens + 1, 0), raw_accumulator{},
                       y.view());
        }) == "intact::average_pool: rows of x is 8421505; it must be at most 8421504");
}

TEST_CASE("average_pool: sums and means of s16 codes are exact", "[average_pool]") {
  generator random(5);
  for (const index_t tokens : {0, 1, 3, 196, 65535}) {
    for (const index_t channels : {1, 7, 40}) {
      for (const values what : all_values) {
        tensor<std::int16_t> x(tokens, channels), y(1, channels);
        tensor<std::int32_t> sums(1, channels);
        fill(x.view(), what, -32768, 32767, random);
        std::vector<scale_spec> specs;
        for (index_t c = 0; c < channels; ++c) {
          specs.push_back(average_pool_s16_spec(0.3 + static_cast<double>(c), tokens));
        }
        std::vector<std::int32_t> multiplier(specs.size());
        std::vector<std::int64_t> offset(specs.size());
        std::vector<realized_scale> exact(specs.size());
        const channel_scale scale = build_scale(specs, multiplier, offset, exact);
        average_pool(matrix_view<const std::int16_t>(x.view()), raw_accumulator{}, sums.view());
        average_pool(matrix_view<const std::int16_t>(x.view()), requantize<std::int16_t>{scale}, y.view());
        for (index_t c = 0; c < channels; ++c) {
          std::int64_t sum = 0;
          for (index_t t = 0; t < tokens; ++t) {
            sum += x(t, c);
          }
          REQUIRE(sums(0, c) == sum);
          const realized_scale& real = exact[static_cast<std::size_t>(c)];
          REQUIRE(y(0, c) ==
                  std::clamp(std::rint(static_cast<double>(sum) * real.factor + real.offset), -32768.0, 32767.0));
          const double mean = tokens == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(tokens);
          const double value = std::clamp(mean * (0.3 + static_cast<double>(c)), -32768.0, 32767.0);
          REQUIRE(std::fabs(y(0, c) - value) <= 0.5 + 1e-3);
        }
      }
    }
  }
  const std::vector<std::int16_t> codes(65536, -32768);
  tensor<std::int32_t> y(1, 1);
  CHECK(refusal([&] {
          average_pool(matrix_view<const std::int16_t>(codes.data(), 65536, 1), raw_accumulator{}, y.view());
        }) == "intact::average_pool: rows of x is 65536; it must be at most 65535");
}

TEST_CASE("average_pool: refuses shapes and stages before anything is written", "[average_pool]") {
  tensor<std::uint8_t> x(4, 3), y(1, 3), two(2, 3);
  const requantize<std::uint8_t, tensor_scale> stage{build_pool(1, 0, 0, 4).scale};
  CHECK(refusal([&] { average_pool(x.view(), stage, y.view().prefix(1, 2)); }) ==
        "intact::average_pool: y is 1 x 2; it must be 1 x 3");
  CHECK(refusal([&] { average_pool(x.view(), stage, two.view()); }) ==
        "intact::average_pool: y is 2 x 3; it must be 1 x 3");
  requantize<std::uint8_t, tensor_scale> wrong = stage;
  wrong.scale.shift = 31;
  CHECK(refusal([&] { average_pool(x.view(), wrong, y.view()); }) ==
        "intact::average_pool: scale.shift is 31; it must be at most 30");
  CHECK(first_difference(y.view(), tensor<std::uint8_t>(1, 3).view()) == "");
}

}  // namespace
}  // namespace intact_test::average_pool_test
