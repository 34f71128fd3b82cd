#pragma once

#include <cstdint>

#include "intact/layernorm.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of rmsnorm.
template <class Code>
void require_rmsnorm(const matrix_view<const Code>& x, const layernorm_parameters& p,
                     const matrix_view<std::uint8_t>& y) {
  require_view("rmsnorm", "x", x);
  require_shape("rmsnorm", "y", y, x.rows, x.columns);
  require_layernorm<Code>("rmsnorm", p, x.columns);
}

/// Integer RMSNorm of codes with a power of two per channel, u8 or s16, to u8 codes: LayerNorm without the mean.
///
/// Formula:   that of layernorm with S = 0:  x[c] = (code[c] - zp) << shift[c];  V = C * sum x^2 + epsilon
///            f, h, d, r and n as there
///            z[c] = (C * x[c] * r + (1 << (5 + n))) >> (6 + n)      x / root mean square, 24 fraction bits
///            y[c] = clamp((z[c] * gain[c] + bias[c]) >> output_shift)
/// Shapes:    x T x C, y T x C; row-major, any strides, any alignment; parameters per channel; sizes may be 0.
/// Units:     the input's scale cancels; gain and bias carry gamma / s_y and beta / s_y + zp_y. build_rmsnorm
///            (build/layernorm.hpp) builds them.
/// Range:     as of layernorm; |z| <= sqrt(C) * 2^24.
/// Exactness: every bit, on every instruction set, with every executor; with built parameters within one code of
///            infinite precision, under the inequality of docs/numerics.md, which ordinary layers fulfil.
/// Errors:    shapes that do not match, a zero point, epsilon or shift out of range: before anything is written.
/// Aliasing:  u8 y may be x exactly (row by row, in place); otherwise they must not overlap.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    Root Mean Square Layer Normalization (arXiv 1910.07467); docs/numerics.md, section 4.
template <class Isa = isa::native, executor Executor = sequential>
void rmsnorm(matrix_view<const std::uint8_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
             const Executor& run = {}) {
  require_rmsnorm(x, p, y);
  detail::normalize<Isa>(normalization::rmsnorm, x, p, y, run);
}
/// The same of s16 codes.
template <class Isa = isa::native, executor Executor = sequential>
void rmsnorm(matrix_view<const std::int16_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
             const Executor& run = {}) {
  require_rmsnorm(x, p, y);
  detail::normalize<Isa>(normalization::rmsnorm, x, p, y, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
