#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/fq_vit_layernorm.hpp"
#include "intact/build/layernorm.hpp"
#include "intact/io/recorded_case.hpp"
#include "intact/layernorm.hpp"
#include "intact/reference/fq_vit_layernorm.hpp"

// LayerNorm: the library's own against infinite precision, the compatibility one against the original.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

/// A LayerNorm between recorded codes.
struct recorded_norm {
  matrix<std::uint8_t> x{0, 0};
  int zero_point = 0;
  std::vector<std::uint8_t> shift;
  std::vector<float> gamma, beta;
  double output_scale = 0;
  int output_zero_point = 0;

  intact::layernorm_spec target(int output_zero) const {
    return {.gamma = gamma,
            .beta = beta,
            .epsilon = 0,  // as the original
            .input_scale = 1,
            .input_zero_point = zero_point,
            .shift = shift,
            .output_scale = output_scale,
            .output_zero_point = output_zero};
  }
  std::int64_t value(index_t i, index_t c) const {
    return (std::int64_t{x(i, c)} - zero_point) * (1 << shift[static_cast<std::size_t>(c)]);
  }
  /// On a row of equal values the original divides by zero.
  bool is_constant(index_t i) const {
    for (index_t c = 1; c < x.columns; ++c) {
      if (value(i, c) != value(i, 0)) {
        return false;
      }
    }
    return true;
  }
};

/// The library's LayerNorm.
inline matrix<std::uint8_t> norm_codes(const recorded_norm& norm) {
  std::vector<std::int32_t> gain(norm.gamma.size());
  std::vector<std::int64_t> bias(norm.gamma.size());
  const auto p = intact::build_layernorm(norm.target(norm.output_zero_point), gain, bias);
  matrix<std::uint8_t> y(norm.x.rows, norm.x.columns);
  intact::layernorm(norm.x.view(), p, y.view());
  return y;
}

/// The original's LayerNorm, before the zero point and the clamp.
inline matrix<std::int32_t> compatibility_codes(const recorded_norm& norm) {
  const auto built = intact::build_fq_vit_layernorm(norm.target(0));
  matrix<std::int32_t> y(norm.x.rows, norm.x.columns);
  intact::reference::fq_vit_layernorm(norm.x.view(), built.parameters(), y.view());
  return y;
}

/// Why the original's float32 code differs from that of exact arithmetic: its multiplier is rounded down next to a
/// whole number, its offset is rounded next to a tie, or its sums exceed float32's 24 bits.
inline std::string norm_reason(const recorded_norm& norm, index_t i, index_t c) {
  long double sum = 0, squares = 0;
  for (index_t k = 0; k < norm.x.columns; ++k) {
    const auto x = static_cast<long double>(norm.value(i, k));
    sum += x;
    squares += x * x;
  }
  const auto channels = static_cast<long double>(norm.x.columns);
  const long double variance = channels * squares - sum * sum, deviation = std::sqrt(variance);
  const long double scale = static_cast<long double>(norm.output_scale);
  const long double gain = static_cast<long double>(norm.gamma[static_cast<std::size_t>(c)]) / scale;
  const long double bias = static_cast<long double>(norm.beta[static_cast<std::size_t>(c)]) / scale;
  const long double a = channels * std::fabs(gain) / deviation;
  const long double power = a == 0 ? 31 : std::clamp(7 - std::floor(std::log2(a)), 0.0L, 31.0L);
  const long double multiplier = a * std::exp2(power);
  const long double offset = (bias - sum * gain / deviation) * std::exp2(power);
  // Roundings of the mean, the deviation and the quotients; the variance, a difference, magnifies those of its parts.
  const long double relative = 8 * float32_rounding * (1 + channels * squares / variance);
  const long double offset_error = relative * (std::fabs(bias) + std::fabs(sum * gain / deviation)) * std::exp2(power);
  const long double to_whole = std::fabs(multiplier - std::rint(multiplier));
  const long double to_tie = std::fabs(offset - std::floor(offset) - 0.5L);
  char text[160] = "";
  if (to_whole <= relative * multiplier) {
    std::snprintf(text, sizeof text, "the multiplier before it is rounded down is %.6Lf, %.1Le from a whole number",
                  multiplier, to_whole);
  } else if (to_tie <= offset_error) {
    std::snprintf(text, sizeof text, "the offset before it is rounded is %.6Lf, %.1Le from a tie", offset, to_tie);
  } else if (std::fabs(offset) + 255 * std::fabs(static_cast<long double>(norm.value(i, c))) >= 0x1p24L) {
    std::snprintf(text, sizeof text, "multiplier * x + offset needs more than the 24 bits of float32");
  }
  return text;
}

/// Compares the compatibility LayerNorm with codes before the zero point; rows of equal values are left out.
inline tensor_comparison compare_compatibility(const recorded_case& file, const recorded_norm& norm,
                                               const std::string& tensor, const char* operation, claim must) {
  const matrix<std::int32_t> y = compatibility_codes(norm);
  tensor_comparison result = file.compare(tensor, operation, must, y.values.size());
  const std::vector<std::int64_t> recorded = file.integers(tensor);
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns && !norm.is_constant(i); ++c) {
      const auto at = static_cast<std::size_t>(i * y.columns + c);
      result.compare<std::int64_t>(at, y(i, c), recorded[at], [&] { return norm_reason(norm, i, c); });
    }
  }
  return result;
}

/// Compares the library's LayerNorm with the original's codes, to which zero point and clamp may be yet to come.
inline tensor_comparison compare_norm(const recorded_case& file, const recorded_norm& norm, const std::string& tensor) {
  const matrix<std::uint8_t> y = norm_codes(norm);
  tensor_comparison result = file.compare(tensor, "LayerNorm against the original's", claim::reported, y.values.size());
  const std::vector<std::int64_t> recorded = file.integers(tensor);
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns && !norm.is_constant(i); ++c) {
      const auto at = static_cast<std::size_t>(i * y.columns + c);
      const std::int64_t code = std::clamp<std::int64_t>(recorded[at], -255, 255);
      const std::int64_t expected = std::clamp<std::int64_t>(code + norm.output_zero_point, 0, 255);
      result.compare<std::int64_t>(at, y(i, c), expected);
    }
  }
  return result;
}

/// Compares the library's LayerNorm with recorded real numbers, in units of the output and without its zero point.
inline tensor_comparison compare_ideal(const recorded_case& file, const recorded_norm& norm) {
  const matrix<std::uint8_t> y = norm_codes(norm);
  tensor_comparison result =
      file.compare("ideal", "LayerNorm against infinite precision", claim::within_one, y.values.size());
  const std::vector<double> ideal = file.doubles("ideal");
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns && !norm.is_constant(i); ++c) {
      const auto at = static_cast<std::size_t>(i * y.columns + c);
      if (!std::isfinite(ideal[at])) {
        file.fail("ideal is not finite at " + std::to_string(at) + " of its memory, in a row that is not constant");
      }
      const double expected = std::clamp(std::rint(ideal[at] + norm.output_zero_point), 0.0, 255.0);
      result.compare(at, static_cast<std::int64_t>(y(i, c)), static_cast<std::int64_t>(expected));
    }
  }
  return result;
}

/// A LayerNorm recorded by itself.
inline void verify_norm(const recorded_case& file, case_report& report) {
  recorded_norm norm;
  norm.x = file.codes<std::uint8_t>("codes");
  const auto channels = static_cast<std::size_t>(norm.x.columns);
  norm.zero_point = static_cast<int>(file.whole_number("in_zero_point", 0, 255));
  norm.gamma = file.floats("weight", channels);
  norm.beta = file.floats("bias", channels);
  norm.output_scale = file.number("out_scale");
  norm.output_zero_point = static_cast<int>(file.whole_number("out_zero_point", 0, 255));
  norm.shift.assign(channels, 0);
  if (file.has("shift_mask")) {
    const std::vector<std::int64_t> factors = file.integers("shift_mask", channels);
    for (std::size_t c = 0; c < channels; ++c) {
      if (factors[c] != 1 && factors[c] != 2 && factors[c] != 4 && factors[c] != 8) {
        file.fail("shift_mask has the factor " + std::to_string(factors[c]) + "; it must be 1, 2, 4 or 8");
      }
      norm.shift[c] = static_cast<std::uint8_t>(std::ilogb(static_cast<double>(factors[c])));
    }
  }
  if (file.has("ideal")) {
    report.add(compare_ideal(file, norm));
  }
  if (file.has("out_exact8")) {
    report.add(compare_compatibility(file, norm, "out_exact8", "compatibility LayerNorm against exact arithmetic",
                                     claim::exact));
  }
  if (file.has("out_codes")) {
    report.add(compare_compatibility(file, norm, "out_codes", "compatibility LayerNorm against the original's",
                                     claim::bounded));
    report.add(compare_norm(file, norm, "out_codes"));
  }
}

/// A LayerNorm inside a model, of codes x of this quantizer, to the quantizer of the name `output`.
inline void verify_norm(const recorded_case& file, const std::string& name, matrix<std::uint8_t> x, const quantizer& in,
                        const std::string& output, case_report& report) {
  recorded_norm norm;
  norm.x = std::move(x);
  const auto channels = static_cast<std::size_t>(norm.x.columns);
  norm.zero_point = in.zero_point;
  norm.shift = shifts_of(file, in, norm.x.columns);
  norm.gamma = file.floats(name + "__weight", channels);
  norm.beta = file.floats(name + "__bias", channels);
  norm.output_scale = file.tensor_scale(output);
  norm.output_zero_point = file.quantizer_of(output).zero_point;
  const std::string codes = name + "__out_codes";
  report.add(
      compare_compatibility(file, norm, codes, "compatibility LayerNorm against the original's", claim::bounded));
  report.add(compare_norm(file, norm, codes));
}

/// The same between the quantizers of these names.
inline void verify_norm(const recorded_case& file, const std::string& name, const std::string& input,
                        const std::string& output, case_report& report) {
  verify_norm(file, name, file.codes<std::uint8_t>(input + "__codes"), file.quantizer_of(input), output, report);
}

}  // namespace intact_verify
