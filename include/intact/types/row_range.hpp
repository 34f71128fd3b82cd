#pragma once

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Rows [begin, end) of a matrix, or windows or patches by their numbers.
struct row_range {
  index_t begin = 0;  ///< the first row
  index_t end = 0;    ///< one after the last row

  /// Number of rows.
  INTACT_INLINE constexpr index_t size() const { return end - begin; }
};

}  // namespace INTACT_ABI
}  // namespace intact
