#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "intact/row_sums.hpp"
#include "intact/stage/compat.hpp"
#include "intact/types/packed_weights.hpp"

// Layers of other runtimes, as their model files describe them, to the parameters of stages that round as they do
// (stage/compat.hpp, interop/float_rounding.hpp) and to packed weights.

namespace intact {
inline namespace INTACT_UNIT {

/// A factor as the stages of compat.hpp take it: multiplier * 2^(exponent - 31).
struct fixed_point_factor {
  std::int32_t multiplier = 0;  ///< 2^30..2^31 - 1, or 0
  std::int32_t exponent = 0;    ///< -31..30
};

/// TensorFlow Lite's QuantizeMultiplier, which is gemmlowp's, too.
///
/// Formula:   factor = q * 2^exponent, 1/2 <= q < 1; multiplier = round(q * 2^31), halves away from 0, and half of that
///            with the next exponent if it is 2^31. Factors below 2^-32 become 0.
/// Exactness: double, every step exact but for the rounding to 31 bits.
/// Errors:    a factor that is negative, not finite, or of which the exponent is above 30.
inline fixed_point_factor quantize_multiplier(double factor) {
  if (!(factor >= 0) || !std::isfinite(factor)) [[unlikely]] {
    contract_failed("intact::quantize_multiplier: factor is %g; it must be at least 0 and finite", factor);
  }
  int exponent = 0;
  const double q = std::frexp(factor, &exponent);
  std::int64_t multiplier = std::llround(std::ldexp(q, 31));
  if (multiplier == std::int64_t{1} << 31) {
    multiplier /= 2;
    ++exponent;
  }
  if (multiplier == 0 || exponent < -31) {
    return {};
  }
  require_at_most("quantize_multiplier", "exponent of the factor", exponent, 30);
  return {.multiplier = static_cast<std::int32_t>(multiplier), .exponent = exponent};
}

/// Factors from here on are 2^30 with 31 leading bits.
inline constexpr double fixed_point_factor_limit = 1073741823.75;

/// Where the real factor of an output channel, input scale * weight scale / output scale, is rounded.
enum class factor_rule {
  tflite_per_channel,  ///< double(input) * double(weight) / double(output); then quantize_multiplier
  tflite_per_tensor,   ///< double(input * weight), the product rounded to float32, / double(output); then the same
  float32,             ///< ONNX and PyTorch: input * weight / output, rounded to float32 after each operation
};

/// A quantized layer of another runtime. Nothing is owned.
struct compat_layer_spec {
  affine_scale input;                       ///< zero_point: -128..255
  affine_scale output;                      ///< its zero_point is for the stage, and not looked at here
  std::span<const float> weight_scale;      ///< one for each output channel, or one
  int weight_zero_point = 0;                ///< -128..255
  std::span<const std::int32_t> bias = {};  ///< one for each channel, in units of input scale * weight scale; or none
};

namespace detail {

inline void require_scale_of_layer(const char* argument, float scale) {
  if (!(scale > 0) || !std::isfinite(scale)) [[unlikely]] {
    contract_failed("intact::compat_layer: %s is %g; it must be above 0 and finite", argument,
                    static_cast<double>(scale));
  }
}

/// The factor of a channel before it becomes a multiplier and an exponent, and its float32 form.
inline double factor_of_channel(factor_rule rule, float input, float weight, float output, float& rounded) {
  const float product = input * weight;
  rounded = product / output;
  switch (rule) {
    case factor_rule::tflite_per_channel:
      return static_cast<double>(input) * static_cast<double>(weight) / static_cast<double>(output);
    case factor_rule::tflite_per_tensor:
      return static_cast<double>(product) / static_cast<double>(output);
    default:
      return static_cast<double>(rounded);  // exact: it has 24 bits
  }
}

/// Checks the numbers of an output channel: its weight scale, its bias with all corrections, its factor.
inline void require_channel_of_layer(index_t channel, float weight_scale, std::int64_t bias, double factor) {
  if (!(weight_scale > 0) || !std::isfinite(weight_scale)) [[unlikely]] {
    contract_failed("intact::compat_layer: weight_scale of channel %td is %g; it must be above 0 and finite", channel,
                    static_cast<double>(weight_scale));
  }
  if (bias != static_cast<std::int32_t>(bias)) [[unlikely]] {
    contract_failed(
        "intact::compat_layer: bias of channel %td, less input.zero_point times the sum of its weights, is "
        "%lld; it must fit 32 bits",
        channel, static_cast<long long>(bias));
  }
  if (!(factor < fixed_point_factor_limit)) [[unlikely]] {
    contract_failed(
        "intact::compat_layer: input.scale * weight_scale / output.scale of channel %td is %g; it must be "
        "below 2^30",
        channel, factor);
  }
}

}  // namespace detail

/// Parameters and packed weights of a layer of another runtime. It owns them; they stay valid when it is moved.
///
/// Formula:   with w' = w - 128 for u8 weights and w' = w for s8 ones, and their zero point zw' likewise,
///                sum_k (a - za) * (w - zw) + bias = sum_k a * w' - zw' * sum_k a + bias',
///                bias'[n] = bias[n] - za * sum_k (w'[n, k] - zw')
///            weights() is w', scale().bias is bias', and row_factor() is -zw'. Where that is not 0, the stage is a
///            row_corrected one with row_sums(a, row_factor()).
/// Shapes:    weights N x K, one row for each output channel; scales N or 1; bias N or 0.
/// Exactness: integers, but for the factors, which factor_rule describes to the bit.
/// Errors:    sizes that do not match, K over gemm's limit or, where row_factor() is not 0, row_sums', scales that are
///            not above 0 and finite, zero points beyond the type of the codes, a factor of 2^30 or more, a bias'
///            beyond int32.
/// Source:    docs/numerics.md, section 14.
class compat_layer {
 public:
  /// Weights are s8 or u8; `rule` tells where the factors are rounded.
  template <class W>
  compat_layer(const compat_layer_spec& spec, matrix_view<const W> weights, factor_rule rule) {
    static_assert(std::is_same_v<W, std::int8_t> || std::is_same_v<W, std::uint8_t>, "weights are s8 or u8");
    constexpr int recentering = std::is_unsigned_v<W> ? 128 : 0;
    require_view("compat_layer", "weights", weights);
    require_between("compat_layer", "input.zero_point", spec.input.zero_point, -128, 255);
    require_between("compat_layer", "weight_zero_point", spec.weight_zero_point, std::numeric_limits<W>::min(),
                    std::numeric_limits<W>::max());
    if (std::ssize(spec.weight_scale) != 1) {
      require_equal("compat_layer", "size of weight_scale", std::ssize(spec.weight_scale), weights.rows);
    }
    if (!spec.bias.empty()) {
      require_equal("compat_layer", "size of bias", std::ssize(spec.bias), weights.rows);
    }
    detail::require_scale_of_layer("input.scale", spec.input.scale);
    detail::require_scale_of_layer("output.scale", spec.output.scale);
    row_factor_ = recentering - spec.weight_zero_point;
    require_at_most("compat_layer", "columns of weights", weights.columns,
                    row_factor_ == 0 ? gemm_max_depth_u8_s8 : row_sums_max_columns);
    const auto channels = static_cast<std::size_t>(weights.rows);
    std::vector<std::int8_t> codes(channels * static_cast<std::size_t>(weights.columns));
    for (index_t n = 0; n < weights.rows; ++n) {
      const auto channel = static_cast<std::size_t>(n);
      const float weight_scale = spec.weight_scale[spec.weight_scale.size() == 1 ? 0 : channel];
      std::int64_t sum = 0;
      for (index_t k = 0; k < weights.columns; ++k) {
        const int code = weights(n, k) - recentering;
        codes[static_cast<std::size_t>(n * weights.columns + k)] = static_cast<std::int8_t>(code);
        sum += code + row_factor_;
      }
      const std::int64_t corrected = (spec.bias.empty() ? 0 : spec.bias[channel]) - spec.input.zero_point * sum;
      float rounded = 0;
      const double real = detail::factor_of_channel(rule, spec.input.scale, weight_scale, spec.output.scale, rounded);
      detail::require_channel_of_layer(n, weight_scale, corrected, real);
      const fixed_point_factor factor = quantize_multiplier(real);
      bias_.push_back(static_cast<std::int32_t>(corrected));
      multiplier_.push_back(factor.multiplier);
      exponent_.push_back(factor.exponent);
      factor_.push_back(rounded);
    }
    memory_.resize((static_cast<std::size_t>(packed_weights_bytes<std::int8_t>(weights.rows, weights.columns)) +
                    sizeof(cache_line) - 1) /
                   sizeof(cache_line));
    weights_ = pack_weights(matrix_view<const std::int8_t>(codes.data(), weights.rows, weights.columns),
                            std::as_writable_bytes(std::span(memory_)));
  }
  /// Moves; views stay valid.
  compat_layer(compat_layer&&) = default;
  /// Moves; views stay valid.
  compat_layer& operator=(compat_layer&&) = default;

  /// For the stages of compat.hpp; `zero_point` is the output's.
  compat_scale scale(int zero_point) const {
    return {.bias = bias_, .multiplier = multiplier_, .exponent = exponent_, .zero_point = zero_point};
  }

  /// In units of the accumulator, with the input's zero point in it.
  std::span<const std::int32_t> bias() const { return bias_; }
  /// The factors in float32, for interop/float_rounding.hpp. By factor_rule::float32 they equal those of scale().
  std::span<const float> factors() const { return factor_; }
  /// Valid as long as this object lives.
  const packed_weights<std::int8_t>& weights() const { return weights_; }
  /// For row_sums; 0 if rows need no correction.
  int row_factor() const { return row_factor_; }

 private:
  struct alignas(packed_weights_alignment) cache_line {
    std::byte bytes[packed_weights_alignment];
  };

  std::vector<std::int32_t> bias_, multiplier_, exponent_;
  std::vector<float> factor_;
  std::vector<cache_line> memory_;
  packed_weights<std::int8_t> weights_;
  int row_factor_ = 0;
};

/// The codes of a fused activation, as TensorFlow Lite computes them: low and high of a stage.
///
/// Formula:   low = max(codes.low, zp + round(smallest / s)), high = min(codes.high, zp + round(largest / s)), the
///            quotient in float32, halves away from 0. ReLU: 0 and infinity; ReLU6: 0 and 6; none: -infinity, infinity.
/// Errors:    a scale that is not above 0 and finite, a zero point that is no code, NaN.
inline code_range fused_activation_codes(const affine_scale& output, float smallest, float largest,
                                         const code_range& codes) {
  detail::require_affine_scale("fused_activation_codes", output, codes);
  if (!(smallest <= largest)) [[unlikely]] {
    contract_failed("intact::fused_activation_codes: the range is %g to %g; it must not be empty",
                    static_cast<double>(smallest), static_cast<double>(largest));
  }
  const auto code_of = [&](float x) {
    const float code = std::round(x / output.scale);
    const float reach = static_cast<float>(1 << 24);  // beyond all codes of 16 bits
    return std::clamp(output.zero_point + static_cast<int>(std::clamp(code, -reach, reach)), codes.low, codes.high);
  };
  return {code_of(smallest), code_of(largest), codes.symmetric};
}

}  // namespace INTACT_UNIT
}  // namespace intact
