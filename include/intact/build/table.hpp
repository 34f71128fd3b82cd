#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "intact/activation.hpp"
#include "intact/build/activation_function.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/log_softmax.hpp"

// Builders of tables: exponentials of Log-Int-Softmax, and functions of one code. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// A value for each distance of a logit to the row's maximum.
template <class T>
using exp_values = std::array<T, softmax_distances>;

namespace detail {

inline void require_exp_scale(double scale, const char* operation) {
  if (!(scale > 0) || !std::isfinite(scale)) {
    contract_failed("intact::%s: scale is %g; it must be above 0 and finite", operation, scale);
  }
}

}  // namespace detail

/// The integers of I-BERT's polynomial exponential for logits of scale s, computed in float32 as FQ-ViT does:
/// exp(-r * s) ~ 0.358 * (r * s - 1.353)^2 + 0.344 on one octave, in units that make the coefficient of r^2 one.
struct i_exp_constants {
  std::int64_t octave = 0;  ///< X = -floor(-0.6931 / s): steps of d to halve the exponential
  std::int64_t b = 0;       ///< floor(0.96963238 / 0.35815147 / s)
  std::int64_t c = 0;       ///< floor(1 / 0.35815147 / s^2)

  /// c in double, however large.
  static double constant(float scale) {
    constexpr float constant = static_cast<float>(1.0 / 0.35815147);
    const float reciprocal_of_square = 1.0F / (scale * scale);
    return std::floor(static_cast<double>(constant * reciprocal_of_square));
  }

  /// Whether a scale has such integers.
  static bool exist(float scale) { return constant(scale) >= 1 && constant(scale) < std::ldexp(1.0, 62); }

  /// Errors: a scale that has no such integers.
  explicit i_exp_constants(float scale) {
    detail::require_exp_scale(static_cast<double>(scale), "i_exp_table");
    constexpr float linear = static_cast<float>(0.96963238 / 0.35815147);
    const float reciprocal = 1.0F / scale;
    const double exact_c = constant(scale);
    if (!exist(scale)) {
      contract_failed(
          "intact::i_exp_table: scale is %g, for which the polynomial's constant is %g; it must be at least 1 "
          "(a scale below 1.67) and below 2^62",
          static_cast<double>(scale), exact_c);
    }
    octave = -static_cast<std::int64_t>(std::floor(-0.6931F * reciprocal));
    b = static_cast<std::int64_t>(std::floor(linear * reciprocal));
    c = static_cast<std::int64_t>(exact_c);
  }

  /// The polynomial at d steps below the largest logit, shifted left by up to `octaves`.
  constexpr std::uint64_t exponential(std::int64_t d, std::int64_t octaves) const {
    const std::int64_t distance = std::min(d, octaves * octave);
    const std::int64_t halvings = distance / octave;
    const std::int64_t r = -(distance - halvings * octave);
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, r * (r + b) + c)) << (octaves - halvings);
  }
};

namespace detail {

/// How often the polynomial is doubled for rows of up to `keys` logits: 30 times as in the original, or as often as the
/// distances of 8-bit codes need; nothing if 64 bits do not hold the sum of a row.
inline std::optional<std::int64_t> i_exp_octaves(const i_exp_constants& constants, index_t keys) {
  const double limit = static_cast<double>(exp_table_limit<std::uint64_t>(keys));
  for (const std::int64_t octaves :
       {std::int64_t{30}, (softmax_distances - 1 + constants.octave - 1) / constants.octave}) {
    if (std::ldexp(static_cast<double>(constants.c), static_cast<int>(octaves)) < limit) {
      return octaves;
    }
  }
  return std::nullopt;
}

}  // namespace detail

/// Whether i_exp_table has a table.
inline bool has_i_exp_table(float scale, index_t keys) {
  return scale > 0 && i_exp_constants::exist(scale) && detail::i_exp_octaves(i_exp_constants(scale), keys).has_value();
}

/// FQ-ViT's exponential table for logits of scale s and rows of up to `keys` logits, in 64 bits.
///
/// Formula:   d' = min(d, n * X), q = floor(d' / X), r = -(d' - q * X), e[d] = max(0, r * (r + b) + c) << (n - q), n =
/// 30;
///            where e[0] would be too large for the row's sum, n = ceil(255 / X), which changes no code.
/// Range:     s below about 1.67 (c >= 1), and e[0] * max(2 * keys + 1, 6) < 2^64.
/// Exactness: the integers that the original computes before it rounds them to float32.
/// Errors:    a scale or a number of keys for which there is no such table, naming it; has_i_exp_table() tells
///            beforehand.
/// Source:    FQ-ViT, section 3.3; I-BERT, algorithm 2; docs/numerics.md, section 5.
inline exp_values<std::uint64_t> i_exp_table(float scale, index_t keys) {
  require_between("i_exp_table", "keys", keys, 0, log_softmax_max_keys);
  const i_exp_constants constants(scale);
  const std::optional<std::int64_t> octaves = detail::i_exp_octaves(constants, keys);
  if (!octaves) {
    contract_failed("intact::i_exp_table: scale is %g and there are %td keys; 64 bits do not hold the sum of a row",
                    static_cast<double>(scale), keys);
  }
  exp_values<std::uint64_t> table;
  for (std::size_t d = 0; d < table.size(); ++d) {
    table[d] = constants.exponential(static_cast<std::int64_t>(d), *octaves);
  }
  return table;
}

/// The same exponentials in 32 bits: e32 = (e + half) >> r, with the smallest r for which e32[0] * max(2 * keys + 1, 6)
/// fits 32 bits. Codes change where a probability lies near the border of two codes: docs/numerics.md, section 5.
inline exp_values<std::uint32_t> narrow_exp_table(const exp_values<std::uint64_t>& table, index_t keys) {
  require_between("narrow_exp_table", "keys", keys, 0, log_softmax_max_keys);
  int shift = 0;
  const auto narrow = [&](std::uint64_t e) { return shift == 0 ? e : ((e >> (shift - 1)) + 1) >> 1; };
  while (narrow(table[0]) > exp_table_limit<std::uint32_t>(keys)) {
    ++shift;
  }
  exp_values<std::uint32_t> narrowed;
  std::transform(table.begin(), table.end(), narrowed.begin(),
                 [&](std::uint64_t e) { return static_cast<std::uint32_t>(narrow(e)); });
  return narrowed;
}

/// True exponentials in 32 bits: e[d] = round(2^p * exp(-s * d)), p = min(29, 31 - bit_length(keys)).
/// Errors: a scale that is not above 0 and finite, keys outside 0..2^28.
inline exp_values<std::uint32_t> exact_exp_table(double scale, index_t keys) {
  require_between("exact_exp_table", "keys", keys, 0, log_softmax_max_keys);
  detail::require_exp_scale(scale, "exact_exp_table");
  const int p = std::min(29, 31 - bit_length(static_cast<std::uint64_t>(keys)));
  exp_values<std::uint32_t> table;
  for (std::size_t d = 0; d < table.size(); ++d) {
    table[d] = static_cast<std::uint32_t>(std::rint(std::ldexp(std::exp(-scale * static_cast<double>(d)), p)));
  }
  return table;
}

/// Log2 codes relative to the maximum, for max_softmax: round(d * s / ln 2); the format decides the codes above 15.
/// Errors: a scale that is not above 0 and finite.
/// Source: docs/numerics.md, section "Max-relative attention".
template <attention_code Format>
exp_values<std::uint8_t> max_relative_code_table(double scale) {
  static_assert(Format != attention_code::u8_full, "codes relative to the maximum have 4 bits");
  detail::require_exp_scale(scale, "max_relative_code_table");
  exp_values<std::uint8_t> table;
  for (std::size_t d = 0; d < table.size(); ++d) {
    const double code = std::rint(static_cast<double>(d) * scale / std::log(2.0));
    table[d] = static_cast<std::uint8_t>(
        code > attention_codes<Format>::largest ? attention_codes<Format>::below_largest : static_cast<int>(code));
  }
  return table;
}

/// u8 attention weights relative to the maximum, for max_softmax: round(255 * exp(-s * d)).
/// Errors: a scale that is not above 0 and finite.
/// Source: docs/numerics.md, section "Max-relative attention".
inline exp_values<std::uint8_t> attention_weight_table(double scale) {
  detail::require_exp_scale(scale, "attention_weight_table");
  exp_values<std::uint8_t> table;
  for (std::size_t d = 0; d < table.size(); ++d) {
    table[d] = static_cast<std::uint8_t>(std::rint(255 * std::exp(-scale * static_cast<double>(d))));
  }
  return table;
}

/// Weights of 4-bit attention codes: a weight for each code, the last 0.
using code_weight_values = std::array<std::uint8_t, attention_code_weights>;

/// Weights in steps of about 3/2 from 255 down to 1, and 0.
inline constexpr code_weight_values geometric_code_weights = {255, 174, 119, 81, 55, 38, 26, 18,
                                                              12,  8,   6,   4,  3,  2,  1,  0};

/// 4-bit attention codes relative to the maximum, for max_softmax: the code of the weight that is nearest to
/// 255 * exp(-s * d), the first of two.
/// Errors: a scale that is not above 0 and finite, a last weight that is not 0.
/// Source: docs/numerics.md, section "Max-relative attention".
inline exp_values<std::uint8_t> weight_code_table(double scale, const code_weight_values& weights) {
  detail::require_exp_scale(scale, "weight_code_table");
  require_equal("weight_code_table", "weight of code 15", weights.back(), 0);
  exp_values<std::uint8_t> table;
  for (std::size_t d = 0; d < table.size(); ++d) {
    const double weight = 255 * std::exp(-scale * static_cast<double>(d));
    const auto distance = [&](std::uint8_t other) { return std::fabs(other - weight); };
    const auto nearest = std::min_element(weights.begin(), weights.end(),
                                          [&](std::uint8_t a, std::uint8_t b) { return distance(a) < distance(b); });
    table[d] = static_cast<std::uint8_t>(nearest - weights.begin());
  }
  return table;
}

/// Scale and zero point of quantized values: the number of code k is (k - zero_point) * scale. The zero point of an
/// activation table's input may lie outside the codes.
struct code_scale {
  double scale = 1;       ///< the number of a step
  double zero_point = 0;  ///< the code of 0
};

/// A table from 12-bit codes to u8 codes, and the scale that its input codes must have.
struct activation_table {
  std::array<std::uint8_t, activation_table_size_12> codes{};  ///< one for each 12-bit code
  code_scale input;                                            ///< of the 12-bit codes
};

/// The least scale of an activation table's input: 2^-23.
inline constexpr double least_table_scale = static_cast<double>(std::numeric_limits<float>::epsilon());

/// Builds the table of a function between real numbers, for inputs from `low` to `high`.
///
/// Formula:   table[k] = clamp(round(function((k - zp) * s) / s_y) + zp_y), s = (high' - low') / 4095,
///            zp = -round(low' / s). [low', high'] is [low, high] without the ends on which the output code is
///            constant, but for one step, so that no code is spent where nothing changes. s is at least least_scale.
/// Errors:    a range that is not finite or empty or whose length is not finite, an output scale that is not above 0
///            and finite or whose zero point is no number, a function that is no number somewhere in the range.
/// Source:    docs/numerics.md, section 7.
template <class Function>
activation_table build_activation_table(Function function, double low, double high, const code_scale& output,
                                        double least_scale = least_table_scale) {
  if (!(low <= high) || !std::isfinite(high - low)) {
    contract_failed("intact::build_activation_table: the range is %g to %g; it must be finite and not empty", low,
                    high);
  }
  if (!(output.scale > 0) || !std::isfinite(output.scale) || !std::isfinite(output.zero_point)) {
    contract_failed(
        "intact::build_activation_table: the output scale is %g, its zero point %g; both must be finite, the "
        "scale above 0",
        output.scale, output.zero_point);
  }
  const auto code = [&](double x) {
    const double y = std::rint(function(x) / output.scale) + output.zero_point;
    if (std::isnan(y)) {
      contract_failed("intact::build_activation_table: the function of %g is no number", x);
    }
    return static_cast<std::uint8_t>(std::clamp(y, 0.0, 255.0));
  };
  constexpr int samples = 1 << 16;
  const auto sample = [&](int i) { return low + (high - low) * i / samples; };
  int first = 0, last = samples;
  while (first < last && code(sample(first + 1)) == code(low)) {
    ++first;
  }
  while (last > first && code(sample(last - 1)) == code(high)) {
    --last;
  }
  const bool constant = first == last;
  const double step = (sample(last) - sample(first)) / (activation_table_size_12 - 1);
  const double used_low = constant ? low : std::max(low, sample(first) - step);
  const double used_high = constant ? high : std::min(high, sample(last) + step);

  activation_table table;
  table.input.scale = std::max((used_high - used_low) / (activation_table_size_12 - 1), least_scale);
  table.input.zero_point = -std::rint(used_low / table.input.scale);
  for (std::size_t k = 0; k < table.codes.size(); ++k) {
    table.codes[k] = code((static_cast<double>(k) - table.input.zero_point) * table.input.scale);
  }
  return table;
}

}  // namespace INTACT_UNIT
}  // namespace intact
