#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/kernel/max_softmax.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks a table of codes or weights of max_softmax: softmax_distances entries, for packed u4 none above 15.
inline void require_softmax_table(const char* operation, std::span<const std::uint8_t> table, int largest = 255) {
  require_equal(operation, "size of the softmax table", std::ssize(table), softmax_distances);
  for (const std::uint8_t entry : table) {
    require_at_most(operation, "entry of the softmax table", entry, largest);
  }
}

/// Checks the arguments of max_softmax.
template <class Codes>
void require_max_softmax(const matrix_view<const std::uint8_t>& logits, std::span<const std::uint8_t> table,
                         const Codes& y) {
  require_view("max_softmax", "logits", logits);
  require_shape("max_softmax", "y", y, logits.rows, logits.columns);
  constexpr bool packed = std::is_same_v<Codes, packed_view<u4, std::uint8_t>>;
  static_assert(packed || std::is_same_v<Codes, matrix_view<std::uint8_t>>, "max_softmax writes u8 or packed u4");
  require_softmax_table("max_softmax", table, packed ? u4::max : 255);
}

/// Softmax relative to the row's maximum, without a sum: log2 codes or u8 weights that are not yet normalized. The row
/// is divided by its sum when it is multiplied with V (shift_matmul.hpp, weighted_matmul.hpp).
///
/// Formula:   y[j] = table[max_k logit[k] - logit[j]]
/// Shapes:    logits Tq x Tk, y Tq x Tk (u8, or packed u4 for tables of 0..15); row-major, any strides, any alignment;
///            sizes may be 0. The table has softmax_distances = 256 entries.
/// Units:     the table carries the logits' scale: codes round(d * s / ln 2), or weights round(255 * exp(-s * d)),
///            built by build/table.hpp.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    shapes that do not match, a table of another size or with entries that y does not hold: before anything
///            is written.
/// Aliasing:  y must not overlap the logits, except that u8 y may be the logits exactly (in place).
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section "Max-relative attention".
template <class Isa = isa::native, class Codes, executor Executor = sequential>
void max_softmax(matrix_view<const std::uint8_t> logits, std::span<const std::uint8_t> table, Codes y,
                 const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_max_softmax(logits, table, y);
  if (logits.columns != 0) {
    for_each_row_range(run, logits.rows, rows_per_task,
                       [&](row_range rows) { kernel::max_softmax<Isa>(logits, table.data(), y, rows); });
  }
}

/// Checks the arguments of max_softmax.
inline void require_max_softmax(const matrix_view<const std::uint8_t>& logits, std::span<const std::uint8_t> table,
                                const key_mask& mask, const matrix_view<std::uint8_t>& y) {
  require_view("max_softmax", "logits", logits);
  require_shape("max_softmax", "y", y, logits.rows, logits.columns);
  require_mask("max_softmax", mask, logits.rows, logits.columns);
  require_softmax_table("max_softmax", table);
}

/// The same where keys may be masked.
///
/// Formula:   as above, the maximum over the visible keys; masked keys become `masked`, the code of weight 0 in the
///            next operation: 16 among log2 codes and 0 among weights.
/// Shapes:    mask Tq x Tk or 1 x Tk; else as above. Only u8 y: packed u4 has no code for weight 0.
/// Errors:    as above, and a mask of another shape.
/// Aliasing:  as above; y must not overlap the mask.
/// Runs on:   as above.
template <class Isa = isa::native, executor Executor = sequential>
void max_softmax(matrix_view<const std::uint8_t> logits, std::span<const std::uint8_t> table, const key_mask& mask,
                 std::uint8_t masked, matrix_view<std::uint8_t> y, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_max_softmax(logits, table, mask, y);
  if (logits.columns != 0) {
    for_each_row_range(run, logits.rows, rows_per_task,
                       [&](row_range rows) { kernel::max_softmax<Isa>(logits, table.data(), mask, masked, y, rows); });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
