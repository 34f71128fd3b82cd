#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "intact/config/floating_point.hpp"
#include "intact/interop/quantize_rows.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The codes of interop/quantize_rows.hpp as their definition says.
///
/// Formula:   scale[m] = fl(t / 127), codes[m, k] = rint(fl(x[m, k] * fl(127 / t))) + zp, t = max_k |x[m, k]|
/// Everything else: as of intact::quantize_rows.
/// Runs on:   plain loops.
template <class Code>
void quantize_rows(matrix_view<const float> x, matrix_view<Code> codes, std::span<float> scale) {
  require_quantize_rows(x, codes, scale);
  for (index_t m = 0; m < x.rows; ++m) {
    require_finite_row(x, m);
  }
  for (index_t m = 0; m < x.rows; ++m) {
    float largest = 0;
    for (index_t k = 0; k < x.columns; ++k) {
      largest = std::max(largest, std::fabs(x(m, k)));
    }
    const bool has_codes = largest >= smallest_row_magnitude;
    const float inverse = has_codes ? 127 / largest : 0.0f;
    for (index_t k = 0; k < x.columns; ++k) {
      codes(m, k) = static_cast<Code>(static_cast<int>(std::nearbyint(x(m, k) * inverse)) + row_codes_zero_point<Code>);
    }
    scale[static_cast<std::size_t>(m)] = has_codes ? largest / 127 : 0.0f;
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
