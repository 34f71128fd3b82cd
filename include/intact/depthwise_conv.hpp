#pragma once

#include <cstdint>

#include "intact/kernel/depthwise_conv.hpp"
#include "intact/simd/isa.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of depthwise_conv.
template <class Stage>
void require_depthwise_conv(const quantized_matrix& x, const token_grid& grid, const depthwise_weights& w,
                            const Stage& stage, const matrix_view<typename Stage::output>& y) {
  require_token_grid("depthwise_conv", grid);
  require_shape("depthwise_conv", "x", x.codes, grid.tokens(), x.codes.columns);
  require_between("depthwise_conv", "zero point of x", x.zero_point, 0, 255);
  require_depthwise_weights("depthwise_conv", w, x.codes.columns);
  require_stage("depthwise_conv", stage, x.codes.rows, x.codes.columns);
  require_shape("depthwise_conv", "y", y, x.codes.rows, x.codes.columns);
}

/// Depthwise convolution of tokens on a grid: every channel for itself, stride 1, as many tokens out as in.
///
/// Formula:   y[(i, j), c] = stage(sum over dy, dx in 0..size - 1 of
///            x[(i + dy - reach, j + dx - reach), c] * w[(dy, dx), c], c), reach = (size - 1) / 2; beside the grid x is
///            its zero point, the code of 0.
/// Shapes:    x H * W x C, w size^2 x C with an odd size, y H * W x C; row-major, any strides, any alignment; sizes may
///            be 0.
/// Units:     the stage's scale carries s_x * s_w[c] / s_y; as for gemm its offset corrects for the zero point of x
///            (linear_spec in build/scale.hpp, of the size^2 weights of the channel), the same at the borders.
/// Range:     size <= 255: the sum is exact in int32 and never saturates. Sides of at most 2^31 - 1.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    shapes that do not match, an even or too large size, a zero point outside 0..255, a scale of another
///            size: before anything is written.
/// Aliasing:  y must not overlap x, w or the stage's arrays, but for an addend or stream, which may be y exactly.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    CeiT (arXiv 2103.11816), section 3.3; docs/numerics.md, section 16.
template <class Isa = isa::native, class Stage, executor Executor = sequential>
void depthwise_conv(const quantized_matrix& x, const token_grid& grid, const depthwise_weights& w, const Stage& stage,
                    matrix_view<typename Stage::output> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_depthwise_conv(x, grid, w, stage, y);
  if (x.codes.columns != 0) {
    for_each_row_range(run, x.codes.rows, rows_per_task,
                       [&](row_range tokens) { kernel::depthwise_conv<Isa>(x, grid, w, stage, y, tokens); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
