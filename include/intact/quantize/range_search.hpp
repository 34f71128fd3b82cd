#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"

// A search for the range of a tensor that makes the least error of whatever is computed from its codes.

namespace intact {
inline namespace INTACT_UNIT {

/// The scale of u8 codes of least error among those of shrunk ranges.
///
/// Formula:   the range [low, high] is widened to contain 0; one end after the other (high, low, high, low) is
///            multiplied by 1, 0.9, ... 0.2 while the other end keeps its best factor; the first scale of least error.
/// Arguments: error is called as error(affine_scale), and returns a number to be minimized.
/// Errors:    as of build_affine_scale.
/// Source:    docs/accuracy.md.
template <class Error>
affine_scale search_scale(const value_range& range, Error error) {
  std::array<float, 2> factors = {1, 1};
  const auto scale = [&] {
    return build_affine_scale({std::min(range.low, 0.0F) * factors[0], std::max(range.high, 0.0F) * factors[1]},
                              u8_codes);
  };
  double least = error(scale());
  for (const std::size_t end : {1U, 0U, 1U, 0U}) {
    float best = factors[end];
    for (int percent = 100; percent >= 20; percent -= 10) {
      factors[end] = static_cast<float>(percent) / 100;
      const double now = error(scale());
      if (now < least) {
        least = now;
        best = factors[end];
      }
    }
    factors[end] = best;
  }
  return scale();
}

}  // namespace INTACT_UNIT
}  // namespace intact
