#pragma once

#include <cstdint>

#include "intact/gemm.hpp"

namespace intact::inline INTACT_ABI {

/// A fully connected layer: s8 weights, one row per output channel, and what its accumulators become.
struct linear_parameters {
  matrix_view<const std::int8_t> weights;
  channel_scale scale;

  constexpr index outputs() const { return weights.rows; }
};

/// Checks a layer's sizes.
inline void require_linear(const char* operation, const linear_parameters& p, index outputs, index inputs) {
  require_shape(operation, "weights", p.weights, outputs, inputs);
  require_at_most(operation, "columns of weights", inputs, gemm_max_depth_u8_s8);
  require_scale(operation, p.scale, outputs);
}

/// y = requantize(x * W^T), bias included.
template <class Out, int Bits = 8 * sizeof(Out)>
void linear(matrix_view<const std::uint8_t> x, const linear_parameters& p, matrix_view<Out> y) {
  gemm(x, p.weights, requantize<Out, channel_scale, Bits>{p.scale}, y);
}

}  // namespace intact::inline INTACT_ABI
