#pragma once

#include <cstdint>
#include <iterator>

#include "intact/layernorm.hpp"
#include "intact/reference/fq_vit_layernorm.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the parameters of a compatibility LayerNorm against the number of channels.
inline void require_fq_vit_layernorm(const char* operation, const fq_vit_layernorm_parameters& p, index_t channels) {
  require_at_most(operation, "number of channels of a LayerNorm", channels, layernorm_max_channels);
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
/// Source:    FQ-ViT, section 3.2, and its published code; docs/numerics.md, section 4.
inline void fq_vit_layernorm(matrix_view<const std::uint8_t> x, const fq_vit_layernorm_parameters& p,
                             matrix_view<std::int32_t> y) {
  require_view("fq_vit_layernorm", "x", x);
  require_shape("fq_vit_layernorm", "y", y, x.rows, x.columns);
  require_fq_vit_layernorm("fq_vit_layernorm", p, x.columns);
  reference::fq_vit_layernorm(x, p, y);
}

}  // namespace INTACT_UNIT
}  // namespace intact
