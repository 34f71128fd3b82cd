#pragma once

#include <cstdint>

#include "intact/kernel/rotate.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/rotation.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of rotate.
inline void require_rotate(const quantized_matrix& x, const rotation_parameters& p,
                           const matrix_view<std::uint8_t>& y) {
  require_view("rotate", "x", x.codes);
  require_between("rotate", "zero point of x", x.zero_point, 0, 255);
  require_view("rotate", "cosine", p.cosine);
  require_equal("rotate", "rows of cosine", p.cosine.rows, x.codes.rows);
  require_shape("rotate", "sine", p.sine, p.cosine.rows, p.cosine.columns);
  if (x.codes.columns != 0) {
    require_at_least("rotate", "columns of cosine", p.cosine.columns, 1);
    require_equal("rotate", "columns of x modulo twice those of cosine",
                  x.codes.columns % size_product(2, p.cosine.columns), 0);
  }
  require_shape("rotate", "y", y, x.codes.rows, x.codes.columns);
}

/// Rotates pairs of channels of every head, each pair of each token by an angle of its own: rotary positions of queries
/// and of keys.
///
/// Formula:   per token t, head and pair j, h pairs in a head:  a = x[j] - zp, b = x[j + h] - zp, C = cosine[t, j],
///            S = sine[t, j]
///            y[j]     = clamp((a * C - b * S + (zp << 14) + 2^13) >> 14)
///            y[j + h] = clamp((b * C + a * S + (zp << 14) + 2^13) >> 14)
/// Shapes:    x and y T x (heads * 2h), cosine and sine T x h; row-major, any strides, any alignment; sizes may be 0.
///            A batch takes a call for each image.
/// Units:     y has the scale and the zero point of x, which should hold the rotated values: they are up to sqrt(2)
///            times as large.
/// Range:     any s16 codes of cosines and sines; sums stay below 2^25 in magnitude.
/// Exactness: every bit, on every instruction set, with every executor; with built tables within 0.52 codes of the
///            rotation in real numbers, before codes are limited. Halves round up.
/// Errors:    shapes that do not match, a zero point outside 0..255: before anything is written.
/// Aliasing:  y may be x exactly (in place); otherwise it must not overlap x or the tables.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    RoFormer (arXiv 2104.09864); docs/numerics.md, section 17.
template <class Isa = isa::native, executor Executor = sequential>
void rotate(const quantized_matrix& x, const rotation_parameters& p, matrix_view<std::uint8_t> y,
            const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_rotate(x, p, y);
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task, [&](row_range rows) { kernel::rotate<Isa>(x, p, y, rows); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
