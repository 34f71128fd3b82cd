#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "intact/build/add.hpp"
#include "intact/build/scale_spec.hpp"
#include "intact/build/scaled_weights.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"

// The real factors that the integer scales of a model's layers approximate, from the scales of the tensors around them.

namespace intact {
inline namespace INTACT_UNIT {

/// Outputs y = (x * w + bias) / s_y + zp_y of a layer, a target per output channel. `bias` has as many values.
inline std::vector<scale_spec> linear_specs(const scaled_weights& layer, std::span<const float> bias,
                                            const affine_scale& x, const code_scale& y) {
  std::vector<scale_spec> specs(static_cast<std::size_t>(layer.weights.rows));
  for (std::size_t n = 0; n < specs.size(); ++n) {
    specs[n] = linear_spec<std::uint8_t>(
        {.weights = layer.weights.row(static_cast<index_t>(n)),
         .factor = static_cast<double>(x.scale) * static_cast<double>(layer.scale[n]) / y.scale,
         .addend = static_cast<double>(bias[n]) / y.scale + y.zero_point,
         .zero_point = x.zero_point});
  }
  return specs;
}

/// The same without biases, with a scale per output channel.
inline std::vector<scale_spec> linear_specs(const scaled_weights& layer, const affine_scale& x, const ptf_scale& y) {
  std::vector<scale_spec> specs(static_cast<std::size_t>(layer.weights.rows));
  for (std::size_t n = 0; n < specs.size(); ++n) {
    specs[n] = linear_spec<std::uint8_t>(
        {.weights = layer.weights.row(static_cast<index_t>(n)),
         .factor = static_cast<double>(x.scale) * static_cast<double>(layer.scale[n]) / channel_step(y, n),
         .addend = static_cast<double>(y.zero_point),
         .zero_point = x.zero_point});
  }
  return specs;
}

/// The ratio s_x / s_y of two scales.
inline double scale_ratio(const affine_scale& x, const affine_scale& y) {
  return static_cast<double>(x.scale) / static_cast<double>(y.scale);
}

/// The addition of a branch to a channel of a stream, from the scales of both to the scale y.
inline add_spec addition_spec(double stream, const affine_scale& branch, double y) {
  return {.stream = stream / y, .branch = static_cast<double>(branch.scale) / y};
}

namespace detail {

/// Queries, keys and values, each in the codes of their own scale.
inline std::vector<scale_spec> qkv_specs(const scaled_weights& layer, std::span<const float> bias,
                                         const affine_scale& x, const block_scales& own) {
  std::vector<scale_spec> specs = linear_specs(layer, bias, x, to_code_scale(own.qkv));
  const std::size_t width = specs.size() / 3;
  const auto replace = [&](std::size_t part, const affine_scale& scale) {
    const std::vector<scale_spec> rescaled = linear_specs(layer, bias, x, to_code_scale(scale));
    const auto at = [&](std::size_t n) { return static_cast<std::ptrdiff_t>(n * width); };
    std::copy(rescaled.begin() + at(part), rescaled.begin() + at(part + 1), specs.begin() + at(part));
  };
  if (own.k) {
    replace(1, *own.k);
  }
  if (own.v) {
    replace(2, *own.v);
  }
  return specs;
}

/// q * k^T / sqrt(head size).
inline scale_spec logits_spec(const block_scales& own, const affine_scale& logits, const attention_shape& shape) {
  const double q_scale = static_cast<double>(query_scale(own, shape).scale),
               k_scale = static_cast<double>(key_scale(own, shape).scale);
  return attention_logits_spec(
      q_scale * k_scale / std::sqrt(static_cast<double>(shape.head_size())) / static_cast<double>(logits.scale),
      logits.zero_point, shape.head_size());
}

/// The activation's codes times those of up, in codes of a scale.
inline scale_spec product_spec(const block_scales& own, const affine_scale& y) {
  const double product = static_cast<double>(own.activation.scale) * static_cast<double>(own.up.scale);
  return multiply_spec(product / static_cast<double>(y.scale), own.activation.zero_point, own.up.zero_point,
                       y.zero_point);
}

/// Attention times V, its rows not divided by their sums.
inline scale_spec context_spec(const affine_scale& v, const affine_scale& context, index_t keys) {
  return attention_context_spec(scale_ratio(v, context), context.zero_point, keys);
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
