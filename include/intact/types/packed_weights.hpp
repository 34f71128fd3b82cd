#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/config/compiler.hpp"
#include "intact/types/grouped_s4.hpp"
#include "intact/types/int4.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Panels of packed weights start on such a boundary: a cache line, the widest register.
inline constexpr index_t packed_weights_alignment = 64;

/// Weights of a matrix product in the order in which dot products of four bytes read them. Element is std::int8_t, s4
/// or grouped_s4. pack_weights makes them, in memory of the caller.
///
/// The output channels are split into panels of 64; the last one is as wide as the rest, rounded up to 16. Within a
/// panel the inner dimension is split into groups of four (s8) or pairs of groups (s4), one after the other:
///
///     s8, a group of a panel that is 64 wide: 256 bytes
///       channel 0: k0 k1 k2 k3 | channel 1: k0 k1 k2 k3 | ... | channel 63: k0 k1 k2 k3
///     s4, a pair of groups: 256 bytes, the low halves hold the even group, the high halves the odd one
///       channel 0: k4:k0 k5:k1 k6:k2 k7:k3 | channel 1: ... | channel 63: k4:k0 k5:k1 k6:k2 k7:k3
///
/// grouped_s4 is s4 with the shifts in front of each panel: 16 bytes for a group of columns, each with the two bits of
/// four channels, and zeros up to a multiple of 64 bytes:
///
///     shifts of a group of columns
///       channels 48:32:16:0 | 49:33:17:1 | 50:34:18:2 | ... | 63:47:31:15
///
/// The columns that rounding adds are 0. The int32 sums of each channel's weights follow the last panel.
template <class Element>
struct packed_weights {
  static_assert(std::is_same_v<Element, std::int8_t> || std::is_same_v<Element, s4> ||
                    std::is_same_v<Element, grouped_s4>,
                "weights are packed as s8, s4 or grouped_s4");
  using element = Element;  ///< s8, s4 or grouped_s4

  /// Whether groups have powers of two.
  static constexpr bool has_shifts = std::is_same_v<Element, grouped_s4>;
  /// Whether a byte holds two codes.
  static constexpr bool has_nibbles = has_shifts || std::is_same_v<Element, s4>;
  static constexpr index_t panel_width = 64;            ///< output channels of a panel
  static constexpr index_t width_step = 16;             ///< output channels by which a last panel is wider
  static constexpr index_t step = has_nibbles ? 8 : 4;  ///< columns of a row that are packed side by side
  static constexpr index_t step_bytes = 4;              ///< per output channel
  static constexpr index_t shift_bytes = 16;            ///< of a group of columns

  const std::uint8_t* data = nullptr;  ///< panels, one after the other
  const std::int32_t* sums = nullptr;  ///< sums[n] of row n's `columns` weights; null if columns have been cut off
  index_t rows = 0;                    ///< output channels
  index_t columns = 0;                 ///< the inner dimension
  index_t packed_rows = 0;             ///< before a prefix was taken
  index_t packed_columns = 0;          ///< before a prefix was taken
  index_t group = 1;                   ///< columns that share a shift: whole steps, or at least packed_columns

  /// Steps of so many columns.
  INTACT_INLINE static constexpr index_t steps(index_t columns) { return group_count(columns, step); }
  /// The width of a last panel of so many output channels.
  INTACT_INLINE static constexpr index_t rounded_width(index_t width) {
    return size_product(group_count(width, width_step), width_step);
  }

  /// Bytes of shifts in front of a panel.
  INTACT_INLINE static constexpr index_t panel_shift_bytes(index_t columns, index_t group) {
    constexpr index_t line = packed_weights_alignment;
    return has_shifts ? size_product(group_count(size_product(group_count(columns, group), shift_bytes), line), line)
                      : 0;
  }
  /// Bytes of a panel's shifts.
  INTACT_INLINE constexpr index_t panel_shift_bytes() const { return panel_shift_bytes(packed_columns, group); }

  /// Number of panels.
  INTACT_INLINE constexpr index_t panels() const { return group_count(rows, panel_width); }

  /// Output channels of a panel in memory, rounded.
  INTACT_INLINE constexpr index_t width(index_t panel) const {
    const index_t rest = packed_rows - panel * panel_width;
    return rest >= panel_width ? panel_width : rounded_width(rest);
  }
  /// The first byte of a panel's codes.
  INTACT_INLINE constexpr const std::uint8_t* panel(index_t panel) const {
    return data + panel * (panel_shift_bytes() + panel_width * step_bytes * steps(packed_columns));
  }

  /// A weight.
  INTACT_INLINE constexpr int operator()(index_t n, index_t k) const {
    const std::uint8_t* const shifts = panel(n / panel_width);
    const index_t place = n % panel_width;
    const index_t at = (k / step * width(n / panel_width) + place) * step_bytes + k % step_bytes;
    const int byte = shifts[panel_shift_bytes() + at];
    if constexpr (!has_nibbles) {
      return static_cast<std::int8_t>(byte);
    }
    const int weight = (((k % step < step_bytes ? byte : byte >> 4) & 15) ^ 8) - 8;
    if constexpr (!has_shifts) {
      return weight;
    }
    return weight * (1 << (shifts[k / group * shift_bytes + place % 16] >> place / 16 * 2 & 3));
  }

  /// The first output channels and columns, without packing again: for networks that are sliced or pruned.
  INTACT_INLINE constexpr packed_weights prefix(index_t first_rows, index_t first_columns) const {
    return {.data = data,
            .sums = first_columns == columns ? sums : nullptr,
            .rows = first_rows,
            .columns = first_columns,
            .packed_rows = packed_rows,
            .packed_columns = packed_columns,
            .group = group};
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Bytes of packed weights for `rows` output channels and `columns` inputs: of the panels, and of the sums after them.
/// `group`: columns that share a shift, of grouped_s4. max_size if no memory can have as many.
template <class Element>
constexpr index_t packed_panel_bytes(index_t rows, index_t columns, index_t group = 1) {
  using packed = packed_weights<Element>;
  const index_t of_shifts =
      size_product(group_count(rows, packed::panel_width), packed::panel_shift_bytes(columns, group));
  const index_t of_column = size_product(packed::rounded_width(rows), packed::step_bytes);
  return size_sum(of_shifts, size_product(of_column, packed::steps(columns)));
}
/// Bytes of packed weights: their panels, and a sum for each output channel.
template <class Element>
constexpr index_t packed_weights_bytes(index_t rows, index_t columns, index_t group = 1) {
  return size_sum(packed_panel_bytes<Element>(rows, columns, group),
                  size_product(rows, static_cast<index_t>(sizeof(std::int32_t))));
}

}  // namespace INTACT_UNIT
}  // namespace intact
