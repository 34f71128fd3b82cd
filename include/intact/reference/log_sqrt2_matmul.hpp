#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "intact/arith/integer_math.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "intact/types/log_sqrt2_scale.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Checks the arguments of log_sqrt2_matmul.
template <class Codes>
void require_log_sqrt2_matmul(const Codes& codes, const quantized_matrix& v, const matrix_view<std::uint8_t>& y) {
  using element = std::remove_const_t<typename Codes::element>;
  static_assert(std::is_same_v<element, std::uint8_t> || std::is_same_v<element, u4>,
                "log-sqrt2 codes are u8 (matrix_view) or packed u4 (packed_view)");
  require_view("log_sqrt2_matmul", "v", v.codes);
  require_at_most("log_sqrt2_matmul", "rows of v", v.codes.rows, weighted_matmul_max_keys);
  require_shape("log_sqrt2_matmul", "codes", codes, codes.rows, v.codes.rows);
  require_between("log_sqrt2_matmul", "zero point of v", v.zero_point, 0, 255);
  require_shape("log_sqrt2_matmul", "y", y, codes.rows, v.codes.columns);
}

/// Attention times V with log-sqrt2 codes: the even codes are powers of two, the odd ones powers of two times the
/// square root of 1/2, so that the products are shifts, in one sum for each, and the root is a part of the second sum's
/// scale.
///
/// Formula:   E = sum over j with code[i, j] = 2k of (v[j, c] - zp) << (15 - k);  O = the same with code[i, j] = 2k + 1
///            y[i, c] = clamp((E * even_multiplier + O * odd_multiplier + offset) >> (32 + shift)), k in 0..15. Codes
///            above 31 contribute 0.
/// Shapes:    codes Tq x Tk (u8 or packed u4), v Tk x C, y Tq x C; row-major, any strides, any alignment; sizes may be
///            0.
/// Units:     E and O carry s_v * 2^-15 and s_v * 2^-15 * sqrt(1/2); the scale is s_v / s_y * 2^-15, times the scale
///            of the probabilities if they have one.
/// Range:     Tk <= 65535; zero point 0..255; the 2^-k of a row's even codes, and those of its odd ones, sum to less
///            than 257, as those of probabilities do: E and O then fit int32.
/// Exactness: every bit, on every target. Halves round up.
/// Errors:    shapes that do not match, too many keys, a zero point or a scale out of range: before anything is
///            written.
/// Aliasing:  y must not overlap codes or v.
/// Runs on:   plain loops.
/// Source:    RepQ-ViT (arXiv 2212.08254), section 3.3; docs/scope.md.
template <class Codes>
void log_sqrt2_matmul(Codes codes, const quantized_matrix& values, const log_sqrt2_scale& scale,
                      matrix_view<std::uint8_t> y) {
  require_log_sqrt2_matmul(codes, values, y);
  require_log_sqrt2_scale("log_sqrt2_matmul", scale);
  const matrix_view<const std::uint8_t>& v = values.codes;
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      std::int64_t sums[2] = {0, 0};
      for (index_t j = 0; j < v.rows; ++j) {
        const int code = codes(i, j);
        if (code <= log_sqrt2_largest_code) {
          sums[code % 2] += (std::int64_t{v(j, c)} - values.zero_point) * (std::int64_t{1} << (15 - code / 2));
        }
      }
      const auto even = static_cast<std::int32_t>(sums[0]), odd = static_cast<std::int32_t>(sums[1]);
      const std::int64_t scaled =
          std::int64_t{even} * scale.even_multiplier + std::int64_t{odd} * scale.odd_multiplier + scale.offset;
      y(i, c) = saturate<std::uint8_t>(scaled >> (32 + scale.shift));
    }
  }
}

/// 2^(15 - q/2) rounded to nearest, for q = 0..31, and 0 for all other codes: floor(sqrt(2^(32 - q))) is twice that,
/// rounded down.
inline constexpr auto log_sqrt2_weights = [] {
  std::array<std::uint16_t, 256> weights{};
  for (int code = 0; code <= log_sqrt2_largest_code; ++code) {
    weights[static_cast<std::size_t>(code)] =
        static_cast<std::uint16_t>((integer_sqrt(std::uint64_t{1} << (32 - code)) + 1) >> 1);
  }
  return weights;
}();

/// The same with every row divided by its sum of weights, for codes relative to the row's maximum (max_softmax.hpp with
/// log_sqrt2_code_table of build/log_sqrt2.hpp).
///
/// Formula:   as of weighted_matmul.hpp with the weights round(2^(15 - code / 2)), 0 for codes above 31.
/// Shapes, units, range, errors and aliasing: as of weighted_matmul; codes in u8 or packed u4.
/// Exactness: every bit, on every target. The weight of code q is rounded by at most 2^(q/2 - 16) of its value: 0.3 %
///            at code 15.
/// Runs on:   plain loops.
/// Source:    RepQ-ViT, section 3.3; docs/numerics.md, section "Normalized rows".
template <class Codes>
void log_sqrt2_matmul(Codes codes, const quantized_matrix& v, const row_divisor& normalization,
                      matrix_view<std::uint8_t> y) {
  require_log_sqrt2_matmul(codes, v, y);
  require_row_divisor("log_sqrt2_matmul", normalization);
  const auto weight = [&](index_t i, index_t j) {
    return std::int64_t{log_sqrt2_weights[static_cast<std::size_t>(codes(i, j))]};
  };
  divide_rows(weight, v, normalization, y);
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
