#pragma once

#include <cstdint>

#include "intact/kernel/multiply.hpp"
#include "intact/simd/isa.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/quantized_matrix.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of multiply.
template <class Stage>
void require_multiply(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
                      const matrix_view<typename Stage::output>& y) {
  require_view("multiply", "a", a.codes);
  require_shape("multiply", "b", b.codes, a.codes.rows, a.codes.columns);
  require_between("multiply", "zero point of a", a.zero_point, 0, 255);
  require_between("multiply", "zero point of b", b.zero_point, 0, 255);
  require_stage("multiply", stage, a.codes.rows, a.codes.columns);
  require_shape("multiply", "y", y, a.codes.rows, a.codes.columns);
}

/// Products of two tensors, element by element: the gate of a gated perceptron (SwiGLU, GeGLU) times its other half.
///
/// Formula:   y[i, c] = stage((a[i, c] - zp_a) * (b[i, c] - zp_b), i, c)
/// Shapes:    a, b and y T x C; row-major, any strides, any alignment; sizes may be 0.
/// Units:     the stage's scale carries s_a * s_b / s_y (multiply_spec in build/scale_spec.hpp); the accumulators are
///            free of zero points.
/// Range:     products are from -65025 to 65025: exact in int32.
/// Exactness: every bit, on every instruction set, with every executor; with a built scale the correctly rounded real
///            number, and no product is a tie.
/// Errors:    shapes that do not match, a zero point outside 0..255, a scale of another size: before anything is
///            written.
/// Aliasing:  u8 y may be a or b exactly (in place), and a may be b; otherwise y must not overlap them or the stage's
///            arrays, but for an addend or stream, which may be y exactly.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    GLU Variants Improve Transformer (arXiv 2002.05202); docs/numerics.md, section 15.
template <class Isa = isa::native, class Stage, executor Executor = sequential>
void multiply(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
              matrix_view<typename Stage::output> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_multiply(a, b, stage, y);
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task,
                       [&](row_range rows) { kernel::multiply<Isa>(a, b, stage, y, rows); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
