#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include "intact/types/attention_codes.hpp"
#include "intact/types/scale.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Log2 codes of e / sum: FQ-ViT's Log-Int-Softmax.
struct log2_of_sum {
  exp_table<std::uint64_t> exponential = {};            ///< exp at the logits' scale
  attention_code codes = attention_code::u8_masked;     ///< how codes are stored
  log2_rounding rounding = log2_rounding::round_ratio;  ///< where codes are rounded up
};

/// Log2 codes of e / max, u8_masked or u4_clipped.
struct log2_of_max {
  std::span<const std::uint8_t> table = {};          ///< a code for each distance to the maximum
  attention_code codes = attention_code::u8_masked;  ///< how codes are stored
};

/// u8 weights of e / max.
struct weights_of_max {
  std::span<const std::uint8_t> table = {};  ///< a weight for each distance to the maximum
};

/// 4-bit codes of e / max, which are indices of u8 weights.
struct weight_codes_of_max {
  std::span<const std::uint8_t> table = {};    ///< a code, 0..15, for each distance to the maximum
  std::span<const std::uint8_t> weights = {};  ///< a weight for each code, the last 0: masked keys have code 15
};

/// The softmax of attention and its product with V.
struct softmax_parameters {
  /// The kind of attention weights, with its tables.
  std::variant<log2_of_sum, log2_of_max, weights_of_max, weight_codes_of_max> weights;

  /// A scale, s_v / s_context * 2^-15; or a divisor, s_v / s_context, if each row is divided by the sum of its weights.
  /// Weights relative to the maximum take a divisor.
  std::variant<tensor_scale, row_divisor> context;

  /// The kind of log2 codes. u8 weights and their codes are in bytes, too, and have a weight 0, as
  /// attention_code::u8_masked has.
  INTACT_INLINE constexpr attention_code codes() const {
    if (const auto* const of_sum = std::get_if<log2_of_sum>(&weights)) {
      return of_sum->codes;
    }
    const auto* const of_max = std::get_if<log2_of_max>(&weights);
    return of_max == nullptr ? attention_code::u8_masked : of_max->codes;
  }
};

}  // namespace INTACT_ABI
}  // namespace intact
