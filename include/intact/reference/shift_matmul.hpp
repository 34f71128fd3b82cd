#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/reference/weighted_matmul.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/attention_codes.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[i, c] = stage(sum_j (v[j, c] - zp) << (F - code[i, j]), c), F = 15 or 44; the zero level and codes above F
/// contribute 0.
template <attention_code Format = attention_code::u8_masked, class Stage>
void shift_matmul(typename attention_codes<Format>::const_view codes, const quantized_matrix& values,
                  const Stage& stage, matrix_view<typename Stage::output> y) {
  require_shift_matmul<Format>(codes, values, stage, y);
  const matrix_view<const std::uint8_t>& v = values.codes;
  constexpr int fraction_bits = attention_codes<Format>::fraction_bits;
  using accumulator = std::conditional_t<(fraction_bits > 16), std::int64_t, std::int32_t>;
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      std::int64_t sum = 0;
      for (index_t j = 0; j < v.rows; ++j) {
        const int code = codes(i, j);
        if (code <= fraction_bits) {
          sum += (std::int64_t{v(j, c)} - values.zero_point) * (std::int64_t{1} << (fraction_bits - code));
        }
      }
      y(i, c) = apply_stage(stage, static_cast<accumulator>(sum), i, c);
    }
  }
}

/// The same with every row divided by its sum of weights 2^(15 - code).
template <attention_code Format = attention_code::u8_masked>
void shift_matmul(typename attention_codes<Format>::const_view codes, const quantized_matrix& v,
                  const row_divisor& normalization, matrix_view<std::uint8_t> y) {
  require_shift_matmul<Format>(codes, v, normalization, y);
  constexpr int fraction_bits = attention_codes<Format>::fraction_bits;
  const auto weight = [&](index_t i, index_t j) {
    const int code = codes(i, j);
    return code <= fraction_bits ? std::int64_t{1} << (fraction_bits - code) : std::int64_t{0};
  };
  divide_rows(weight, v, normalization, y);
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
