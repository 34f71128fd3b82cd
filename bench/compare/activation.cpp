#include "activation.hpp"

#include "compare/comparison.hpp"
#include "compare/operation.hpp"
#include "isa.hpp"

// GELU by table.

namespace intact_bench {
namespace {

template <class Code>
void compare_shape(const token_shape& shape, const options& given, report& to) {
  const activation_task<Code> task(shape, given.threads);
  with_isa(given.isa, [&](auto isa) {
    intact_activation<decltype(isa), Code> ours(task);
    compare_with_peers("activation", task, ours, given, to);
  });
}

void compare_activation(const options& given, report& to) {
  for (const token_shape& shape : token_shapes_of(given.shapes)) {
    compare_shape<std::uint8_t>(shape, given, to);
    compare_shape<std::uint16_t>(shape, given, to);
  }
}

const registered_operation registered({"activation", compare_activation});

}  // namespace
}  // namespace intact_bench
