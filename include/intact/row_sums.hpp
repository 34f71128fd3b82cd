#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/kernel/row_sums.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Checks the operands of row_sums.
template <class A>
void require_row_sums(matrix_view<A> a, std::int32_t factor, std::span<std::int32_t> y) {
  using activation = std::remove_const_t<A>;
  static_assert(std::is_same_v<activation, std::uint8_t> || std::is_same_v<activation, std::int8_t>,
                "row_sums takes activations of 8 bits");
  require_view("row_sums", "a", a);
  require_between("row_sums", "factor", factor, -255, 255);
  require_at_most("row_sums", "columns of a", a.columns, row_sums_max_columns);
  require_equal("row_sums", "size of y", std::ssize(y), a.rows);
}

/// Sums of the rows of a matrix of codes, times a factor: the corrections of row_corrected for weights with the zero
/// point -factor.
///
/// Formula:   y[m] = factor * sum_k a[m, k]
/// Shapes:    a M x K, any strides, any alignment, sizes from 0; y M.
/// Range:     |factor| <= 255, K <= 33025: exact in int32.
/// Exactness: every bit, on every instruction set.
/// Errors:    sizes that do not match, a factor or K over its limit: before anything is written.
/// Aliasing:  y must not overlap a.
/// Runs on:   all instruction sets, in the caller's thread.
/// Source:    docs/numerics.md, section 14.
template <class Isa = isa::native, class A>
void row_sums(matrix_view<A> a, std::int32_t factor, std::span<std::int32_t> y) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_row_sums(a, factor, y);
  for (index_t m = 0; m < a.rows; ++m) {
    const std::int64_t sum = a.columns == 0 ? 0 : kernel::sum_of_row<Isa>(a.data + m * a.stride, a.columns);
    y[static_cast<std::size_t>(m)] = static_cast<std::int32_t>(factor * sum);
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
