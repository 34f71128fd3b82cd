#pragma once

#include "intact/model/vit.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Which exponential a log2 code relative to the sum comes from: I-BERT's polynomial, as FQ-ViT's, or true
/// exponentials.
enum class exponential_kind { i_exp, exact };

/// How weights are stored: s8; s4; or s4 with a power of two per row and group of columns.
enum class weight_kind { s8, s4, grouped_s4 };

/// Everything that can be chosen about the integer graph of a float model. The default is FQ-ViT's graph.
struct profile {
  attention_kind attention = attention_kind::log2_of_sum;
  tail probabilities = tail::zero;                            ///< of log2 codes
  exponential_kind exponential = exponential_kind::i_exp;     ///< of log2_of_sum
  log2_rounding rounding = log2_rounding::at_one_and_a_half;  ///< of log2_of_sum
  bool normalize_rows = false;                                ///< divide each row of attention by its sum of weights
  stream_codes stream = stream_codes::u8;                     ///< s16: class token and positions fold into an addend
  bool pixel_codes = false;  ///< pixels are codes; mean and deviation fold into weights
  weight_kind weights = weight_kind::s8;
  index weight_group = 32;  ///< columns per power of two of grouped_s4
};

/// FQ-ViT as published: 8-bit weights and activations, 4-bit attention.
inline constexpr profile paper_profile{};

/// FQ-ViT with 8-bit attention codes.
inline constexpr profile paper_profile_888{.probabilities = tail::wide};

/// The same kernels with less error: log2 codes relative to the maximum, normalized rows, an s16 residual stream that
/// branches add to without 8-bit codes in between, pixels as codes.
inline constexpr profile precise_profile{.attention = attention_kind::log2_of_max,
                                         .exponential = exponential_kind::exact,
                                         .rounding = log2_rounding::at_square_root_of_2,
                                         .normalize_rows = true,
                                         .stream = stream_codes::s16,
                                         .pixel_codes = true};

/// The precise profile with u8 attention weights instead of 4-bit codes.
inline constexpr profile precise_profile_888 = [] {
  profile p = precise_profile;
  p.attention = attention_kind::weights;
  return p;
}();

/// Refuses combinations that make no sense, in a sentence.
inline void require_profile(const profile& p) {
  const auto refuse = [](bool refused, const char* sentence) {
    if (refused) [[unlikely]] {
      contract_failed("intact::profile: %s", sentence);
    }
  };
  const bool relative_to_sum = p.attention == attention_kind::log2_of_sum;
  refuse(!relative_to_sum && !p.normalize_rows,
         "attention relative to the maximum does not sum to 1; it needs normalize_rows");
  refuse(!relative_to_sum && p.exponential == exponential_kind::i_exp,
         "attention relative to the maximum is a table of true exponentials; choose exponential_kind::exact");
  refuse(!relative_to_sum && p.rounding == log2_rounding::at_one_and_a_half,
         "attention relative to the maximum rounds to nearest; choose log2_rounding::at_square_root_of_2");
  refuse(p.probabilities == tail::wide && !relative_to_sum,
         "8-bit log2 codes (tail::wide) are relative to the sum; choose attention_kind::log2_of_sum");
  refuse(p.probabilities == tail::wide && p.normalize_rows,
         "8-bit log2 codes (tail::wide) are not normalized; their sum does not fit 32 bits");
  refuse(p.attention == attention_kind::weights && p.probabilities != tail::zero,
         "u8 attention weights have no tail; leave probabilities at tail::zero");
  refuse(p.weights == weight_kind::grouped_s4 && p.weight_group < 1, "weight_group must be at least 1");
}

}  // namespace INTACT_UNIT
}  // namespace intact
