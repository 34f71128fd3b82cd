// A transformer block from float weights, in integers: built when the model is loaded, then run with threads. Prints
// whether its codes are those of the specification, and its time beside the time of the float32 block on Eigen.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "intact/build/block.hpp"
#include "intact/build/observe_block.hpp"
#include "intact/executors/std_threads.hpp"
#include "intact/intact.hpp"
#include "intact/reference/model/block.hpp"
#if __has_include(<unsupported/Eigen/SpecialFunctions>) && __has_include("eigen_block.hpp")
#include "eigen_block.hpp"
#endif

constexpr intact::block_shape shape{.attention = {.tokens = 197, .width = 192, .heads = 3},
                                    .hidden = 768};  // DeiT-Tiny
constexpr const intact::quantization_recipe& recipe = intact::paper_recipe;

/// Normally distributed numbers, in place of a model's weights and inputs.
std::vector<float> random_numbers(intact::index_t count, float deviation) {
  static std::mt19937 engine;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  std::generate(numbers.begin(), numbers.end(), [&] { return std::normal_distribution(0.0F, deviation)(engine); });
  return numbers;
}

struct layer {
  intact::index_t outputs, inputs;
  std::vector<float> weight = random_numbers(outputs * inputs, 1 / std::sqrt(static_cast<float>(inputs)));
  std::vector<float> bias = random_numbers(outputs, 1);
  operator intact::float_linear_view() const { return {.weight = {weight.data(), outputs, inputs}, .bias = bias}; }
};

/// Prints the milliseconds of the fastest run within a second.
void print_time(const char* name, auto run) {
  using clock = std::chrono::steady_clock;
  clock::duration fastest = std::chrono::seconds(1);
  for (const auto end = clock::now() + fastest; clock::now() < end;) {
    const auto begin = clock::now();
    run();
    fastest = std::min(fastest, clock::now() - begin);
  }
  std::printf("%s: %.3f ms\n", name, std::chrono::duration<double, std::milli>(fastest).count());
}

int main() {
  constexpr intact::index_t tokens = shape.attention.tokens, width = shape.attention.width;
  const layer qkv{3 * width, width}, proj{width, width}, fc1{shape.hidden, width}, fc2{width, shape.hidden};
  const std::vector<float> ones(width, 1), zeros(width), input = random_numbers(tokens * width, 1);
  const intact::float_layernorm_view norm{.weight = ones, .bias = zeros};
  const intact::float_block_view block{
      .shape = shape, .norm1 = norm, .qkv = qkv, .proj = proj, .norm2 = norm, .fc1 = fc1, .fc2 = fc2};
  const auto view_of = [](auto& values) { return intact::matrix_view(values.data(), tokens, width); };
  // When the model is loaded: the ranges of the float block's tensors, their scales, the integer block.
  std::vector<float> stream = input;
  intact::block_calibration scales = intact::calibrate_block(intact::observe_block(block, view_of(stream)), recipe);
  std::vector<std::byte> memory(intact::block_memory_bytes(shape, recipe));
  const intact::block_parameters parameters = intact::build_block(block, scales, recipe, memory);
  // When it runs: codes of the residual stream, in place.
  std::vector<std::uint8_t> input_codes(input.size()), codes;
  intact::quantize_codes(view_of(input), scales.stream, view_of(input_codes));
  const intact::std_thread_executor run;
  std::vector<std::byte> scratch(std::max(intact::block_workspace_bytes(shape, 1, run.threads()),
                                          intact::reference::block_workspace_bytes(shape)));
  const intact::workspace workspace(scratch.data(), scratch.size());
  using s8_weights = intact::weight_kinds<std::int8_t>;  // those of the recipe; other kinds are not compiled
  print_time("integers", [&] {
    intact::block<intact::isa::native, s8_weights>(view_of(codes = input_codes), parameters, shape, workspace, run);
  });
#if __has_include(<unsupported/Eigen/SpecialFunctions>) && __has_include("eigen_block.hpp")
  print_time("float32", [&] { eigen_block{block}(stream = input); });
#endif
  intact::reference::block(view_of(input_codes), parameters, shape, workspace);
  std::printf("%s\n", codes == input_codes ? "the codes of the specification" : "other codes");
}
