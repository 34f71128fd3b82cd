#include "layernorm.hpp"

#include "compare/comparison.hpp"
#include "compare/operation.hpp"
#include "isa.hpp"

// LayerNorm of both kinds of residual stream.

namespace intact_bench {
namespace {

template <class Code>
void compare_shape(const token_shape& shape, const options& given, report& to) {
  const layernorm_task<Code> task(shape, given.threads);
  with_isa(given.isa, [&](auto isa) {
    intact_layernorm<decltype(isa), Code> ours(task);
    compare_with_peers("layernorm", task, ours, given, to);
  });
}

void compare_layernorm(const options& given, report& to) {
  for (const token_shape& shape : token_shapes_of(given.shapes)) {
    compare_shape<std::uint8_t>(shape, given, to);
    compare_shape<std::int16_t>(shape, given, to);
  }
}

const registered_operation registered({"layernorm", compare_layernorm});

}  // namespace
}  // namespace intact_bench
