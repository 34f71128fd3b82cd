#pragma once

#include <cstdint>
#include <span>

#include "intact/row_sums.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The sums of row_sums.hpp as their definition says, in 64-bit integers.
///
/// Formula:   y[m] = factor * sum_k a[m, k]
/// Everything else: as of intact::row_sums.
/// Runs on:   plain loops.
template <class A>
void row_sums(matrix_view<A> a, std::int32_t factor, std::span<std::int32_t> y) {
  require_row_sums(a, factor, y);
  for (index_t m = 0; m < a.rows; ++m) {
    std::int64_t sum = 0;
    for (index_t k = 0; k < a.columns; ++k) {
      sum += a(m, k);
    }
    y[static_cast<std::size_t>(m)] = static_cast<std::int32_t>(factor * sum);
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
