#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/average_pool.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// The specification of intact::average_pool().
template <class X, class Stage>
void average_pool(matrix_view<X> x, const Stage& stage, matrix_view<typename Stage::output> y) {
  require_average_pool<std::remove_const_t<X>>(x, stage, y);
  for (index_t c = 0; c < y.columns; ++c) {
    std::int64_t sum = 0;
    for (index_t t = 0; t < x.rows; ++t) {
      sum += x(t, c);
    }
    y(0, c) = apply_stage(stage, static_cast<std::int32_t>(sum), 0, c);
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
