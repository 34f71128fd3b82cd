#pragma once

#include <cstdint>
#include <span>

#include "intact/types/attention_codes.hpp"
#include "intact/types/scale.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The kind of attention weights: log2 codes of e / sum (FQ-ViT), log2 codes of e / max, or u8 weights of e / max.
enum class attention_kind { log2_of_sum, log2_of_max, weights };

/// The softmax of attention and its product with V.
struct softmax_parameters {
  attention_kind kind = attention_kind::log2_of_sum;
  attention_code probabilities = attention_code::u8_masked;  ///< which log2 codes
  log2_rounding rounding = log2_rounding::round_ratio;       ///< of log2_of_sum
  exp_table<std::uint64_t> exponential = {};                 ///< of log2_of_sum: exp at the logits' scale
  std::span<const std::uint8_t> table = {};                  ///< of the others: codes or weights by distance to the max
  bool normalize = false;                                    ///< divide each row by its sum; always with the others
  tensor_scale context = {};                                 ///< not normalized: s_qkv / s_context * 2^-15
  row_divisor normalization = {};                            ///< normalized: s_qkv / s_context
};

}  // namespace INTACT_ABI
}  // namespace intact
