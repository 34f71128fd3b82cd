// Compiled once for each instruction set, as dispatch/unit.cpp is: its table of the operations and stages of interop/.

#include <cstdint>
#include <span>

#include "intact/interop/dispatch/table.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace {

template <class Isa, class A, class Element, class Stage>
void run_on(dispatched::gemm, const matrix_view<const A>& a, const packed_weights<Element>& w, const Stage& stage,
            const matrix_view<typename Stage::output>& y, const executor_ref& executor) {
  gemm_unchecked<Isa>(gemm_operands<A, Element, Stage>{.a = a, .w = w, .stage = stage, .y = y}, executor);
}
template <class Isa, class... Arguments>
void run_on(dispatched::depthwise_conv, const Arguments&... arguments) {
  depthwise_conv<Isa>(arguments...);
}
template <class Isa>
void run_on(dispatched::first_row_not_finite, const matrix_view<const float>& x, index_t* row) {
  *row = kernel::first_row_not_finite<Isa>(x);
}
template <class Isa, class Code>
void run_on(dispatched::quantize_rows, const matrix_view<const float>& x, const matrix_view<Code>& codes,
            const std::span<float>& scale, const executor_ref& executor) {
  detail::run_quantize_rows<Isa>(x, codes, scale, executor);
}

/// The functions of the table.
struct unit {
  template <class Operation, class... Arguments>
  static void run(const Arguments&... arguments) {
    run_on<isa::INTACT_DISPATCH_ISA>(Operation{}, arguments...);
  }
};

}  // namespace
}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

template <>
const interop_dispatch_table& interop_dispatch_table_of<isa::INTACT_DISPATCH_ISA>() {
  static constexpr interop_dispatch_table table{unit()};
  return table;
}

}  // namespace INTACT_ABI
}  // namespace intact
