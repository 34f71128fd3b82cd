#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Which keys each query attends to: 0 is a masked key, everything else a visible one. One row per query, as for causal
/// attention and for shifted windows, or a single row for all of them, as for padding. Owns nothing.
struct key_mask {
  matrix_view<const std::uint8_t> visible;  ///< queries x keys, or 1 x keys

  /// The row of a query.
  INTACT_INLINE constexpr const std::uint8_t* row(index_t query) const {
    return visible.data + (visible.rows == 1 ? 0 : query * visible.stride);
  }
  /// The mask of some of the queries.
  INTACT_INLINE constexpr key_mask queries(index_t first, index_t count) const {
    return {visible.rows == 1 ? visible : visible.row_block(first, count)};
  }
  /// Whether a query attends to a key.
  INTACT_INLINE constexpr bool operator()(index_t query, index_t key) const { return row(query)[key] != 0; }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks that a mask has a row for each query, or one for all.
inline void require_mask(const char* operation, const key_mask& mask, index_t queries, index_t keys) {
  require_shape(operation, "mask", mask.visible, mask.visible.rows == 1 ? 1 : queries, keys);
}

/// Fills the mask of causal attention: query i sees the keys 0 to past + i, `past` being the keys before the first
/// query's own.
inline void causal_mask(matrix_view<std::uint8_t> visible, index_t past = 0) {
  for (index_t i = 0; i < visible.rows; ++i) {
    for (index_t j = 0; j < visible.columns; ++j) {
      visible(i, j) = j <= past + i ? 1 : 0;
    }
  }
}

/// Fills the mask of a padded batch, a row per image: image i sees its first lengths[i] keys.
inline void padding_mask(std::span<const index_t> lengths, matrix_view<std::uint8_t> visible) {
  require_equal("padding_mask", "rows of the mask", visible.rows, std::ssize(lengths));
  for (index_t i = 0; i < visible.rows; ++i) {
    for (index_t j = 0; j < visible.columns; ++j) {
      visible(i, j) = j < lengths[static_cast<std::size_t>(i)] ? 1 : 0;
    }
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
