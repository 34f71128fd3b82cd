#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "intact/config/floating_point.hpp"
#include "intact/layernorm.hpp"

// Builders of the parameters of LayerNorm and RMSNorm, into memory of the caller's. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// A float LayerNorm or RMSNorm between two quantized tensors.
struct layernorm_spec {
  std::span<const float> gamma;         ///< one per channel
  std::span<const float> beta;          ///< of RMSNorm it may be empty: all are 0
  double epsilon = 1e-6;                ///< added to the variance of real numbers
  double input_scale = 0;               ///< of a code with shift 0
  int input_zero_point = 0;             ///< of s16 codes 0
  std::span<const std::uint8_t> shift;  ///< per channel, 0..3
  double output_scale = 0;              ///< of u8 codes
  int output_zero_point = 0;            ///< of u8 codes
};

namespace detail {

/// The parameters of either, beta being of gamma's size or empty.
inline layernorm_parameters build_normalization(const char* operation, const layernorm_spec& target,
                                                std::span<std::int32_t> gain, std::span<std::int64_t> bias) {
  const index_t channels = std::ssize(target.gamma);
  require_equal(operation, "size of gain", std::ssize(gain), channels);
  require_equal(operation, "size of bias", std::ssize(bias), channels);
  require_between(operation, "output zero point", target.output_zero_point, 0, 255);
  const auto require_step = [operation](const char* name, double scale) {
    if (!(scale > 0) || !std::isfinite(scale)) {
      contract_failed("intact::%s: %s is %g; it must be above 0 and finite", operation, name, scale);
    }
  };
  require_step("input_scale", target.input_scale);
  require_step("output_scale", target.output_scale);
  const double count = static_cast<double>(channels);
  const double epsilon = count * count * target.epsilon / (target.input_scale * target.input_scale);
  if (!(target.epsilon >= 0) || !(epsilon < static_cast<double>(layernorm_max_epsilon))) {
    contract_failed("intact::%s: epsilon is %g, %g in units of the input; it must be below %g", operation,
                    target.epsilon, epsilon, static_cast<double>(layernorm_max_epsilon));
  }

  const auto beta = [&](std::size_t c) { return target.beta.empty() ? 0 : static_cast<double>(target.beta[c]); };
  double largest_gamma = 0;
  for (std::size_t c = 0; c < gain.size(); ++c) {
    if (!std::isfinite(target.gamma[c]) || !std::isfinite(beta(c))) {
      contract_failed("intact::%s: channel %zu has gamma %g and beta %g; they must be finite", operation, c,
                      static_cast<double>(target.gamma[c]), beta(c));
    }
    largest_gamma = std::max(largest_gamma, std::fabs(static_cast<double>(target.gamma[c])));
  }
  int output_shift = 48;
  while (output_shift >= 1 &&
         std::rint(std::ldexp(largest_gamma / target.output_scale, output_shift - 24)) >= std::ldexp(1.0, 30)) {
    --output_shift;
  }
  const double largest_normalized = std::ldexp(std::sqrt(count) * (1 + 1e-6), 24) + 2;
  const auto scaled_gain = [&](std::size_t c) {
    return std::rint(std::ldexp(static_cast<double>(target.gamma[c]) / target.output_scale, output_shift - 24));
  };
  const auto sum_fits = [&](std::size_t c, double channel_bias) {
    const double largest_sum = largest_normalized * std::fabs(scaled_gain(c)) + std::fabs(channel_bias);
    return largest_sum + std::ldexp(1.0, output_shift) < std::ldexp(1.0, 63);
  };
  const int steepest_shift = output_shift;
  const auto scaled_bias = [&](std::size_t c) {
    double codes = beta(c) / target.output_scale + target.output_zero_point;
    if (output_shift < steepest_shift || !sum_fits(c, std::rint(std::ldexp(codes, output_shift)))) {
      const double reach = std::sqrt(count) * std::fabs(static_cast<double>(target.gamma[c])) / target.output_scale;
      codes = std::clamp(codes, -reach - 512, reach + 512);  // beyond, all outputs are the same last code
    }
    return std::rint(std::ldexp(codes, output_shift));
  };
  const auto fits_sums = [&](std::size_t c) { return sum_fits(c, scaled_bias(c)); };
  for (std::size_t c = 0; c < gain.size(); ++c) {
    while (output_shift > 1 && !fits_sums(c)) {
      --output_shift;
    }
  }
  for (std::size_t c = 0; c < gain.size(); ++c) {
    const bool too_steep = output_shift < 1 && 2 * std::fabs(scaled_gain(c)) >= std::ldexp(1.0, 30);
    if (too_steep || !fits_sums(c)) {
      contract_failed(
          "intact::%s: channel %zu has gamma %g and beta %g; with the output scale %g 64-bit sums do not hold its "
          "values",
          operation, c, static_cast<double>(target.gamma[c]), beta(c), target.output_scale);
    }
  }

  const double whole_epsilon = std::max(1.0, std::rint(epsilon));
  const layernorm_parameters built{
      .zero_point = target.input_zero_point,
      .shift = target.shift,
      .epsilon = static_cast<std::uint64_t>(whole_epsilon),
      .gain = gain,
      .bias = bias,
      .output_shift = output_shift,
      .epsilon_fraction =
          static_cast<std::int64_t>(std::rint(std::ldexp(epsilon - whole_epsilon, layernorm_epsilon_fraction_bits)))};
  require_layernorm(operation, built, channels);
  for (std::size_t c = 0; c < gain.size(); ++c) {
    gain[c] = static_cast<std::int32_t>(scaled_gain(c));
    bias[c] = static_cast<std::int64_t>(scaled_bias(c)) + (std::int64_t{1} << (output_shift - 1));
  }
  return built;
}

}  // namespace detail

/// Builds the integer parameters of a LayerNorm.
///
/// Formula:   e = C^2 * eps / s_x^2;  epsilon = max(1, round(e));  epsilon_fraction = round((e - epsilon) * 2^30);
///            gain = round(gamma / s_y * 2^G), G the largest with |gain| < 2^30, k = 24 + G <= 48 and 64-bit sums;
///            bias = round((beta / s_y + zp_y) * 2^k) + 2^(k - 1);  output_shift = k
///            A beta that 64-bit sums do not hold is limited so far that all outputs still are the last code.
/// Arrays:    gain and bias have the size of gamma.
/// Errors:    sizes that differ, scales that are not above 0 and finite, gamma or beta that are not finite, values for
///            which 64-bit sums would not suffice: each names the argument or the channel; nothing has been written
///            then.
/// Returns:   the parameters, as views of the arrays and of target.shift.
/// Source:    docs/numerics.md, section 4.
inline layernorm_parameters build_layernorm(const layernorm_spec& target, std::span<std::int32_t> gain,
                                            std::span<std::int64_t> bias) {
  require_equal("build_layernorm", "size of beta", std::ssize(target.beta), std::ssize(target.gamma));
  return detail::build_normalization("build_layernorm", target, gain, bias);
}

/// The same integers for an RMSNorm, whose beta may be empty.
inline layernorm_parameters build_rmsnorm(const layernorm_spec& target, std::span<std::int32_t> gain,
                                          std::span<std::int64_t> bias) {
  if (!target.beta.empty()) {
    require_equal("build_rmsnorm", "size of beta", std::ssize(target.beta), std::ssize(target.gamma));
  }
  return detail::build_normalization("build_rmsnorm", target, gain, bias);
}

}  // namespace INTACT_UNIT
}  // namespace intact
