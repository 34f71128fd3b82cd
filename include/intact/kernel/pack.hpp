#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "intact/types/packed_weights.hpp"

namespace intact::inline INTACT_ABI::kernel {

/// One panel: `step` columns of each channel at a time, see packed_weights.
template <class Element, class Weights>
void pack_panel(const Weights& w, index first_row, index width, std::uint8_t* to) {
  using packed = packed_weights<Element>;
  const auto weight = [&](index n, index k) { return n < w.rows && k < w.columns ? int{w(n, k)} : 0; };
  for (index k = 0; k < w.columns; k += packed::step) {
    for (index n = first_row; n < first_row + width; ++n) {
      for (index i = k; i < k + packed::step_bytes; ++i) {
        if constexpr (std::is_same_v<Element, s4>) {
          *to++ = static_cast<std::uint8_t>((weight(n, i) & 15) | ((weight(n, i + 4) & 15) << 4));
        } else {
          *to++ = static_cast<std::uint8_t>(weight(n, i));
        }
      }
    }
  }
}

/// `memory`: packed_weights_bytes, aligned.
template <class Element, class Weights>
packed_weights<Element> pack_weights(const Weights& w, std::uint8_t* memory) {
  using packed = packed_weights<Element>;
  std::uint8_t* const sums = memory + packed_panel_bytes<Element>(w.rows, w.columns);
  const packed result{memory, reinterpret_cast<const std::int32_t*>(sums), w.rows, w.columns, w.rows, w.columns};
  for (index p = 0; p < result.panels(); ++p) {
    const auto offset = result.panel(p) - result.data;
    pack_panel<Element>(w, p * packed::panel_width, result.width(p), memory + offset);
  }
  for (index n = 0; n < w.rows; ++n) {
    std::int32_t sum = 0;
    for (index k = 0; k < w.columns; ++k) {
      sum += w(n, k);
    }
    std::memcpy(sums + n * static_cast<index>(sizeof sum), &sum, sizeof sum);
  }
  return result;
}

}  // namespace intact::inline INTACT_ABI::kernel
