#pragma once

#include <cstdint>

#include "intact/depthwise_conv.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/depthwise_weights.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/token_grid.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[(i, j), c] = stage(sum over (dy, dx) of x[(i + dy - reach, j + dx - reach), c] * w[(dy, dx), c], c); beside the
/// grid x is the zero point.
template <class Stage>
void depthwise_conv(const quantized_matrix& x, const token_grid& grid, const depthwise_weights& w, const Stage& stage,
                    matrix_view<typename Stage::output> y) {
  require_depthwise_conv(x, grid, w, stage, y);
  const index_t reach = w.size / 2;
  const auto code = [&](index_t i, index_t j, index_t c) {
    const bool inside = i >= 0 && i < grid.height && j >= 0 && j < grid.width;
    return std::int64_t{inside ? x.codes(i * grid.width + j, c) : x.zero_point};
  };
  for (index_t token = 0; token < y.rows; ++token) {
    const index_t i = token / grid.width, j = token % grid.width;
    for (index_t c = 0; c < y.columns; ++c) {
      std::int64_t sum = 0;
      for (index_t dy = 0; dy < w.size; ++dy) {
        for (index_t dx = 0; dx < w.size; ++dx) {
          sum += code(i + dy - reach, j + dx - reach, c) * w.taps(dy * w.size + dx, c);
        }
      }
      y(token, c) = apply_stage(stage, static_cast<std::int32_t>(sum), token, c);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
