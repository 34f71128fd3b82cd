#include "intact/build/log_sqrt2.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "intact/build/scale.hpp"
#include "intact/max_softmax.hpp"
#include "intact/reference/log_sqrt2_matmul.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "refusal.hpp"
#include "tensor.hpp"

namespace intact_test::log_sqrt2_test {
namespace {

struct attention_shape {
  index_t queries;
  index_t keys;
  index_t channels;
};

// 256 keys at most, so that the sums fit int32 whatever the codes.
constexpr attention_shape attention_shapes[] = {
    {0, 4, 4},  {4, 0, 4},   {4, 4, 0},                 // nothing; no keys: sums of nothing
    {1, 1, 1},  {2, 3, 1},   {1, 5, 7},                 // the smallest; half a byte of packed codes
    {3, 16, 9}, {2, 33, 33}, {5, 197, 16}, {1, 256, 3}  // registers; DeiT's tokens; the most keys of code 0
};

/// floor((even * even_multiplier + odd * odd_multiplier + offset) / 2^(32 + shift)), the sums being made by division.
template <class Codes>
std::uint8_t exact_code(const Codes& codes, const tensor<std::uint8_t>& v, int zero_point, const log_sqrt2_scale& scale,
                        index_t i, index_t c) {
  int128 even = 0, odd = 0;
  for (index_t j = 0; j < v.rows(); ++j) {
    const int code = codes(i, j);
    if (code < 32) {
      (code % 2 == 0 ? even : odd) += power_of_two(15) / power_of_two(code / 2) * (int{v(j, c)} - zero_point);
    }
  }
  const int128 sum = even * scale.even_multiplier + odd * scale.odd_multiplier + scale.offset;
  return clamp_to<std::uint8_t>(floor_divide(sum, power_of_two(32 + scale.shift)));
}

template <class Codes>
void check_codes(const attention_shape& shape, const layout& where, values code_values, values v_values, int zero_point,
                 const log_sqrt2_scale& scale) {
  constexpr bool is_packed = std::is_same_v<Codes, packed_tensor<u4>>;
  generator random(51);
  Codes codes(shape.queries, shape.keys, where);
  tensor<std::uint8_t> v(shape.keys, shape.channels, where), y(shape.queries, shape.channels, where),
      expected(shape.queries, shape.channels);
  fill(codes.view(), code_values, 0, is_packed ? 15 : 33, random);
  fill(v.view(), v_values, 0, 255, random);
  reference::log_sqrt2_matmul(codes.view(), {v.view(), zero_point}, scale, y.view());
  for (index_t i = 0; i < shape.queries; ++i) {
    for (index_t c = 0; c < shape.channels; ++c) {
      expected(i, c) = exact_code(codes.view(), v, zero_point, scale, i, c);
    }
  }
  CAPTURE(shape.queries, shape.keys, shape.channels, where.gap, int(code_values), int(v_values), zero_point);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEMPLATE_TEST_CASE("reference::log_sqrt2_matmul: is the exact sum of two scaled sums, rounded down", "",
                   tensor<std::uint8_t>, packed_tensor<u4>) {
  constexpr std::int64_t largest_offset = (std::int64_t{1} << 62) - 1;
  constexpr std::int32_t largest = log_sqrt2_max_multiplier;
  const log_sqrt2_scale built = build_log_sqrt2_scale(0.06, 128);
  for (const attention_shape& shape : attention_shapes) {
    for (const layout& where : layouts) {
      check_codes<TestType>(shape, where, values::random, values::random, 121, built);
    }
    for (const values code_values : {values::smallest, values::largest, values::alternating}) {
      for (const values v_values : {values::smallest, values::largest}) {
        check_codes<TestType>(shape, layouts[0], code_values, v_values, 0, {largest, largest, largest_offset, 30});
        check_codes<TestType>(shape, layouts[0], code_values, v_values, 255, {largest, largest, -largest_offset, 30});
        check_codes<TestType>(shape, layouts[0], code_values, v_values, 255, {largest, 0, 0, 0});
      }
    }
  }
}

TEST_CASE("reference::log_sqrt2_matmul: equals two shift_matmuls, of the even and of the odd codes", "[log_sqrt2]") {
  generator random(52);
  const log_sqrt2_scale scale = build_log_sqrt2_scale(0.4, 90);
  tensor<std::uint8_t> codes(6, 197), even(6, 197), odd(6, 197), v(197, 20), y(6, 20);
  fill(codes.view(), values::random, 0, 32, random);
  fill(v.view(), values::random, 0, 255, random);
  for (index_t i = 0; i < 6; ++i) {
    for (index_t j = 0; j < 197; ++j) {
      const int code = codes(i, j);
      even(i, j) = static_cast<std::uint8_t>(code % 2 == 0 ? code / 2 : 16);
      odd(i, j) = static_cast<std::uint8_t>(code % 2 != 0 ? code / 2 : 16);
    }
  }
  tensor<std::int32_t> even_sums(6, 20), odd_sums(6, 20);
  reference::shift_matmul<attention_code::u8_masked>(even.view(), {v.view(), 90}, raw_accumulator{}, even_sums.view());
  reference::shift_matmul<attention_code::u8_masked>(odd.view(), {v.view(), 90}, raw_accumulator{}, odd_sums.view());
  reference::log_sqrt2_matmul(codes.view(), {v.view(), 90}, scale, y.view());
  for (index_t i = 0; i < 6; ++i) {
    for (index_t c = 0; c < 20; ++c) {
      const int128 sum = int128{even_sums(i, c)} * scale.even_multiplier +
                         int128{odd_sums(i, c)} * scale.odd_multiplier + scale.offset;
      CHECK(y(i, c) == clamp_to<std::uint8_t>(floor_divide(sum, power_of_two(32 + scale.shift))));
    }
  }
}

TEST_CASE("reference::log_sqrt2_matmul: every code has its own weight", "[log_sqrt2]") {
  // One key of value 128, and scales that make the probability visible.
  for (int code = 0; code < 256; ++code) {
    tensor<std::uint8_t> codes(1, 1), v(1, 1), y(1, 1);
    codes(0, 0) = static_cast<std::uint8_t>(code);
    v(0, 0) = 128;
    const int larger = std::min(code / 2, 12);
    reference::log_sqrt2_matmul(codes.view(), {v.view(), 0}, build_log_sqrt2_scale(std::ldexp(1.0, larger), 0),
                                y.view());
    const long double scaled = code > 31 ? 0 : std::pow(2.0L, 7 + larger - static_cast<long double>(code) / 2);
    CAPTURE(code);
    CHECK(y(0, 0) == std::floor(scaled + 0.5L));
  }
}

TEST_CASE("reference::log_sqrt2_weights: weights of normalized rows are rounded to nearest", "[log_sqrt2]") {
  for (int code = 0; code < 256; ++code) {
    const int128 weight = reference::log_sqrt2_weights[static_cast<std::size_t>(code)];
    CAPTURE(code);
    if (code > 31) {
      CHECK(weight == 0);
    } else {  // weight - 1/2 < 2^(15 - code/2) < weight + 1/2, squared
      CHECK((2 * weight - 1) * (2 * weight - 1) < power_of_two(32 - code));
      CHECK(power_of_two(32 - code) < (2 * weight + 1) * (2 * weight + 1));
    }
  }
}

TEST_CASE("build_log_sqrt2_scale: the odd multiplier is the even one over the square root of 2, rounded",
          "[log_sqrt2]") {
  generator random(53);
  for (int n = 0; n < 2000; ++n) {
    const double ratio =
        std::ldexp(static_cast<double>(random.between(1 << 20, 1 << 21)), static_cast<int>(-10 - n % 20));
    const int zero_point = static_cast<int>(random.between(0, 255));
    const log_sqrt2_scale scale = build_log_sqrt2_scale(ratio, zero_point);
    CAPTURE(ratio, scale.even_multiplier, scale.odd_multiplier, scale.shift);
    // The even multiplier is that of the ratio, whose bits it holds, or within one half; so m / sqrt(2) within one.
    const int128 even = scale.even_multiplier, odd = scale.odd_multiplier;
    CHECK(2 * (odd - 1) * (odd - 1) < even * even);
    CHECK(even * even < 2 * (odd + 1) * (odd + 1));
    CHECK((scale.shift == 22 || even >= power_of_two(29)));
    CHECK(std::fabs(std::ldexp(ratio, 17 + scale.shift) - scale.even_multiplier) <= 0.5);
    CHECK(scale.offset == (2 * zero_point + 1) * power_of_two(31 + scale.shift));
  }
  CHECK(build_log_sqrt2_scale(1, 255).even_multiplier == 1 << 29);
  CHECK(build_log_sqrt2_scale(1, 255).odd_multiplier == 379625062);  // 2^29 / 1.41421356...
  CHECK(build_log_sqrt2_scale(std::ldexp(1.0, -39), 0).even_multiplier == 1);
}

TEST_CASE("build_log_sqrt2_scale, log_sqrt2_code_table: refuse bad ratios, zero points and scales", "[log_sqrt2]") {
  for (const double ratio : {0.0, -1.0, std::ldexp(1.0, -40), 8192.0, std::numeric_limits<double>::infinity(),
                             std::numeric_limits<double>::quiet_NaN()}) {
    CHECK(mentions(refusal([&] { build_log_sqrt2_scale(ratio, 0); }), "intact::build_log_sqrt2_scale: the ratio of "));
  }
  CHECK(refusal([] { build_log_sqrt2_scale(8191.9, 0); }).empty());
  CHECK(refusal([] { build_log_sqrt2_scale(1, 256); }) ==
        "intact::build_log_sqrt2_scale: zero point is 256; it must be at most 255");
  CHECK(mentions(refusal([] { log_sqrt2_code_table<attention_code::u8_masked>(0); }), "scale is 0"));
}

TEST_CASE("log_sqrt2_code_table: has two codes per octave", "[log_sqrt2]") {
  const double s = std::log(2.0) / 4;  // four steps are an octave: two are a code
  const auto zero = log_sqrt2_code_table<attention_code::u8_masked>(s);
  const auto clip = log_sqrt2_code_table<attention_code::u4_clipped>(s);
  for (int d = 0; d < 256; d += 2) {
    CHECK(zero[static_cast<std::size_t>(d)] == (d <= 62 ? d / 2 : 32));
    CHECK(clip[static_cast<std::size_t>(d)] == std::min(d / 2, 15));
  }
}

TEST_CASE("reference::log_sqrt2_matmul: normalizes rows of codes relative to the maximum", "[log_sqrt2]") {
  generator random(54);
  const auto table = log_sqrt2_code_table<attention_code::u8_masked>(0.05);
  const row_divisor normalization = build_row_divisor(0.7, 33);
  tensor<std::uint8_t> logits(4, 197), codes(4, 197), v(197, 9), y(4, 9);
  fill(logits.view(), values::random, 0, 255, random);
  fill(v.view(), values::random, 0, 255, random);
  max_softmax(logits.view(), table, codes.view());
  reference::log_sqrt2_matmul(codes.view(), {v.view(), 33}, normalization, y.view());
  for (index_t i = 0; i < 4; ++i) {
    for (index_t c = 0; c < 9; ++c) {
      int128 weights = 0, sum = 0;
      for (index_t j = 0; j < 197; ++j) {
        const int code = codes(i, j);
        const auto weight = static_cast<std::int64_t>(
            code > 31 ? 0 : std::floor(std::pow(2.0L, 15 - static_cast<long double>(code) / 2) + 0.5L));
        weights += weight;
        sum += weight * (int128{v(j, c)} - 33);
      }
      int e = 0;
      while (e < 24 && weights >= power_of_two(e)) {
        ++e;
      }
      const int128 multiplier = (normalization.factor * power_of_two(e) + weights / 2) / weights;
      const int128 scaled = sum * multiplier + 67 * power_of_two(27 + e);
      CHECK(y(i, c) == clamp_to<std::uint8_t>(floor_divide(scaled, power_of_two(28 + e))));
    }
  }
  tensor<std::uint8_t> nothing(1, 197), of_nothing(1, 9);
  fill(nothing.view(), values::smallest, 32, 32, random);
  reference::log_sqrt2_matmul(nothing.view(), {v.view(), 33}, normalization, of_nothing.view());
  CHECK(of_nothing.memory() == std::vector<std::uint8_t>(9, 33));
}

TEST_CASE("reference::log_sqrt2_matmul: refuses arguments before anything is written", "[log_sqrt2]") {
  tensor<std::uint8_t> codes(2, 3), v(3, 4), y(2, 4);
  const log_sqrt2_scale scale = build_log_sqrt2_scale(1, 0);
  const auto refused = [&](matrix_view<std::uint8_t> c, const quantized_matrix& values, const auto& by,
                           matrix_view<std::uint8_t> to) {
    return refusal([&] { reference::log_sqrt2_matmul(c, values, by, to); });
  };
  const row_divisor normalization = build_row_divisor(1, 0);
  CHECK(refused(codes.view().prefix(2, 2), {v.view(), 0}, scale, y.view()) ==
        "intact::log_sqrt2_matmul: codes is 2 x 2; it must be 2 x 3");
  CHECK(refused(codes.view(), {v.view(), 256}, scale, y.view()) ==
        "intact::log_sqrt2_matmul: zero point of v is 256; it must be at most 255");
  CHECK(refused(codes.view(), {v.view(), 0}, scale, y.view().prefix(1, 4)) ==
        "intact::log_sqrt2_matmul: y is 1 x 4; it must be 2 x 4");
  CHECK(refused(codes.view(), {v.view(), 0}, normalization, y.view().prefix(2, 3)) ==
        "intact::log_sqrt2_matmul: y is 2 x 3; it must be 2 x 4");
  CHECK(refused(codes.view(), {{v.view().data, 65536, 0}, 0}, scale, y.view()) ==
        "intact::log_sqrt2_matmul: rows of v is 65536; it must be at most 65535");
  log_sqrt2_scale bad = scale;
  bad.odd_multiplier = 1 << 30;
  CHECK(refused(codes.view(), {v.view(), 0}, bad, y.view()) ==
        "intact::log_sqrt2_matmul: scale.odd_multiplier is 1073741824; it must be at most 1073741823");
  bad = scale;
  bad.shift = 31;
  CHECK(refused(codes.view(), {v.view(), 0}, bad, y.view()) ==
        "intact::log_sqrt2_matmul: scale.shift is 31; it must be at most 30");
  bad = scale;
  bad.offset = std::int64_t{1} << 62;
  CHECK(mentions(refused(codes.view(), {v.view(), 0}, bad, y.view()), "scale.offset is 4611686018427387904"));
  CHECK(y.memory() == tensor<std::uint8_t>(2, 4).memory());
}

}  // namespace
}  // namespace intact_test::log_sqrt2_test
