#pragma once

#include <cstdint>
#include <iterator>

#include "intact/reference/add.hpp"

namespace intact::inline INTACT_ABI {

/// Fraction bits of the multipliers.
inline constexpr int add_min_shift = 17;
inline constexpr int add_max_shift = 24;

/// Checks the scales of a residual addition against the number of channels.
inline void require_add_scale(const char* operation, const add_scale& scale, index channels) {
  require_equal(operation, "size of stream_multiplier", std::ssize(scale.stream_multiplier), channels);
  require_equal(operation, "size of branch_multiplier", std::ssize(scale.branch_multiplier), channels);
  require_equal(operation, "size of offset", std::ssize(scale.offset), channels);
  require_between(operation, "stream_zero_point", scale.stream_zero_point, 0, 255);
  require_between(operation, "branch_zero_point", scale.branch_zero_point, 0, 255);
  require_between(operation, "shift", scale.shift, add_min_shift, add_max_shift);
}

/// Residual addition of two tensors of codes into a third scale; stream and sum have power-of-two factors per channel.
///
/// Formula:   y[t, c] = clamp(((r[t, c] - zp_r) * ma[c] + (b[t, c] - zp_b) * mb[c] + offset[c]) >> shift)
/// Shapes:    stream r, branch b and y T x C; row-major, any strides, any alignment; scales per channel; sizes may
///            be 0.
/// Units:     ma carries s_r[c] / s_y[c], mb s_b / s_y[c], the offset zp_y and the rounding half, each times 2^shift.
/// Range:     255 * (|ma| + |mb|) + |offset| < 2^31 (the builder's promise): int32 suffices. shift 17..24.
/// Exactness: every bit, on every target; no pair of codes is a tie.
/// Errors:    shapes that do not match, zero points or a shift out of range: before anything is written.
/// Aliasing:  y may be the stream or the branch exactly (in place); otherwise they must not overlap.
/// Source:    FQ-ViT, section 3.2; docs/numerics.md, section 8.
inline void add(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch, const add_scale& scale,
                matrix_view<std::uint8_t> y) {
  require_view("add", "stream", stream);
  require_shape("add", "branch", branch, stream.rows, stream.columns);
  require_shape("add", "y", y, stream.rows, stream.columns);
  require_add_scale("add", scale, stream.columns);
  reference::add(stream, branch, scale, y);
}

}  // namespace intact::inline INTACT_ABI
