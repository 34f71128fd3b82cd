#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "intact/config/floating_point.hpp"
#include "intact/dispatch/operations.hpp"
#include "intact/interop/dispatch/table.hpp"

// The operations and stages of interop/ on the instruction set that is chosen when the program runs. With this header
// dispatch::gemm with packed weights and dispatch::depthwise_conv also take the stages that interop/dispatch/table.hpp
// lists: float_output, float_rounding, and row_corrected of them. Contracts, checks and executors are as in
// dispatch/operations.hpp. A program links the units of this folder beside those of dispatch/: docs/embedding.md.

namespace intact {
inline namespace INTACT_UNIT {
namespace INTACT_HIDDEN dispatch {

/// Operations of interop/ are in a table of their own.
template <class Entry>
requires std::is_base_of_v<Entry, interop_dispatch_table>
struct dispatch_table_with<Entry> {
  using type = interop_dispatch_table;  ///< the table
  /// The table of the chosen instruction set.
  static const type& chosen() {
    const dispatch_choice& set = chosen_dispatch();
    const type* const table = find_interop_dispatch_table(set);
    if (table == nullptr) [[unlikely]] {
      contract_failed("intact::dispatch: interop_select.cpp has no %s, which select.cpp has chosen", set.isa);
    }
    return *table;
  }
};

/// intact::quantize_rows() on the instruction set that is chosen when the program runs.
template <class Code, executor Executor = sequential>
void quantize_rows(matrix_view<const float> x, matrix_view<Code> codes, std::span<float> scale,
                   const Executor& run = {}) {
  require_quantize_rows(x, codes, scale);
  index_t row = 0;
  dispatch_call<dispatched::first_row_not_finite>(x, &row);
  if (row < x.rows) [[unlikely]] {
    require_finite_row(x, row);
  }
  dispatch_call<dispatched::quantize_rows>(x, codes, scale, executor_ref(run));
}

}  // namespace dispatch
}  // namespace INTACT_UNIT
}  // namespace intact
