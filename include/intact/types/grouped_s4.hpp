#pragma once

#include <cstdint>

#include "intact/types/int4.hpp"

namespace intact {
inline namespace INTACT_UNIT {}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// Element tag of packed weights that are s4 with a power of two per row and group of columns.
struct grouped_s4 {};

/// s4 weights with a power of two per row and group of columns: weight (n, k) is codes(n, k) << shifts(n, k / group),
/// shifts 0..3, so that it fits s8. Owns nothing.
struct grouped_s4_view {
  using element = s4;                  ///< of codes
  static constexpr int max_shift = 3;  ///< the largest shift

  packed_view<s4, const std::uint8_t> codes;  ///< rows x columns
  matrix_view<const std::uint8_t> shifts;     ///< rows x ceil(columns / group)
  index_t group = 1;                          ///< columns that share a shift
  index_t rows = 0;                           ///< output channels
  index_t columns = 0;                        ///< the inner dimension

  INTACT_INLINE constexpr grouped_s4_view() = default;
  /// Sizes are those of the codes.
  INTACT_INLINE constexpr grouped_s4_view(packed_view<s4, const std::uint8_t> codes_,
                                          matrix_view<const std::uint8_t> shifts_, index_t group_)
      : codes(codes_), shifts(shifts_), group(group_), rows(codes_.rows), columns(codes_.columns) {}

  /// The weight (n, k).
  INTACT_INLINE constexpr int operator()(index_t n, index_t k) const {
    return codes(n, k) * (1 << shifts(n, k / group));
  }

  /// The first rows and columns, in place.
  INTACT_INLINE constexpr grouped_s4_view prefix(index_t first_rows, index_t first_columns) const {
    return {codes.prefix(first_rows, first_columns),
            shifts.prefix(first_rows, group < 1 ? 0 : group_count(first_columns, group)), group};
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks the shapes of codes and shifts, and every shift.
inline void require_shape(const char* operation, const char* argument, const grouped_s4_view& view, index_t rows,
                          index_t columns) {
  require_at_least(operation, "group size of the weights", view.group, 1);
  require_shape(operation, argument, view.codes, rows, columns);
  require_shape(operation, "shifts of the weights", view.shifts, rows, group_count(columns, view.group));
  for (index_t n = 0; n < rows; ++n) {
    for (index_t g = 0; g < view.shifts.columns; ++g) {
      require_at_most(operation, "shift of a group of weights", view.shifts(n, g), grouped_s4_view::max_shift);
    }
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
