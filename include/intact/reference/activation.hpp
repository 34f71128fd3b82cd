#pragma once

#include <cstdint>
#include <span>

#include "intact/activation.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::activation().
template <class Code>
void activation(matrix_view<Code> codes, std::span<const std::uint8_t> table, matrix_view<std::uint8_t> y) {
  require_activation(codes, table, y);
  for (index_t i = 0; i < codes.rows; ++i) {
    for (index_t j = 0; j < codes.columns; ++j) {
      y(i, j) = table[codes(i, j)];
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
