#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "intact/arith/integer_math.hpp"
#include "intact/layernorm.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Fraction bits of the bias of a compatibility LayerNorm.
inline constexpr int fq_vit_layernorm_bias_bits = 40;

/// Parameters of a compatibility LayerNorm. Unlike in layernorm_parameters, gains have an exponent per channel, and the
/// output's zero point is left to the quantizer that follows. Built by build/fq_vit_layernorm.hpp. Owns nothing.
struct fq_vit_layernorm_parameters {
  int zero_point = 0;                        ///< of the input codes, 0..255
  std::span<const std::uint8_t> shift;       ///< per channel, 0..3
  std::span<const std::int32_t> gain;        ///< gamma[c] / s_y is gain[c] * 2^-gain_shift[c]
  std::span<const std::uint8_t> gain_shift;  ///< 0..60
  std::span<const std::int64_t> bias;        ///< round(beta[c] / s_y * 2^40)
};

}  // namespace INTACT_ABI
}  // namespace intact

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// floor(sqrt(x) * 2^29), exact, for 2^60 <= x < 2^62: 60 bits. Two bits of x, then of zeros, per bit of the root.
constexpr std::uint64_t long_square_root(std::uint64_t x) {
  std::uint64_t root = 0, rest = 0;
  for (int bit = 60; bit >= -58; bit -= 2) {
    rest = 4 * rest + (bit >= 0 ? (x >> bit) & 3 : 0);
    const std::uint64_t step = 4 * root + 1;
    root = 2 * root + (rest >= step ? 1 : 0);
    rest -= rest >= step ? step : 0;
  }
  return root;
}

/// floor(n * 2^shift / d), but at most `limit` < 2^62, for d < 2^60; one bit of the quotient per step.
constexpr std::uint64_t shifted_quotient(std::uint64_t n, int shift, std::uint64_t d, std::uint64_t limit) {
  std::uint64_t quotient = n / d, rest = n % d;
  if (shift < 0) {
    return std::min(-shift < 64 ? quotient >> -shift : 0, limit);
  }
  for (; shift > 0 && quotient <= limit; --shift) {
    rest *= 2;
    quotient = 2 * quotient + (rest >= d ? 1 : 0);
    rest -= rest >= d ? d : 0;
  }
  return std::min(quotient, limit);
}

/// x / 2^shift rounded to nearest, halves to even.
constexpr std::int64_t rounded_to_even(std::int64_t x, int shift) {
  const std::int64_t down = x >> shift;
  const std::int64_t one = std::int64_t{1} << shift;
  const std::int64_t twice_rest = 2 * (x - down * one);
  return down + (twice_rest > one || (twice_rest == one && down % 2 != 0) ? 1 : 0);
}

/// An 8-bit multiplier, rounded down, of 2^-exponent.
struct byte_multiplier {
  int mantissa = 0;   ///< 8 bits
  int exponent = 31;  ///< of the power of two
};

/// The multiplier of n * 2^shift / d: the smallest exponent of 0..31 that leaves its leading bit in the mantissa's.
constexpr byte_multiplier floored_multiplier(std::uint64_t n, int shift, std::uint64_t d) {
  byte_multiplier m{0, -1};
  do {
    ++m.exponent;
    m.mantissa = static_cast<int>(shifted_quotient(n, shift + m.exponent, d, 255));
  } while (m.mantissa < 128 && m.exponent < 31);
  return m;
}

/// The numbers that a row's values share: their sum, and C times their deviation as root * 2^(length / 2 - 60).
struct row_deviation {
  std::int64_t sum = 0;    ///< of the values
  std::uint64_t root = 0;  ///< with half_length: C times the deviation
  int half_length = 0;     ///< half the length of the variance, made even
};

/// One channel: value is (code - zero_point) << shift.
constexpr std::int32_t fq_vit_layernorm_code(std::int64_t value, index_t channels, const row_deviation& row,
                                             std::int32_t gain, int gain_shift, std::int64_t bias) {
  constexpr std::uint64_t offset_limit = std::uint64_t{1} << 61;
  const auto magnitude = [](std::int64_t x) { return static_cast<std::uint64_t>(x < 0 ? -x : x); };
  byte_multiplier m;
  std::int64_t offset = bias;
  if (row.root != 0) {
    const int shift = 60 - row.half_length - gain_shift;
    m = floored_multiplier(static_cast<std::uint64_t>(channels) * magnitude(gain), shift, row.root);
    const std::int64_t product = row.sum * gain;
    const std::int64_t mean = static_cast<std::int64_t>(
        shifted_quotient(magnitude(product), shift + fq_vit_layernorm_bias_bits, row.root, offset_limit));
    offset += product < 0 ? mean : -mean;
  }
  const std::int64_t rounded = rounded_to_even(offset, fq_vit_layernorm_bias_bits - m.exponent);
  const std::int64_t scaled = (gain < 0 ? -m.mantissa : m.mantissa) * value;
  return saturate<std::int32_t>(rounded_to_even(scaled + rounded, m.exponent));
}

/// Checks the parameters of a compatibility LayerNorm against the number of channels.
inline void require_fq_vit_layernorm(const char* operation, const fq_vit_layernorm_parameters& p, index_t channels) {
  require_at_most(operation, "number of normalized channels", channels, layernorm_max_channels);
  require_equal(operation, "size of shift", std::ssize(p.shift), channels);
  require_equal(operation, "size of gain", std::ssize(p.gain), channels);
  require_equal(operation, "size of gain_shift", std::ssize(p.gain_shift), channels);
  require_equal(operation, "size of bias", std::ssize(p.bias), channels);
  require_between(operation, "zero_point", p.zero_point, 0, 255);
  for (std::size_t c = 0; c < p.gain.size(); ++c) {
    require_at_most(operation, "shift of a channel", p.shift[c], layernorm_max_shift);
    require_at_most(operation, "gain_shift of a channel", p.gain_shift[c], 60);
    require_between(operation, "gain of a channel", p.gain[c], -((1 << 30) - 1), (1 << 30) - 1);
    require_between(operation, "bias of a channel", p.bias[c], -((std::int64_t{1} << 61) - 1),
                    (std::int64_t{1} << 61) - 1);
  }
}

/// FQ-ViT's LayerNorm as published, with its 8-bit multipliers, so that results of the original can be compared. It has
/// no fast kernel and no place in the models: layernorm.hpp is closer to the real numbers, at less cost.
///
/// Formula:   x[c] = (code[c] - zp) << shift[c];  S = sum x;  V = C * sum x^2 - S^2;  a = C * |gamma / s_y| / sqrt(V)
///            N = 7 - floor(log2 a), limited to 0..31;  M = min(floor(a * 2^N), 255)                      per row and
///            B = rne((beta / s_y - S * (gamma / s_y) / sqrt(V)) * 2^N)                                      channel
///            y[c] = rne((sign(gamma) * M * x[c] + B) / 2^N), rne rounding halves to even
///            V = 0, where the original divides by zero: y[c] = rne(beta / s_y).
/// Shapes:    x T x C, y T x C; row-major, any strides, any alignment; parameters per channel; sizes may be 0.
/// Units:     y is the code before the output's zero point is added and before it is clamped to u8: the quantizer that
///            follows does both.
/// Range:     C <= 524288, shifts 0..3, |gain| < 2^30 and |bias| < 2^61, which the builder makes of gamma and beta;
///            (mean / deviation) * gamma / s_y is limited to 2^21.
/// Exactness: every bit, on every target. Square root and quotients are rounded down to 60 and more bits, so that M is
///            that of real arithmetic on the parameters but where a * 2^N is nearer than 2^-50 to an integer.
/// Errors:    shapes that do not match, parameters out of range: before anything is written.
/// Aliasing:  y must not overlap x.
/// Runs on:   plain loops.
/// Source:    FQ-ViT, section 3.2, and its published code; docs/numerics.md, section 4.
inline void fq_vit_layernorm(matrix_view<const std::uint8_t> x, const fq_vit_layernorm_parameters& p,
                             matrix_view<std::int32_t> y) {
  require_view("fq_vit_layernorm", "x", x);
  require_shape("fq_vit_layernorm", "y", y, x.rows, x.columns);
  require_fq_vit_layernorm("fq_vit_layernorm", p, x.columns);
  for (index_t i = 0; i < x.rows; ++i) {
    const auto value = [&](index_t c) {
      return (std::int64_t{x(i, c)} - p.zero_point) << p.shift[static_cast<std::size_t>(c)];
    };
    row_deviation row;
    std::uint64_t squares = 0;
    for (index_t c = 0; c < x.columns; ++c) {
      row.sum += value(c);
      squares += static_cast<std::uint64_t>(value(c) * value(c));
    }
    const std::uint64_t variance =
        static_cast<std::uint64_t>(x.columns) * squares - static_cast<std::uint64_t>(row.sum * row.sum);
    if (variance != 0) {
      row.half_length = (bit_length(variance) + 1) / 2;
      row.root = long_square_root(variance << (62 - 2 * row.half_length));
    }
    for (index_t c = 0; c < x.columns; ++c) {
      const auto channel = static_cast<std::size_t>(c);
      y(i, c) =
          fq_vit_layernorm_code(value(c), x.columns, row, p.gain[channel], p.gain_shift[channel], p.bias[channel]);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
