#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "guarded_memory.hpp"
#include "intact/gemm.hpp"
#include "intact/kernel/gemm_output.hpp"
#include "intact/pack.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/row_sums.hpp"
#include "intact/row_sums.hpp"
#include "intact/simd/lane_shift.hpp"
#include "intact/stage/compat.hpp"
#include "intact/stage/row_corrected.hpp"
#include "stage_volume.hpp"
#include "tensor.hpp"
#include "wide_integer.hpp"

// The vector forms of stages that round as other runtimes do, on any accumulators, biases and factors, against the
// definitions of those runtimes in exact fractions.

namespace intact_test::compat_stage_kernel_test {
namespace {

using test_isa = isa::INTACT_TEST_ISA;
static_assert(simd::lane_shift_interface<test_isa>);

constexpr std::int64_t smallest_s32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t largest_s32 = std::numeric_limits<std::int32_t>::max();

/// numerator / denominator to the nearest integer, halves up.
int128 halves_up(int128 numerator, int128 denominator) {
  return floor_divide(2 * numerator + denominator, 2 * denominator);
}
int128 halves_away_from_zero(int128 numerator, int128 denominator) {
  return numerator >= 0 ? halves_up(numerator, denominator) : -halves_up(-numerator, denominator);
}
bool is_half(int128 numerator, int128 denominator) {
  return (2 * numerator + denominator) % (2 * denominator) == 0;
}

/// The factor multiplier * 2^(exponent - 31), times a.
struct scaled {
  int128 numerator, denominator;

  scaled(int128 a, std::int32_t multiplier, int exponent)
      : numerator(a * multiplier * power_of_two(std::max(exponent, 0))),
        denominator(power_of_two(31 + std::max(-exponent, 0))) {}
  bool tie() const { return is_half(numerator, denominator); }
};

/// The effect of each stage on a corrected accumulator, before the zero point and the clamp.
template <class Stage>
struct definition;

template <class Out>
struct definition<round_half_to_even<Out>> {
  static int128 rounded(int128 a, std::int32_t multiplier, int exponent) {
    const scaled x(a, multiplier, exponent);
    const int128 up = halves_up(x.numerator, x.denominator);
    return x.tie() && up % 2 != 0 ? up - 1 : up;
  }
};
template <class Out>
struct definition<single_rounding<Out>> {
  static int128 rounded(int128 a, std::int32_t multiplier, int exponent) {
    const scaled x(a, multiplier, exponent);
    return halves_up(x.numerator, x.denominator);
  }
};
template <class Out>
struct definition<double_rounding<Out>> {
  static int128 rounded(int128 a, std::int32_t multiplier, int exponent) {
    const int128 shifted = clamp_to<std::int32_t>(a * power_of_two(std::max(exponent, 0)));
    const int128 high = halves_up(shifted * multiplier, power_of_two(31));
    return halves_away_from_zero(high, power_of_two(std::max(-exponent, 0)));
  }
};
template <class Out>
struct definition<round_power_of_two<Out>> {
  static int128 rounded(int128 a, std::int32_t, int exponent) { return halves_up(a, power_of_two(-exponent)); }
};

template <class Stage>
constexpr bool has_one_shift = false;
template <class Out>
constexpr bool has_one_shift<round_power_of_two<Out>> = true;

/// Accumulators and factors of channels that occur in layers; with exponents above 0, where a multiple of the sum fits
/// 32 bits; with any exponents and sums of 33 bits; the first, but for one channel of the last.
enum class channel_kinds { usual, multiplied, any, one_unusual };

constexpr index_t row_count = 6, channel_count = packed_weights<std::int8_t>::panel_width;
constexpr auto all_channels = static_cast<std::size_t>(channel_count);

/// The arrays of a stage, and accumulators for it.
template <class Stage>
class stage_case {
 public:
  using out = typename Stage::output;

  stage_case(channel_kinds kinds, generator& random) : zero_point_(static_cast<int>(random_code(random))) {
    const std::int64_t unusual = random.between(0, channel_count - 1);
    for (index_t n = 0; n < channel_count; ++n) {
      const bool one = kinds == channel_kinds::one_unusual;
      set_channel(n, !one ? kinds : n == unusual ? channel_kinds::any : channel_kinds::usual, random);
    }
    const out first = random_code(random), second = random_code(random);
    if (random.between(0, 2) == 0) {
      low_ = std::min(first, second);
      high_ = std::max(first, second);
    }
  }

  Stage stage() const {
    if constexpr (has_one_shift<Stage>) {
      return {bias_, -exponent_[0], zero_point_, low_, high_};
    } else {
      return {{bias_, multiplier_, exponent_, zero_point_}, low_, high_};
    }
  }

  out expected(index_t m, index_t n) const {
    const int128 a = int128{accumulator(m, n)} + bias_[at(n)];
    const int128 code = definition<Stage>::rounded(a, multiplier_[at(n)], exponent_[at(n)]) + zero_point_;
    return static_cast<out>(std::clamp<int128>(code, low_, high_));
  }
  bool tie(index_t m, index_t n) const {
    return scaled(int128{accumulator(m, n)} + bias_[at(n)], multiplier_[at(n)], exponent_[at(n)]).tie();
  }

  const std::int32_t* accumulators() const { return accumulators_.data(); }

 private:
  static std::size_t at(index_t n) { return static_cast<std::size_t>(n); }
  std::int32_t accumulator(index_t m, index_t n) const { return accumulators_[at(m * channel_count + n)]; }

  static out random_code(generator& random) {
    constexpr std::int64_t smallest = std::numeric_limits<out>::min(), largest = std::numeric_limits<out>::max();
    const std::int64_t choices[] = {smallest, largest, 0, random.between(smallest, largest)};
    return static_cast<out>(choices[random.between(0, 3)]);
  }

  void set_channel(index_t n, channel_kinds kind, generator& random) {
    if constexpr (has_one_shift<Stage>) {
      multiplier_[at(n)] = 1 << 30;  // with one more bit of exponent it is 2^-shift
      exponent_[at(n)] = n == 0 ? -static_cast<std::int32_t>(random.between(1, 31)) : exponent_[0];
    } else {
      const std::int32_t multipliers[] = {1 << 30,
                                          (1 << 30) + 1,
                                          3 << 29,
                                          5 << 28,
                                          9 << 27,
                                          static_cast<std::int32_t>(largest_s32),
                                          static_cast<std::int32_t>(random.between(1 << 30, largest_s32)),
                                          random.between(0, 5) == 0 ? 0 : 15 << 27};
      multiplier_[at(n)] = multipliers[random.between(0, 7)];
      exponent_[at(n)] = static_cast<std::int32_t>(random.between(-31, kind == channel_kinds::usual ? 0 : 30));
    }
    const std::int64_t biases[] = {0, random.between(-100'000, 100'000), random.between(smallest_s32, largest_s32),
                                   smallest_s32, largest_s32};
    bias_[at(n)] = static_cast<std::int32_t>(biases[random.between(0, 4)]);
    for (index_t m = 0; m < row_count; ++m) {
      accumulators_[at(m * channel_count + n)] = accumulator_for(n, kind, random);
    }
  }

  /// Around one that is halfway between two codes, an end, or any.
  std::int32_t accumulator_for(index_t n, channel_kinds channel, generator& random) {
    const std::int64_t kind = random.between(0, 9);
    int128 a = random.between(smallest_s32, largest_s32);
    if (kind < 7 && multiplier_[at(n)] != 0) {
      const int exponent = exponent_[at(n)] - (has_one_shift<Stage> ? -1 : 0);
      const scaled one(1, multiplier_[at(n)], exponent);
      const std::int64_t reach = kind < 3 ? 300 : largest_s32;
      const int128 code = 2 * int128{random.between(-reach, reach) * 45 + 22} + 1;  // 45 is 3 * 15, 5 * 9
      a = floor_divide(code * one.denominator, 2 * one.numerator) + random.between(-1, 1);
    } else if (kind == 7) {
      a = random.between(0, 1) == 0 ? smallest_s32 : largest_s32;
    }
    const std::int64_t bias = bias_[at(n)];
    int128 low = smallest_s32 + bias, high = largest_s32 + bias;
    if (channel != channel_kinds::any) {
      const int left = std::max(exponent_[at(n)], 0);
      low = std::max<int128>(low, smallest_s32 >> left);
      high = std::min<int128>(high, largest_s32 >> left);
    }
    return static_cast<std::int32_t>(std::clamp<int128>(a, low, high) - bias);
  }

  int zero_point_;
  out low_ = std::numeric_limits<out>::min(), high_ = std::numeric_limits<out>::max();
  std::array<std::int32_t, all_channels> bias_{}, multiplier_{}, exponent_{};
  alignas(64) std::array<std::int32_t, static_cast<std::size_t>(row_count* channel_count)> accumulators_{};
};

/// The rows and the first `columns` channels, by the stage's vector form.
template <class Stage>
tensor<typename Stage::output> codes_of(const stage_case<Stage>& of, index_t columns) {
  tensor<typename Stage::output> y(row_count, columns, layouts[1]);
  kernel::finish_panel<1, test_isa>(of.stage(), of.accumulators(), row_count, {0, 0, columns}, y.view());
  return y;
}

template <class Stage>
void check_stage(channel_kinds kinds, std::int64_t codes, std::uint64_t seed) {
  generator random(stage_seed(seed));
  std::int64_t compared = 0, wrong = 0, ties = 0;
  while (compared < codes) {
    const index_t columns = random.between(0, 3) == 0 ? random.between(1, channel_count) : channel_count;
    const stage_case<Stage> all(kinds, random);
    const auto y = codes_of(all, columns);
    for (index_t m = 0; m < row_count; ++m) {
      for (index_t n = 0; n < columns; ++n) {
        wrong += y(m, n) != all.expected(m, n) ? 1 : 0;
        ties += all.tie(m, n) ? 1 : 0;
      }
    }
    if (!y.surroundings_untouched()) {
      ++wrong;
    }
    compared += row_count * columns;
  }
  CAPTURE(int(kinds), compared, ties);
  CHECK(wrong == 0);
  CHECK((ties > codes / 50 || has_one_shift<Stage>));
}

using compat_stages =
    std::tuple<round_half_to_even<std::uint8_t>, round_half_to_even<std::int16_t>, round_half_to_even<std::int32_t>,
               single_rounding<std::int8_t>, single_rounding<std::uint16_t>, single_rounding<std::int32_t>,
               double_rounding<std::int8_t>, double_rounding<std::int16_t>, double_rounding<std::int32_t>,
               round_power_of_two<std::uint8_t>, round_power_of_two<std::int32_t>>;

TEMPLATE_LIST_TEST_CASE("compat_epilogue: equals the definitions of the runtimes [ties, both ends of int32]", "",
                        compat_stages) {
  check_stage<TestType>(channel_kinds::usual, stage_volume(), 1);
  check_stage<TestType>(channel_kinds::multiplied, stage_volume() / 2, 4);
  check_stage<TestType>(channel_kinds::one_unusual, stage_volume() / 10, 2);
  check_stage<TestType>(channel_kinds::any, stage_volume() / 10, 3);
}

template <class A>
void check_corrected_rows(std::uint64_t seed) {
  generator random(seed);
  for (const index_t depth : {0, 1, 15, 64, 1023, 1025, 2500}) {
    tensor<A> a(7, depth, layouts[1]);
    tensor<std::int8_t> w(70, depth);
    fill(a.view(), values::random, std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), random);
    fill(w.view(), values::random, -128, 127, random);
    std::vector<std::int32_t> sums(7), expected_sums(7);
    const auto factor = static_cast<std::int32_t>(random.between(-255, 255));
    row_sums<test_isa>(std::as_const(a).view(), factor, std::span(sums));
    reference::row_sums(std::as_const(a).view(), factor, std::span(expected_sums));
    CHECK(sums == expected_sums);
    packed_memory memory(packed_weights_bytes<std::int8_t>(70, depth));
    const auto packed = pack_weights(std::as_const(w).view(), memory.span());
    const std::vector<std::int32_t> bias(70, 5);
    const auto check = [&](const auto& stage) {
      using output = typename std::remove_cvref_t<decltype(stage)>::output;
      tensor<output> y(7, 70), expected(7, 70);
      gemm<test_isa>(std::as_const(a).view(), packed, stage, y.view());
      reference::gemm(std::as_const(a).view(), std::as_const(w).view(), stage, expected.view());
      CAPTURE(depth, factor);
      CHECK(first_difference(y.view(), expected.view()) == "");
    };
    check(row_corrected<raw_accumulator>{{}, sums});
    check(row_corrected<round_power_of_two<std::uint8_t>>{{bias, 12, 99}, sums});
  }
}

TEST_CASE("row_corrected, row_sums: equal the specification [u8, s8]") {
  check_corrected_rows<std::uint8_t>(5);
  check_corrected_rows<std::int8_t>(6);
}

TEST_CASE("row_corrected: refuses sizes, its own and the stage's") {
  const tensor<std::uint8_t> a(2, 1);
  const tensor<std::int8_t> w(3, 1);
  const std::vector<std::int32_t> two(2), three(3);
  tensor<std::uint8_t> y(2, 3);
  using stage = row_corrected<round_power_of_two<std::uint8_t>>;
  const auto call = [&](const stage& s) { reference::gemm(a.view(), w.view(), s, y.view()); };
  CHECK_NOTHROW(call({{three, 1}, two}));
  CHECK_THROWS_WITH(call({{three, 1}, three}), "intact::gemm: size of correction is 3; it must be equal to 2");
  CHECK_THROWS_WITH(call({{two, 1}, two}), "intact::gemm: size of bias is 2; it must be equal to 3");
}

TEST_CASE("row_sums: refuses sizes and factors") {
  const std::vector<std::uint8_t> a(6);
  std::vector<std::int32_t> y(2);
  const matrix_view<const std::uint8_t> view(a.data(), 2, 3);
  CHECK_NOTHROW(row_sums<test_isa>(view, 255, std::span(y)));
  CHECK_THROWS_WITH(row_sums<test_isa>(view, 256, std::span(y)),
                    "intact::row_sums: factor is 256; it must be at most 255");
  CHECK_THROWS_WITH(row_sums<test_isa>(view, 1, std::span(y).first(1)),
                    "intact::row_sums: size of y is 1; it must be equal to 2");
}

TEST_CASE("lane_shift: shifts each lane by its own count") {
  generator random(4);
  for (int i = 0; i < 1000; ++i) {
    std::int32_t x[16], n[16], y[16];
    for (int j = 0; j < 16; ++j) {
      x[j] = static_cast<std::int32_t>(random.between(smallest_s32, largest_s32));
      n[j] = static_cast<std::int32_t>(random.between(0, 31));
    }
    simd::store<test_isa>(simd::lane_shift<test_isa>::right(simd::load<test_isa>(x), simd::load<test_isa>(n)), y);
    for (int j = 0; j < simd::lanes<test_isa>; ++j) {
      CHECK(y[j] == floor_divide(x[j], power_of_two(n[j])));
    }
  }
}

}  // namespace
}  // namespace intact_test::compat_stage_kernel_test
