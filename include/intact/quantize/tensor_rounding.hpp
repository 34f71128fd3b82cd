#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/vit_weights.hpp"

// Float tensors whose values are those of codes.

namespace intact {
inline namespace INTACT_UNIT {

/// Replaces every value by that of its code.
///
/// Formula:   x <- dequantize_code(quantize_code(x))
/// Errors:    as of quantize_code.
inline void round_to_codes(float_matrix& tensor, const affine_scale& scale, const code_range& codes = u8_codes) {
  tensor = tensor.unaryExpr([&](float x) { return dequantize_code(quantize_code(x, scale, codes), scale); });
}

/// The same for u8 codes with a power of two per channel, that is, per column.
inline void round_to_codes(float_matrix& tensor, const ptf_scale& scale) {
  require_equal("round_to_codes", "columns of the tensor", tensor.cols(), std::ssize(scale.shift));
  for (index_t c = 0; c < tensor.cols(); ++c) {
    const affine_scale channel = scale.channel(c);
    for (index_t i = 0; i < tensor.rows(); ++i) {
      tensor(i, c) = dequantize_code(quantize_code(tensor(i, c), channel, u8_codes), channel);
    }
  }
}

/// The u8 codes of a tensor. Errors: as of quantize_codes.
inline row_major_matrix<std::uint8_t> u8_codes_of(const float_matrix& tensor, const affine_scale& scale) {
  row_major_matrix<std::uint8_t> codes(tensor.rows(), tensor.cols());
  quantize_codes(view_of(tensor), scale, view_of(codes));
  return codes;
}

/// The real numbers that quantized weights represent: scale[n] * 2^shift * code.
inline float_matrix real_weights(const scaled_weights& quantized) {
  float_matrix real(quantized.weights.rows, quantized.weights.columns);
  for (index_t n = 0; n < real.rows(); ++n) {
    const std::vector<std::int8_t> row = quantized.weights.row(n);
    for (index_t k = 0; k < real.cols(); ++k) {
      real(n, k) = quantized.scale[static_cast<std::size_t>(n)] * static_cast<float>(row[static_cast<std::size_t>(k)]);
    }
  }
  return real;
}

}  // namespace INTACT_UNIT
}  // namespace intact
