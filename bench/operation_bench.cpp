// Times the operations beside gemm on one thread: every shape, every kind of codes. Each configuration is checked
// against the specification first. With --quick few shapes are timed briefly. All other options are Google Benchmark's.

#include <memory>
#include <string>

#include "activation.hpp"
#include "add.hpp"
#include "attention.hpp"
#include "layernorm.hpp"
#include "log_softmax.hpp"
#include "task_benchmarks.hpp"

namespace {

using namespace intact_bench;
using isa = intact::isa::native;

template <class Code>
void add_layernorm(const token_shape& shape, const std::string& codes) {
  add_task_benchmark<intact_layernorm<isa, Code>>("layernorm/" + shape.name() + '/' + codes, shape.rows(),
                                                  [shape] { return std::make_unique<layernorm_task<Code>>(shape, 1); });
}

void add_log_softmax(const token_shape& shape, softmax_codes wanted, const std::string& codes) {
  add_task_benchmark<intact_log_softmax<isa>>(
      "log_softmax/" + std::to_string(shape.logit_rows()) + 'x' + std::to_string(shape.tokens) + '/' + codes,
      shape.logit_rows(), [shape, wanted] { return std::make_unique<log_softmax_task>(shape, wanted, 1); });
}

template <class Code>
void add_activation(const token_shape& shape, const std::string& codes) {
  add_task_benchmark<intact_activation<isa, Code>>(
      "activation/" + std::to_string(shape.rows()) + 'x' + std::to_string(shape.hidden()) + '/' + codes, shape.rows(),
      [shape] { return std::make_unique<activation_task<Code>>(shape, 1); });
}

void add_shape(const token_shape& shape) {
  add_layernorm<std::uint8_t>(shape, "u8");
  add_layernorm<std::int16_t>(shape, "s16");
  add_log_softmax(shape, softmax_codes::u8_of_sum, "u8");
  add_log_softmax(shape, softmax_codes::u4_of_sum, "u4");
  add_log_softmax(shape, softmax_codes::u8_of_max, "u8 of max");
  add_activation<std::uint8_t>(shape, "u8");
  add_activation<std::uint16_t>(shape, "u12");
  add_task_benchmark<intact_add<isa>>("add/" + shape.name() + "/u8", shape.rows(),
                                      [shape] { return std::make_unique<add_task>(shape, 1); });
  for (const named_recipe& recipe : {paper, precise, precise_weights, precise_weight_codes}) {
    add_task_benchmark<intact_attention<isa>>(
        "attention/" + shape.name() + '/' + recipe.name, shape.rows(),
        [shape, recipe] { return std::make_unique<attention_task>(shape, recipe, 1); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmarks(argc, argv, [](bool quick) {
    for (const token_shape& shape : token_shapes_of(quick ? "quick" : "all")) {
      add_shape(shape);
    }
  });
}
