#include "intact/multiply.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "catch.hpp"
#include "intact/build/scale.hpp"
#include "intact/reference/multiply.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::multiply_test {
namespace {

constexpr int zero_points[] = {0, 1, 128, 254, 255};

/// All 65,536 pairs of codes: the rows are codes of a, the columns codes of b.
struct all_pairs {
  tensor<std::uint8_t> a{256, 256}, b{256, 256};

  all_pairs() {
    for (index_t i = 0; i < 256; ++i) {
      for (index_t j = 0; j < 256; ++j) {
        a(i, j) = static_cast<std::uint8_t>(i);
        b(i, j) = static_cast<std::uint8_t>(j);
      }
    }
  }
};

/// The products of all pairs, in the codes of a built scale, are the real numbers rounded.
template <class Out>
void check_codes(const all_pairs& x, double factor, int a_zero_point, int b_zero_point, int y_zero_point) {
  CAPTURE(factor, a_zero_point, b_zero_point, y_zero_point);
  realized_scale exact;
  const scale_spec target = multiply_spec(factor, a_zero_point, b_zero_point, y_zero_point);
  const requantize<Out, tensor_scale> stage{build_scale(target, exact)};
  tensor<Out> y(256, 256), specified(256, 256);
  multiply({x.a.view(), a_zero_point}, {x.b.view(), b_zero_point}, stage, y.view());
  reference::multiply({x.a.view(), a_zero_point}, {x.b.view(), b_zero_point}, stage, specified.view());
  CHECK(first_difference(y.view(), specified.view()) == "");
  const double low = std::numeric_limits<Out>::min(), high = std::numeric_limits<Out>::max();
  index_t wrong = 0, ties = 0, far = 0, outside = 0;
  for (index_t i = 0; i < 256; ++i) {
    for (index_t j = 0; j < 256; ++j) {
      const double product = static_cast<double>((i - a_zero_point) * (j - b_zero_point));
      const double real = product * exact.factor + exact.offset, wanted = product * factor + y_zero_point;
      wrong += y(i, j) != std::clamp(std::rint(real), low, high) ? 1 : 0;
      ties += real - std::floor(real) == 0.5 ? 1 : 0;
      far += std::fabs(real - wanted) > 1e-6 * std::max(1.0, std::fabs(wanted)) ? 1 : 0;
      outside += product < static_cast<double>(target.range.low) || product > static_cast<double>(target.range.high);
    }
  }
  CHECK(wrong == 0);
  CHECK(ties == 0);
  CHECK(far == 0);
  CHECK(outside == 0);
}

TEST_CASE("multiply: is the nearest code to the real product, and no pair of codes is a tie") {
  const all_pairs x;
  for (const int a_zero_point : zero_points) {
    for (const int b_zero_point : zero_points) {
      for (const double factor : {1.0 / 510, 0.0078125, 0.037}) {
        check_codes<std::uint8_t>(x, factor, a_zero_point, b_zero_point, 117);
      }
    }
  }
  for (const double factor : {0.0, 1e-9, 0.25, 0.5, 1.0, 3.3, 16000.0}) {  // above 1/2, accumulators are shifted left
    check_codes<std::uint8_t>(x, factor, 3, 130, 0);
    check_codes<std::int8_t>(x, factor, 128, 128, -7);
    check_codes<std::int16_t>(x, factor, 255, 0, 0);
  }
}

TEST_CASE("multiply: products are exact [raw accumulators, every layout, kinds of values]") {
  generator random(31);
  for (const index_t rows : {0, 1, 5}) {
    for (const index_t columns : {0, 1, 2, 15, 16, 17, 64, 131}) {
      for (const layout& where : layouts) {
        for (const values what : all_values) {
          tensor<std::uint8_t> a(rows, columns, where), b(rows, columns, where);
          tensor<std::int32_t> y(rows, columns, where);
          fill(a.view(), values::random, 0, 255, random);
          fill(b.view(), what, 0, 255, random);
          const int a_zero_point = zero_points[random.between(0, 4)], b_zero_point = zero_points[random.between(0, 4)];
          multiply({a.view(), a_zero_point}, {b.view(), b_zero_point}, raw_accumulator{}, y.view());
          CAPTURE(rows, columns, where.gap, int(what), a_zero_point, b_zero_point);
          index_t wrong = 0;
          for (index_t i = 0; i < rows; ++i) {
            for (index_t c = 0; c < columns; ++c) {
              wrong += y(i, c) != (std::int64_t{a(i, c)} - a_zero_point) * (std::int64_t{b(i, c)} - b_zero_point);
            }
          }
          CHECK(wrong == 0);
          CHECK(y.surroundings_untouched());
        }
      }
    }
  }
}

/// A stage of a user's that tells the row and the channel.
struct marked_product {
  using output = std::int32_t;
  std::int32_t operator()(std::int32_t product, index_t m, index_t n) const {
    return product + 1'000'000 * static_cast<std::int32_t>(m) + 100'000'000 * static_cast<std::int32_t>(n);
  }
  void require(const char*, index_t, index_t) const {}
};

TEST_CASE("multiply: the stage is told the row and the channel") {
  generator random(33);
  tensor<std::uint8_t> a(5, 17), b(5, 17);
  fill(a.view(), values::random, 0, 255, random);
  fill(b.view(), values::random, 0, 255, random);
  tensor<std::int32_t> y(5, 17), specified(5, 17);
  multiply({a.view(), 40}, {b.view(), 7}, marked_product{}, y.view());
  reference::multiply({a.view(), 40}, {b.view(), 7}, marked_product{}, specified.view());
  for (index_t i = 0; i < 5; ++i) {
    for (index_t c = 0; c < 17; ++c) {
      const std::int32_t expected = marked_product{}((a(i, c) - 40) * (b(i, c) - 7), i, c);
      CHECK(y(i, c) == expected);
      CHECK(specified(i, c) == expected);
    }
  }
}

TEST_CASE("multiply_spec: has the smallest range of products") {
  for (const int a_zero_point : zero_points) {
    for (const int b_zero_point : zero_points) {
      std::int64_t low = 0, high = 0;
      for (std::int64_t i = 0; i < 256; ++i) {
        for (std::int64_t j = 0; j < 256; ++j) {
          low = std::min(low, (i - a_zero_point) * (j - b_zero_point));
          high = std::max(high, (i - a_zero_point) * (j - b_zero_point));
        }
      }
      const scale_spec target = multiply_spec(0.1, a_zero_point, b_zero_point, 9);
      CHECK(target.range.low == low);
      CHECK(target.range.high == high);
      CHECK(target.correction == 0);
    }
  }
  CHECK(refusal([] { (void)multiply_spec(0.1, 256, 0, 0); }) ==
        "intact::multiply_spec: a_zero_point is 256; it must be at most 255");
  CHECK(refusal([] { (void)multiply_spec(0.1, 0, -1, 0); }) ==
        "intact::multiply_spec: b_zero_point is -1; it must be at least 0");
}

TEST_CASE("multiply: works in place on either tensor, and squares one") {
  generator random(32);
  const requantize<std::uint8_t, tensor_scale> stage{{1 << 30, (std::int64_t{2 * 90} + 1) << 37, 6, 0}};
  for (const layout& where : layouts) {
    tensor<std::uint8_t> a(7, 83, where), b(7, 83, where), expected(7, 83, where);
    fill(a.view(), values::random, 0, 255, random);
    fill(b.view(), values::random, 0, 255, random);
    reference::multiply({a.view(), 40}, {b.view(), 7}, stage, expected.view());
    tensor<std::uint8_t> y = a;
    multiply({y.view(), 40}, {b.view(), 7}, stage, y.view());
    CHECK(y.memory() == expected.memory());
    y = b;
    multiply({a.view(), 40}, {y.view(), 7}, stage, y.view());
    CHECK(y.memory() == expected.memory());
    y = a;
    reference::multiply({a.view(), 40}, {a.view(), 40}, stage, expected.view());
    multiply({y.view(), 40}, {y.view(), 40}, stage, y.view());
    CHECK(y.memory() == expected.memory());
  }
}

TEST_CASE("multiply: refuses shapes, zero points and stages before anything is written") {
  const tensor<std::uint8_t> a(4, 3), b(4, 3), narrow(4, 2);
  tensor<std::uint8_t> y(4, 3);
  const requantize<std::uint8_t, tensor_scale> one{};
  const auto message = [&](const quantized_matrix& first, const quantized_matrix& second, const auto& stage,
                           const matrix_view<std::uint8_t>& to) {
    return refusal([&] { multiply(first, second, stage, to); });
  };
  CHECK(message({a.view(), 0}, {narrow.view(), 0}, one, y.view()) == "intact::multiply: b is 4 x 2; it must be 4 x 3");
  CHECK(message({a.view(), 0}, {b.view(), 0}, one, y.view().prefix(3, 3)) ==
        "intact::multiply: y is 3 x 3; it must be 4 x 3");
  CHECK(message({a.view(), 256}, {b.view(), 0}, one, y.view()) ==
        "intact::multiply: zero point of a is 256; it must be at most 255");
  CHECK(message({a.view(), 0}, {b.view(), -1}, one, y.view()) ==
        "intact::multiply: zero point of b is -1; it must be at least 0");
  CHECK(message({a.view(), 0}, {b.view(), 0}, requantize<std::uint8_t>{}, y.view()) ==
        "intact::multiply: size of scale.multiplier is 0; it must be equal to 3");
  CHECK(message({{nullptr, 4, 3}, 0}, {b.view(), 0}, one, y.view()) != "");
  CHECK(first_difference(y.view(), tensor<std::uint8_t>(4, 3).view()) == "");
}

}  // namespace
}  // namespace intact_test::multiply_test
