#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/kernel/activation.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Entries of the table of u8 codes.
inline constexpr index_t activation_table_size_8 = 1 << 8;
/// Entries of the table of 12-bit codes.
inline constexpr index_t activation_table_size_12 = 1 << activation_bits;

/// Checks the arguments of activation.
template <class Code>
void require_activation(const matrix_view<Code>& codes, std::span<const std::uint8_t> table,
                        const matrix_view<std::uint8_t>& y) {
  using code = std::remove_const_t<Code>;
  static_assert(std::is_same_v<code, std::uint8_t> || std::is_same_v<code, std::uint16_t>,
                "activation takes 8-bit codes in u8 or 12-bit codes in u16");
  constexpr index_t entries = std::is_same_v<code, std::uint8_t> ? activation_table_size_8 : activation_table_size_12;
  require_equal("activation", "size of table", std::ssize(table), entries);
  require_view("activation", "codes", codes);
  require_shape("activation", "y", y, codes.rows, codes.columns);
}

/// Any function of one code by table: GELU, another activation, a change of scale. Tables are data, built by
/// build/table.hpp.
///
/// Formula:   y[i, j] = table[code[i, j]].
/// Shapes:    codes T x C, y T x C; row-major, any strides, any alignment; sizes may be 0. The table has 256 entries
///            for u8 codes and 4096 for 12-bit codes in u16.
/// Units:     the table carries both scales and zero points.
/// Range:     u16 codes are at most 4095 (those of requantize_u12).
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    shapes or a table size that do not match: before anything is written.
/// Aliasing:  u8 codes may be y exactly (in place); otherwise they must not overlap.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section 7 (FQ-ViT applies a float GELU).
template <class Isa = isa::native, class Code, executor Executor = sequential>
void activation(matrix_view<Code> codes, std::span<const std::uint8_t> table, matrix_view<std::uint8_t> y,
                const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_activation(codes, table, y);
  using code = std::remove_const_t<Code>;
  if (y.columns != 0) {
    for_each_row_range(run, y.rows, rows_per_task, [&](row_range rows) {
      kernel::activation<Isa>(matrix_view<const code>(codes), table.data(), y, rows);
    });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
