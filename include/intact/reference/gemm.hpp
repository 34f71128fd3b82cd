#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/gemm.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The product of gemm.hpp as its definition says, in 64-bit integers.
///
/// Formula:   y[m, n] = stage(sum_k a[m, k] * w[n, k], n)
/// Shapes:    a M x K, w N x K, y M x N; w in s8 (matrix_view), s4 (packed_view), s4 with group factors
///            (grouped_s4_view), or packed (packed_weights).
/// Units, range, exactness, errors, aliasing and source: as of intact::gemm.
/// Runs on:   plain loops.
template <class A, class Weights, class Stage>
void gemm(matrix_view<A> a, const Weights& w, const Stage& stage, matrix_view<typename Stage::output> y) {
  require_gemm(a, w, stage, y);
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

/// The product of two activations.
///
/// Formula:   y[m, n] = stage(sum_k (a[m, k] - zp_a) * (b[n, k] - zp_b), n)
/// Everything else: as of intact::gemm of two activations.
/// Runs on:   plain loops.
template <class Stage>
void gemm(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
          matrix_view<typename Stage::output> y) {
  require_gemm(a, b, stage, y);
  for (index_t m = 0; m < y.rows; ++m) {
    for (index_t n = 0; n < y.columns; ++n) {
      std::int64_t sum = 0;
      for (index_t k = 0; k < a.codes.columns; ++k) {
        sum += (std::int64_t{a.codes(m, k)} - a.zero_point) * (std::int64_t{b.codes(n, k)} - b.zero_point);
      }
      y(m, n) = apply_stage(stage, static_cast<std::int32_t>(sum), m, n);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
