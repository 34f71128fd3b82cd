#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "hashes.hpp"
#include "intact/config/bits_as.hpp"
#include "intact/gemm.hpp"
#include "intact/interop/float_output.hpp"
#include "intact/interop/float_rounding.hpp"
#include "intact/interop/quantize_rows.hpp"
#include "intact/interop/reference/quantize_rows.hpp"
#include "intact/pack.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/row_sums.hpp"
#include "intact/row_sums.hpp"
#include "intact/stage/row_corrected.hpp"
#include "parameters.hpp"

// Operations and output stages in float32, and sums of rows. Their numbers are integers times powers of two.

namespace hashes {
namespace {

/// More rows than a tile has, more channels than a panel, and an inner dimension that ends within a step.
constexpr index_t rows = 7, channels = 83, depth = 70;

/// Up to 24 bits, divided by 2^fraction_bits.
std::span<const float> random_floats(random_memory& memory, index_t count, std::int64_t low, std::int64_t high,
                                     int fraction_bits) {
  return memory.array<float>(
      count, [&](index_t) { return std::ldexp(static_cast<float>(memory.random.between(low, high)), -fraction_bits); });
}

matrix<std::int32_t> bits_of(matrix_view<const float> numbers) {
  matrix<std::int32_t> bits(numbers.rows, numbers.columns);
  for (index_t i = 0; i < numbers.rows; ++i) {
    for (index_t j = 0; j < numbers.columns; ++j) {
      bits.view()(i, j) = bits_as<std::int32_t>(numbers(i, j));
    }
  }
  return bits;
}

template <class T>
void report_numbers(const std::string& name, const matrix<T>& found, const matrix<T>& expected) {
  if constexpr (std::is_same_v<T, float>) {
    report(name, bits_of(found.view()).view(), bits_of(expected.view()).view());
  } else {
    report(name, found.view(), expected.view());
  }
}

/// Rows of ordinary, zero, tiny and large numbers; some products with 127 / t are halves.
matrix<float> rows_of_floats(random_memory& memory) {
  matrix<float> x(rows, channels);
  for (index_t m = 0; m < rows; ++m) {
    const std::int64_t range = m % 2 == 0 ? 254 : (1 << 24) - 1;
    const int fraction_bits[] = {8, 20, 149, 100, -90, 0, 30};
    for (index_t k = 0; k < channels; ++k) {
      const std::int64_t n = m == 5 ? 0 : memory.random.between(-range, range);
      x.view()(m, k) = std::ldexp(static_cast<float>(n), -fraction_bits[m]);
    }
  }
  return x;
}

template <class Code>
void run_quantize_rows(const std::string& name, const matrix<float>& x) {
  matrix<Code> expected(rows, channels), found(rows, channels);
  matrix<float> expected_scale(1, rows), scale(1, rows);
  const auto row_of = [](matrix<float>& of) { return std::span(of.view().data, static_cast<std::size_t>(rows)); };
  reference::quantize_rows(matrix_view<const float>(x.view()), expected.view(), row_of(expected_scale));
  quantize_rows<tested_isa>(matrix_view<const float>(x.view()), found.view(), row_of(scale));
  report("quantize_rows/" + name, found.view(), expected.view());
  report_numbers("quantize_rows/" + name + "/scale", scale, expected_scale);
}

/// A product with weights of a kind through a stage.
template <class A, class Weights, class Stage>
void product(random_memory& memory, const std::string& name, const matrix<A>& a, const Weights& w, const Stage& stage) {
  matrix<typename Stage::output> expected(rows, channels), found(rows, channels);
  reference::gemm(a.view(), w, stage, expected.view());
  gemm<tested_isa>(a.view(), memory.packed(w), stage, found.view());
  report_numbers("gemm/" + name, found, expected);
}

template <class A>
void run_stages(random_memory& memory, const std::string& activations, std::int64_t low, std::int64_t high) {
  const matrix<A> a(rows, depth, low, high, memory.random);
  const matrix_view<const std::int8_t> s8_weights = memory.random_matrix<std::int8_t>(channels, depth, -128, 127);
  const packed_view<s4, const std::uint8_t> s4_weights = memory.random_s4(channels, depth);
  const auto row_scale = random_floats(memory, rows, 1, (1 << 24) - 1, 30);
  const auto channel_scale = random_floats(memory, channels, 1, (1 << 24) - 1, 28);
  const auto bias = random_floats(memory, channels, -(1 << 24), 1 << 24, 23);
  const auto offset = memory.random_array<std::int32_t>(channels, -100'000, 100'000);
  const auto factor = random_floats(memory, channels, 0, 1 << 10, 22);  // some products are halves
  const std::string s8 = activations + "_s8/", s4_name = activations + "_s4/";

  const float_output<float> reals{row_scale, channel_scale, bias, offset};
  const float_output<bfloat16> halves{row_scale, channel_scale, bias, offset};
  product(memory, s8 + "float_output/float", a, s8_weights, reals);
  product(memory, s8 + "float_output/float/no_bias", a, s8_weights, float_output<float>{row_scale, channel_scale});
  product(memory, s8 + "float_output/bfloat16", a, s8_weights, halves);
  product(memory, s4_name + "float_output/float", a, s4_weights, reals);
  product(memory, s8 + "float_rounding/u8", a, s8_weights, float_rounding<std::uint8_t>{offset, factor, 119});
  product(memory, s8 + "float_rounding/s8", a, s8_weights, float_rounding<std::int8_t>{offset, factor, -3, -100, 90});
  product(memory, s4_name + "float_rounding/u8", a, s4_weights, float_rounding<std::uint8_t>{offset, factor, 0});

  matrix<std::int32_t> expected(1, rows), sums(1, rows);
  const auto row_of = [](matrix<std::int32_t>& of) {
    return std::span(of.view().data, static_cast<std::size_t>(rows));
  };
  reference::row_sums(a.view(), -113, row_of(expected));
  row_sums<tested_isa>(a.view(), -113, row_of(sums));
  report("row_sums/" + activations, sums.view(), expected.view());
  product(memory, s8 + "row_corrected/float_output", a, s8_weights,
          row_corrected<float_output<float>>{reals, row_of(sums)});
}

}  // namespace

void run_interop() {
  random_memory memory(33);
  const matrix<float> x = rows_of_floats(memory);
  run_quantize_rows<std::uint8_t>("u8", x);
  run_quantize_rows<std::int8_t>("s8", x);
  run_stages<std::uint8_t>(memory, "u8", 0, 255);
  run_stages<std::int8_t>(memory, "s8", -128, 127);
}

}  // namespace hashes
