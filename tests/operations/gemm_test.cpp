#include "intact/gemm.hpp"

#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "intact/reference/gemm.hpp"
#include "tensor.hpp"

namespace intact_test::gemm_test {
namespace {

struct gemm_shape {
  index_t m;
  index_t n;
  index_t k;
};

constexpr gemm_shape gemm_shapes[] = {
    {0, 3, 4},     {3, 0, 4},    {3, 4, 0},    {0, 0, 0},   // nothing to compute, and sums of nothing
    {1, 1, 1},     {1, 1, 2},    {2, 1, 3},                 // the smallest: half a byte of 4-bit weights, one and more
    {1, 10, 192},  {1, 5, 3},                               // one token: the classifier on the class token
    {4, 4, 4},     {3, 5, 5},    {5, 7, 15},   {4, 8, 16},  // one group of four bytes, and around one of 16
    {7, 9, 31},    {8, 8, 32},   {9, 17, 33},               // around a register of 32 bytes
    {6, 15, 63},   {16, 16, 64}, {17, 18, 65},              // around one of 64, with tiles of 16 exceeded
    {2, 3, 3072},                                           // the longest sums of a large model
    {4097, 2, 33},                                          // attention-shaped: many rows
};

constexpr gemm_shape model_shape = {197, 192, 192};  // a projection of DeiT-Tiny

template <class View>
std::int32_t exact_dot(const matrix_view<const std::uint8_t>& a, int a_zero_point, const View& b, int b_zero_point,
                       index_t m, index_t n) {
  int128 sum = 0;
  for (index_t k = 0; k < a.columns; ++k) {
    sum += (int128{a(m, k)} - a_zero_point) * (int128{b(n, k)} - b_zero_point);
  }
  return static_cast<std::int32_t>(sum);
}

template <class A, class Weights>
tensor<std::int32_t> exact_sums(const A& a, const Weights& w) {
  tensor<std::int32_t> sums(a.rows, w.rows);
  for (index_t m = 0; m < a.rows; ++m) {
    for (index_t n = 0; n < w.rows; ++n) {
      int128 sum = 0;
      for (index_t k = 0; k < a.columns; ++k) {
        sum += int128{a(m, k)} * w(n, k);
      }
      sums(m, n) = static_cast<std::int32_t>(sum);
    }
  }
  return sums;
}

template <class Weight>
using weight_tensor = std::conditional_t<std::is_same_v<Weight, s4>, packed_tensor<s4>, tensor<std::int8_t>>;

template <class Weight>
constexpr int smallest_weight = std::is_same_v<Weight, s4> ? -8 : -128;
template <class Weight>
constexpr int largest_weight = std::is_same_v<Weight, s4> ? 7 : 127;

template <class A, class Weight>
void check_sums(const gemm_shape& shape, const layout& where, values a_values, values w_values) {
  generator random(3);
  tensor<A> a(shape.m, shape.k, where);
  weight_tensor<Weight> w(shape.n, shape.k, where);
  fill(a.view(), a_values, std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), random);
  fill(w.view(), w_values, smallest_weight<Weight>, largest_weight<Weight>, random);
  tensor<std::int32_t> y(shape.m, shape.n, where);
  reference::gemm(a.view(), w.view(), raw_accumulator{}, y.view());
  CAPTURE(shape.m, shape.n, shape.k, where.gap, where.offset, int(a_values), int(w_values));
  CHECK(first_difference(y.view(), exact_sums(a.view(), w.view()).view()) == "");
  CHECK(y.surroundings_untouched());
}

template <class A, class Weight>
void check_all_sums() {
  for (const gemm_shape& shape : gemm_shapes) {
    for (const layout& where : layouts) {
      check_sums<A, Weight>(shape, where, values::random, values::random);
    }
    for (const values a : all_values) {
      for (const values w : all_values) {
        check_sums<A, Weight>(shape, layouts[0], a, w);
      }
    }
  }
  check_sums<A, Weight>(model_shape, layouts[0], values::random, values::random);
}

TEST_CASE("reference::gemm: is the exact sum of products [u8, s8]") {
  check_all_sums<std::uint8_t, std::int8_t>();
}
TEST_CASE("reference::gemm: is the exact sum of products [s8, s8]") {
  check_all_sums<std::int8_t, std::int8_t>();
}
TEST_CASE("reference::gemm: is the exact sum of products [u8, s4]") {
  check_all_sums<std::uint8_t, s4>();
}
TEST_CASE("reference::gemm: is the exact sum of products [s8, s4]") {
  check_all_sums<std::int8_t, s4>();
}

TEST_CASE("reference::gemm: takes views of const elements") {
  generator random(4);
  tensor<std::uint8_t> a(2, 5);
  packed_tensor<s4> w(3, 5);
  fill(a.view(), values::random, 0, 255, random);
  fill(w.view(), values::random, s4::min, s4::max, random);
  tensor<std::int32_t> y(2, 3);
  reference::gemm(matrix_view<const std::uint8_t>(a.view()), packed_view<s4, const std::uint8_t>(w.view()),
                  raw_accumulator{}, y.view());
  CHECK(first_difference(y.view(), exact_sums(a.view(), w.view()).view()) == "");
}

/// Every product as large as it can be, as many as the limit of K allows.
template <class A, class Weight>
std::int32_t sum_of_equal_products(index_t k, int a_code, int w_code) {
  generator random(5);
  tensor<A> a(1, k);
  weight_tensor<Weight> w(1, k);
  fill(a.view(), values::smallest, a_code, a_code, random);
  fill(w.view(), values::smallest, w_code, w_code, random);
  tensor<std::int32_t> y(1, 1);
  reference::gemm(a.view(), w.view(), raw_accumulator{}, y.view());
  return y(0, 0);
}

TEST_CASE("reference::gemm: is exact for the largest products at the limit of K") {
  CHECK(sum_of_equal_products<std::uint8_t, std::int8_t>(65793, 255, -128) == -2147483520);
  CHECK(sum_of_equal_products<std::uint8_t, std::int8_t>(65793, 255, 127) == 2130706305);
  CHECK(sum_of_equal_products<std::int8_t, std::int8_t>(131071, -128, -128) == 2147467264);
  CHECK(sum_of_equal_products<std::int8_t, std::int8_t>(131071, -128, 127) == -2130690176);
  CHECK(sum_of_equal_products<std::uint8_t, s4>(1052688, 255, -8) == -2147483520);
  CHECK(sum_of_equal_products<std::int8_t, s4>(2097151, -128, -8) == 2147482624);
}

TEST_CASE("gemm_max_depth_u8_s8: limits of K are the last for which every sum fits int32 [all types]") {
  constexpr std::int64_t largest = std::numeric_limits<std::int32_t>::max();
  const auto is_last = [](index_t depth, std::int64_t product) {
    return depth * product <= largest && (depth + 1) * product > largest;
  };
  CHECK((gemm_max_depth_u8_s8 == 65793 && is_last(gemm_max_depth_u8_s8, 255 * 128)));
  CHECK((gemm_max_depth_s8_s8 == 131071 && is_last(gemm_max_depth_s8_s8, 128 * 128)));
  CHECK((gemm_max_depth_u8_s4 == 1052688 && is_last(gemm_max_depth_u8_s4, 255 * 8)));
  CHECK((gemm_max_depth_s8_s4 == 2097151 && is_last(gemm_max_depth_s8_s4, 128 * 8)));
  CHECK((gemm_max_depth_u8_u8 == 33025 && is_last(gemm_max_depth_u8_u8, 255 * 255)));
}

void check_activations(const gemm_shape& shape, const layout& where, values what, int a_zero_point, int b_zero_point) {
  generator random(6);
  tensor<std::uint8_t> a(shape.m, shape.k, where);
  tensor<std::uint8_t> b(shape.n, shape.k, where);
  fill(a.view(), what, 0, 255, random);
  fill(b.view(), what, 0, 255, random);
  tensor<std::int32_t> y(shape.m, shape.n, where);
  reference::gemm({a.view(), a_zero_point}, {b.view(), b_zero_point}, raw_accumulator{}, y.view());
  tensor<std::int32_t> expected(shape.m, shape.n);
  for (index_t m = 0; m < shape.m; ++m) {
    for (index_t n = 0; n < shape.n; ++n) {
      expected(m, n) = exact_dot(a.view(), a_zero_point, b.view(), b_zero_point, m, n);
    }
  }
  CAPTURE(shape.m, shape.n, shape.k, where.gap, where.offset, int(what), a_zero_point, b_zero_point);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("reference::gemm: is the exact sum of products of the codes' values [two activations]") {
  for (const gemm_shape& shape : gemm_shapes) {
    for (const layout& where : layouts) {
      check_activations(shape, where, values::random, 131, 7);
    }
    for (const values what : all_values) {
      check_activations(shape, layouts[0], what, 0, 255);
    }
    check_activations(shape, layouts[0], values::random, 255, 255);
    check_activations(shape, layouts[0], values::alternating, 0, 0);
  }
  check_activations({197, 197, 64}, layouts[0], values::random, 128, 128);  // one head of DeiT-Tiny
}

TEST_CASE("reference::gemm: is exact for the largest products at the limit of K [two activations]") {
  generator random(7);
  tensor<std::uint8_t> low(1, gemm_max_depth_u8_u8), high(1, gemm_max_depth_u8_u8);
  fill(low.view(), values::smallest, 0, 0, random);
  fill(high.view(), values::smallest, 255, 255, random);
  tensor<std::int32_t> y(1, 1);
  reference::gemm({high.view(), 0}, {high.view(), 0}, raw_accumulator{}, y.view());
  CHECK(y(0, 0) == 2147450625);
  reference::gemm({high.view(), 0}, {low.view(), 255}, raw_accumulator{}, y.view());
  CHECK(y(0, 0) == -2147450625);
  reference::gemm({low.view(), 255}, {low.view(), 255}, raw_accumulator{}, y.view());
  CHECK(y(0, 0) == 2147450625);
}

TEST_CASE("reference::gemm: both operands may be the same memory [two activations]") {
  generator random(8);
  tensor<std::uint8_t> a(5, 9);
  fill(a.view(), values::random, 0, 255, random);
  tensor<std::int32_t> y(5, 5);
  reference::gemm({a.view(), 100}, {a.view(), 100}, raw_accumulator{}, y.view());
  for (index_t m = 0; m < 5; ++m) {
    for (index_t n = 0; n < 5; ++n) {
      CHECK(y(m, n) == exact_dot(a.view(), 100, a.view(), 100, m, n));
    }
  }
}

/// floor(((a * 2^left_shift) * multiplier + offset) / 2^(32 + shift)), limited to `bits` bits of Out.
template <class Out, int Bits>
Out exact_code(std::int32_t a, const tensor_scale& s) {
  const int128 y =
      floor_divide(int128{a} * power_of_two(s.left_shift) * s.multiplier + s.offset, power_of_two(32 + s.shift));
  return std::is_unsigned_v<Out> && y >= power_of_two(Bits) ? static_cast<Out>(power_of_two(Bits) - 1)
                                                            : clamp_to<Out>(y);
}

/// How many codes were at the lower end of the output, between the ends, and at the upper end.
struct code_counts {
  int low = 0;
  int inside = 0;
  int high = 0;
};

/// Accumulators and scales at the ends of their ranges, next to every step of the output, and random.
template <class Out, int Bits = 8 * sizeof(Out)>
code_counts check_requantize() {
  constexpr std::int64_t largest_offset = (std::int64_t{1} << 62) - 1;
  constexpr std::int64_t low = std::numeric_limits<Out>::min();
  constexpr std::int64_t high = std::int64_t{std::numeric_limits<Out>::max()} >> (8 * sizeof(Out) - Bits);
  generator random(9);
  code_counts counts;
  int wrong = 0;
  const auto check = [&](std::int32_t a, const tensor_scale& s) {
    const Out y = requantize<Out, tensor_scale, Bits>{s}(a, 0);
    wrong += y != exact_code<Out, Bits>(a, s) ? 1 : 0;
    ++(y == low ? counts.low : y == high ? counts.high : counts.inside);
  };
  for (int left_shift = 0; left_shift <= 30; ++left_shift) {
    const std::int32_t largest = std::numeric_limits<std::int32_t>::max() >> left_shift;
    for (int shift = 0; shift <= 30; ++shift) {
      for (const std::int32_t a : {-largest, -1, 0, 1, largest}) {
        for (const std::int32_t multiplier : {0, 1, std::numeric_limits<std::int32_t>::max()}) {
          for (const std::int64_t offset : {-largest_offset, std::int64_t{-1}, std::int64_t{0}, largest_offset}) {
            check(a, {multiplier, offset, shift, left_shift});
          }
        }
      }
      for (int i = 0; i < 100; ++i) {
        const auto a = static_cast<std::int32_t>(random.between(-largest, largest));
        const auto multiplier = static_cast<std::int32_t>(random.between(0, std::numeric_limits<std::int32_t>::max()));
        check(a, {multiplier, random.between(-largest_offset, largest_offset), shift, left_shift});
        // An offset that takes the sum just below a whole number of codes, onto it, and just above.
        const int128 product = int128{a} * power_of_two(left_shift) * multiplier;
        const int128 goal = random.between(low - 2, high + 2) * power_of_two(32 + shift) + random.between(-1, 1);
        if (goal - product >= -largest_offset && goal - product <= largest_offset) {
          check(a, {multiplier, static_cast<std::int64_t>(goal - product), shift, left_shift});
        }
      }
    }
  }
  CHECK(wrong == 0);
  return counts;
}

TEST_CASE("requantize: rounds down exactly and clamps at both ends [every output type]") {
  const auto check = [](const code_counts& counts) {
    CHECK(counts.low > 100);
    CHECK(counts.inside > 100);
    CHECK(counts.high > 100);
  };
  check(check_requantize<std::uint8_t>());
  check(check_requantize<std::int8_t>());
  check(check_requantize<std::uint16_t>());
  check(check_requantize<std::uint16_t, activation_bits>());
  check(check_requantize<std::uint8_t, 4>());
  check(check_requantize<std::int16_t>());
  CHECK(check_requantize<std::int32_t>().inside > 100);  // sums of 63 bits do not reach the ends of 32 after the shift
}

TEST_CASE("reference::gemm: gives the output stage the channel of its accumulator") {
  for (const gemm_shape& shape : gemm_shapes) {
    generator random(10);
    tensor<std::uint8_t> a(shape.m, shape.k);
    tensor<std::int8_t> w(shape.n, shape.k);
    fill(a.view(), values::random, 0, 255, random);
    fill(w.view(), values::random, -128, 127, random);
    std::vector<std::int32_t> multiplier(static_cast<std::size_t>(shape.n));
    std::vector<std::int64_t> offset(static_cast<std::size_t>(shape.n));
    for (std::size_t n = 0; n < multiplier.size(); ++n) {
      multiplier[n] = static_cast<std::int32_t>(random.between(1, std::int64_t{1} << 26));
      offset[n] = random.between(0, 255) << 35;
    }
    const channel_scale scale{multiplier, offset, 3, 1};
    tensor<std::uint8_t> bytes(shape.m, shape.n, layouts[1]);
    tensor<std::uint16_t> words(shape.m, shape.n, layouts[1]);
    reference::gemm(a.view(), w.view(), requantize<std::uint8_t>{scale}, bytes.view());
    reference::gemm(a.view(), w.view(), requantize_u12{scale}, words.view());
    const tensor<std::int32_t> sums = exact_sums(a.view(), w.view());
    tensor<std::uint8_t> expected_bytes(shape.m, shape.n);
    tensor<std::uint16_t> expected_words(shape.m, shape.n);
    for (index_t m = 0; m < shape.m; ++m) {
      for (index_t n = 0; n < shape.n; ++n) {
        const auto channel = static_cast<std::size_t>(n);
        const tensor_scale of_channel{multiplier[channel], offset[channel], 3, 1};
        expected_bytes(m, n) = exact_code<std::uint8_t, 8>(sums(m, n), of_channel);
        expected_words(m, n) = exact_code<std::uint16_t, 12>(sums(m, n), of_channel);
      }
    }
    CAPTURE(shape.m, shape.n, shape.k);
    CHECK(first_difference(bytes.view(), expected_bytes.view()) == "");
    CHECK(first_difference(words.view(), expected_words.view()) == "");
    CHECK(bytes.surroundings_untouched());
    CHECK(words.surroundings_untouched());
  }
}

}  // namespace
}  // namespace intact_test::gemm_test
