#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "guarded_memory.hpp"
#include "intact/activation.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/table.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/windows.hpp"
#include "tensor.hpp"

// The claims of docs/scope.md: other models run on the operations as these are.

namespace intact_test::scope_test {
namespace {

/// Codes of the activations whose weight is 1, less those whose weight is -1: without a multiplication.
tensor<std::int32_t> ternary_sums(const tensor<std::uint8_t>& a, const tensor<std::int8_t>& w) {
  tensor<std::int32_t> y(a.rows(), w.rows());
  for (index_t m = 0; m < a.rows(); ++m) {
    for (index_t n = 0; n < w.rows(); ++n) {
      std::int32_t sum = 0;
      for (index_t k = 0; k < a.columns(); ++k) {
        if (w(n, k) == 1) {
          sum += a(m, k);
        } else if (w(n, k) == -1) {
          sum -= a(m, k);
        }
      }
      y(m, n) = sum;
    }
  }
  return y;
}

template <class Weights>
void check_sums(const tensor<std::uint8_t>& a, const Weights& w, const tensor<std::int32_t>& expected) {
  tensor<std::int32_t> y(expected.rows(), expected.columns());
  reference::gemm(a.view(), w, raw_accumulator{}, y.view());
  CHECK(first_difference(y.view(), expected.view()) == "");
}

TEST_CASE("gemm: multiplies ternary weights as s8 and as s4 weights", "[scope]") {
  generator random(81);
  for (const index_t depth : {0, 1, 33, 300}) {
    for (const values what : all_values) {
      tensor<std::uint8_t> a(3, depth);
      tensor<std::int8_t> w(17, depth);
      packed_tensor<s4> nibbles(17, depth);
      fill(a.view(), what, 0, 255, random);
      fill(w.view(), what, -1, 1, random);
      for (index_t n = 0; n < 17; ++n) {
        for (index_t k = 0; k < depth; ++k) {
          store(nibbles.view(), n, k, w(n, k));
        }
      }
      const tensor<std::int32_t> expected = ternary_sums(a, w);
      const matrix_view<const std::int8_t> bytes = w.view();
      const packed_view<s4, const std::uint8_t> halves = nibbles.view();
      packed_memory memory(packed_weights_bytes<std::int8_t>(17, depth)), half(packed_weights_bytes<s4>(17, depth));
      CAPTURE(depth, int(what));
      check_sums(a, bytes, expected);
      check_sums(a, halves, expected);
      check_sums(a, pack_weights(bytes, memory.span()), expected);
      check_sums(a, pack_weights(halves, half.span()), expected);
    }
  }
}

TEST_CASE("gemm: multiplies slices of packed weights of any width", "[scope]") {
  generator random(82);
  tensor<std::uint8_t> a(4, 70);
  tensor<std::int8_t> w(83, 70);
  fill(a.view(), values::random, 0, 255, random);
  fill(w.view(), values::random, -128, 127, random);
  packed_memory memory(packed_weights_bytes<std::int8_t>(83, 70));
  const packed_weights<std::int8_t> packed = pack_weights(matrix_view<const std::int8_t>(w.view()), memory.span());
  for (const index_t outputs : {0, 1, 37, 64, 83}) {
    for (const index_t inputs : {0, 1, 23, 64, 70}) {
      tensor<std::int32_t> y(4, outputs), expected(4, outputs);
      gemm(a.view().prefix(4, inputs), packed.prefix(outputs, inputs), raw_accumulator{}, y.view());
      for (index_t m = 0; m < 4; ++m) {
        for (index_t n = 0; n < outputs; ++n) {
          expected(m, n) = 0;
          for (index_t k = 0; k < inputs; ++k) {
            expected(m, n) += a(m, k) * w(n, k);
          }
        }
      }
      CAPTURE(outputs, inputs);
      CHECK(first_difference(y.view(), expected.view()) == "");
    }
  }
}

/// GELU of fc1's 12-bit codes in shift-log2 codes: y = 2^-code * largest - shift, code 0..last.
activation_table shift_log2_table(double last) {
  constexpr double shift = 0.17, largest = 6;  // GELU is above -0.17
  return build_activation_table(
      [=](double x) { return std::min(last, -std::log2(std::max(gelu(x) + shift, 1e-9) / largest)); }, -8, 6, {1, 0});
}

/// A layer's scale, for accumulators that carry `fraction_bits` more bits than the weights.
owned_channel_scale shifted_scale(const tensor<std::int8_t>& w, int fraction_bits) {
  std::vector<scale_spec> specs;
  for (index_t n = 0; n < w.rows(); ++n) {
    const std::int64_t extreme = (std::int64_t{128} * w.columns()) << fraction_bits;
    const double factor = (0.02 + 0.01 * static_cast<double>(n)) / std::ldexp(1.0, fraction_bits);
    specs.push_back({factor, 120, 0, {-extreme, extreme}});
  }
  return owned_channel_scale(specs);
}

/// The codes of sums of w * 2^(fraction_bits - code).
tensor<std::uint8_t> expected_outputs(const owned_channel_scale& scale, const tensor<std::uint8_t>& codes,
                                      const tensor<std::int8_t>& w, int fraction_bits) {
  tensor<std::uint8_t> y(codes.rows(), w.rows());
  for (index_t m = 0; m < codes.rows(); ++m) {
    for (index_t n = 0; n < w.rows(); ++n) {
      double sum = 0;
      for (index_t k = 0; k < w.columns(); ++k) {
        sum += std::ldexp(static_cast<double>(w(n, k)), fraction_bits - codes(m, k));
      }
      const realized_scale& e = scale.exact[static_cast<std::size_t>(n)];
      y(m, n) = static_cast<std::uint8_t>(std::clamp(std::rint(sum * e.factor + e.offset), 0.0, 255.0));
    }
  }
  return y;
}

tensor<std::uint16_t> random_hidden(generator& random) {
  tensor<std::uint16_t> hidden(9, 200);
  fill(hidden.view(), values::random, 0, 4095, random);
  return hidden;
}

TEST_CASE("reference::shift_matmul: multiplies 4-bit shift-log2 codes", "[scope]") {
  generator random(83);
  const tensor<std::uint16_t> hidden = random_hidden(random);
  tensor<std::uint8_t> codes(9, 200), weights(200, 7), y(9, 7);
  tensor<std::int8_t> w(7, 200);
  fill(w.view(), values::random, -128, 127, random);
  for (index_t k = 0; k < 200; ++k) {
    for (index_t n = 0; n < 7; ++n) {
      weights(k, n) = static_cast<std::uint8_t>(w(n, k) + 128);
    }
  }
  activation(hidden.view(), shift_log2_table(15).codes, codes.view());
  CHECK(*std::max_element(codes.memory().begin(), codes.memory().end()) == 15);
  CHECK(*std::min_element(codes.memory().begin(), codes.memory().end()) == 0);
  const owned_channel_scale scale = shifted_scale(w, 15);
  reference::shift_matmul<attention_code::u8_masked>(codes.view(), {weights.view(), 128},
                                                     requantize<std::uint8_t>{scale.view()}, y.view());
  CHECK(first_difference(y.view(), expected_outputs(scale, codes, w, 15).view()) == "");
}

TEST_CASE("reference::gemm: multiplies 3-bit shift-log2 codes that activation decodes", "[scope]") {
  generator random(84);
  const tensor<std::uint16_t> hidden = random_hidden(random);
  tensor<std::uint8_t> codes(9, 200), decoded(9, 200), y(9, 7);
  tensor<std::int8_t> w(7, 200);
  fill(w.view(), values::random, -128, 127, random);
  activation_table table = shift_log2_table(7);
  activation(hidden.view(), table.codes, codes.view());
  for (std::uint8_t& code : table.codes) {
    code = static_cast<std::uint8_t>(128 >> code);
  }
  activation(hidden.view(), table.codes, decoded.view());
  const owned_channel_scale scale = shifted_scale(w, 7);
  reference::gemm(decoded.view(), matrix_view<const std::int8_t>(w.view()), requantize<std::uint8_t>{scale.view()},
                  y.view());
  CHECK(first_difference(y.view(), expected_outputs(scale, codes, w, 7).view()) == "");
}

TEST_CASE("window_partition: tokens in the same place of all patches are a view of the windows", "[scope]") {
  // The tokens that MobileViT's attention sees: patches of 2 x 2 tokens, one sequence per place in the patch.
  constexpr index_t height = 6, width = 8, channels = 5, patch = 2;
  generator random(85);
  tensor<std::uint8_t> x(height * width, channels), windows(height * width, channels), back(height * width, channels);
  fill(x.view(), values::random, 0, 255, random);
  const window_grid grid{height, width, patch, 0};
  window_partition(x.view(), grid, 0, windows.view());
  for (index_t place = 0; place < patch * patch; ++place) {
    const matrix_view<const std::uint8_t> sequence(windows.view().data + place * channels, grid.windows(), channels,
                                                   patch * patch * channels);
    for (index_t n = 0; n < grid.windows(); ++n) {
      const index_t i = n / (width / patch) * patch + place / patch, j = n % (width / patch) * patch + place % patch;
      for (index_t c = 0; c < channels; ++c) {
        CHECK(sequence(n, c) == x(i * width + j, c));
      }
    }
  }
  window_reverse(windows.view(), grid, back.view());
  CHECK(first_difference(back.view(), x.view()) == "");
}

}  // namespace
}  // namespace intact_test::scope_test
