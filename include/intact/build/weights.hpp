#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/types/view.hpp"

// Quantization of float tensors in float32 arithmetic, to the bit as FQ-ViT does it. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// The codes that a quantized type can take.
struct code_range {
  int low = 0;             ///< the smallest
  int high = 0;            ///< the largest
  bool symmetric = false;  ///< around 0: minmax, ema and percentile ranges then give the zero point 0
};

/// u8: 0..255.
inline constexpr code_range u8_codes{0, 255, false};
/// s8: -128..127.
inline constexpr code_range s8_codes{-128, 127, true};
/// u4: 0..15.
inline constexpr code_range u4_codes{0, 15, false};
/// s4: -8..7.
inline constexpr code_range s4_codes{-8, 7, true};

/// All values of an integer type.
template <class Code>
inline constexpr code_range codes_of{std::numeric_limits<Code>::min(), std::numeric_limits<Code>::max(),
                                     std::is_signed_v<Code>};

/// The smallest and the largest value of a tensor or a channel.
struct value_range {
  float low = 0;   ///< the smallest
  float high = 0;  ///< the largest
};

/// One scale for a tensor: the number of code k is (k - zero_point) * scale.
struct affine_scale {
  float scale = 1;     ///< the number of a step
  int zero_point = 0;  ///< the code of 0
};

/// A scale with a power of two per channel: code k of channel c is the number ((k - zero_point) << shift[c]) * scale.
struct ptf_scale {
  float scale = 1;                  ///< the number of a step of a channel with shift 0
  int zero_point = 0;               ///< the code of 0
  std::vector<std::uint8_t> shift;  ///< 0..3

  /// The scale of one channel.
  affine_scale channel(index_t c) const {
    return {scale * static_cast<float>(1 << shift[static_cast<std::size_t>(c)]), zero_point};
  }
};

/// No scale is smaller: the original's guard against ranges of length 0.
inline constexpr float smallest_scale = std::numeric_limits<float>::epsilon();

/// Refuses values that are not finite, naming the first: "intact::<operation>: <argument> has the value ...".
inline void require_finite(const char* operation, const char* argument, const matrix_view<const float>& x) {
  for (index_t i = 0; i < x.rows; ++i) {
    for (index_t j = 0; j < x.columns; ++j) {
      if (!std::isfinite(x(i, j))) [[unlikely]] {
        contract_failed("intact::%s: %s has the value %g at row %td, column %td; it must be finite", operation,
                        argument, static_cast<double>(x(i, j)), i, j);
      }
    }
  }
}

namespace detail {

inline void require_affine_scale(const char* operation, const affine_scale& scale, const code_range& codes) {
  if (!(scale.scale > 0) || !std::isfinite(scale.scale)) [[unlikely]] {
    contract_failed("intact::%s: scale is %g; it must be above 0 and finite", operation,
                    static_cast<double>(scale.scale));
  }
  require_between(operation, "zero_point", scale.zero_point, codes.low, codes.high);
}

/// Refuses codes that a type or float32 does not hold.
template <class Code>
void require_codes(const char* operation, const code_range& codes) {
  constexpr std::int64_t limit = std::int64_t{1} << 24;
  require_at_least(operation, "codes.low", codes.low, std::max<std::int64_t>(std::numeric_limits<Code>::min(), -limit));
  require_at_most(operation, "codes.high", codes.high, std::min<std::int64_t>(std::numeric_limits<Code>::max(), limit));
}

/// The scale of the original for unsigned codes, which its omse observer uses for signed ones too.
inline affine_scale asymmetric_scale(const value_range& range, const code_range& codes) {
  const float low = static_cast<float>(codes.low);
  const float high = static_cast<float>(codes.high);
  const float scale = std::max((range.high - range.low) / (high - low), smallest_scale);
  const float zero_point = low - std::nearbyint(range.low / scale);
  return {scale, static_cast<int>(std::clamp(zero_point, low, high))};
}

/// The scale of the original for signed codes.
inline affine_scale symmetric_scale(const value_range& range, const code_range& codes) {
  const float half_range = static_cast<float>(codes.high - codes.low) / 2;
  return {std::max(std::max(-range.low, range.high) / half_range, smallest_scale), 0};
}

}  // namespace detail

/// Refuses a range that has no scale: not finite, upside down, or so long that float does not hold its length.
inline void require_value_range(const char* operation, const value_range& range) {
  if (!(range.low <= range.high) || !std::isfinite(range.high - range.low)) [[unlikely]] {
    contract_failed("intact::%s: the range is %g to %g; it must be finite, not empty and of finite length", operation,
                    static_cast<double>(range.low), static_cast<double>(range.high));
  }
}

/// The scale of a range, as the minmax, ema and percentile observers of FQ-ViT choose it.
///
/// Formula:   symmetric codes: s = max(|low|, |high|) / ((codes.high - codes.low) / 2), zero point 0;
///            others: s = (high - low) / (codes.high - codes.low), zero point codes.low - rne(low / s), clamped;
///            s at least 2^-23. The range is not widened to contain 0.
/// Exactness: float32, rounded after every operation.
/// Errors:    a range that is not finite or has no finite length, codes.low >= codes.high.
/// Source:    docs/numerics.md, section 1.
inline affine_scale build_affine_scale(const value_range& range, const code_range& codes) {
  require_value_range("build_affine_scale", range);
  require_at_least("build_affine_scale", "codes.high", codes.high, std::int64_t{codes.low} + 1);
  return codes.symmetric ? detail::symmetric_scale(range, codes) : detail::asymmetric_scale(range, codes);
}

/// clamp(rne(fl(fl(x / s) + zp))) of one value, for codes of up to 24 bits. A division and an addition: nothing for a
/// compiler to contract.
/// Errors: a value and a scale of which the quotient is no number; values that are none, for example.
inline int quantize_code(float x, const affine_scale& scale, const code_range& codes) {
  const float shifted = x / scale.scale + static_cast<float>(scale.zero_point);
  if (std::isnan(shifted)) [[unlikely]] {
    contract_failed("intact::quantize_code: x is %g and scale is %g; x / scale must be a number",
                    static_cast<double>(x), static_cast<double>(scale.scale));
  }
  const float clamped = std::clamp(shifted, static_cast<float>(codes.low), static_cast<float>(codes.high));
  return static_cast<int>(std::nearbyint(clamped));
}

/// The same for all codes of a type.
template <class Code>
Code quantize_code(float x, const affine_scale& scale) {
  static_assert(sizeof(Code) <= 2, "float32 holds all codes of 8 and 16 bits, not those of 32");
  return static_cast<Code>(quantize_code(x, scale, codes_of<Code>));
}

/// fl((code - zp) * s).
inline float dequantize_code(int code, const affine_scale& scale) {
  return static_cast<float>(code - scale.zero_point) * scale.scale;
}

/// Quantizes a tensor.
///
/// Formula:   y = clamp(rne(fl(fl(x / s) + zp))), rne rounding halves to even
/// Shapes:    x and y of the same shape, any from 0.
/// Exactness: float32, rounded after every operation, in the default rounding mode.
/// Errors:    shapes that do not match, values that are not finite, a scale that is not above 0 and finite, a zero
///            point that is no code, codes that y does not hold: before anything is written.
/// Aliasing:  y must not overlap x.
/// Source:    docs/numerics.md, section 1.
template <class Code>
void quantize_codes(matrix_view<const float> x, const affine_scale& scale, matrix_view<Code> y,
                    const code_range& codes = codes_of<Code>) {
  require_view("quantize_codes", "x", x);
  require_shape("quantize_codes", "y", y, x.rows, x.columns);
  detail::require_codes<Code>("quantize_codes", codes);
  detail::require_affine_scale("quantize_codes", scale, codes);
  require_finite("quantize_codes", "x", x);
  for (index_t i = 0; i < x.rows; ++i) {
    for (index_t j = 0; j < x.columns; ++j) {
      y(i, j) = static_cast<Code>(quantize_code(x(i, j), scale, codes));
    }
  }
}

/// The same with a power of two per channel, that is, per column.
template <class Code>
void quantize_codes(matrix_view<const float> x, const ptf_scale& scale, matrix_view<Code> y,
                    const code_range& codes = codes_of<Code>) {
  require_view("quantize_codes", "x", x);
  require_shape("quantize_codes", "y", y, x.rows, x.columns);
  detail::require_codes<Code>("quantize_codes", codes);
  require_equal("quantize_codes", "size of shift", std::ssize(scale.shift), x.columns);
  for (index_t c = 0; c < x.columns; ++c) {
    require_at_most("quantize_codes", "shift", scale.shift[static_cast<std::size_t>(c)], 3);
    detail::require_affine_scale("quantize_codes", scale.channel(c), codes);
  }
  require_finite("quantize_codes", "x", x);
  for (index_t i = 0; i < x.rows; ++i) {
    for (index_t j = 0; j < x.columns; ++j) {
      y(i, j) = static_cast<Code>(quantize_code(x(i, j), scale.channel(j), codes));
    }
  }
}

/// The real numbers of codes: y = fl((code - zp) * s). Shapes, errors and aliasing as of quantize_codes.
template <class Code>
void dequantize(matrix_view<const Code> codes, const affine_scale& scale, matrix_view<float> y) {
  require_view("dequantize", "codes", codes);
  require_shape("dequantize", "y", y, codes.rows, codes.columns);
  for (index_t i = 0; i < codes.rows; ++i) {
    for (index_t j = 0; j < codes.columns; ++j) {
      y(i, j) = dequantize_code(codes(i, j), scale);
    }
  }
}

/// Weights as s8 or s4 codes, one per byte, row-major, with a scale per output channel: weight (n, k) is
/// codes[n * columns + k] * scale[n].
struct quantized_weights {
  std::vector<std::int8_t> codes;  ///< rows x columns, without gaps
  std::vector<float> scale;        ///< one per row
  index_t rows = 0;                ///< output channels
  index_t columns = 0;             ///< the inner dimension

  /// A view of the codes, valid as long as they are not changed.
  matrix_view<const std::int8_t> view() const { return {codes.data(), rows, columns}; }
};

/// Quantizes the weights of a layer, one symmetric scale per output channel, that is, per row.
///
/// Formula:   s[n] = max|w[n]| / ((2^b - 1) / 2), at least 2^-23;  code = clamp(rne(w / s[n]))
/// Arguments: codes is s8_codes or s4_codes; name is the tensor's, for messages.
/// Exactness: float32, rounded after every operation.
/// Errors:    weights that are not finite, naming the tensor and the position; codes that are not symmetric or that a
///            byte does not hold.
/// Source:    docs/numerics.md, section 1.
inline quantized_weights quantize_weights(matrix_view<const float> weights, const code_range& codes,
                                          const char* name = "weights") {
  require_view("quantize_weights", name, weights);
  require_between("quantize_weights", "codes.low", codes.low, -128, -1);
  require_between("quantize_weights", "codes.high", codes.high, 1, 127);
  require_equal("quantize_weights", "codes.symmetric", codes.symmetric, 1);
  require_finite("quantize_weights", name, weights);
  quantized_weights quantized{.codes = {}, .scale = {}, .rows = weights.rows, .columns = weights.columns};
  quantized.codes.reserve(static_cast<std::size_t>(weights.rows * weights.columns));
  quantized.scale.reserve(static_cast<std::size_t>(weights.rows));
  for (index_t n = 0; n < weights.rows; ++n) {
    value_range range;
    for (index_t k = 0; k < weights.columns; ++k) {
      range.low = std::min(range.low, weights(n, k));
      range.high = std::max(range.high, weights(n, k));
    }
    const affine_scale scale = detail::symmetric_scale(range, codes);
    for (index_t k = 0; k < weights.columns; ++k) {
      quantized.codes.push_back(static_cast<std::int8_t>(quantize_code(weights(n, k), scale, codes)));
    }
    quantized.scale.push_back(scale.scale);
  }
  return quantized;
}

/// s4 weights with a scale per output channel and a power of two per group of columns: weight (n, k) is
/// codes[n * columns + k] * 2^shift[n * groups + k / group] * scale[n].
struct grouped_weights {
  quantized_weights weights;        ///< s4 codes and scales
  std::vector<std::uint8_t> shift;  ///< rows x ceil(columns / group), 0..3
  index_t group = 1;                ///< columns that share a shift
};

namespace detail {

/// s4 codes of a group of weights for a given step, and their squared error.
struct quantized_group {
  std::vector<std::int8_t> codes;
  double error = 0;

  quantized_group(std::span<const float> weights, float scale) {
    const affine_scale step{scale, 0};
    for (const float w : weights) {
      const int code = quantize_code(w, step, s4_codes);
      const double difference = static_cast<double>(w - dequantize_code(code, step));
      error += difference * difference;
      codes.push_back(static_cast<std::int8_t>(code));
    }
  }
};

/// The codes of one row for a given channel scale: per group the shift of least squared error, the smallest on ties.
struct quantized_group_row {
  std::vector<std::int8_t> codes;
  std::vector<std::uint8_t> shift;
  double error = 0;

  quantized_group_row(std::span<const float> weights, float scale, std::size_t group) {
    for (std::size_t first = 0; first < weights.size(); first += group) {
      const auto part = weights.subspan(first, std::min(group, weights.size() - first));
      quantized_group best(part, scale);
      std::uint8_t recipe = 0;
      for (int candidate = 1; candidate <= 3; ++candidate) {
        quantized_group now(part, scale * static_cast<float>(1 << candidate));
        if (now.error < best.error) {
          best = std::move(now);
          recipe = static_cast<std::uint8_t>(candidate);
        }
      }
      codes.insert(codes.end(), best.codes.begin(), best.codes.end());
      shift.push_back(recipe);
      error += best.error;
    }
  }
};

}  // namespace detail

/// Quantizes the weights of a layer to s4 with a power of two per row and group of columns.
///
/// Formula:   per row the scale of least squared error among max|w| / 60 * (1, 1.02, 1.04, ... 2): from a largest
/// weight
///            that needs shift 3 to one that needs shift 2; the first of the best. Per group the shift of 0..3 of least
///            squared error, the smallest on ties.
/// Errors:    weights that are not finite, naming the tensor and the position; a group below 1.
/// Source:    docs/numerics.md, section 3.
inline grouped_weights quantize_grouped_weights(matrix_view<const float> weights, index_t group,
                                                const char* name = "weights") {
  require_view("quantize_grouped_weights", name, weights);
  require_at_least("quantize_grouped_weights", "group", group, 1);
  require_finite("quantize_grouped_weights", name, weights);
  grouped_weights quantized{{.codes = {}, .scale = {}, .rows = weights.rows, .columns = weights.columns}, {}, group};
  for (index_t n = 0; n < weights.rows; ++n) {
    const std::span<const float> row(weights.data + n * weights.stride, static_cast<std::size_t>(weights.columns));
    float largest = 0;
    for (const float w : row) {
      largest = std::max(largest, std::fabs(w));
    }
    const auto candidate = [&](int percent) {
      return std::max(largest / 60 * (static_cast<float>(percent) / 100), smallest_scale);
    };
    float scale = candidate(100);
    detail::quantized_group_row best(row, scale, static_cast<std::size_t>(group));
    for (int percent = 102; percent <= 200; percent += 2) {
      detail::quantized_group_row now(row, candidate(percent), static_cast<std::size_t>(group));
      if (now.error < best.error) {
        best = std::move(now);
        scale = candidate(percent);
      }
    }
    quantized.weights.codes.insert(quantized.weights.codes.end(), best.codes.begin(), best.codes.end());
    quantized.weights.scale.push_back(scale);
    quantized.shift.insert(quantized.shift.end(), best.shift.begin(), best.shift.end());
  }
  return quantized;
}

}  // namespace INTACT_UNIT
}  // namespace intact
