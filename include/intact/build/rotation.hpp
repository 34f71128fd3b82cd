#pragma once

#include <cmath>
#include <cstdint>

#include "intact/config/floating_point.hpp"
#include "intact/rotate.hpp"

// Builders of the tables of rotate, into memory of the caller's. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// Tables of angles.
///
/// Formula:   rne(cos(angle) * 2^14), rne(sin(angle) * 2^14) in double precision
/// Shapes:    angles tokens x pairs, in radians; cosine and sine of the same shape, any strides.
/// Exactness: where cosines of C libraries differ in their last bits, a number of a table may differ by 1: keep tables
///            with the model, or build them once.
/// Errors:    shapes that differ, angles that are not finite, naming the first: nothing has been written then.
/// Aliasing:  angles, cosine and sine must not overlap.
/// Returns:   views of cosine and sine.
/// Source:    docs/numerics.md, section 17.
inline rotation_parameters build_rotation(matrix_view<const double> angles, matrix_view<std::int16_t> cosine,
                                          matrix_view<std::int16_t> sine) {
  require_view("build_rotation", "angles", angles);
  require_shape("build_rotation", "cosine", cosine, angles.rows, angles.columns);
  require_shape("build_rotation", "sine", sine, angles.rows, angles.columns);
  for (index_t t = 0; t < angles.rows; ++t) {
    for (index_t j = 0; j < angles.columns; ++j) {
      if (!std::isfinite(angles(t, j))) [[unlikely]] {
        contract_failed("intact::build_rotation: the angle at row %td, column %td is %g; it must be finite", t, j,
                        angles(t, j));
      }
    }
  }
  const auto code = [](double x) { return static_cast<std::int16_t>(std::rint(std::ldexp(x, rotation_bits))); };
  for (index_t t = 0; t < angles.rows; ++t) {
    for (index_t j = 0; j < angles.columns; ++j) {
      cosine(t, j) = code(std::cos(angles(t, j)));
      sine(t, j) = code(std::sin(angles(t, j)));
    }
  }
  return {cosine, sine};
}

}  // namespace INTACT_UNIT
}  // namespace intact
