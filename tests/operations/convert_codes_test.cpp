#include "intact/convert_codes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "catch.hpp"
#include "intact/build/scale.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::convert_codes_test {
namespace {

template <class Out>
void check_codes(double factor, int zero_point, int output_zero_point, double low, double high) {
  INFO("factor " << factor << ", zero points " << zero_point << " and " << output_zero_point);
  realized_scale exact;
  const tensor_scale scale = build_scale(convert_codes_spec(factor, zero_point, output_zero_point), exact);
  tensor<std::uint8_t> x(1, 256);
  tensor<Out> y(1, 256);
  for (index_t code = 0; code < 256; ++code) {
    x(0, code) = static_cast<std::uint8_t>(code);
  }
  convert_codes(x.view(), requantize<Out, tensor_scale>{scale}, y.view());
  for (index_t code = 0; code < 256; ++code) {
    const double real = static_cast<double>(code) * exact.factor + exact.offset;
    REQUIRE(y(0, code) == std::clamp(std::rint(real), low, high));
    const double wanted = static_cast<double>(code - zero_point) * factor + output_zero_point;
    REQUIRE(std::fabs(real - wanted) <= 1e-6 * std::max(1.0, std::fabs(wanted)));
  }
}

TEST_CASE("convert_codes: every code becomes the nearest of the other scale", "[convert_codes]") {
  for (const double factor : {0.001, 0.4, 1.0, 3.7, 128.5, 300.0}) {
    for (const int zero_point : {0, 1, 128, 255}) {
      check_codes<std::int16_t>(factor, zero_point, 0, -32768, 32767);
      check_codes<std::uint8_t>(factor, zero_point, 100, 0, 255);
    }
  }
}

TEST_CASE("convert_codes: takes any strides", "[convert_codes]") {
  generator random(5);
  for (const index_t rows : {0, 1, 6}) {
    for (const index_t columns : {0, 1, 33}) {
      for (const layout& where : layouts) {
        tensor<std::uint8_t> x(rows, columns, where);
        tensor<std::int32_t> y(rows, columns, where);
        fill(x.view(), values::random, 0, 255, random);
        convert_codes(x.view(), raw_accumulator{}, y.view());
        CHECK(first_difference(y.view(), x.view()) == "");
        CHECK(y.surroundings_untouched());
      }
    }
  }
}

TEST_CASE("convert_codes: refuses shapes and stages before anything is written", "[convert_codes]") {
  tensor<std::uint8_t> x(4, 3), y(4, 3);
  const requantize<std::uint8_t, channel_scale> stage{};
  CHECK(refusal([&] { convert_codes(x.view(), stage, y.view()); }) ==
        "intact::convert_codes: size of scale.multiplier is 0; it must be equal to 3");
  const requantize<std::uint8_t, tensor_scale> all{};
  CHECK(refusal([&] { convert_codes(x.view(), all, y.view().prefix(3, 3)); }) ==
        "intact::convert_codes: y is 3 x 3; it must be 4 x 3");
  CHECK(first_difference(y.view(), tensor<std::uint8_t>(4, 3).view()) == "");
}

}  // namespace
}  // namespace intact_test::convert_codes_test
