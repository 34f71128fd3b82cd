#pragma once

#include <algorithm>
#include <cstdint>

#include "intact/rotate.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/rotation.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::rotate().
inline void rotate(const quantized_matrix& x, const rotation_parameters& p, matrix_view<std::uint8_t> y) {
  require_rotate(x, p, y);
  const index_t half = p.cosine.columns;
  const auto code = [&](std::int64_t sum) {
    const std::int64_t rounded = (sum + (std::int64_t{1} << (rotation_bits - 1))) >> rotation_bits;
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(rounded + x.zero_point, 0, 255));
  };
  for (index_t t = 0; t < y.rows; ++t) {
    for (index_t head = 0; head < y.columns; head += 2 * half) {
      for (index_t j = 0; j < half; ++j) {
        const std::int64_t a = x.codes(t, head + j) - x.zero_point, b = x.codes(t, head + half + j) - x.zero_point;
        y(t, head + j) = code(a * p.cosine(t, j) - b * p.sine(t, j));
        y(t, head + half + j) = code(b * p.cosine(t, j) + a * p.sine(t, j));
      }
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
