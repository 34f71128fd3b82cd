#pragma once

#include <cstdint>
#include <cstring>

#include "intact/types/grouped_s4.hpp"
#include "intact/types/packed_weights.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// The shifts in front of a panel, `bytes` of them.
inline void pack_shifts(const grouped_s4_view& w, index_t first_row, index_t bytes, std::uint8_t* to) {
  const auto shift = [&](index_t n, index_t g) { return n < w.rows && g < w.shifts.columns ? int{w.shifts(n, g)} : 0; };
  for (index_t i = 0; i < bytes; ++i) {
    const index_t n = first_row + i % 16, g = i / 16;
    const int low = shift(n, g) | (shift(n + 16, g) << 2), high = shift(n + 32, g) | (shift(n + 48, g) << 2);
    to[i] = static_cast<std::uint8_t>(low | (high << 4));
  }
}

/// The steps of a panel: those columns of each channel at a time, see packed_weights. `w`: s8, or s4 without shifts.
template <class Element, class Weights>
void pack_steps(const Weights& w, index_t first_row, index_t width, std::uint8_t* to) {
  using packed = packed_weights<Element>;
  const auto weight = [&](index_t n, index_t k) { return n < w.rows && k < w.columns ? int{w(n, k)} : 0; };
  for (index_t k = 0; k < w.columns; k += packed::step) {
    for (index_t n = first_row; n < first_row + width; ++n) {
      for (index_t i = k; i < k + packed::step_bytes; ++i) {
        if constexpr (packed::has_nibbles) {
          *to++ = static_cast<std::uint8_t>((weight(n, i) & 15) | ((weight(n, i + 4) & 15) << 4));
        } else {
          *to++ = static_cast<std::uint8_t>(weight(n, i));
        }
      }
    }
  }
}

/// `memory`: packed_weights_bytes, aligned. `group`: columns that share a shift, of grouped_s4.
template <class Element, class Weights>
packed_weights<Element> pack_weights(const Weights& w, std::uint8_t* memory, index_t group = 1) {
  using packed = packed_weights<Element>;
  std::uint8_t* const sums = memory + packed_panel_bytes<Element>(w.rows, w.columns, group);
  const auto* const first_sum = reinterpret_cast<const std::int32_t*>(sums);
  const packed result{.data = memory,
                      .sums = first_sum,
                      .rows = w.rows,
                      .columns = w.columns,
                      .packed_rows = w.rows,
                      .packed_columns = w.columns,
                      .group = group};
  for (index_t p = 0; p < result.panels(); ++p) {
    const index_t first_row = p * packed::panel_width;
    std::uint8_t* const panel = memory + (result.panel(p) - result.data);
    if constexpr (packed::has_shifts) {
      pack_shifts(w, first_row, result.panel_shift_bytes(), panel);
      pack_steps<Element>(w.codes, first_row, result.width(p), panel + result.panel_shift_bytes());
    } else {
      pack_steps<Element>(w, first_row, result.width(p), panel);
    }
  }
  for (index_t n = 0; n < w.rows; ++n) {
    std::int32_t sum = 0;
    for (index_t k = 0; k < w.columns; ++k) {
      sum += w(n, k);
    }
    std::memcpy(sums + n * static_cast<index_t>(sizeof sum), &sum, sizeof sum);
  }
  return result;
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
