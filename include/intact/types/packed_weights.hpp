#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/types/int4.hpp"

namespace intact::inline INTACT_ABI {

/// Panels of packed weights start on such a boundary: a cache line, the widest register.
inline constexpr index packed_weights_alignment = 64;

/// Weights of a matrix product in the order in which dot products of four bytes read them. Element is std::int8_t or
/// s4. pack_weights makes them, in memory of the caller.
///
/// The output channels are split into panels of 64; the last one is as wide as the rest, rounded up to 16. Within a
/// panel the inner dimension is split into groups of four (s8) or pairs of groups (s4), one behind the other:
///
///     s8, a group of a panel that is 64 wide: 256 bytes
///       channel 0: k0 k1 k2 k3 | channel 1: k0 k1 k2 k3 | ... | channel 63: k0 k1 k2 k3
///     s4, a pair of groups: 256 bytes, the low halves hold the even group, the high halves the odd one
///       channel 0: k4:k0 k5:k1 k6:k2 k7:k3 | channel 1: ... | channel 63: k4:k0 k5:k1 k6:k2 k7:k3
///
/// What rounding adds is 0. Behind the last panel stand the int32 sums of each channel's weights.
template <class Element>
struct packed_weights {
  static_assert(std::is_same_v<Element, std::int8_t> || std::is_same_v<Element, s4>, "weights are packed as s8 or s4");
  using element = Element;

  static constexpr index panel_width = 64;
  static constexpr index width_step = 16;
  static constexpr index step = std::is_same_v<Element, s4> ? 8 : 4;  ///< columns that are packed together
  static constexpr index step_bytes = 4;                              ///< per output channel

  const std::uint8_t* data = nullptr;
  const std::int32_t* sums = nullptr;  ///< sums[n] of row n's `columns` weights; null if columns have been cut off
  index rows = 0;                      ///< output channels
  index columns = 0;                   ///< the inner dimension
  index packed_rows = 0;               ///< before a prefix was taken
  index packed_columns = 0;

  static constexpr index steps(index columns) { return columns / step + (columns % step != 0 ? 1 : 0); }
  static constexpr index rounded_width(index width) { return (width + width_step - 1) / width_step * width_step; }

  constexpr index panels() const { return rows / panel_width + (rows % panel_width != 0 ? 1 : 0); }

  /// Output channels of a panel as it lies in memory, rounded.
  constexpr index width(index panel) const {
    const index rest = packed_rows - panel * panel_width;
    return rest >= panel_width ? panel_width : rounded_width(rest);
  }
  constexpr const std::uint8_t* panel(index panel) const {
    return data + panel * panel_width * step_bytes * steps(packed_columns);
  }

  /// The first output channels and columns, without packing again: for networks that are sliced or pruned.
  constexpr packed_weights prefix(index first_rows, index first_columns) const {
    return {data, first_columns == columns ? sums : nullptr, first_rows, first_columns, packed_rows, packed_columns};
  }
};

/// Bytes of packed weights for `rows` output channels and `columns` inputs: of the panels, and of the sums behind them.
template <class Element>
constexpr index packed_panel_bytes(index rows, index columns) {
  using packed = packed_weights<Element>;
  return packed::rounded_width(rows) * packed::step_bytes * packed::steps(columns);
}
template <class Element>
constexpr index packed_weights_bytes(index rows, index columns) {
  return packed_panel_bytes<Element>(rows, columns) + rows * static_cast<index>(sizeof(std::int32_t));
}

}  // namespace intact::inline INTACT_ABI
