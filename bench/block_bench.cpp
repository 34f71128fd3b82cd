// Times transformer blocks on one thread: every shape, both recipes. Each configuration is checked against the block
// step by step first. With --quick few shapes are timed briefly. All other options are Google Benchmark's.

#include <memory>
#include <string>

#include "block.hpp"
#include "task_benchmarks.hpp"

namespace {

using namespace intact_bench;
using isa = intact::isa::native;

template <class Code>
void add_block(const token_shape& shape, const named_recipe& recipe) {
  add_task_benchmark<intact_block<isa, Code>>(
      "block/" + shape.name() + '/' + recipe.name, shape.rows(),
      [shape, recipe] { return std::make_unique<block_task>(shape, recipe, 1); });
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmarks(argc, argv, [](bool quick) {
    for (const token_shape& shape : token_shapes_of(quick ? "quick" : "all")) {
      add_block<std::uint8_t>(shape, paper);
      add_block<std::int16_t>(shape, precise);
    }
  });
}
