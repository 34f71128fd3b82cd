#pragma once

#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <span>

#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"

// Activations with a scale and a zero point per channel, which no product of integers can take (its sum runs over the
// channels), turned into activations with one of each: the difference is folded into float weights before they are
// quantized. The codes stay the same. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

inline void require_foldable(const char* operation, std::span<const affine_scale> channels,
                             const affine_scale& shared) {
  const auto is_scale = [](float scale) { return scale > 0 && std::isfinite(scale); };
  for (std::size_t c = 0; c < channels.size(); ++c) {
    if (!is_scale(channels[c].scale)) {
      contract_failed("intact::%s: channel %zu has the scale %g; it must be above 0 and finite", operation, c,
                      static_cast<double>(channels[c].scale));
    }
  }
  if (!is_scale(shared.scale)) {
    contract_failed("intact::%s: the shared scale is %g; it must be above 0 and finite", operation,
                    static_cast<double>(shared.scale));
  }
}

/// A folded number; refuses one that float does not hold.
inline float folded(const char* operation, const char* what, std::size_t channel, double value) {
  if (!(std::fabs(value) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    contract_failed("intact::%s: folded into %s, channel %zu becomes %g; it must be finite in float", operation, what,
                    channel, value);
  }
  return static_cast<float>(value);
}

/// The zero point of a channel as a distance from the shared one.
inline double zero_point_distance(const affine_scale& channel, const affine_scale& shared) {
  return static_cast<double>(channel.zero_point) - static_cast<double>(shared.zero_point);
}

}  // namespace detail

/// Folds scales per channel of a LayerNorm's output into its gain and bias.
///
/// Formula:   gamma'[c] = gamma[c] * s' / s[c];  beta'[c] = beta[c] * s' / s[c] + s' * (z[c] - z')
/// Shapes:    gamma and beta have the size of channels; they are replaced.
/// Exactness: with the new gain and bias, x' / s' + z' is the real number that x / s[c] + z[c] was: all codes are the
///            same. gamma' and beta' are computed in double and rounded to float once; for scales whose ratios are
///            powers of two, gamma' is exact.
/// Errors:    sizes that differ, scales that are not above 0 and finite, a result that is not finite, each naming the
///            channel; nothing has been written then.
/// Source:    RepQ-ViT (arXiv 2212.08254), scale reparameterization; it takes the means of the scales and zero points
///            as the shared ones. fold_into_layer is the other half. docs/scope.md.
inline void fold_into_layernorm(std::span<const affine_scale> channels, const affine_scale& shared,
                                std::span<float> gamma, std::span<float> beta) {
  constexpr const char* operation = "fold_into_layernorm";
  require_equal(operation, "size of gamma", std::ssize(gamma), std::ssize(channels));
  require_equal(operation, "size of beta", std::ssize(beta), std::ssize(channels));
  detail::require_foldable(operation, channels, shared);
  const auto fold = [&](std::size_t c, auto&& take) {
    const double step = static_cast<double>(shared.scale);
    const double ratio = step / static_cast<double>(channels[c].scale);
    const double moved = step * detail::zero_point_distance(channels[c], shared);
    const float new_gamma = detail::folded(operation, "gamma", c, static_cast<double>(gamma[c]) * ratio);
    const float new_beta = detail::folded(operation, "beta", c, static_cast<double>(beta[c]) * ratio + moved);
    take(new_gamma, new_beta);
  };
  for (std::size_t c = 0; c < channels.size(); ++c) {
    fold(c, [](float, float) {});  // refuses before anything is written
  }
  for (std::size_t c = 0; c < channels.size(); ++c) {
    fold(c, [&](float new_gamma, float new_beta) {
      gamma[c] = new_gamma;
      beta[c] = new_beta;
    });
  }
}

/// Folds scales per channel of a layer's input into its weights and bias.
///
/// Formula:   w'[n, c] = w[n, c] * s[c] / s';  b'[n] = b[n] - sum_c w[n, c] * s[c] * (z[c] - z')
/// Shapes:    w N x C, a column per channel, any stride; b of size N; they are replaced.
/// Exactness: for the same codes q, sum_c w'[n, c] * s' * (q[c] - z') + b'[n] is the real number that
///            sum_c w[n, c] * s[c] * (q[c] - z[c]) + b[n] was. w' and b' are computed in double and rounded to float
///            once; for scales whose ratios are powers of two, w' is exact.
/// Errors:    as of fold_into_layernorm, and a shape of w that does not match.
/// Source:    RepQ-ViT (arXiv 2212.08254), scale reparameterization; docs/scope.md.
inline void fold_into_layer(std::span<const affine_scale> channels, const affine_scale& shared,
                            matrix_view<float> weights, std::span<float> bias) {
  constexpr const char* operation = "fold_into_layer";
  require_shape(operation, "weights", weights, weights.rows, std::ssize(channels));
  require_equal(operation, "size of bias", std::ssize(bias), weights.rows);
  detail::require_foldable(operation, channels, shared);
  const auto weight = [&](index_t n, std::size_t c) {
    const double step = static_cast<double>(channels[c].scale);
    return static_cast<double>(weights(n, static_cast<index_t>(c))) * step;  // exact: 48 bits
  };
  const auto folded_weight = [&](index_t n, std::size_t c) {
    return detail::folded(operation, "weights", c, weight(n, c) / static_cast<double>(shared.scale));
  };
  const auto folded_bias = [&](index_t n) {
    const auto row = static_cast<std::size_t>(n);
    double sum = static_cast<double>(bias[row]);
    for (std::size_t c = 0; c < channels.size(); ++c) {
      sum -= weight(n, c) * detail::zero_point_distance(channels[c], shared);
    }
    return detail::folded(operation, "bias", row, sum);
  };
  for (index_t n = 0; n < weights.rows; ++n) {
    folded_bias(n);  // refuses before anything is written
    for (std::size_t c = 0; c < channels.size(); ++c) {
      folded_weight(n, c);
    }
  }
  for (index_t n = 0; n < weights.rows; ++n) {
    bias[static_cast<std::size_t>(n)] = folded_bias(n);
    for (std::size_t c = 0; c < channels.size(); ++c) {
      weights(n, static_cast<index_t>(c)) = folded_weight(n, c);
    }
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
