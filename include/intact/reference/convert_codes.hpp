#pragma once

#include <cstdint>

#include "intact/convert_codes.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::convert_codes().
template <class Stage>
void convert_codes(matrix_view<const std::uint8_t> x, const Stage& stage, matrix_view<typename Stage::output> y) {
  require_convert_codes(x, stage, y);
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      y(i, c) = apply_stage(stage, std::int32_t{x(i, c)}, i, c);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
