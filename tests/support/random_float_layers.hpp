#pragma once

#include <cmath>
#include <cstdint>

#include "intact/quantize/float_layers.hpp"
#include "tensor.hpp"

namespace intact_test {

/// Draws parameters of a float model's layers.
class random_float_layers {
 public:
  explicit random_float_layers(std::uint64_t seed) : random_(seed) {}

  float number(float largest) { return largest * static_cast<float>(random_.between(-1000, 1000)) / 1000; }

  float_matrix matrix(index_t rows, index_t columns, float largest) {
    float_matrix made(rows, columns);
    for (index_t i = 0; i < made.size(); ++i) {
      made.data()[i] = number(largest);
    }
    return made;
  }

  /// Outputs are about `factor` times as large as inputs.
  float_linear linear(index_t outputs, index_t inputs, float factor = 1) {
    const float largest = factor * std::sqrt(3 / static_cast<float>(inputs));
    float_linear made{matrix(outputs, inputs, largest), {}};
    made.bias = matrix(1, outputs, 0.2f);
    return made;
  }

  float_layernorm layernorm(index_t width) {
    float_layernorm made;
    made.weight = matrix(1, width, 0.5f).array() + 1;
    made.bias = matrix(1, width, 0.3f);
    return made;
  }

 private:
  generator random_;
};

}  // namespace intact_test
