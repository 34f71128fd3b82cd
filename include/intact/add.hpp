#pragma once

#include <cstdint>

#include "intact/kernel/add.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the arguments of add.
inline void require_add(const matrix_view<const std::uint8_t>& stream, const matrix_view<const std::uint8_t>& branch,
                        const add_parameters& scale, const matrix_view<std::uint8_t>& y) {
  require_view("add", "stream", stream);
  require_shape("add", "branch", branch, stream.rows, stream.columns);
  require_shape("add", "y", y, stream.rows, stream.columns);
  require_add_parameters("add", scale, stream.columns);
}

/// Residual addition of two tensors of codes into a third scale; stream and sum have power-of-two factors per channel.
///
/// Formula:   y[t, c] = clamp(((r[t, c] - zp_r) * ma[c] + (b[t, c] - zp_b) * mb[c] + offset[c]) >> shift)
/// Shapes:    stream r, branch b and y T x C; row-major, any strides, any alignment; scales per channel; sizes may
///            be 0.
/// Units:     ma carries s_r[c] / s_y[c], mb s_b / s_y[c], the offset zp_y and the rounding half, each times 2^shift.
/// Range:     255 * (|ma| + |mb|) + |offset| < 2^31 (the builder's promise): int32 suffices. shift 17..24.
/// Exactness: every bit, on every instruction set, with every executor; no pair of codes is a tie.
/// Errors:    shapes that do not match, zero points or a shift out of range: before anything is written.
/// Aliasing:  y may be the stream or the branch exactly (in place); otherwise they must not overlap.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, section 3.2; docs/numerics.md, section 8.
template <class Isa = isa::native, executor Executor = sequential>
void add(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch, const add_parameters& scale,
         matrix_view<std::uint8_t> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_add(stream, branch, scale, y);
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task,
                       [&](row_range rows) { kernel::add<Isa>(stream, branch, scale, y, rows); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
