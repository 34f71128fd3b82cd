#include "intact/shift_matmul.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "catch.hpp"
#include "intact/log_softmax.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "keep_wide_accumulator.hpp"
#include "tensor.hpp"

namespace intact_test::shift_matmul_test {
namespace {

template <attention_code Format>
using code_tensor = std::conditional_t<Format == attention_code::u4_clipped, packed_tensor<u4>, tensor<std::uint8_t>>;

template <attention_code Format>
using keep = std::conditional_t<Format == attention_code::u8_full, keep_wide_accumulator, raw_accumulator>;

template <attention_code Format>
constexpr int fraction_bits = Format == attention_code::u8_full ? 44 : 15;

/// The sum of 2^(F - code) * (v - zp) over the codes of weights above 0.
template <attention_code Format, class Codes>
int128 exact_sum(const Codes& codes, const tensor<std::uint8_t>& v, int zero_point, index_t i, index_t c) {
  int128 sum = 0;
  for (index_t j = 0; j < v.rows(); ++j) {
    const int code = codes(i, j);
    const bool nothing =
        Format == attention_code::u8_masked ? code >= 16 : Format == attention_code::u8_full && code > 44;
    sum += nothing ? 0 : power_of_two(fraction_bits<Format>) / power_of_two(code) * (int{v(j, c)} - zero_point);
  }
  return sum;
}

struct attention_shape {
  index_t queries;
  index_t keys;
  index_t channels;
};

// 4-bit accumulators fit int32 as long as a row's probabilities sum up to less than 257, which 256 keys cannot exceed.
constexpr attention_shape attention_shapes[] = {
    {0, 4, 4},    {4, 0, 4},     {4, 4, 0},                 // nothing; no keys: sums of nothing
    {1, 1, 1},    {1, 2, 1},     {2, 3, 1},                 // the smallest; half a byte of packed codes
    {1, 5, 7},    {3, 15, 16},   {3, 16, 17}, {2, 17, 15},  // around registers of 16 bytes, in keys and channels
    {2, 31, 32},  {2, 33, 33},   {1, 63, 64}, {2, 65, 65},  // of 32 and 64
    {1, 197, 64}, {197, 197, 16}                            // one token, and all of DeiT's
};

template <attention_code Format>
void check_sums(const attention_shape& shape, const layout& where, values code_values, values v_values,
                int zero_point) {
  generator random(24);
  code_tensor<Format> codes(shape.queries, shape.keys, where);
  tensor<std::uint8_t> v(shape.keys, shape.channels, where);
  fill(codes.view(), code_values, 0,
       Format == attention_code::u8_masked    ? 16
       : Format == attention_code::u4_clipped ? 15
                                              : 255,
       random);
  fill(v.view(), v_values, 0, 255, random);
  using output = typename keep<Format>::output;
  tensor<output> y(shape.queries, shape.channels, where);
  reference::shift_matmul<Format>(codes.view(), {v.view(), zero_point}, keep<Format>{}, y.view());
  tensor<output> expected(shape.queries, shape.channels);
  for (index_t i = 0; i < shape.queries; ++i) {
    for (index_t c = 0; c < shape.channels; ++c) {
      expected(i, c) = static_cast<output>(exact_sum<Format>(codes.view(), v, zero_point, i, c));
    }
  }
  CAPTURE(shape.queries, shape.keys, shape.channels, where.gap, int(code_values), int(v_values), zero_point);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

template <attention_code Format>
void check_all_sums() {
  for (const attention_shape& shape : attention_shapes) {
    for (const layout& where : layouts) {
      check_sums<Format>(shape, where, values::random, values::random, 121);
    }
    for (const values code_values : all_values) {
      for (const values v_values : all_values) {
        check_sums<Format>(shape, layouts[0], code_values, v_values, 0);
        check_sums<Format>(shape, layouts[0], code_values, v_values, 255);
      }
    }
  }
}

TEST_CASE("reference::shift_matmul: is the exact sum [u8_masked]") {
  check_all_sums<attention_code::u8_masked>();
}
TEST_CASE("reference::shift_matmul: is the exact sum [u4_clipped]") {
  check_all_sums<attention_code::u4_clipped>();
}
TEST_CASE("reference::shift_matmul: is the exact sum [u8_full]") {
  check_all_sums<attention_code::u8_full>();
}

TEST_CASE("reference::shift_matmul: every code has its own weight, and the zero level none") {
  const auto weights = []<attention_code Format>(std::integral_constant<attention_code, Format>, int codes_used,
                                                 auto weight) {
    for (int code = 0; code < codes_used; ++code) {
      code_tensor<Format> codes(1, 1);
      store(codes.view(), 0, 0, code);
      tensor<std::uint8_t> v(1, 1);
      v(0, 0) = 1;
      tensor<typename keep<Format>::output> y(1, 1);
      reference::shift_matmul<Format>(codes.view(), {v.view(), 0}, keep<Format>{}, y.view());
      CAPTURE(code);
      CHECK(y(0, 0) == weight(code));
    }
  };
  weights(std::integral_constant<attention_code, attention_code::u8_masked>(), 17,
          [](int code) { return code == 16 ? 0 : 1 << (15 - code); });
  weights(std::integral_constant<attention_code, attention_code::u4_clipped>(), 16,
          [](int code) { return 1 << (15 - code); });
  weights(std::integral_constant<attention_code, attention_code::u8_full>(), 256,
          [](int code) { return code > 44 ? 0 : std::int64_t{1} << (44 - code); });
}

/// Codes as log_softmax writes them, for rows of 4,097 keys, and their sums.
template <attention_code Format>
void check_long_rows() {
  constexpr index_t keys = 4097;
  generator random(25);
  std::array<std::uint64_t, 256> table{};
  for (std::size_t d = 0; d < table.size(); ++d) {
    table[d] = (std::uint64_t{1} << 40) >> (d / 5);
  }
  for (const layout& where : layouts) {
    tensor<std::uint8_t> logits(3, keys), v(keys, 5, where);
    fill(logits.view(), values::random, 0, 255, random);
    fill(v.view(), values::random, 0, 255, random);
    code_tensor<Format> codes(3, keys, where);
    log_softmax<isa::native, Format>(logits.view(), exp_table<std::uint64_t>(table), codes.view());
    using output = typename keep<Format>::output;
    tensor<output> y(3, 5);
    reference::shift_matmul<Format>(codes.view(), {v.view(), 100}, keep<Format>{}, y.view());
    for (index_t i = 0; i < 3; ++i) {
      for (index_t c = 0; c < 5; ++c) {
        CHECK(y(i, c) == static_cast<output>(exact_sum<Format>(codes.view(), v, 100, i, c)));
      }
    }
  }
}

TEST_CASE("reference::shift_matmul: is exact [rows of 4,097 keys]") {
  check_long_rows<attention_code::u8_masked>();
  check_long_rows<attention_code::u4_clipped>();
  check_long_rows<attention_code::u8_full>();
}

/// Rows of as many keys as are allowed: `largest` of code 0, the others of code 15.
std::int32_t sum_of_longest_row(index_t largest, std::uint8_t value, int zero_point) {
  packed_tensor<u4> codes(1, shift_matmul_max_keys);
  for (index_t j = 0; j < shift_matmul_max_keys; ++j) {
    store(codes.view(), 0, j, j < largest ? 0 : 15);
  }
  tensor<std::uint8_t> v(shift_matmul_max_keys, 1);
  for (index_t j = 0; j < shift_matmul_max_keys; ++j) {
    v(j, 0) = value;
  }
  tensor<std::int32_t> y(1, 1);
  reference::shift_matmul<attention_code::u4_clipped>(codes.view(), {v.view(), zero_point}, raw_accumulator{},
                                                      y.view());
  return y(0, 0);
}

TEST_CASE("reference::shift_matmul: sums of clipped codes fit int32 [rows of 82,000 keys]") {
  static_assert(shift_matmul_max_keys == 82000);
  CHECK(sum_of_longest_row(0, 255, 0) == 82000 * 255);
  CHECK(sum_of_longest_row(0, 0, 255) == -82000 * 255);
  // 254 keys of code 0 and 81,746 of code 15: their probabilities sum up to 256.49.
  CHECK(sum_of_longest_row(254, 255, 0) == 254 * 255 * 32768 + 81746 * 255);
  CHECK(sum_of_longest_row(254, 0, 255) == -(254 * 255 * 32768 + 81746 * 255));
}

/// floor((a * multiplier + offset * 2^29) / 2^(61 + shift)), limited to Out.
template <class Out>
Out exact_wide_code(std::int64_t a, const tensor_scale& s) {
  const int128 sum = int128{a} * s.multiplier + s.offset * power_of_two(29);
  return clamp_to<Out>(floor_divide(sum, power_of_two(61 + s.shift)));
}

/// Counts the accumulators for which requantize_s64 is not the exact floor of the quotient: at the ends of the range
/// of 8-bit codes and at the middle of the split that it makes, with sums beside whole numbers of codes, and random.
template <class Out>
int wrong_wide_codes() {
  constexpr std::int64_t largest_offset = (std::int64_t{1} << 62) - 1;
  constexpr std::int64_t largest = std::int64_t{1} << 54;
  constexpr std::int64_t split = std::int64_t{1} << 29;
  generator random(26);
  int wrong = 0;
  const auto check = [&](std::int64_t a, const tensor_scale& s) {
    wrong += requantize_s64<Out>{s}(a, 0) != exact_wide_code<Out>(a, s) ? 1 : 0;
  };
  for (int shift = 0; shift <= 30; ++shift) {
    for (const std::int64_t a : {-largest, -split - 1, -split, std::int64_t{-1}, std::int64_t{0}, split - 1, largest}) {
      for (const std::int32_t multiplier : {0, 1, std::numeric_limits<std::int32_t>::max()}) {
        for (const std::int64_t offset : {-largest_offset, std::int64_t{-1}, std::int64_t{0}, largest_offset}) {
          check(a, {multiplier, offset, shift, 0});
        }
      }
    }
    for (int i = 0; i < 1000; ++i) {
      const std::int64_t a = random.between(-largest, largest);
      const auto multiplier = static_cast<std::int32_t>(random.between(0, std::numeric_limits<std::int32_t>::max()));
      check(a, {multiplier, random.between(-largest_offset, largest_offset), shift, 0});
      const int128 product = floor_divide(int128{a} * multiplier, power_of_two(29));
      const int128 goal = random.between(-2, 257) * power_of_two(32 + shift) + random.between(-1, 1);
      if (goal - product >= -largest_offset && goal - product <= largest_offset) {
        check(a, {multiplier, static_cast<std::int64_t>(goal - product), shift, 0});
      }
    }
  }
  return wrong;
}

TEST_CASE("requantize_s64: rounds down exactly and clamps") {
  CHECK(wrong_wide_codes<std::uint8_t>() == 0);
  CHECK(wrong_wide_codes<std::int8_t>() == 0);
  CHECK(wrong_wide_codes<std::int32_t>() == 0);
}

TEST_CASE("reference::shift_matmul: applies its output stage") {
  generator random(27);
  const attention_shape shape{5, 33, 18};
  // Factor 1 / 2.13 for v - 128, and the zero point 77: multiplier / 2^(32 + shift) = 2^-15 / 2.13.
  const tensor_scale scale{504079873, (std::int64_t{77} << 45) + (std::int64_t{1} << 44), 13, 0};
  tensor<std::uint8_t> v(shape.keys, shape.channels), bytes(shape.queries, shape.keys);
  fill(v.view(), values::random, 0, 255, random);
  fill(bytes.view(), values::random, 2, 16, random);
  tensor<std::uint8_t> y(shape.queries, shape.channels, layouts[1]);
  tensor<std::uint8_t> wide(shape.queries, shape.channels, layouts[1]);
  reference::shift_matmul<attention_code::u8_masked>(bytes.view(), {v.view(), 128},
                                                     requantize<std::uint8_t, tensor_scale>{scale}, y.view());
  reference::shift_matmul<attention_code::u8_full>(bytes.view(), {v.view(), 128}, requantize_s64<std::uint8_t>{scale},
                                                   wide.view());
  int below = 0;
  for (index_t i = 0; i < shape.queries; ++i) {
    for (index_t c = 0; c < shape.channels; ++c) {
      const int128 sum = exact_sum<attention_code::u8_masked>(bytes.view(), v, 128, i, c);
      const int128 code = floor_divide(sum * scale.multiplier + scale.offset, power_of_two(45));
      CHECK(y(i, c) == clamp_to<std::uint8_t>(code));
      const auto wide_sum = static_cast<std::int64_t>(exact_sum<attention_code::u8_full>(bytes.view(), v, 128, i, c));
      CHECK(wide(i, c) == exact_wide_code<std::uint8_t>(wide_sum, scale));
      below += code < 77 ? 1 : 0;
    }
  }
  CHECK(below > 10);  // both signs occur
  CHECK(below < 80);
  CHECK(y.surroundings_untouched());
  CHECK(wide.surroundings_untouched());
}

TEST_CASE("requantize, requantize_s64: one scale gives the same results for 4-bit and 8-bit codes") {
  generator random(28);
  const tensor_scale scale{1 << 30, (std::int64_t{100} << 45) + (std::int64_t{1} << 44), 13, 0};
  for (int i = 0; i < 10000; ++i) {
    const auto a = static_cast<std::int32_t>(random.between(-(1 << 25), 1 << 25));
    const int narrow = requantize<std::uint8_t, tensor_scale>{scale}(a, 0);
    CHECK(requantize_s64<std::uint8_t>{scale}(std::int64_t{a} * (1 << 29), 0) == narrow);
  }
}

}  // namespace
}  // namespace intact_test::shift_matmul_test
