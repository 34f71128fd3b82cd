#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "intact/build/weights.hpp"
#include "intact/quantize/observe.hpp"

// Ranges of activations, shrunk as far as it makes what follows more accurate.

namespace intact_deit {

/// The scale of u8 codes with the least error among those of shrunk ranges, widened to contain 0; one end after the
/// other is shrunk, twice.
template <class Error>
intact::affine_scale search_scale(const intact::value_range& range, Error error) {
  std::array<float, 2> parts = {1, 1};
  const auto scale = [&] {
    return intact::build_affine_scale({std::min(range.low, 0.0F) * parts[0], std::max(range.high, 0.0F) * parts[1]},
                                      intact::u8_codes);
  };
  double least = error(scale());
  for (const std::size_t end : {1U, 0U, 1U, 0U}) {
    float best = parts[end];
    for (int percent = 100; percent >= 20; percent -= 10) {
      parts[end] = static_cast<float>(percent) / 100;
      const double now = error(scale());
      if (now < least) {
        least = now;
        best = parts[end];
      }
    }
    parts[end] = best;
  }
  return scale();
}

}  // namespace intact_deit
