#pragma once

#include <cstdint>

#include "intact/add.hpp"
#include "intact/arith/scale.hpp"
#include "intact/types/scale.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::add().
inline void add(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch,
                const add_parameters& scale, matrix_view<std::uint8_t> y) {
  require_add(stream, branch, scale, y);
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      y(i, c) = add_codes(scale, stream(i, c), branch(i, c), c);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
