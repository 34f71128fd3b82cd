// Every function of the table of interop/, on the instruction set that INTACT_ISA names, against the specification, bit
// by bit.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "catch.hpp"
#include "dispatched.hpp"
#include "intact/interop/dispatch/operations.hpp"
#include "intact/interop/reference/quantize_rows.hpp"
#include "intact/reference/depthwise_conv.hpp"
#include "intact/reference/gemm.hpp"
#include "refusal.hpp"
#include "small_model.hpp"

namespace intact_test::dispatched_interop_test {
namespace {

using u8 = std::uint8_t;
using s8 = std::int8_t;

constexpr index_t tokens = 36, channels = 70, outputs = 83;

/// Arrays of the stages: such that codes and numbers spread, or such that they are at ends of their ranges.
class stage_arrays {
 public:
  stage_arrays(index_t rows, index_t columns, bool extreme, generator& random) {
    const auto number = [&](int power) {
      return std::ldexp(static_cast<float>(random.between(1, (1 << 24) - 1)), power - 24);
    };
    for (index_t n = 0; n < columns; ++n) {
      const int power = extreme ? static_cast<int>(random.between(-120, 120)) : -12;
      const float end = n % 2 == 0 ? std::numeric_limits<float>::denorm_min() : std::numeric_limits<float>::max();
      scale_.push_back(extreme && n % 5 == 0 ? end : number(power));
      shift_.push_back(number(extreme ? power : 1) * (n % 3 == 0 ? -1.0f : 1.0f));
      bias_.push_back(
          static_cast<std::int32_t>(extreme ? random.between(INT32_MIN, INT32_MAX) : random.between(-9999, 9999)));
    }
    for (index_t m = 0; m < rows; ++m) {
      row_scale_.push_back(m % 7 == 0 ? 0 : number(extreme ? static_cast<int>(random.between(-120, 120)) : 1));
      correction_.push_back(static_cast<std::int32_t>(random.between(-9999, 9999)));
    }
  }

  template <class Out>
  void give(float_output<Out>& stage) const {
    stage = {row_scale_, scale_, shift_, bias_};
  }
  template <class Out>
  void give(float_rounding<Out>& stage) const {
    stage = {bias_, scale_, 3, std::numeric_limits<Out>::min(), 100};
  }
  template <class Stage>
  void give(row_corrected<Stage>& stage) const {
    give(stage.stage);
    stage.correction = correction_;
  }

 private:
  std::vector<float> scale_, shift_, row_scale_;
  std::vector<std::int32_t> bias_, correction_;
};

template <class Stages, class A, class Packed, class Weights>
void check_stages(const tensor<A>& a, const Packed& packed, const Weights& w) {
  for (const bool extreme : {false, true}) {
    generator random(7);
    const stage_arrays arrays(a.rows(), w.rows, extreme, random);
    for_each_stage(Stages{}, [&]<class Stage>(std::type_identity<Stage>) {
      Stage stage;
      arrays.give(stage);
      CAPTURE(extreme, std::string(typeid(Stage).name()));
      check_dispatched<typename Stage::output>(
          a.rows(), w.rows, [&](auto y, const auto& run) { dispatch::gemm(a.view(), packed, stage, y, run); },
          [&](auto y) { reference::gemm(a.view(), w, stage, y); });
    });
  }
}

/// Products with weights, random activations and those at the ends, and every stage of the table.
template <class A, class Weights>
void check_products(const Weights& w) {
  parameter_memory memory;
  const auto packed = memory.packed(w);
  generator random(1);
  for (const values kind : {values::random, values::alternating}) {
    tensor<A> a(tokens, channels, layouts[1]);
    fill(a.view(), kind, std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), random);
    check_stages<dispatch_lists::of_float_products>(a, packed, w);
    if constexpr (std::is_same_v<Weights, matrix_view<const s8>>) {
      check_stages<dispatch_lists::of_corrected_float_products>(a, packed, w);
    }
  }
}

TEST_CASE("dispatch::gemm: equals the specification [all weights, stages of interop]", "[dispatch]") {
  const tensor<s8> bytes = random_tensor<s8>(outputs, channels, -128, 127);
  const matrix_view<const s8> dense = bytes.view();
  check_products<u8>(dense);
  check_products<s8>(dense);

  tensor<u8> nibbles = random_tensor<u8>(outputs, channels / 2, 0, 255);
  const packed_view<s4, const u8> half(nibbles.view().data, outputs, channels, 2 * nibbles.view().stride);
  check_products<u8>(half);
  check_products<s8>(half);

  const tensor<u8> shifts = random_tensor<u8>(outputs, group_count(channels, 8), 0, 3);
  const grouped_s4_view grouped(half, shifts.view(), 8);
  check_products<u8>(grouped);
  check_products<s8>(grouped);
}

TEST_CASE("dispatch::depthwise_conv: equals the specification [stages of interop]", "[dispatch]") {
  const token_grid grid{6, 6};
  const tensor<u8> codes = random_tensor<u8>(tokens, channels, 0, 255);
  const tensor<s8> taps = random_tensor<s8>(9, channels, -128, 127);
  const depthwise_weights w{taps.view(), 3};
  const quantized_matrix x{codes.view(), 120};
  generator random(2);
  const stage_arrays arrays(tokens, channels, false, random);
  for_each_stage(dispatch_lists::of_float_products{}, [&]<class Stage>(std::type_identity<Stage>) {
    Stage stage;
    arrays.give(stage);
    check_dispatched<typename Stage::output>(
        tokens, channels, [&](auto y, const auto& run) { dispatch::depthwise_conv(x, grid, w, stage, y, run); },
        [&](auto y) { reference::depthwise_conv(x, grid, w, stage, y); });
  });
}

TEMPLATE_TEST_CASE("dispatch::quantize_rows: equals the specification [rows, columns, magnitudes]", "[dispatch]", u8,
                   s8) {
  generator random(4);
  for (const index_t rows : {0, 1, 40}) {
    for (const index_t columns : {0, 1, 15, 64, 201}) {
      for (const int power : {-149, -124, -100, -3, 104}) {
        tensor<float> x(rows, columns, layouts[1]);
        for (index_t m = 0; m < rows; ++m) {
          for (index_t k = 0; k < columns; ++k) {
            // The rows at the beginning are halves of codes of 127 units.
            const std::int64_t unit = m < 9 ? random.between(-254, 254) : random.between(-(1 << 23), 1 << 23);
            x(m, k) = m == 20 ? -0.0f : std::ldexp(static_cast<float>(unit), power);
          }
        }
        CAPTURE(rows, columns, power);
        std::vector<float> scale(static_cast<std::size_t>(rows)), expected_scale(scale);
        check_dispatched<TestType>(
            rows, columns,
            [&](auto y, const auto& run) {
              scale.assign(scale.size(), -1.0f);
              dispatch::quantize_rows(std::as_const(x).view(), y, std::span(scale), run);
            },
            [&](auto y) { reference::quantize_rows(std::as_const(x).view(), y, std::span(expected_scale)); });
        CHECK(scale == expected_scale);
      }
    }
  }
}

/// Counts tasks, and runs the last one first.
struct counting_executor {
  index_t* count;

  static index_t threads() { return 3; }
  template <class Task>
  void for_each(index_t tasks, const Task& task) const {
    *count += tasks;
    while (tasks > 0) {
      task(--tasks);
    }
  }
};

TEST_CASE("dispatch: runs the tasks of operations of interop on the executor", "[dispatch]") {
  const tensor<u8> a = random_tensor<u8>(240, channels, 0, 255);
  const tensor<s8> w = random_tensor<s8>(4 * outputs, channels, -128, 127);
  parameter_memory memory;
  const auto packed = memory.packed(w.view());
  generator random(5);
  const stage_arrays arrays(a.rows(), w.rows(), false, random);
  float_output<float> stage;
  arrays.give(stage);
  tensor<float> y(a.rows(), w.rows()), expected(a.rows(), w.rows());
  index_t count = 0;
  dispatch::gemm(a.view(), packed, stage, y.view(), counting_executor{&count});
  reference::gemm(a.view(), w.view(), stage, expected.view());
  CHECK(count > 1);
  CHECK(first_difference(integers_of(y.view()).view(), integers_of(expected.view()).view()) == "");

  tensor<s8> codes(a.rows(), w.rows()), expected_codes(a.rows(), w.rows());
  std::vector<float> scale(static_cast<std::size_t>(a.rows())), expected_scale(scale);
  count = 0;
  dispatch::quantize_rows(std::as_const(y).view(), codes.view(), std::span(scale), counting_executor{&count});
  reference::quantize_rows(std::as_const(y).view(), expected_codes.view(), std::span(expected_scale));
  CHECK(count > 1);
  CHECK(first_difference(codes.view(), expected_codes.view()) == "");
  CHECK(scale == expected_scale);
}

TEST_CASE("dispatch: refuses what header-only calls refuse, before anything is written [interop]", "[dispatch]") {
  const tensor<u8> a = random_tensor<u8>(2, channels, 0, 255);
  const tensor<s8> w = random_tensor<s8>(3, channels, -128, 127);
  parameter_memory memory;
  const auto packed = memory.packed(w.view());
  const std::vector<float> two(2, 1.0f), three(3, 1.0f), zero{1, 1, 0};
  const std::vector<std::int32_t> bias(3), correction(3);
  const auto check_refusal = [&]<class Stage>(const Stage& stage, const char* words) {
    tensor<typename Stage::output> y(2, 3), before(2, 3);
    const std::string message = refusal([&] { dispatch::gemm(a.view(), packed, stage, y.view()); });
    CHECK(message == refusal([&] { gemm<tested_isa>(a.view(), packed, stage, y.view()); }));
    CHECK(mentions(message, words));
    CHECK(y.memory() == before.memory());
  };
  check_refusal(float_output<float>{three, three}, "intact::gemm: size of row_scale is 3; it must be equal to 2");
  check_refusal(float_output<bfloat16>{two, zero},
                "intact::gemm: channel_scale[2] is 0; it must be above 0 and finite");
  check_refusal(float_rounding<u8>{bias, three, 256}, "intact::gemm: zero_point is 256; it must be at most 255");
  check_refusal(float_rounding<s8>{bias, two, 3}, "intact::gemm: size of factor is 2; it must be equal to 3");
  check_refusal(row_corrected<float_output<float>>{{two, three}, correction},
                "intact::gemm: size of correction is 3; it must be equal to 2");

  std::vector<float> x(24, 1.0f), scale(3, 77.0f);
  std::vector<s8> codes(24, 77);
  const auto check_rows = [&](index_t rows, const char* words) {
    const matrix_view<const float> numbers(x.data(), 3, 8);
    const matrix_view<s8> to(codes.data(), rows, 8);
    const std::string message = refusal([&] { dispatch::quantize_rows(numbers, to, std::span(scale)); });
    CHECK(message == refusal([&] { quantize_rows<tested_isa>(numbers, to, std::span(scale)); }));
    CHECK(mentions(message, words));
    CHECK(codes == std::vector<s8>(24, 77));
    CHECK(scale == std::vector<float>(3, 77.0f));
  };
  check_rows(2, "intact::quantize_rows: codes is 2 x 8; it must be 3 x 8");
  x[22] = std::numeric_limits<float>::quiet_NaN();
  check_rows(3, "intact::quantize_rows: x has the value nan at row 2, column 6; it must be finite");
  x[15] = -std::numeric_limits<float>::infinity();
  check_rows(3, "intact::quantize_rows: x has the value -inf at row 1, column 7; it must be finite");
}

}  // namespace
}  // namespace intact_test::dispatched_interop_test
