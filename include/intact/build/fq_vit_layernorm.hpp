#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "intact/build/layernorm.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/reference/fq_vit_layernorm.hpp"

// Builder of compatibility LayerNorm parameters.

namespace intact {
inline namespace INTACT_UNIT {

/// Parameters of a compatibility LayerNorm with their memory.
struct owned_fq_vit_layernorm {
  int zero_point = 0;                    ///< of the input's codes
  std::vector<std::uint8_t> shift;       ///< power of two of each channel
  std::vector<std::int32_t> gain;        ///< multiplier of each channel
  std::vector<std::uint8_t> gain_shift;  ///< shift of each gain
  std::vector<std::int64_t> bias;        ///< addend of each channel

  /// Views of the parameters, valid as long as this object is not changed.
  fq_vit_layernorm_parameters parameters() const {
    return {.zero_point = zero_point, .shift = shift, .gain = gain, .gain_shift = gain_shift, .bias = bias};
  }
};

/// Builds the parameters of FQ-ViT's LayerNorm. The target's epsilon, input scale and output zero point have no part in
/// it: the original drops the first, the second cancels, the third is the next quantizer's.
///
/// Formula:   gain_shift = the largest of 0..60 for which gain = round(gamma / s_y * 2^gain_shift) is below 2^30, 0 for
///            gamma = 0;  bias = round(beta / s_y * 2^40)
/// Errors:    sizes that differ, an output scale that is not above 0 and finite, gamma / s_y of 2^30 and more,
///            beta / s_y of 2^21 and more: each names the argument or the channel.
/// Source:    docs/numerics.md, section 4.
inline owned_fq_vit_layernorm build_fq_vit_layernorm(const layernorm_spec& target) {
  constexpr const char* operation = "build_fq_vit_layernorm";
  const index_t channels = std::ssize(target.gamma);
  require_equal(operation, "size of beta", std::ssize(target.beta), channels);
  if (!(target.output_scale > 0) || !std::isfinite(target.output_scale)) {
    contract_failed("intact::%s: the output scale is %g; it must be above 0 and finite", operation,
                    target.output_scale);
  }
  owned_fq_vit_layernorm built{.zero_point = target.input_zero_point,
                               .shift = {target.shift.begin(), target.shift.end()},
                               .gain = {},
                               .gain_shift = {},
                               .bias = {}};
  for (std::size_t c = 0; c < target.gamma.size(); ++c) {
    const double gain = static_cast<double>(target.gamma[c]) / target.output_scale;
    const double bias =
        std::ldexp(static_cast<double>(target.beta[c]) / target.output_scale, fq_vit_layernorm_bias_bits);
    if (!(std::fabs(std::rint(gain)) < std::ldexp(1.0, 30)) || !(std::fabs(bias) < std::ldexp(1.0, 61) - 1024)) {
      contract_failed(
          "intact::%s: channel %zu has gamma %g and beta %g; over the output scale %g they must be below 2^30 and 2^21",
          operation, c, static_cast<double>(target.gamma[c]), static_cast<double>(target.beta[c]), target.output_scale);
    }
    int shift = gain == 0 ? 0 : 60;
    while (std::fabs(std::rint(std::ldexp(gain, shift))) >= std::ldexp(1.0, 30)) {
      --shift;
    }
    built.gain.push_back(static_cast<std::int32_t>(std::rint(std::ldexp(gain, shift))));
    built.gain_shift.push_back(static_cast<std::uint8_t>(shift));
    built.bias.push_back(static_cast<std::int64_t>(std::rint(bias)));
  }
  reference::require_fq_vit_layernorm(operation, built.parameters(), channels);
  return built;
}

}  // namespace INTACT_UNIT
}  // namespace intact
