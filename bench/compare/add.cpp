#include "add.hpp"

#include "compare/comparison.hpp"
#include "compare/operation.hpp"
#include "isa.hpp"

// Residual addition.

namespace intact_bench {
namespace {

void compare_add(const options& given, report& to) {
  for (const token_shape& shape : token_shapes_of(given.shapes)) {
    const add_task task(shape, given.threads);
    with_isa(given.isa, [&](auto isa) {
      intact_add<decltype(isa)> ours(task);
      compare_with_peers("add", task, ours, given, to);
    });
  }
}

const registered_operation registered({"add", compare_add});

}  // namespace
}  // namespace intact_bench
