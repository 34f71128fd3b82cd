// Compiled once for each instruction set, with its compiler flags and INTACT_DISPATCH_ISA, the name of its tag: its
// table. Without exceptions, since callers have checked all arguments. docs/embedding.md has the commands.

#include <cstdint>
#include <type_traits>

#include "intact/dispatch/table.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace {

template <class Isa, class A, class Element, class Stage>
void run_on(dispatched::gemm, const matrix_view<const A>& a, const packed_weights<Element>& w, const Stage& stage,
            const matrix_view<typename Stage::output>& y, const executor_ref& executor) {
  gemm_unchecked<Isa>(gemm_operands<A, Element, Stage>{.a = a, .w = w, .stage = stage, .y = y}, executor);
}
template <class Isa, class Stage, class Output>
void run_on(dispatched::gemm, const quantized_batch& a, const quantized_batch& b, const Stage& stage, const Output& y,
            const workspace& memory, const executor_ref& executor) {
  gemm<Isa>(a, b, stage, y, memory, executor);
}
template <class Isa>
void run_on(dispatched::prepare_keys_values, const quantized_matrix& k, const quantized_matrix& v, index_t heads,
            int query_zero_point, const workspace& memory, prepared_keys_values* prepared,
            const executor_ref& executor) {
  *prepared = prepare_keys_values<Isa>(k, v, heads, query_zero_point, memory, executor);
}
template <class Isa, attention_code Format, log2_rounding Rounding, class... Arguments>
void run_on(dispatched::log_softmax<Format, Rounding>, const Arguments&... arguments) {
  log_softmax<Isa, Format, Rounding>(arguments...);
}
template <class Isa, attention_code Format, class... Arguments>
void run_on(dispatched::shift_matmul<Format>, const Arguments&... arguments) {
  shift_matmul<Isa, Format>(arguments...);
}

// The others are called by the same name with the same arguments.
#define INTACT_RUN(name)                                         \
  template <class Isa, class... Arguments>                       \
  void run_on(dispatched::name, const Arguments&... arguments) { \
    name<Isa>(arguments...);                                     \
  }
INTACT_RUN(activation)
INTACT_RUN(add)
INTACT_RUN(attention)
INTACT_RUN(average_pool)
INTACT_RUN(block)
INTACT_RUN(convert_codes)
INTACT_RUN(depthwise_conv)
INTACT_RUN(im2col)
INTACT_RUN(layernorm)
INTACT_RUN(max_softmax)
INTACT_RUN(multiply)
INTACT_RUN(patch_merge)
INTACT_RUN(rmsnorm)
INTACT_RUN(rotate)
INTACT_RUN(row_sums)
INTACT_RUN(swin)
INTACT_RUN(swin_block)
INTACT_RUN(swin_features)
INTACT_RUN(unfold)
INTACT_RUN(vit)
INTACT_RUN(vit_features)
INTACT_RUN(weighted_matmul)
INTACT_RUN(window_attention)
INTACT_RUN(window_partition)
INTACT_RUN(window_reverse)
#undef INTACT_RUN

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
const dispatch_table& dispatch_table_of<isa::INTACT_DISPATCH_ISA>() {
  static constexpr dispatch_table table{unit()};
  return table;
}

}  // namespace INTACT_ABI
}  // namespace intact
