#pragma once

#include "intact/build/recipe.hpp"
#include "intact/c/intact.h"
#include "intact/c/status.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {

static_assert(static_cast<int>(attention_kind::log2_of_sum) == INTACT_LOG2_OF_SUM &&
                  static_cast<int>(attention_kind::log2_of_max) == INTACT_LOG2_OF_MAX &&
                  static_cast<int>(attention_kind::weights) == INTACT_WEIGHTS &&
                  static_cast<int>(attention_kind::weight_codes) == INTACT_WEIGHT_CODES &&
                  static_cast<int>(attention_code::u8_masked) == INTACT_CODE_U8_MASKED &&
                  static_cast<int>(attention_code::u4_clipped) == INTACT_CODE_U4_CLIPPED &&
                  static_cast<int>(attention_code::u8_full) == INTACT_CODE_U8_FULL &&
                  static_cast<int>(log2_rounding::round_ratio) == INTACT_ROUND_RATIO &&
                  static_cast<int>(log2_rounding::round_log) == INTACT_ROUND_LOG &&
                  static_cast<int>(exponential_kind::i_exp) == INTACT_I_EXP &&
                  static_cast<int>(exponential_kind::exact) == INTACT_EXACT_EXP,
              "the C interface has the numbers of the library's enumerations");

/// A recipe of the C interface as the library's.
inline quantization_recipe recipe_of(const char* function, const intact_recipe* recipe) {
  const intact_recipe& from = object_at({function, "recipe"}, recipe);
  require_choice({function, "attention"}, from.attention, INTACT_WEIGHT_CODES);
  require_choice({function, "probabilities"}, from.probabilities, INTACT_CODE_U8_FULL);
  require_choice({function, "exponential"}, from.exponential, INTACT_EXACT_EXP);
  require_choice({function, "rounding"}, from.rounding, INTACT_ROUND_LOG);
  require_choice({function, "normalize_rows"}, from.normalize_rows, 1);
  require_choice({function, "s16_stream"}, from.s16_stream, 1);
  require_choice({function, "pixel_codes"}, from.pixel_codes, 1);
  if (from.weight_bits != 0 && from.weight_bits != 4 && from.weight_bits != 8) [[unlikely]] {
    contract_failed("%s: weight_bits is %d; it must be 4 or 8", function, from.weight_bits);
  }
  if (from.weight_group < 0 || (from.weight_group != 0 && from.weight_bits != 4)) [[unlikely]] {
    contract_failed("%s: weight_group is %td; it must be 0, or of 4 bits at least 0", function, from.weight_group);
  }
  quantization_recipe result{.attention = static_cast<attention_kind>(from.attention),
                             .probabilities = static_cast<attention_code>(from.probabilities),
                             .exponential = static_cast<exponential_kind>(from.exponential),
                             .rounding = static_cast<log2_rounding>(from.rounding),
                             .normalize_rows = from.normalize_rows == 1,
                             .stream = from.s16_stream == 1 ? stream_codes::s16 : stream_codes::u8,
                             .pixel_codes = from.pixel_codes == 1};
  if (from.weight_bits == 4) {
    result.weights = from.weight_group == 0 ? weight_kind::s4 : weight_kind::grouped_s4;
    result.weight_group = from.weight_group == 0 ? 1 : from.weight_group;
  }
  require_recipe(result, {.normalized = "normalize_rows = 1",
                          .not_normalized = "normalize_rows = 0",
                          .exact = "INTACT_EXACT_EXP",
                          .round_log = "INTACT_ROUND_LOG",
                          .log2_of_sum = "INTACT_LOG2_OF_SUM",
                          .u8_full = "INTACT_CODE_U8_FULL",
                          .u8_masked = "INTACT_CODE_U8_MASKED"});
  return result;
}

}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact
