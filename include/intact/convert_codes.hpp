#pragma once

#include <cstdint>

#include "intact/kernel/convert_codes.hpp"
#include "intact/simd/isa.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of convert_codes.
template <class Stage>
void require_convert_codes(const matrix_view<const std::uint8_t>& x, const Stage& stage,
                           const matrix_view<typename Stage::output>& y) {
  require_view("convert_codes", "x", x);
  require_stage("convert_codes", stage, x.rows, x.columns);
  require_shape("convert_codes", "y", y, x.rows, x.columns);
}

/// Codes of one scale from codes of another, of any width: u8 codes as the beginning of an s16 stream, for example.
///
/// Formula:   y[i, c] = stage(x[i, c], c): the code in place of an accumulator.
/// Shapes:    x and y T x C; row-major, any strides, any alignment; sizes may be 0.
/// Units:     the stage's scale carries s_x / s_y and the correction for the zero point of x (convert_codes_spec in
///            build/scale.hpp).
/// Exactness: every bit, on every target, with every executor; with a built scale the correctly rounded real number,
///            and no code is a tie.
/// Errors:    shapes that do not match, a scale of another size: before anything is written.
/// Aliasing:  y must not overlap x.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, sections 2 and 12.
template <class Isa = isa::native, class Stage, executor Executor = sequential>
void convert_codes(matrix_view<const std::uint8_t> x, const Stage& stage, matrix_view<typename Stage::output> y,
                   const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_convert_codes(x, stage, y);
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task,
                       [&](row_range rows) { kernel::convert_codes<Isa>(x, stage, y, rows); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
