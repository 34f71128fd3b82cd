#pragma once

#include "intact/model/vit.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// The kind of attention weights: log2 codes of e / sum (FQ-ViT), log2 codes of e / max, u8 weights of e / max, or
/// 4-bit codes of e / max that are indices of 16 u8 weights.
enum class attention_kind { log2_of_sum, log2_of_max, weights, weight_codes };

/// Which exponential a log2 code relative to the sum comes from: I-BERT's polynomial, as FQ-ViT's, or true
/// exponentials.
enum class exponential_kind { i_exp, exact };

/// How weights are stored: s8; s4; or s4 with a power of two per row and group of columns.
enum class weight_kind { s8, s4, grouped_s4 };

/// Everything that can be chosen about the integer graph of a float model. The default is FQ-ViT's graph.
struct quantization_recipe {
  attention_kind attention = attention_kind::log2_of_sum;    ///< the kind of attention weights
  attention_code probabilities = attention_code::u8_masked;  ///< of log2 codes
  exponential_kind exponential = exponential_kind::i_exp;    ///< of log2_of_sum
  log2_rounding rounding = log2_rounding::round_ratio;       ///< of log2_of_sum
  bool normalize_rows = false;                               ///< divide each row of attention by its sum of weights
  stream_codes stream = stream_codes::u8;                    ///< s16: class token and positions fold into an addend
  bool pixel_codes = false;                                  ///< pixels are codes; mean and deviation fold into weights
  weight_kind weights = weight_kind::s8;                     ///< how weights are stored
  index_t weight_group = 32;                                 ///< columns per power of two of grouped_s4
};

/// FQ-ViT as published: 8-bit weights and activations, 4-bit attention.
inline constexpr quantization_recipe paper_recipe{};

/// FQ-ViT with 8-bit attention codes.
inline constexpr quantization_recipe paper_recipe_888{.probabilities = attention_code::u8_full};

/// The same kernels with less error: log2 codes relative to the maximum, normalized rows, an s16 residual stream that
/// branches add to without 8-bit codes in between, pixels as codes.
inline constexpr quantization_recipe precise_recipe{.attention = attention_kind::log2_of_max,
                                                    .exponential = exponential_kind::exact,
                                                    .rounding = log2_rounding::round_log,
                                                    .normalize_rows = true,
                                                    .stream = stream_codes::s16,
                                                    .pixel_codes = true};

/// The precise recipe with u8 attention weights instead of 4-bit codes.
inline constexpr quantization_recipe precise_recipe_888 = [] {
  quantization_recipe p = precise_recipe;
  p.attention = attention_kind::weights;
  return p;
}();

/// The precise recipe with 4-bit codes of 16 u8 weights, which calibration can choose for each block.
inline constexpr quantization_recipe precise_recipe_weight_codes = [] {
  quantization_recipe p = precise_recipe;
  p.attention = attention_kind::weight_codes;
  return p;
}();

/// How messages name the choices of a recipe. A program whose options choose them has names of its own.
struct recipe_choice_names {
  const char* normalized = "normalize_rows = true";         ///< rows are divided by their sums
  const char* not_normalized = "normalize_rows = false";    ///< they are not
  const char* exact = "exponential_kind::exact";            ///< true exponentials
  const char* round_log = "log2_rounding::round_log";       ///< rounding of the logarithm
  const char* log2_of_sum = "attention_kind::log2_of_sum";  ///< log2 codes relative to the sum
  const char* u8_full = "attention_code::u8_full";          ///< 8-bit log2 codes
  const char* u8_masked = "attention_code::u8_masked";      ///< codes with a weight of 0
};

/// Refuses combinations of parts that exclude each other, with a message of one line.
inline void require_recipe(const quantization_recipe& p, const recipe_choice_names& names = {}) {
  const auto require = [](bool holds, const char* reason, const char* choice) {
    if (!holds) [[unlikely]] {
      contract_failed("intact::recipe: %s; choose %s", reason, choice);
    }
  };
  const bool relative_to_sum = p.attention == attention_kind::log2_of_sum;
  const bool is_wide = p.probabilities == attention_code::u8_full;
  require(relative_to_sum || p.normalize_rows, "attention relative to the maximum does not sum to 1", names.normalized);
  require(relative_to_sum || p.exponential == exponential_kind::exact,
          "attention relative to the maximum is a table of true exponentials", names.exact);
  require(relative_to_sum || p.rounding == log2_rounding::round_log,
          "attention relative to the maximum rounds to nearest", names.round_log);
  if (is_wide && !relative_to_sum) [[unlikely]] {
    contract_failed("intact::recipe: 8-bit log2 codes (%s) are relative to the sum; choose %s", names.u8_full,
                    names.log2_of_sum);
  }
  if (is_wide && p.normalize_rows) [[unlikely]] {
    contract_failed(
        "intact::recipe: 8-bit log2 codes (%s) are not normalized, as their sum does not fit 32 bits; choose %s",
        names.u8_full, names.not_normalized);
  }
  const bool has_tail = p.probabilities != attention_code::u8_masked;
  require(p.attention != attention_kind::weights || !has_tail, "u8 attention weights have no tail", names.u8_masked);
  require(p.attention != attention_kind::weight_codes || !has_tail, "codes of attention weights have no tail",
          names.u8_masked);
  require_at_least("recipe", "weight_group", p.weights == weight_kind::grouped_s4 ? p.weight_group : 1, 1);
}

}  // namespace INTACT_UNIT
}  // namespace intact
