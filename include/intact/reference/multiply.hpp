#pragma once

#include <cstdint>

#include "intact/multiply.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/quantized_matrix.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::multiply().
template <class Stage>
void multiply(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
              matrix_view<typename Stage::output> y) {
  require_multiply(a, b, stage, y);
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      const std::int32_t product = (a.codes(i, c) - a.zero_point) * (b.codes(i, c) - b.zero_point);
      y(i, c) = apply_stage(stage, product, i, c);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
