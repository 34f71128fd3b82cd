#pragma once

#include <cstdint>

#include "intact/reference/weighted_matmul.hpp"
#include "intact/types/activations.hpp"

namespace intact::inline INTACT_ABI {

/// Most keys of a row: the sum of its weights, up to 2^15 each, stays below 2^31.
inline constexpr index weighted_matmul_max_keys = 65535;

/// Attention times V with u8 weights, each row divided by the sum of its weights.
///
/// Formula:   P = sum_j w[i, j];  a = sum_j w[i, j] * (v[j, c] - zp_v)
///            y[i, c] = clamp(round(a / P * s_v / s_y + zp_y)), as row_scale in arith/scale.hpp computes it; a row of
///            zeros gives zp_y.
/// Shapes:    weights Tq x Tk, v Tk x C, y Tq x C; row-major, any strides, any alignment; sizes may be 0.
/// Units:     the normalization carries s_v / s_y, below 4; the weights' unit cancels.
/// Range:     Tk <= 65535; zero points 0..255. 64-bit sums.
/// Exactness: every bit, on every target.
/// Errors:    shapes that do not match, too many keys, values out of range: before anything is written.
/// Aliasing:  y must not overlap the weights or v.
/// Source:    docs/numerics.md, section 6.
inline void weighted_matmul(matrix_view<const std::uint8_t> weights, const activations& v,
                            const row_normalization& normalization, matrix_view<std::uint8_t> y) {
  require_view("weighted_matmul", "v", v.codes);
  require_at_most("weighted_matmul", "rows of v", v.codes.rows, weighted_matmul_max_keys);
  require_shape("weighted_matmul", "weights", weights, weights.rows, v.codes.rows);
  require_between("weighted_matmul", "zero point of v", v.zero_point, 0, 255);
  require_normalization("weighted_matmul", normalization);
  require_shape("weighted_matmul", "y", y, weights.rows, v.codes.columns);
  reference::weighted_matmul([&](index i, index j) { return std::int64_t{weights(i, j)}; }, v.codes, v.zero_point,
                             normalization, y);
}

}  // namespace intact::inline INTACT_ABI
