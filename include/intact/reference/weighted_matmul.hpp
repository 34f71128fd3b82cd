#pragma once

#include <cstdint>

#include "intact/arith/scale.hpp"
#include "intact/types/view.hpp"
#include "intact/weighted_matmul.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[i, c] = clamp(row_scale(sum_j w[i, j])(sum_j w[i, j] * (v[j, c] - zp))), where weight(i, j) is w[i, j].
template <class Weight>
void divide_rows(Weight weight, const quantized_matrix& values, const row_divisor& normalization,
                 matrix_view<std::uint8_t> y) {
  const matrix_view<const std::uint8_t>& v = values.codes;
  for (index_t i = 0; i < y.rows; ++i) {
    std::int64_t weight_sum = 0;
    for (index_t j = 0; j < v.rows; ++j) {
      weight_sum += weight(i, j);
    }
    const row_scale scale(normalization, weight_sum);
    for (index_t c = 0; c < y.columns; ++c) {
      std::int64_t sum = 0;
      for (index_t j = 0; j < v.rows; ++j) {
        sum += weight(i, j) * (std::int64_t{v(j, c)} - values.zero_point);
      }
      y(i, c) = saturate<std::uint8_t>(scale(sum));
    }
  }
}

/// As of intact::weighted_matmul.
/// Runs on:   plain loops.
inline void weighted_matmul(matrix_view<const std::uint8_t> weights, const quantized_matrix& v,
                            const row_divisor& normalization, matrix_view<std::uint8_t> y) {
  require_weighted_matmul(weights, v, normalization, y);
  divide_rows([&](index_t i, index_t j) { return std::int64_t{weights(i, j)}; }, v, normalization, y);
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
