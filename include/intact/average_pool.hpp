#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/average_pool.hpp"
#include "intact/simd/isa.hpp"
#include "intact/stage/output_stage.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Most tokens whose codes' sum fits int32.
inline constexpr index_t average_pool_max_tokens = 0x7fffffff / 255;
/// The same for s16 codes.
inline constexpr index_t average_pool_max_tokens_s16 = 0x7fffffff / 32768;

/// Checks the arguments of average_pool.
template <class Code, class Stage>
void require_average_pool(const matrix_view<const Code>& x, const Stage& stage,
                          const matrix_view<typename Stage::output>& y) {
  require_view("average_pool", "x", x);
  require_at_most("average_pool", "rows of x", x.rows,
                  std::is_same_v<Code, std::int16_t> ? average_pool_max_tokens_s16 : average_pool_max_tokens);
  require_stage("average_pool", stage, 1, x.columns);
  require_shape("average_pool", "y", y, 1, x.columns);
}

/// The mean over all tokens, channel by channel.
///
/// Formula:   y[0, c] = stage(sum_t x[t, c], c)
/// Shapes:    x T x C, y 1 x C; row-major, any strides, any alignment; sizes may be 0 (T = 0: the sum is 0).
/// Units:     the stage's scale carries s_x / (T * s_y) and the correction for T times the zero point of x
///            (average_pool_spec and average_pool_s16_spec in build/scale_spec.hpp).
/// Range:     T <= 8421504 for u8 codes, 65535 for s16 codes: the sum fits int32.
/// Exactness: every bit, on every target; with a built scale the correctly rounded real number, and no sum is a tie.
/// Errors:    shapes that do not match, too many tokens, a scale of another size: before anything is written.
/// Aliasing:  y must not overlap x.
/// Runs on:   all instruction sets, in the caller's thread.
/// Source:    docs/numerics.md, sections 2, 9 and 12.
template <class Isa = isa::native, class Stage>
void average_pool(matrix_view<const std::uint8_t> x, const Stage& stage, matrix_view<typename Stage::output> y) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_average_pool(x, stage, y);
  kernel::average_pool<Isa>(x, stage, y);
}
/// The same of s16 codes.
template <class Isa = isa::native, class Stage>
void average_pool(matrix_view<const std::int16_t> x, const Stage& stage, matrix_view<typename Stage::output> y) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_average_pool(x, stage, y);
  kernel::average_pool<Isa>(x, stage, y);
}

}  // namespace INTACT_UNIT
}  // namespace intact
