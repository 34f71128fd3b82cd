#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Which keys each query attends to: 0 is a masked key, everything else a visible one. One row per query, as for causal
/// attention and for shifted windows, or a single row for all of them, as for padding. Owns nothing.
struct key_mask {
  matrix_view<const std::uint8_t> visible;

  INTACT_INLINE constexpr const std::uint8_t* row(index_t query) const {
    return visible.data + (visible.rows == 1 ? 0 : query * visible.stride);
  }
  INTACT_INLINE constexpr bool operator()(index_t query, index_t key) const { return row(query)[key] != 0; }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks that a mask has a row for each query, or one for all.
inline void require_mask(const char* operation, const key_mask& mask, index_t queries, index_t keys) {
  require_shape(operation, "mask", mask.visible, mask.visible.rows == 1 ? 1 : queries, keys);
}

}  // namespace INTACT_UNIT
}  // namespace intact
