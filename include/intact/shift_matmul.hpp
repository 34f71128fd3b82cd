#pragma once

#include <cstdint>

#include "intact/arith/output_stage.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/types/activations.hpp"
#include "intact/weighted_matmul.hpp"

namespace intact::inline INTACT_ABI {

/// Most keys of a row. Codes that log_softmax wrote stand for probabilities whose sum is below 2.25, so that 4-bit
/// accumulators stay below 255 * 2.25 * 2^15 < 2^25 for any number of keys, and 8-bit ones below 2^54. tail::clip adds
/// up to 2^-15 for every further key: 82,000 keys reach 2.25 + 2.5, still below 2^31 / (255 * 2^15) = 257.
inline constexpr index shift_matmul_max_keys = 82000;

namespace detail {

/// Whether a stage takes 64-bit accumulators without narrowing them.
template <class Stage>
concept takes_64_bits = requires(const Stage& stage, std::int64_t accumulator) {
  stage({accumulator}, index{});
};

}  // namespace detail

/// Attention times V by shifts: log2 codes are exponents, so that a product is a shift.
///
/// Formula:   y[i, c] = stage(sum_j (v[j, c] - zp) << (F - code[i, j]), c); F = 15 for 4-bit codes (tail::zero,
///            tail::clip), 44 for 8-bit codes (tail::wide). The zero level and codes above F contribute 0.
/// Shapes:    codes Tq x Tk, v Tk x C, y Tq x C; row-major, any strides, any alignment; sizes may be 0.
/// Units:     accumulators carry s_v * 2^-F; the stage's scale s_v / s_y * 2^-15.
/// Range:     Tk <= 82000; zero point 0..255; codes as log_softmax writes them (each row's sum of 2^-code below 257
///            suffices for int32). 4-bit codes accumulate in int32; 8-bit codes in int64, with requantize_wide.
/// Exactness: every bit, on every target.
/// Errors:    shapes that do not match, too many keys, a zero point out of range: before anything is written.
/// Aliasing:  y must not overlap codes or v.
/// Source:    FQ-ViT, section 3.3; docs/numerics.md, section 6.
template <tail Tail, class Stage>
void shift_matmul(typename attention_codes<Tail>::const_view codes, const activations& v, const Stage& stage,
                  matrix_view<typename Stage::output> y) {
  static_assert(detail::takes_64_bits<Stage> == (Tail == tail::wide),
                "4-bit codes make 32-bit accumulators, for stages such as requantize; 8-bit codes (tail::wide) make "
                "64-bit ones, for stages such as requantize_wide");
  require_view("shift_matmul", "v", v.codes);
  require_at_most("shift_matmul", "rows of v", v.codes.rows, shift_matmul_max_keys);
  require_shape("shift_matmul", "codes", codes, codes.rows, v.codes.rows);
  require_between("shift_matmul", "zero point of v", v.zero_point, 0, 255);
  stage.require("shift_matmul", v.codes.columns);
  require_shape("shift_matmul", "y", y, codes.rows, v.codes.columns);
  reference::shift_matmul<Tail>(codes, v.codes, v.zero_point, stage, y);
}

/// The same with every row divided by its sum of weights, for codes whose 2^-code do not sum to about 1.
///
/// Formula:   as of weighted_matmul.hpp with weights 2^(15 - code), 0 for the zero level.
/// Shapes, units, range, errors and aliasing: as of weighted_matmul. 4-bit codes only; with tail::clip every key has a
///            weight of at least 1.
/// Exactness: every bit, on every target.
/// Source:    docs/numerics.md, section 6.
template <tail Tail>
void shift_matmul(typename attention_codes<Tail>::const_view codes, const activations& v,
                  const row_normalization& normalization, matrix_view<std::uint8_t> y) {
  static_assert(Tail != tail::wide, "rows of 8-bit codes are not normalized: their weights do not fit 32 bits");
  require_view("shift_matmul", "v", v.codes);
  require_at_most("shift_matmul", "rows of v", v.codes.rows, weighted_matmul_max_keys);
  require_shape("shift_matmul", "codes", codes, codes.rows, v.codes.rows);
  require_between("shift_matmul", "zero point of v", v.zero_point, 0, 255);
  require_normalization("shift_matmul", normalization);
  require_shape("shift_matmul", "y", y, codes.rows, v.codes.columns);
  reference::shift_matmul<Tail>(codes, v.codes, v.zero_point, normalization, y);
}

}  // namespace intact::inline INTACT_ABI
