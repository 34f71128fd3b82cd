#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include "intact/build/owned_parameters.hpp"
#include "intact/build/weights.hpp"
#include "intact/executors/std_threads.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "intact/types/workspace.hpp"

using intact::index_t;

constexpr index_t tokens = 197, inputs = 192, outputs = 768;

std::vector<float> random_values(index_t count, float largest, std::mt19937& random) {
  std::vector<float> values;
  for (index_t i = 0; i < count; ++i) {
    values.push_back(largest * (static_cast<float>(random() >> 8) / 8'388'608 - 1));
  }
  return values;
}

int main() {
  std::mt19937 random(1);
  const std::vector<float> x = random_values(tokens * inputs, 3, random);
  const std::vector<float> w = random_values(outputs * inputs, 0.1f, random), bias = random_values(outputs, 1, random);
  // Of ranges that the tensors have taken on calibration data.
  const intact::affine_scale x_scale = intact::build_affine_scale({-3, 3}, intact::u8_codes);
  const intact::affine_scale y_scale = intact::build_affine_scale({-4, 4}, intact::u8_codes);

  // When the model is loaded: s8 weights with a scale per channel, the integers of the output stage, packed weights.
  const intact::matrix_view<const float> float_weights(w.data(), outputs, inputs);
  const intact::quantized_weights weights = intact::quantize_weights(float_weights, intact::s8_codes, "fc1.weight");
  std::vector<intact::scale_spec> specs;
  for (std::size_t n = 0; n < outputs; ++n) {
    specs.push_back(intact::linear_spec<std::uint8_t>(
        {.weights = std::span(weights.codes).subspan(n * inputs, inputs),
         .factor = double{x_scale.scale} * double{weights.scale[n]} / double{y_scale.scale},
         .addend = double{bias[n]} / double{y_scale.scale} + y_scale.zero_point,
         .zero_point = x_scale.zero_point}));
  }
  const intact::owned_channel_scale scale(specs);
  const index_t bytes = intact::packed_weights_bytes<std::int8_t>(outputs, inputs);
  std::vector<std::byte> memory(static_cast<std::size_t>(bytes) + intact::packed_weights_alignment);
  std::byte* const aligned = intact::workspace(memory.data(), memory.size()).take<std::byte>(bytes);
  const intact::packed_weights<std::int8_t> packed =
      intact::pack_weights(weights.view(), std::span(aligned, static_cast<std::size_t>(bytes)));
  const intact::std_thread_executor threads(2);

  // When it runs. Codes of a layer before it need no quantization.
  std::vector<std::uint8_t> x_codes(x.size()), y_codes(static_cast<std::size_t>(tokens * outputs));
  const intact::matrix_view<std::uint8_t> input(x_codes.data(), tokens, inputs), y(y_codes.data(), tokens, outputs);
  intact::quantize_codes(intact::matrix_view<const float>(x.data(), tokens, inputs), x_scale, input);
  intact::gemm(input, packed, intact::requantize<std::uint8_t>{scale.view()}, y, threads);

  // The same layer of the same codes in real numbers.
  index_t different = 0;
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t n = 0; n < outputs; ++n) {
      int sum = 0;
      for (index_t k = 0; k < inputs; ++k) {
        sum += (input(t, k) - x_scale.zero_point) * weights.view()(n, k);
      }
      const intact::scale_spec& real = specs[static_cast<std::size_t>(n)];
      different += y(t, n) != std::clamp(std::round(real.factor * sum + real.addend), 0.0, 255.0) ? 1 : 0;
    }
  }
  std::printf("%td of %td codes differ from real numbers, rounded\n", different, tokens * outputs);
}
