#include "intact/weighted_matmul.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "intact/build/scale.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "intact/shift_matmul.hpp"
#include "tensor.hpp"

// Attention times V with normalized rows: u8 weights, and the weights 2^(15 - code) of both tails.

namespace intact_test::weighted_matmul_test {
namespace {

constexpr std::int32_t largest_factor = (1 << 30) - 1;
constexpr std::int64_t largest_weight_sum = std::int64_t{65535} << 15;

/// Section 6 of docs/numerics.md by divisions in 128 bits: the code before it is clamped.
int128 defined_code(const row_divisor& n, int128 weight_sum, int128 accumulator) {
  if (weight_sum == 0) {
    return n.zero_point;
  }
  int e = 0;
  while (e < 24 && power_of_two(e) <= weight_sum) {
    ++e;
  }
  const int128 multiplier = floor_divide(n.factor * power_of_two(e) + weight_sum / 2, weight_sum);
  const int128 rounded = accumulator * multiplier + (2 * n.zero_point + 1) * power_of_two(27 + e);
  return floor_divide(rounded, power_of_two(28 + e));
}

/// The nearest integer to accumulator / weight_sum * factor / 2^28 + zero point, halves up.
int128 nearest_code(const row_divisor& n, int128 weight_sum, int128 accumulator) {
  if (weight_sum == 0) {
    return n.zero_point;
  }
  const int128 denominator = weight_sum * power_of_two(28);
  const int128 numerator = accumulator * n.factor + n.zero_point * denominator;
  return floor_divide(2 * numerator + denominator, 2 * denominator);
}

/// Counts of comparisons with infinite precision, before the clamp.
struct precision {
  std::int64_t codes = 0;
  std::int64_t wrong = 0;      ///< not as defined
  std::int64_t different = 0;  ///< not the nearest
  std::int64_t farther = 0;    ///< by more than one code

  void compare(const row_divisor& n, std::int64_t weight_sum, std::int64_t accumulator, int128 code) {
    const int128 distance = code - nearest_code(n, weight_sum, accumulator);
    ++codes;
    wrong += code != defined_code(n, weight_sum, accumulator) ? 1 : 0;
    different += distance != 0 ? 1 : 0;
    farther += distance < -1 || distance > 1 ? 1 : 0;
  }
};

TEST_CASE("row_scale: equals the formula, and within one code of infinite precision") {
  generator random(70);
  std::vector<std::int64_t> weight_sums{1, 2, 3, 254, 255, largest_weight_sum - 1, largest_weight_sum};
  for (int bits = 2; bits <= 31; ++bits) {
    const std::int64_t power = std::int64_t{1} << bits;
    for (const std::int64_t sum : {power - 1, power, power + 1, random.between(power / 2, power)}) {
      weight_sums.push_back(std::min(sum, largest_weight_sum));
    }
  }
  precision all;
  for (const std::int64_t sum : weight_sums) {
    for (int i = 0; i < 60; ++i) {
      const std::int32_t factors[] = {1, largest_factor, 1 << 28,
                                      static_cast<std::int32_t>(random.between(1, largest_factor))};
      for (const std::int32_t factor : factors) {
        const row_divisor n{factor, i % 3 == 0 ? 0 : i % 3 == 1 ? 255 : static_cast<int>(random.between(0, 255))};
        const std::int64_t a = i == 0 ? -255 * sum : i == 1 ? 255 * sum : random.between(-255 * sum, 255 * sum);
        all.compare(n, sum, a, row_scale(n, sum)(a));
      }
    }
  }
  CHECK(all.codes == 30480);
  CHECK(all.wrong == 0);
  CHECK(all.farther == 0);
  CHECK(all.different * 1000 < all.codes);
}

TEST_CASE("row_scale: equals the formula next to every step of the output") {
  generator random(71);
  precision all;
  for (int i = 0; i < 20000; ++i) {
    const std::int64_t sum = random.between(1, std::int64_t{1} << random.between(1, 30));
    const auto factor = static_cast<std::int32_t>(random.between(1, std::int64_t{1} << random.between(1, 30)) - 1);
    const row_divisor n{std::max(factor, 1), static_cast<int>(random.between(0, 255))};
    // An accumulator next to which round(a / sum * factor / 2^28) changes.
    const int128 twice_code = 2 * random.between(-255, 255) + 1;
    const int128 step = floor_divide(twice_code * sum * power_of_two(27), n.factor);
    for (int distance = -1; distance <= 1; ++distance) {
      const int128 a = std::clamp<int128>(step + distance, -255 * int128{sum}, 255 * int128{sum});
      all.compare(n, sum, static_cast<std::int64_t>(a), row_scale(n, sum)(static_cast<std::int64_t>(a)));
    }
  }
  CHECK(all.codes == 60000);
  CHECK(all.wrong == 0);
  CHECK(all.farther == 0);
}

TEST_CASE("row_scale: takes rows without weights, with a weight of 1 and with the largest sum") {
  STATIC_REQUIRE(row_scale({largest_factor, 77}, 0)(0) == 77);
  STATIC_REQUIRE(row_scale({1, 0}, 0)(0) == 0);
  STATIC_REQUIRE(row_scale({1 << 28, 10}, 1)(-13) == -3);
  STATIC_REQUIRE(row_scale({1 << 27, 10}, 1)(7) == 14);  // 13.5, up
  STATIC_REQUIRE(row_scale({1 << 27, 10}, 1)(-7) == 7);  // 6.5, up
  STATIC_REQUIRE(row_scale({1 << 28, 0}, largest_weight_sum)(255 * largest_weight_sum) == 255);
  STATIC_REQUIRE(row_scale({1 << 28, 255}, largest_weight_sum)(-255 * largest_weight_sum) == 0);
  STATIC_REQUIRE(row_scale({largest_factor, 255}, largest_weight_sum)(255 * largest_weight_sum) == 255 + 1020);
  STATIC_REQUIRE(row_scale({largest_factor, 0}, largest_weight_sum)(-255 * largest_weight_sum) == -1020);
}

TEST_CASE("row_scale: does not change if all weights are doubled") {
  generator random(72);
  int wrong = 0;
  for (int i = 0; i < 100000; ++i) {
    const std::int64_t sum = random.between(1, (std::int64_t{1} << random.between(1, 22)));
    const std::int64_t a = random.between(-255 * sum, 255 * sum);
    const row_divisor n{static_cast<std::int32_t>(random.between(1, largest_factor)),
                        static_cast<int>(random.between(0, 255))};
    const std::int64_t code = row_scale(n, sum)(a);
    for (std::int64_t power = 2; power * sum < (1 << 24); power *= 2) {
      wrong += row_scale(n, power * sum)(power * a) != code ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
}

/// Weights, and what the operation takes for them.
struct u8_weights {
  static constexpr int largest = 255;
  using memory = tensor<std::uint8_t>;
  static std::int64_t weight(int code) { return code; }
  static void multiply(memory& w, const quantized_matrix& v, const row_divisor& n, matrix_view<std::uint8_t> y) {
    reference::weighted_matmul(w.view(), v, n, y);
  }
};
template <attention_code Format>
struct shifts {
  static constexpr int largest = Format == attention_code::u8_masked ? 16 : 15;
  using memory = std::conditional_t<Format == attention_code::u4_clipped, packed_tensor<u4>, tensor<std::uint8_t>>;
  static std::int64_t weight(int code) { return code == 16 ? 0 : 32768 >> code; }
  static void multiply(memory& w, const quantized_matrix& v, const row_divisor& n, matrix_view<std::uint8_t> y) {
    reference::shift_matmul<Format>(w.view(), v, n, y);
  }
};

/// Codes of an operation against the formula; infinite precision is compared too.
template <class Weights>
precision check_product(typename Weights::memory& w, const tensor<std::uint8_t>& v, int v_zero_point,
                        const row_divisor& n, const layout& where) {
  const auto codes = w.view();
  tensor<std::uint8_t> y(codes.rows, v.columns(), where), expected(codes.rows, v.columns());
  Weights::multiply(w, {v.view(), v_zero_point}, n, y.view());
  precision result;
  for (index_t i = 0; i < codes.rows; ++i) {
    for (index_t c = 0; c < v.columns(); ++c) {
      std::int64_t weight_sum = 0, accumulator = 0;
      for (index_t j = 0; j < v.rows(); ++j) {
        const std::int64_t weight = Weights::weight(codes(i, j));
        weight_sum += weight;
        accumulator += weight * (v(j, c) - v_zero_point);
      }
      const int128 code = defined_code(n, weight_sum, accumulator);
      expected(i, c) = clamp_to<std::uint8_t>(code);
      result.compare(n, weight_sum, accumulator, code);
    }
  }
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
  return result;
}

struct attention_shape {
  index_t queries;
  index_t keys;
  index_t channels;
};

constexpr attention_shape attention_shapes[] = {
    {0, 4, 4},    {4, 0, 4},    {4, 4, 0},                 // nothing; no keys: the zero point
    {1, 1, 1},    {1, 2, 1},    {2, 3, 1},                 // the smallest; half a byte of packed codes
    {1, 5, 7},    {3, 15, 16},  {3, 16, 17}, {2, 17, 15},  // around registers of 16 bytes, in keys and channels
    {2, 31, 32},  {2, 33, 33},  {1, 63, 64}, {2, 65, 65},  // of 32 and 64
    {1, 197, 64}, {31, 197, 16}                            // one token, and some of DeiT's
};

TEMPLATE_TEST_CASE("row_divisor: products of normalized rows equal the formula, mostly the nearest codes", "",
                   u8_weights, shifts<attention_code::u8_masked>, shifts<attention_code::u4_clipped>) {
  generator random(73);
  precision all;
  const auto check = [&](const attention_shape& shape, const layout& where, values weight_values, int v_zero_point) {
    typename TestType::memory w(shape.queries, shape.keys, where);
    tensor<std::uint8_t> v(shape.keys, shape.channels, where);
    fill(w.view(), weight_values, 0, TestType::largest, random);
    fill(v.view(), values::random, 0, 255, random);
    const row_divisor n{static_cast<std::int32_t>(random.between(1 << 24, largest_factor)),
                        static_cast<int>(random.between(0, 255))};
    CAPTURE(shape.queries, shape.keys, shape.channels, where.gap, int(weight_values), v_zero_point);
    const precision some = check_product<TestType>(w, v, v_zero_point, n, where);
    all.codes += some.codes;
    all.different += some.different;
    all.farther += some.farther;
  };
  for (const attention_shape& shape : attention_shapes) {
    for (const layout& where : layouts) {
      check(shape, where, values::random, 121);
    }
    for (const values what : all_values) {
      check(shape, layouts[0], what, 0);
      check(shape, layouts[0], what, 255);
    }
  }
  CAPTURE(all.codes, all.different);
  CHECK(all.codes > 13000);
  CHECK(all.farther == 0);
  CHECK(all.different * 1000 < all.codes);
}

TEMPLATE_TEST_CASE("row_divisor: products differ from infinite precision in fewer than 1 of 10,000 codes", "",
                   u8_weights, shifts<attention_code::u8_masked>, shifts<attention_code::u4_clipped>) {
  generator random(74);
  precision all;
  tensor<std::uint8_t> v(197, 64);
  for (int head = 0; head < 10; ++head) {
    typename TestType::memory w(64, 197);
    fill(w.view(), values::random, 0, TestType::largest, random);
    fill(v.view(), values::random, 0, 255, random);
    const row_divisor n{static_cast<std::int32_t>(random.between(1 << 27, 1 << 29)), 128};
    const precision some = check_product<TestType>(w, v, 120, n, layouts[0]);
    all.codes += some.codes;
    all.different += some.different;
    all.farther += some.farther;
  }
  WARN(all.different << " of " << all.codes << " codes differ from infinite precision");
  CHECK(all.codes == 40960);
  CHECK(all.farther == 0);
  CHECK(all.different * 10000 < all.codes);
}

TEST_CASE("row_divisor: products of normalized rows equal the formula [65,535 keys, the largest weights]") {
  constexpr index_t keys = weighted_matmul_max_keys;
  STATIC_REQUIRE(keys == 65535);
  generator random(75);
  tensor<std::uint8_t> v(keys, 3), codes(1, keys), weights(1, keys);
  fill(v.view(), values::random, 0, 255, random);
  for (index_t j = 0; j < keys; ++j) {
    v(j, 0) = 255;
    v(j, 1) = 0;
    codes(0, j) = 0;
    weights(0, j) = 255;
  }
  packed_tensor<u4> packed(1, keys);
  fill(packed.view(), values::smallest, 0, 0, random);
  for (const int v_zero_point : {0, 255, 100}) {
    for (const std::int32_t factor : {1, 1 << 28, largest_factor}) {
      const row_divisor n{factor, 128};
      CAPTURE(v_zero_point, factor);
      CHECK(check_product<u8_weights>(weights, v, v_zero_point, n, layouts[1]).farther == 0);
      CHECK(check_product<shifts<attention_code::u8_masked>>(codes, v, v_zero_point, n, layouts[1]).farther == 0);
      CHECK(check_product<shifts<attention_code::u4_clipped>>(packed, v, v_zero_point, n, layouts[1]).farther == 0);
    }
  }
}

TEST_CASE("row_divisor: rows of zero weights become the zero point, one weight gives the code of V") {
  tensor<std::uint8_t> weights(1, 3), codes(1, 3), v(3, 2), y(1, 2);
  generator random(76);
  fill(v.view(), values::random, 0, 255, random);
  fill(weights.view(), values::smallest, 0, 0, random);
  fill(codes.view(), values::smallest, 16, 16, random);
  const row_divisor one{1 << 28, 37};
  reference::weighted_matmul(weights.view(), {v.view(), 100}, one, y.view());
  CHECK(y.memory() == std::vector<std::uint8_t>{37, 37});
  reference::shift_matmul<attention_code::u8_masked>(codes.view(), {v.view(), 100}, one, y.view());
  CHECK(y.memory() == std::vector<std::uint8_t>{37, 37});
  const row_divisor same{1 << 28, 100};
  for (const int weight : {1, 2, 255}) {
    weights(0, 1) = static_cast<std::uint8_t>(weight);
    reference::weighted_matmul(weights.view(), {v.view(), 100}, same, y.view());
    CHECK(y.memory() == std::vector<std::uint8_t>{v(1, 0), v(1, 1)});
  }
  for (int code = 0; code < 16; ++code) {
    codes(0, 1) = static_cast<std::uint8_t>(code);
    reference::shift_matmul<attention_code::u8_masked>(codes.view(), {v.view(), 100}, same, y.view());
    CHECK(y.memory() == std::vector<std::uint8_t>{v(1, 0), v(1, 1)});
  }
}

TEST_CASE("row_divisor: products do not change if weights are doubled, and hardly if they are tripled") {
  generator random(77);
  tensor<std::uint8_t> weights(16, 197), doubled(16, 197), tripled(16, 197), v(197, 64);
  tensor<std::uint8_t> y(16, 64), of_doubled(16, 64), of_tripled(16, 64);
  fill(weights.view(), values::random, 0, 85, random);
  fill(v.view(), values::random, 0, 255, random);
  for (index_t i = 0; i < 16; ++i) {
    for (index_t j = 0; j < 197; ++j) {
      doubled(i, j) = static_cast<std::uint8_t>(2 * weights(i, j));
      tripled(i, j) = static_cast<std::uint8_t>(3 * weights(i, j));
    }
  }
  const row_divisor n{987654321, 128};
  reference::weighted_matmul(weights.view(), {v.view(), 120}, n, y.view());
  reference::weighted_matmul(doubled.view(), {v.view(), 120}, n, of_doubled.view());
  reference::weighted_matmul(tripled.view(), {v.view(), 120}, n, of_tripled.view());
  CHECK(of_doubled.memory() == y.memory());
  int different = 0;
  for (std::size_t k = 0; k < y.memory().size(); ++k) {
    different += y.memory()[k] != of_tripled.memory()[k] ? 1 : 0;
  }
  CHECK(different <= 1);

  tensor<std::uint8_t> codes(16, 197), halved(16, 197);
  fill(codes.view(), values::random, 0, 8, random);
  for (index_t i = 0; i < 16; ++i) {
    for (index_t j = 0; j < 197; ++j) {
      halved(i, j) = static_cast<std::uint8_t>(codes(i, j) + 7);
    }
  }
  reference::shift_matmul<attention_code::u8_masked>(codes.view(), {v.view(), 120}, n, y.view());
  reference::shift_matmul<attention_code::u8_masked>(halved.view(), {v.view(), 120}, n, of_doubled.view());
  CHECK(of_doubled.memory() == y.memory());
}

TEST_CASE("build_row_divisor: takes ratios below 4") {
  CHECK(build_row_divisor(1, 5).factor == 1 << 28);
  CHECK(build_row_divisor(1, 5).zero_point == 5);
  CHECK(build_row_divisor(0.3, 0).factor == 80530637);  // 80530636.8
  CHECK(build_row_divisor(std::ldexp(1.0, -28), 0).factor == 1);
  CHECK(build_row_divisor(std::ldexp(1.0, -29) * 1.5, 0).factor == 1);
  CHECK(build_row_divisor(4 - std::ldexp(1.0, -28), 0).factor == largest_factor);
  CHECK(build_row_divisor(1e-30, 7).factor == 1);
  CHECK(has_normalization(4 - std::ldexp(1.0, -28)));
  CHECK(has_normalization(1e-300));
  for (const double none : {4.0, 4 - std::ldexp(1.0, -30), 0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_FALSE(has_normalization(none));
  }
  const std::string rule = "; it must be above 0 and below 4";
  const std::string start = "intact::build_row_divisor: the ratio of scales is ";
  CHECK_THROWS_WITH(build_row_divisor(4, 0), start + "4" + rule);
  CHECK_THROWS_WITH(build_row_divisor(0, 0), start + "0" + rule);
  CHECK_THROWS_WITH(build_row_divisor(-1, 0), start + "-1" + rule);
  CHECK_THROWS(build_row_divisor(std::numeric_limits<double>::quiet_NaN(), 0));
  CHECK_THROWS_WITH(build_row_divisor(1, 256),
                    "intact::build_row_divisor: normalization.zero_point is 256; it must be at most 255");
}

/// Refusals that every operation of this file has. The call takes v, its zero point, the normalization and y.
template <class Call>
void check_refusals(const std::string& name, const std::string& weights, Call call) {
  tensor<std::uint8_t> v(3, 2), y(2, 2);
  const row_divisor good{1, 0};
  const std::string start = "intact::" + name + ": ";
  const matrix_view<const std::uint8_t> all = v.view();
  CHECK_THROWS_WITH(call({all.prefix(2, 2), 0}, good, y.view()), start + weights + " is 2 x 3; it must be 2 x 2");
  CHECK_THROWS_WITH(call({all, -1}, good, y.view()), start + "zero point of v is -1; it must be at least 0");
  CHECK_THROWS_WITH(call({all, 256}, good, y.view()), start + "zero point of v is 256; it must be at most 255");
  CHECK_THROWS_WITH(call({all, 0}, {0, 0}, y.view()), start + "normalization.factor is 0; it must be at least 1");
  CHECK_THROWS_WITH(call({all, 0}, {1 << 30, 0}, y.view()),
                    start + "normalization.factor is 1073741824; it must be at most 1073741823");
  CHECK_THROWS_WITH(call({all, 0}, {1, -1}, y.view()), start + "normalization.zero_point is -1; it must be at least 0");
  CHECK_THROWS_WITH(call({all, 0}, {1, 256}, y.view()),
                    start + "normalization.zero_point is 256; it must be at most 255");
  CHECK_THROWS_WITH(call({all, 0}, good, y.view().prefix(1, 2)), start + "y is 1 x 2; it must be 2 x 2");
  CHECK_THROWS_WITH(call({{nullptr, 65536, 0}, 0}, good, y.view()),
                    start + "rows of v is 65536; it must be at most 65535");
  CHECK(y.memory() == tensor<std::uint8_t>(2, 2).memory());
}

TEST_CASE("row_divisor: reference::weighted_matmul and reference::shift_matmul refuse operands that do not fit") {
  tensor<std::uint8_t> weights(2, 3);
  packed_tensor<u4> packed(2, 3);
  check_refusals("weighted_matmul", "weights",
                 [&](const quantized_matrix& v, const row_divisor& n, matrix_view<std::uint8_t> y) {
                   reference::weighted_matmul(weights.view(), v, n, y);
                 });
  check_refusals("shift_matmul", "codes",
                 [&](const quantized_matrix& v, const row_divisor& n, matrix_view<std::uint8_t> y) {
                   reference::shift_matmul<attention_code::u8_masked>(weights.view(), v, n, y);
                 });
  check_refusals("shift_matmul", "codes",
                 [&](const quantized_matrix& v, const row_divisor& n, matrix_view<std::uint8_t> y) {
                   reference::shift_matmul<attention_code::u4_clipped>(packed.view(), v, n, y);
                 });
}

}  // namespace
}  // namespace intact_test::weighted_matmul_test
