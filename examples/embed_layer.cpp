#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <span>
#include <vector>

#include "intact/build/compat.hpp"
#include "intact/gemm.hpp"
#include "intact/interop/float_output.hpp"
#include "intact/interop/quantize_rows.hpp"
#include "intact/stage/compat.hpp"

constexpr intact::index_t tokens = 3, inputs = 8, outputs = 4;

int main() {
  std::array<std::int8_t, outputs * inputs> w;
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i] = static_cast<std::int8_t>(i * 37 % 200 - 100);
  }
  const intact::matrix_view<const std::int8_t> weights(w.data(), outputs, inputs);
  const std::vector<float> weight_scale{0.01f, 0.02f, 0.03f, 0.04f};
  const std::vector<std::int32_t> bias{0, 400, -400, 50};
  const intact::affine_scale input{0.05f, -3}, output{0.125f, -20};

  // A layer of a TensorFlow Lite file: s8, scales per channel, ReLU.
  const intact::compat_layer layer(
      {.input = input, .output = output, .weight_scale = weight_scale, .weight_zero_point = 0, .bias = bias}, weights,
      intact::factor_rule::tflite_per_channel);
  const auto codes =
      intact::fused_activation_codes(output, 0, std::numeric_limits<float>::infinity(), intact::s8_codes);
  const intact::single_rounding<std::int8_t> stage{.scale = layer.scale(output.zero_point),
                                                   .low = static_cast<std::int8_t>(codes.low),
                                                   .high = static_cast<std::int8_t>(codes.high)};
  std::array<std::int8_t, tokens * inputs> x;
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<std::int8_t>(i * 11 % 100);
  }
  std::array<std::int8_t, tokens * outputs> y;
  intact::gemm(intact::matrix_view<const std::int8_t>(x.data(), tokens, inputs), layer.weights(), stage,
               intact::matrix_view(y.data(), tokens, outputs));
  std::printf("%d %d %d %d\n", y[0], y[1], y[2], y[3]);

  // The same weights between float layers: rows are quantized when they are known, products become float32.
  std::array<float, tokens * inputs> real;
  std::transform(x.begin(), x.end(), real.begin(), [&](int code) { return intact::dequantize_code(code, input); });
  std::array<std::int8_t, tokens * inputs> row_codes;
  std::array<float, tokens> row_scale;
  intact::quantize_rows(intact::matrix_view<const float>(real.data(), tokens, inputs),
                        intact::matrix_view(row_codes.data(), tokens, inputs), std::span(row_scale));
  std::array<float, tokens * outputs> z;
  intact::gemm(intact::matrix_view<const std::int8_t>(row_codes.data(), tokens, inputs), layer.weights(),
               intact::float_output<float>{row_scale, weight_scale}, intact::matrix_view(z.data(), tokens, outputs));
  std::printf("%.2f %.2f %.2f %.2f\n", double{z[0]}, double{z[1]}, double{z[2]}, double{z[3]});
}
