#include "attention.hpp"

#include "compare/comparison.hpp"
#include "compare/operation.hpp"
#include "isa.hpp"

// Attention from q, k and v to the context, all heads.

namespace intact_bench {
namespace {

void compare_attention(const options& given, report& to) {
  for (const token_shape& shape : token_shapes_of(given.shapes)) {
    for (const named_recipe& recipe : {paper, precise, precise_weights}) {
      const attention_task task(shape, recipe, given.threads);
      with_isa(given.isa, [&](auto isa) {
        intact_attention<decltype(isa)> ours(task);
        compare_with_peers("attention", task, ours, given, to);
      });
    }
  }
}

const registered_operation registered({"attention", compare_attention});

}  // namespace
}  // namespace intact_bench
