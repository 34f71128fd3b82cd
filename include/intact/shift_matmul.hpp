#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "intact/stage/output_stage.hpp"
#include "intact/types/attention_codes.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/weighted_matmul.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Most keys of a row. The probabilities of a row of log_softmax's codes have a sum below 2.25, so that 4-bit
/// accumulators stay below 255 * 2.25 * 2^15 < 2^25 for any number of keys, and 8-bit ones below 2^54.
/// attention_code::u4_clipped adds up to 2^-15 for every further key: 82,000 keys reach 2.25 + 2.5, still below 2^31 /
/// (255 * 2^15) = 257.
inline constexpr index_t shift_matmul_max_keys = 82000;
static_assert(shift_matmul_max_keys * 128 * 128 <= std::numeric_limits<std::int32_t>::max(),
              "sums of a slice of bytes fit int32, too");

/// Checks the arguments of shift_matmul.
template <attention_code Format, class Stage>
void require_shift_matmul(const typename attention_codes<Format>::const_view& codes, const quantized_matrix& v,
                          const Stage& stage, const matrix_view<typename Stage::output>& y) {
  static_assert(
      takes_64_bits<Stage> == (Format == attention_code::u8_full),
      "4-bit codes make 32-bit accumulators, for stages such as requantize; 8-bit codes (attention_code::u8_full) make "
      "64-bit ones, for stages such as requantize_s64");
  require_view("shift_matmul", "v", v.codes);
  require_at_most("shift_matmul", "rows of v", v.codes.rows, shift_matmul_max_keys);
  require_shape("shift_matmul", "codes", codes, codes.rows, v.codes.rows);
  require_between("shift_matmul", "zero point of v", v.zero_point, 0, 255);
  require_stage("shift_matmul", stage, codes.rows, v.codes.columns);
  require_shape("shift_matmul", "y", y, codes.rows, v.codes.columns);
}

/// The same for normalized rows.
template <attention_code Format>
void require_shift_matmul(const typename attention_codes<Format>::const_view& codes, const quantized_matrix& v,
                          const row_divisor& normalization, const matrix_view<std::uint8_t>& y) {
  static_assert(Format != attention_code::u8_full,
                "rows of 8-bit codes are not normalized: their weights do not fit 32 bits");
  require_view("shift_matmul", "v", v.codes);
  require_at_most("shift_matmul", "rows of v", v.codes.rows, weighted_matmul_max_keys);
  require_shape("shift_matmul", "codes", codes, codes.rows, v.codes.rows);
  require_between("shift_matmul", "zero point of v", v.zero_point, 0, 255);
  require_row_divisor("shift_matmul", normalization);
  require_shape("shift_matmul", "y", y, codes.rows, v.codes.columns);
}

namespace detail {

/// Any rows, those of a stage or normalized ones, on an instruction set.
template <class Isa, class Codes, class Stage, class Out, executor Executor>
void shift_matmul(const Codes& codes, const quantized_matrix& v, const Stage& stage, const matrix_view<Out>& y,
                  workspace memory, const Executor& run) {
  multiply_by_values<Isa>(v, y.rows, memory, run, [&](const auto& values, row_range rows, const auto& scratch) {
    // Clipped codes have been stored as such.
    const kernel::shift_operands<Codes> x{.codes = codes, .max_code = 255, .v = values};
    kernel::shift_matmul<Isa>(x, stage, y, rows, scratch);
  });
}

}  // namespace detail

/// Bytes of workspace for shift_matmul on an instruction set, for memory of any alignment.
constexpr std::size_t shift_matmul_workspace_bytes(index_t keys, index_t channels, index_t threads = 1) {
  return detail::value_product_bytes(keys, channels, threads);
}

/// Checks all arguments of shift_matmul, with a stage or a row_divisor, with a number of threads.
template <attention_code Format, class Stage, class Out>
void require_shift_matmul(const typename attention_codes<Format>::const_view& codes, const quantized_matrix& v,
                          const Stage& stage, const matrix_view<Out>& y, const workspace& memory, index_t threads) {
  require_shift_matmul<Format>(codes, v, stage, y);
  require_workspace("shift_matmul", memory, shift_matmul_workspace_bytes(v.codes.rows, v.codes.columns, threads));
}

/// Attention times V by shifts: log2 codes are exponents, so that a product is a shift.
///
/// Formula:   y[i, c] = stage(sum_j (v[j, c] - zp) << (F - code[i, j]), c); F = 15 for 4-bit codes
///            (attention_code::u8_masked, attention_code::u4_clipped), 44 for 8-bit codes (attention_code::u8_full).
///            The zero level and codes above F contribute 0.
/// Shapes:    codes Tq x Tk, v Tk x C, y Tq x C; row-major, any strides, any alignment; sizes may be 0.
/// Units:     accumulators carry s_v * 2^-F; the stage's scale s_v / s_y * 2^-15.
/// Range:     Tk <= 82000; zero point 0..255; codes as log_softmax writes them, or others if each row's sum of 2^-code
///            is below 257: accumulators of 4-bit codes are int32, and those of 8-bit codes, int64 for stages such as
///            requantize_s64, are held as 32 bits and 29 bits of fraction on the way.
/// Memory:    at least shift_matmul_workspace_bytes(Tk, C, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    shapes that do not match, too many keys, a zero point out of range, a workspace that is too small:
///            before anything is written.
/// Aliasing:  y must not overlap codes or v.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, section 3.3; docs/numerics.md, section 6.
template <class Isa = isa::native, attention_code Format = attention_code::u8_masked, class Stage,
          executor Executor = sequential>
void shift_matmul(typename attention_codes<Format>::const_view codes, const quantized_matrix& v, const Stage& stage,
                  matrix_view<typename Stage::output> y, workspace memory, const Executor& run = {}) {
  require_shift_matmul<Format>(codes, v, stage, y, memory, run.threads());
  detail::shift_matmul<Isa>(codes, v, stage, y, memory, run);
}

/// The same with every row divided by its sum of weights, for codes whose 2^-code do not sum to about 1.
///
/// Formula:   as of weighted_matmul.hpp with weights 2^(15 - code), 0 for the zero level.
/// Shapes, units, range and errors: as of weighted_matmul. 4-bit codes only; with attention_code::u4_clipped
///            every key has a weight of at least 1.
/// Memory:    at least shift_matmul_workspace_bytes(Tk, C, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Aliasing:  y must not overlap codes or v.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section 6.
template <class Isa = isa::native, attention_code Format = attention_code::u8_masked, executor Executor = sequential>
void shift_matmul(typename attention_codes<Format>::const_view codes, const quantized_matrix& v,
                  const row_divisor& normalization, matrix_view<std::uint8_t> y, workspace memory,
                  const Executor& run = {}) {
  require_shift_matmul<Format>(codes, v, normalization, y, memory, run.threads());
  detail::shift_matmul<Isa>(codes, v, normalization, y, memory, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
