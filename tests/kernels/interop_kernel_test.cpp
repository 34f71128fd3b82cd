#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "guarded_memory.hpp"
#include "intact/gemm.hpp"
#include "intact/interop/float_output.hpp"
#include "intact/interop/float_rounding.hpp"
#include "intact/interop/quantize_rows.hpp"
#include "intact/interop/reference/quantize_rows.hpp"
#include "intact/pack.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/stage/row_corrected.hpp"
#include "stage_volume.hpp"
#include "tensor.hpp"
#include "wide_integer.hpp"

// Stages and operations that compute in float32, on one instruction set. float_rounding is compared with integers that
// round the bits of its numbers; float_output with products and sums that go through memory one by one, which no
// compiler contracts.

namespace intact_test::interop_kernel_test {
namespace {

using test_isa = isa::INTACT_TEST_ISA;

constexpr std::int64_t smallest_s32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t largest_s32 = std::numeric_limits<std::int32_t>::max();
constexpr index_t row_count = 6, channel_count = packed_weights<std::int8_t>::panel_width;
constexpr auto all_channels = static_cast<std::size_t>(channel_count);

/// x / 2^shift to the nearest integer, halves to even.
int128 half_to_even(int128 x, int shift) {
  const int128 unit = power_of_two(shift), down = floor_divide(x, unit), twice_rest = 2 * (x - down * unit);
  return down + (twice_rest > unit || (twice_rest == unit && down % 2 != 0) ? 1 : 0);
}

/// Is x / 2^shift halfway between two integers?
bool is_half(int128 x, int shift) {
  return shift <= 60 && 2 * (x - floor_divide(x, power_of_two(shift)) * power_of_two(shift)) == power_of_two(shift);
}

/// mantissa * 2^exponent with at most 24 bits of mantissa, as float32 rounds it (without its limits of exponents).
struct rounded_number {
  int128 mantissa;
  int exponent;

  rounded_number(int128 x, int power) : mantissa(x), exponent(power) {
    int shift = 0;
    while ((x < 0 ? -x : x) >> shift >= power_of_two(24)) {
      ++shift;
    }
    mantissa = half_to_even(x, shift);
    exponent += shift;
  }
};

rounded_number bits_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const int exponent = static_cast<int>(bits >> 23);
  return {exponent == 0 ? bits : (bits & 0x7fffff) | 0x800000, (exponent == 0 ? 1 : exponent) - 150};
}

/// Accumulators at random, at ends, and halves of the factor.
std::int32_t some_accumulator(std::int32_t bias, float factor, generator& random) {
  const std::int64_t kind = random.between(0, 9);
  std::int64_t a = random.between(smallest_s32, largest_s32);
  if (kind < 6 && factor > 0) {
    const double half = (static_cast<double>(random.between(-300, 300)) + 0.5) / double{factor};
    a = static_cast<std::int64_t>(std::clamp(half, -2.1e9, 2.1e9)) + random.between(-1, 1);
  } else if (kind == 6) {
    a = random.between(0, 1) == 0 ? smallest_s32 : largest_s32;
  }
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(bias));
}

float some_factor(generator& random) {
  const float powers = std::ldexp(1.0f, static_cast<int>(random.between(-24, 3)));
  const float few_bits = powers * static_cast<float>(random.between(1, 31));
  const float any = powers * (1 + static_cast<float>(random.between(0, (1 << 23) - 1)) / (1 << 23));
  const float ends[] = {0, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(), powers};
  const float choices[] = {few_bits, any, powers, random.between(0, 3) == 0 ? ends[random.between(0, 3)] : any};
  return choices[random.between(0, 3)];
}

/// Any accumulators of a panel by a stage's vector form.
template <class Stage>
tensor<typename Stage::output> outputs_of(const Stage& stage, const std::int32_t* accumulators, index_t columns) {
  tensor<typename Stage::output> y(row_count, columns, layouts[1]);
  kernel::finish_panel<1, test_isa>(stage, accumulators, row_count, {0, 0, columns}, y.view());
  return y;
}

using panel_of_accumulators = std::array<std::int32_t, static_cast<std::size_t>(row_count* channel_count)>;

TEMPLATE_TEST_CASE("float_rounding: equals integers that round as float32 does [ties, both ends of int32]", "",
                   std::uint8_t, std::int8_t, std::uint16_t, std::int16_t) {
  constexpr int smallest = std::numeric_limits<TestType>::min(), largest = std::numeric_limits<TestType>::max();
  generator random(stage_seed(1));
  std::int64_t compared = 0, wrong = 0, ties = 0, inexact = 0;
  while (compared < stage_volume()) {
    std::array<std::int32_t, all_channels> bias;
    std::array<float, all_channels> factor;
    alignas(64) panel_of_accumulators accumulators;
    for (std::size_t n = 0; n < all_channels; ++n) {
      factor[n] = some_factor(random);
      bias[n] = static_cast<std::int32_t>(random.between(0, 3) == 0 ? random.between(smallest_s32, largest_s32)
                                                                    : random.between(-10'000, 10'000));
      for (std::size_t m = 0; m < row_count; ++m) {
        accumulators[m * all_channels + n] = some_accumulator(bias[n], factor[n], random);
      }
    }
    const index_t columns = random.between(0, 3) == 0 ? random.between(1, channel_count) : channel_count;
    const int zero_point = static_cast<int>(random.between(0, 1) == 0 ? random.between(smallest, largest) : 0);
    auto low = static_cast<TestType>(random.between(smallest, largest)), high = low;
    low = random.between(0, 1) == 0 ? static_cast<TestType>(smallest) : low;
    high = random.between(0, 3) != 0 ? static_cast<TestType>(largest) : high;
    const float_rounding<TestType> stage{bias, factor, zero_point, low, high};
    const auto y = outputs_of(stage, accumulators.data(), columns);
    for (index_t m = 0; m < row_count; ++m) {
      for (index_t n = 0; n < columns; ++n) {
        const auto channel = static_cast<std::size_t>(n);
        const std::int32_t accumulator = accumulators[static_cast<std::size_t>(m) * all_channels + channel];
        const auto sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(accumulator) +
                                                   static_cast<std::uint32_t>(bias[channel]));
        const rounded_number a(sum, 0), f = bits_of(factor[channel]);
        const rounded_number product(a.mantissa * f.mantissa, a.exponent + f.exponent);
        const int128 code = product.exponent >= 0 ? product.mantissa * power_of_two(std::min(product.exponent, 40))
                                                  : half_to_even(product.mantissa, std::min(-product.exponent, 60));
        const auto expected = static_cast<TestType>(std::clamp<int128>(code + zero_point, low, high));
        wrong += y(m, n) != expected || stage(accumulator, n) != expected ? 1 : 0;
        const int128 exact = half_to_even(int128{sum} * f.mantissa, std::clamp(-f.exponent, 0, 60));
        inexact += f.exponent < 0 && exact != code ? 1 : 0;
        ties += product.exponent < 0 && is_half(product.mantissa, -product.exponent) ? 1 : 0;
      }
    }
    wrong += y.surroundings_untouched() ? 0 : 1;
    compared += row_count * columns;
  }
  CAPTURE(compared, ties, inexact);
  CHECK(wrong == 0);
  CHECK(ties > compared / 50);
  CHECK(inexact > 0);  // the rounding of the product decides some codes
}

/// Products and sums that are in memory after each step.
float stored(float x) {
  volatile float memory = x;
  return memory;
}

std::uint32_t bits_of_output(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
std::uint32_t bits_of_output(bfloat16 x) {
  return static_cast<std::uint32_t>(x);
}

/// The bits of a float32, or its nearest bfloat16: of two neighbors, by their distances, the even one of equal ones.
std::uint32_t expected_bits(float x, float) {
  return bits_of_output(x);
}
std::uint32_t expected_bits(float x, bfloat16) {
  const std::uint32_t bits = bits_of_output(x), down = bits >> 16, rest = bits & 0xffff;
  return rest > 0x8000 || (rest == 0x8000 && down % 2 != 0) ? down + 1 : down;
}

TEMPLATE_TEST_CASE("float_output: rounds each step to float32 [with and without bias and offset]", "", float,
                   bfloat16) {
  generator random(stage_seed(2));
  std::int64_t compared = 0, wrong = 0, contracted = 0, infinite = 0;
  const auto number = [&](int least, int most) {
    const float x = 1 + static_cast<float>(random.between(0, (1 << 23) - 1)) / (1 << 23);
    return std::ldexp(x, static_cast<int>(random.between(least, most)));
  };
  while (compared < stage_volume()) {
    std::array<std::int32_t, all_channels> offset;
    std::array<float, all_channels> scale, bias;
    std::array<float, row_count> rows;
    alignas(64) panel_of_accumulators accumulators;
    const bool extreme = random.between(0, 9) == 0;
    for (std::size_t n = 0; n < all_channels; ++n) {
      scale[n] = extreme ? number(-120, 120) : number(-10, -4);
      bias[n] = (random.between(0, 1) == 0 ? -1.0f : 1.0f) * number(-8, 2);
      offset[n] = static_cast<std::int32_t>(random.between(-1'000'000, 1'000'000));
      for (std::size_t m = 0; m < row_count; ++m) {
        const std::int64_t reach = random.between(0, 9) == 0 ? 2'000'000'000 : 300'000;
        accumulators[m * all_channels + n] = static_cast<std::int32_t>(random.between(-reach, reach));
      }
    }
    for (float& row : rows) {
      row = extreme ? number(-120, 120) : random.between(0, 9) == 0 ? 0 : number(-12, -4);
    }
    const index_t columns = random.between(0, 3) == 0 ? random.between(1, channel_count) : channel_count;
    float_output<TestType> stage{rows, std::span(scale).first(static_cast<std::size_t>(columns))};
    const bool has_bias = random.between(0, 3) != 0, has_offset = random.between(0, 1) == 0;
    stage.bias = has_bias ? std::span<const float>(bias) : std::span<const float>();
    stage.offset = has_offset ? std::span<const std::int32_t>(offset) : std::span<const std::int32_t>();
    const auto y = outputs_of(stage, accumulators.data(), columns);
    for (index_t m = 0; m < row_count; ++m) {
      for (index_t n = 0; n < columns; ++n) {
        const auto channel = static_cast<std::size_t>(n), row = static_cast<std::size_t>(m);
        const std::int32_t accumulator = accumulators[row * all_channels + channel];
        const float a = stored(static_cast<float>(accumulator + (has_offset ? offset[channel] : 0)));
        const float product = stored(stored(a * rows[row]) * scale[channel]);
        const float x = has_bias ? stored(product + bias[channel]) : product;
        const std::uint32_t expected = expected_bits(x, TestType{});
        wrong += bits_of_output(y(m, n)) != expected || bits_of_output(stage(accumulator, m, n)) != expected ? 1 : 0;
        contracted += has_bias && std::fma(stored(a * rows[row]), scale[channel], bias[channel]) != x ? 1 : 0;
        infinite += std::isinf(x) ? 1 : 0;
      }
    }
    wrong += y.surroundings_untouched() ? 0 : 1;
    compared += row_count * columns;
  }
  CAPTURE(compared, contracted);
  CHECK(wrong == 0);
  CHECK(contracted > compared / 100);  // a contraction would be noticed
  CHECK(infinite > 0);
}

TEST_CASE("float_rounding, float_output: equal the specification in products [rows, channels]") {
  generator random(3);
  for (const index_t rows : {1, 5, 6, 13}) {
    for (const index_t channels : {1, 7, 16, 65, 130}) {
      tensor<std::uint8_t> a(rows, 70);
      tensor<std::int8_t> w(channels, 70);
      fill(a.view(), values::random, 0, 255, random);
      fill(w.view(), values::random, -128, 127, random);
      packed_memory memory(packed_weights_bytes<std::int8_t>(channels, 70));
      const auto packed = pack_weights(std::as_const(w).view(), memory.span());
      guarded_vector<std::int32_t> bias(static_cast<std::size_t>(channels)), sums(static_cast<std::size_t>(rows));
      guarded_vector<float> factor(bias.size()), shift(bias.size()), row_scale(sums.size());
      for (std::size_t n = 0; n < bias.size(); ++n) {
        bias[n] = static_cast<std::int32_t>(random.between(-9999, 9999));
        factor[n] = static_cast<float>(random.between(1, 99)) / 65536;
        shift[n] = static_cast<float>(random.between(-99, 99)) / 7;
      }
      for (std::size_t m = 0; m < sums.size(); ++m) {
        sums[m] = static_cast<std::int32_t>(random.between(-9999, 9999));
        row_scale[m] = static_cast<float>(random.between(0, 99)) / 77;
      }
      const auto check = [&](const auto& stage) {
        using output = typename std::remove_cvref_t<decltype(stage)>::output;
        guarded_tensor<output> y(rows, channels);
        tensor<output> expected(rows, channels);
        gemm<test_isa>(std::as_const(a).view(), packed, stage, y.view());
        reference::gemm(std::as_const(a).view(), std::as_const(w).view(), stage, expected.view());
        index_t wrong = 0;
        for (index_t m = 0; m < rows; ++m) {
          for (index_t n = 0; n < channels; ++n) {
            if constexpr (std::is_integral_v<output>) {
              wrong += y(m, n) != expected(m, n) ? 1 : 0;
            } else {
              wrong += bits_of_output(y(m, n)) != bits_of_output(expected(m, n)) ? 1 : 0;
            }
          }
        }
        CAPTURE(rows, channels);
        CHECK(wrong == 0);
        CHECK(y.surroundings_untouched());
      };
      check(float_rounding<std::int8_t>{bias, factor, 3, -100, 90});
      check(float_output<float>{row_scale, factor, shift, bias});
      check(float_output<bfloat16>{row_scale, factor, shift});
      check(row_corrected<float_output<float>>{{row_scale, factor}, sums});
    }
  }
}

TEMPLATE_TEST_CASE("quantize_rows: equals the specification [columns, magnitudes]", "", std::uint8_t, std::int8_t) {
  generator random(4);
  for (const index_t columns : {0, 1, 3, 16, 17, 63, 64, 65, 200}) {
    for (int power = -140; power <= 127; power += columns == 65 ? 1 : 29) {
      tensor<float> x(5, columns, layouts[1]);
      for (index_t m = 0; m < 5; ++m) {
        for (index_t k = 0; k < columns; ++k) {
          // Some rows are halves of codes of the largest one, 127 units.
          const auto unit =
              static_cast<float>(m < 2 ? random.between(-254, 254) : random.between(-8'000'000, 8'000'000));
          x(m, k) = m == 4 ? 0 : std::ldexp(unit, power - (m < 2 ? 8 : 23));
        }
      }
      if (columns > 5) {
        x(0, columns - 1) = std::ldexp(-254.0f, power - 8);
      }
      tensor<TestType> codes(5, columns, layouts[1]), expected(5, columns);
      std::vector<float> scale(5, -1.0f), expected_scale(5);
      quantize_rows<test_isa>(std::as_const(x).view(), codes.view(), std::span(scale));
      reference::quantize_rows(std::as_const(x).view(), expected.view(), std::span(expected_scale));
      CAPTURE(columns, power);
      CHECK(first_difference(codes.view(), expected.view()) == "");
      CHECK(scale == expected_scale);
      CHECK(codes.surroundings_untouched());
    }
  }
}

TEST_CASE("quantize_rows: gives codes worked out by hand") {
  const std::vector<float> x{0, 1, -2, 127, 0.5f, 1.5f, -2.5f, -254, 1, 3, 0, 0, std::ldexp(1.0f, -101), 0, 0, 0};
  std::vector<std::int8_t> codes(16);
  std::vector<std::uint8_t> moved(16);
  std::vector<float> scale(4), moved_scale(4);
  const matrix_view<const float> view(x.data(), 4, 4);
  quantize_rows<test_isa>(view, matrix_view<std::int8_t>(codes.data(), 4, 4), std::span(scale));
  quantize_rows<test_isa>(view, matrix_view<std::uint8_t>(moved.data(), 4, 4), std::span(moved_scale));
  CHECK(codes == std::vector<std::int8_t>{0, 1, -2, 127, 0, 1, -1, -127, 42, 127, 0, 0, 0, 0, 0, 0});
  CHECK(scale == std::vector<float>{1, 2, 3.0f / 127, 0});
  CHECK(moved_scale == scale);
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(moved[i] == codes[i] + 128);
  }
  // The smallest row that has codes.
  const float smallest = std::ldexp(1.0f, -100);
  quantize_rows<test_isa>(matrix_view<const float>(&smallest, 1, 1), matrix_view<std::int8_t>(codes.data(), 1, 1),
                          std::span(scale).first(1));
  CHECK(codes[0] == 127);
  CHECK(scale[0] == smallest / 127);
}

TEST_CASE("quantize_rows: refuses NaN, infinity and shapes, before anything is written") {
  std::vector<float> x(12, 1.0f);
  std::vector<std::int8_t> codes(12, 77);
  std::vector<float> scale(3, 77.0f);
  const auto call = [&](index_t rows) {
    quantize_rows<test_isa>(matrix_view<const float>(x.data(), 3, 4), matrix_view<std::int8_t>(codes.data(), rows, 4),
                            std::span(scale));
  };
  x[9] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(call(3), "intact::quantize_rows: x has the value nan at row 2, column 1; it must be finite");
  x[3] = -std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(call(3), "intact::quantize_rows: x has the value -inf at row 0, column 3; it must be finite");
  CHECK_THROWS(call(2));
  CHECK(codes == std::vector<std::int8_t>(12, 77));
  CHECK(scale == std::vector<float>(3, 77.0f));
}

TEST_CASE("float_rounding, float_output: refuse sizes, scales and ranges") {
  const tensor<std::uint8_t> a(2, 1);
  const tensor<std::int8_t> w(3, 1);
  const auto call = [&](const auto& stage) {
    tensor<typename std::remove_cvref_t<decltype(stage)>::output> y(2, 3);
    reference::gemm(a.view(), w.view(), stage, y.view());
  };
  const std::vector<std::int32_t> bias(3), short_bias(2);
  const std::vector<float> ones(3, 1.0f), rows(2, 1.0f), negative{1, -1, 1}, zero{1, 1, 0}, not_finite{1, 1, INFINITY};
  using rounding = float_rounding<std::uint8_t>;
  CHECK_NOTHROW(call(rounding{bias, zero, 3}));
  CHECK_THROWS_WITH(call(rounding{short_bias, ones, 3}), "intact::gemm: size of bias is 2; it must be equal to 3");
  CHECK_THROWS_WITH(call(rounding{bias, rows, 3}), "intact::gemm: size of factor is 2; it must be equal to 3");
  CHECK_THROWS_WITH(call(rounding{bias, ones, 256}), "intact::gemm: zero_point is 256; it must be at most 255");
  CHECK_THROWS_WITH(call(rounding{bias, ones, 3, 9, 8}), "intact::gemm: high is 8; it must be at least 9");
  CHECK_THROWS_WITH(call(rounding{bias, negative, 3}),
                    "intact::gemm: factor[1] is -1; it must be at least 0 and finite");
  using output = float_output<float>;
  CHECK_NOTHROW(call(output{rows, ones}));
  CHECK_THROWS_WITH(call(output{ones, ones}), "intact::gemm: size of row_scale is 3; it must be equal to 2");
  CHECK_THROWS_WITH(call(output{rows, zero}), "intact::gemm: channel_scale[2] is 0; it must be above 0 and finite");
  CHECK_THROWS_WITH(call(output{rows, ones, not_finite}), "intact::gemm: bias[2] is inf; it must be finite");
  CHECK_THROWS_WITH(call(output{rows, ones, rows}), "intact::gemm: size of bias is 2; it must be equal to 3");
  CHECK_THROWS_WITH(call(output{rows, ones, ones, short_bias}),
                    "intact::gemm: size of offset is 2; it must be equal to 3");
}

}  // namespace
}  // namespace intact_test::interop_kernel_test
