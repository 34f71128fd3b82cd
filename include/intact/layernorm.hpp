#pragma once

#include <cstdint>
#include <iterator>
#include <type_traits>

#include "intact/kernel/layernorm.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Power-of-two factors of the input's channels: shifts of 0..3.
inline constexpr int layernorm_max_shift = 3;

/// The variance C * sum x^2 - (sum x)^2 + epsilon must stay below this.
inline constexpr std::uint64_t layernorm_variance_limit = 1ULL << 62;

/// Most channels: |x| <= 255 << 3, so C^2 * 2040^2 leaves room for an epsilon of as much below the limit.
inline constexpr index_t layernorm_max_channels = 1 << 19;
static_assert(std::uint64_t{layernorm_max_channels} * 2040 * layernorm_max_channels * 2040 <
              layernorm_variance_limit / 2);
/// The same for s16 codes, |x| <= 2^15 << 3.
inline constexpr index_t layernorm_max_channels_s16 = 4096;
static_assert((std::uint64_t{layernorm_max_channels_s16} << 18) * (std::uint64_t{layernorm_max_channels_s16} << 18) <
              layernorm_variance_limit / 2);
/// Largest epsilon.
inline constexpr std::uint64_t layernorm_max_epsilon = layernorm_variance_limit / 2;
/// Limits of epsilon's fraction: -1, which leaves 0 of an epsilon of 1, and 1/2.
inline constexpr std::int64_t layernorm_min_epsilon_fraction = -(std::int64_t{1} << layernorm_epsilon_fraction_bits);
/// The largest fraction.
inline constexpr std::int64_t layernorm_max_epsilon_fraction = -layernorm_min_epsilon_fraction / 2;

/// Checks LayerNorm parameters against the number of channels, for input codes of type u8 or s16.
template <class Code = std::uint8_t>
void require_layernorm(const char* operation, const layernorm_parameters& p, index_t channels) {
  static_assert(std::is_same_v<Code, std::uint8_t> || std::is_same_v<Code, std::int16_t>,
                "layernorm takes codes in u8 or s16");
  constexpr bool is_wide = std::is_same_v<Code, std::int16_t>;
  require_at_most(operation, "number of normalized channels", channels,
                  is_wide ? layernorm_max_channels_s16 : layernorm_max_channels);
  require_equal(operation, "size of shift", std::ssize(p.shift), channels);
  require_equal(operation, "size of gain", std::ssize(p.gain), channels);
  require_equal(operation, "size of bias", std::ssize(p.bias), channels);
  require_between(operation, "zero_point", p.zero_point, 0, is_wide ? 0 : 255);
  require_between(operation, "output_shift", p.output_shift, 1, 48);
  if (p.epsilon < 1 || p.epsilon > layernorm_max_epsilon) [[unlikely]] {
    contract_failed("intact::%s: epsilon is %llu; it must be in 1..%llu", operation,
                    static_cast<unsigned long long>(p.epsilon), static_cast<unsigned long long>(layernorm_max_epsilon));
  }
  require_between(operation, "epsilon_fraction", p.epsilon_fraction, layernorm_min_epsilon_fraction,
                  layernorm_max_epsilon_fraction);
  for (const std::uint8_t shift : p.shift) {
    require_at_most(operation, "shift of a channel", shift, layernorm_max_shift);
  }
}

/// Checks the arguments of layernorm.
template <class Code>
void require_layernorm(const matrix_view<const Code>& x, const layernorm_parameters& p,
                       const matrix_view<std::uint8_t>& y) {
  require_view("layernorm", "x", x);
  require_shape("layernorm", "y", y, x.rows, x.columns);
  require_layernorm<Code>("layernorm", p, x.columns);
}

namespace detail {

/// LayerNorm or RMSNorm, the arguments having been checked.
template <class Isa, class X, executor Executor>
void normalize(normalization kind, matrix_view<X> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
               const Executor& run) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  const matrix_view<const std::remove_const_t<X>> codes = x;
  if (x.columns != 0) {
    for_each_row_range(run, x.rows, rows_per_task,
                       [&](row_range rows) { kernel::layernorm<Isa>(codes, kind, p, y, rows); });
  }
}

}  // namespace detail

/// Integer layer normalization of codes with a power of two per channel, u8 or s16, to u8 codes.
///
/// Formula:   x[c] = (code[c] - zp) << shift[c];  S = sum x;  V = C * sum x^2 - S^2 + epsilon
///            f = 0, but if V < 2^20: f = 30, V = max((V << 30) + epsilon_fraction, 2^30)
///            h = bit_length(V) rounded up to even;  d = floor(sqrt(V << (62 - h)));  r = floor((2^61 - 1) / d)
///            z[c] = ((C * x[c] - S) * r + (1 << (5 + n))) >> (6 + n),  n = (h - f) / 2
///                                                                      (x - mean) / deviation, 24 fraction bits
///            y[c] = clamp((z[c] * gain[c] + bias[c]) >> output_shift)
/// Shapes:    x T x C, y T x C; row-major, any strides, any alignment; parameters per channel; sizes may be 0.
/// Units:     the input's scale cancels; gain and bias carry gamma / s_y and beta / s_y + zp_y.
/// Range:     C <= 524288 (u8) or 4096 (s16, whose zero point is 0), epsilon in 1..2^61, its fraction in -2^30..2^29,
///            shifts 0..3, |gain| < 2^30, and max |z * gain + bias| < 2^63, which the builder checks; |z| <= sqrt(C) *
///            2^24. One square root and one division per row; 64-bit products and sums, whose factors fit 32 bits up to
///            C = 4096.
/// Exactness: every bit, on every instruction set, with every executor; with built parameters within one code of
///            infinite precision, under the inequality of docs/numerics.md, which ordinary layers fulfil.
/// Errors:    shapes that do not match, a zero point, epsilon or shift out of range: before anything is written.
/// Aliasing:  u8 y may be x exactly (row by row, in place); otherwise they must not overlap.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, section 3.2 (Power-of-Two Factor); docs/numerics.md, section 4.
template <class Isa = isa::native, executor Executor = sequential>
void layernorm(matrix_view<const std::uint8_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
               const Executor& run = {}) {
  require_layernorm(x, p, y);
  detail::normalize<Isa>(normalization::layernorm, x, p, y, run);
}
/// The same of s16 codes.
template <class Isa = isa::native, executor Executor = sequential>
void layernorm(matrix_view<const std::int16_t> x, const layernorm_parameters& p, matrix_view<std::uint8_t> y,
               const Executor& run = {}) {
  require_layernorm(x, p, y);
  detail::normalize<Isa>(normalization::layernorm, x, p, y, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
