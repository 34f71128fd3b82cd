#pragma once

#include <cstdint>

#include "intact/stage/output_stage.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[m, n] = stage(sum_k a[m, k] * w[n, k], n). The sum fits int32 by the contract of gemm.hpp.
template <class A, class Weights, class Stage, class Out>
void gemm(matrix_view<const A> a, Weights w, const Stage& stage, matrix_view<Out> y) {
  for (index_t m = 0; m < y.rows; ++m) {
    for (index_t n = 0; n < y.columns; ++n) {
      std::int64_t sum = 0;
      for (index_t k = 0; k < a.columns; ++k) {
        sum += std::int64_t{a(m, k)} * std::int64_t{w(n, k)};
      }
      y(m, n) = apply_stage(stage, static_cast<std::int32_t>(sum), m, n);
    }
  }
}

/// y[m, n] = stage(sum_k (a[m, k] - a_zero_point) * (b[n, k] - b_zero_point), n): both operands are activations.
template <class Stage, class Out>
void gemm(matrix_view<const std::uint8_t> a, int a_zero_point, matrix_view<const std::uint8_t> b, int b_zero_point,
          const Stage& stage, matrix_view<Out> y) {
  for (index_t m = 0; m < y.rows; ++m) {
    for (index_t n = 0; n < y.columns; ++n) {
      std::int64_t sum = 0;
      for (index_t k = 0; k < a.columns; ++k) {
        sum += (std::int64_t{a(m, k)} - a_zero_point) * (std::int64_t{b(n, k)} - b_zero_point);
      }
      y(m, n) = apply_stage(stage, static_cast<std::int32_t>(sum), m, n);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
