#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "intact/build/table.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/reference/log_sqrt2_matmul.hpp"

// Builders for log-sqrt2 attention codes. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// Log-sqrt2 codes relative to the maximum, for max_softmax: round(2 * d * s / ln 2). Beyond the last code they become,
/// with attention_code::u8_masked, 32, which has weight 0, and with attention_code::u4_clipped, whose codes have 4
/// bits, 15.
/// Errors: a scale that is not above 0 and finite.
/// Source: RepQ-ViT (arXiv 2212.08254), section 3.3.
template <attention_code Format>
exp_values<std::uint8_t> log_sqrt2_code_table(double scale) {
  static_assert(Format != attention_code::u8_full, "log-sqrt2 codes have 4 or 5 bits");
  detail::require_exp_scale(scale, "log_sqrt2_code_table");
  constexpr int largest = Format == attention_code::u4_clipped ? u4::max : log_sqrt2_largest_code;
  constexpr int beyond = Format == attention_code::u4_clipped ? u4::max : log_sqrt2_largest_code + 1;
  exp_values<std::uint8_t> table;
  for (std::size_t d = 0; d < table.size(); ++d) {
    const double code = std::rint(2 * static_cast<double>(d) * scale / std::log(2.0));
    table[d] = static_cast<std::uint8_t>(code > largest ? beyond : static_cast<int>(code));
  }
  return table;
}

/// The scale of log_sqrt2_matmul for the ratio s_v / s_y, times the scale of the probabilities if they have one.
///
/// Formula:   even_multiplier = round(ratio * 2^(17 + shift)), with the largest shift up to 22 for which it is below
///            2^30; odd_multiplier = round(ratio * sqrt(1/2) * 2^(17 + shift)); offset = (zp_y + 1/2) * 2^(32 + shift)
/// Exactness: a multiplier is within half a unit of its real value: relatively 2^-30 for ratios from 2^-10 on.
/// Errors:    a ratio below 2^-39 or not below 2^13, a zero point that is no code.
inline log_sqrt2_scale build_log_sqrt2_scale(double ratio, int zero_point) {
  constexpr int max_shift = 22;  // 255.5 * 2^54 < 2^62
  if (!(ratio >= std::ldexp(1.0, -17 - max_shift)) || !(std::rint(std::ldexp(ratio, 17)) <= log_sqrt2_max_multiplier)) {
    contract_failed(
        "intact::build_log_sqrt2_scale: the ratio of scales is %g; it must be at least 2^-39 and below 2^13", ratio);
  }
  require_between("build_log_sqrt2_scale", "zero point", zero_point, 0, 255);
  int shift = max_shift;
  while (std::rint(std::ldexp(ratio, 17 + shift)) > log_sqrt2_max_multiplier) {
    --shift;
  }
  const double unit = std::ldexp(ratio, 17 + shift);
  return {.even_multiplier = static_cast<std::int32_t>(std::rint(unit)),
          .odd_multiplier = static_cast<std::int32_t>(std::rint(unit * std::sqrt(0.5))),
          .offset = (2 * std::int64_t{zero_point} + 1) << (31 + shift),
          .shift = shift};
}

}  // namespace INTACT_UNIT
}  // namespace intact
