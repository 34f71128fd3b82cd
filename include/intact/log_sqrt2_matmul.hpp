#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/reference/log_sqrt2_matmul.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/log_sqrt2_scale.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/weighted_matmul.hpp"

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

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

}  // namespace detail

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
/// Source:    RepQ-ViT (arXiv 2212.08254), section 3.3; docs/scope.md.
template <class Codes>
void log_sqrt2_matmul(Codes codes, const quantized_matrix& v, const log_sqrt2_scale& scale,
                      matrix_view<std::uint8_t> y) {
  detail::require_log_sqrt2_matmul(codes, v, y);
  require_log_sqrt2_scale("log_sqrt2_matmul", scale);
  reference::log_sqrt2_matmul(codes, v.codes, v.zero_point, scale, y);
}

/// The same with every row divided by its sum of weights, for codes relative to the row's maximum (max_softmax.hpp with
/// log_sqrt2_code_table of build/log_sqrt2.hpp).
///
/// Formula:   as of weighted_matmul.hpp with the weights round(2^(15 - code / 2)), 0 for codes above 31.
/// Shapes, units, range, errors and aliasing: as of weighted_matmul; codes in u8 or packed u4.
/// Exactness: every bit, on every target. The weight of code q is rounded by at most 2^(q/2 - 16) of its value: 0.3 %
///            at code 15.
/// Source:    RepQ-ViT, section 3.3; docs/numerics.md, section "Normalized rows".
template <class Codes>
void log_sqrt2_matmul(Codes codes, const quantized_matrix& v, const row_divisor& normalization,
                      matrix_view<std::uint8_t> y) {
  detail::require_log_sqrt2_matmul(codes, v, y);
  require_row_divisor("log_sqrt2_matmul", normalization);
  reference::log_sqrt2_matmul(codes, v.codes, v.zero_point, normalization, y);
}

}  // namespace INTACT_UNIT
}  // namespace intact
