#include "block_parts.hpp"

#include "compare/comparison.hpp"
#include "compare/operation.hpp"
#include "isa.hpp"

// A whole transformer block.

namespace intact_bench {
namespace {

template <class Isa, class Code>
void compare_codes(const block_task& task, const options& given, report& to) {
  intact_block<Isa, Code> ours(task);
  std::vector<peer<block_task>> more;
  if (task.threads > 1) {
    more.push_back({"intact, 1 thread",
                    [](const block_task& of) { return std::make_unique<intact_block<Isa, Code>>(of, 1); }, true,
                    false});
  }
  compare_with_peers("block", task, ours, given, to, more);
  intact_block_parts<Isa, Code> parts(task);
  if (is_right(parts, task, "parts of the block", to)) {
    parts.measure(effort_for(given, false));
    to.add_parts("block", task.shape, task.output, parts.parts());
  }
}

/// Only for this machine's best instructions: more would take minutes to compile.
void compare_block(const options& given, report& to) {
  if (given.isa != intact::isa::native::name) {
    row result;
    result.problem = "blocks are compiled for " + std::string(intact::isa::native::name) + " alone";
    to.add("block", result);
    return;
  }
  for (const token_shape& shape : token_shapes_of(given.shapes)) {
    for (const named_recipe& recipe : {paper, precise}) {
      const block_task task(shape, recipe, given.threads);
      using isa = intact::isa::native;
      task.is_wide ? compare_codes<isa, std::int16_t>(task, given, to)
                   : compare_codes<isa, std::uint8_t>(task, given, to);
    }
  }
}

const registered_operation registered({"block", compare_block});

}  // namespace
}  // namespace intact_bench
