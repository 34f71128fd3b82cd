// A program for any processor that uses the instructions of the one that it runs on: a block of DeiT-Tiny from float
// weights, with threads. Prints the instruction set, a fingerprint of the codes, and whether they are those of the
// specification.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

#include "intact/build/block.hpp"
#include "intact/build/observe_block.hpp"
#include "intact/dispatch/all.hpp"
#include "intact/executors/std_threads.hpp"
#include "intact/reference/model/block.hpp"

namespace {

constexpr intact::block_shape shape{.attention = {.tokens = 197, .width = 192, .heads = 3}, .hidden = 768};
constexpr intact::index_t tokens = shape.attention.tokens, width = shape.attention.width;

/// A fixed sequence of numbers between -most and most, in place of a model's weights and inputs.
std::vector<float> some_numbers(intact::index_t count, float most) {
  static std::uint32_t state = 1;
  std::vector<float> numbers;
  for (intact::index_t i = 0; i < count; ++i) {
    state = state * 1664525U + 1013904223U;
    numbers.push_back(most * static_cast<float>(static_cast<int>(state >> 24) - 128) / 128);
  }
  return numbers;
}

struct layer {
  intact::index_t outputs, inputs;
  std::vector<float> weight = some_numbers(outputs * inputs, 0.125F), bias = some_numbers(outputs, 1);
  operator intact::float_linear_view() const { return {.weight = {weight.data(), outputs, inputs}, .bias = bias}; }
};

void run_block() {
  const auto view_of = [](auto& values) { return intact::matrix_view(values.data(), tokens, width); };
  // When the model is loaded.
  const layer qkv{3 * width, width}, proj{width, width}, fc1{shape.hidden, width}, fc2{width, shape.hidden};
  const std::vector<float> ones(width, 1), zeros(width);
  const intact::float_layernorm_view norm{.weight = ones, .bias = zeros};
  const intact::float_block_view block{
      .shape = shape, .norm1 = norm, .qkv = qkv, .proj = proj, .norm2 = norm, .fc1 = fc1, .fc2 = fc2};
  std::vector<float> input = some_numbers(tokens * width, 2), stream = input;
  const intact::quantization_recipe& recipe = intact::paper_recipe;
  intact::block_calibration scales = intact::calibrate_block(intact::observe_block(block, view_of(stream)), recipe);
  std::vector<std::byte> memory(intact::block_memory_bytes(shape, recipe));
  const intact::block_parameters parameters = intact::build_block(block, scales, recipe, memory);

  // When it runs.
  std::vector<std::uint8_t> codes(input.size());
  intact::quantize_codes(view_of(input), scales.stream, view_of(codes));
  std::vector<std::uint8_t> expected = codes;
  const intact::std_thread_executor threads(4);
  std::vector<std::byte> scratch(intact::block_workspace_bytes(shape, 1, threads.threads()));
  intact::dispatch::block(view_of(codes), parameters, shape, {scratch.data(), scratch.size()}, threads);

  scratch.resize(intact::reference::block_workspace_bytes(shape));
  intact::reference::block(view_of(expected), parameters, shape, {scratch.data(), scratch.size()});
  std::uint64_t fingerprint = 14695981039346656037U;  // FNV-1a
  for (const std::uint8_t code : codes) {
    fingerprint = (fingerprint ^ code) * 1099511628211U;
  }
  std::printf("%s\nfingerprint %016llx\n%s\n", intact::dispatch::isa_name(),
              static_cast<unsigned long long>(fingerprint),
              codes == expected ? "the codes of the specification" : "other codes");
}

}  // namespace

int main() try {
  run_block();
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
