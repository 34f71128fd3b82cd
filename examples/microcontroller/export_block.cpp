// Builds an integer block from float weights on the host and prints its parameters as C++ arrays: constants of a
// program for a microcontroller. The weights are random numbers here.

#include <cinttypes>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "intact/build/block.hpp"
#include "intact/build/observe_block.hpp"

namespace {

constexpr intact::block_shape shape{.attention = {.tokens = 12, .width = 32, .heads = 2}, .hidden = 64};
constexpr const intact::quantization_recipe& recipe = intact::paper_recipe;

/// Numbers from -largest to largest from a linear congruential generator.
std::vector<float> random_numbers(intact::index_t count, float largest) {
  static std::uint32_t state = 1;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers) {
    state = state * 1664525 + 1013904223;
    number = (static_cast<float>(state >> 16) / 32768 - 1) * largest;
  }
  return numbers;
}

struct layer {
  intact::index_t outputs, inputs;
  std::vector<float> weight = random_numbers(outputs * inputs, 2 / std::sqrt(static_cast<float>(inputs)));
  std::vector<float> bias = random_numbers(outputs, 1);
  operator intact::float_linear_view() const { return {.weight = {weight.data(), outputs, inputs}, .bias = bias}; }
};

// Arrays first, then the structs that refer to them.

template <class T>
void print_array(const char* type, const std::string& name, std::span<const T> values) {
  std::printf("inline constexpr std::%s %s[] = {", type, name.c_str());
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::printf("%s%lld", i == 0 ? "" : i % 16 == 0 ? ",\n    " : ", ", static_cast<long long>(values[i]));
  }
  std::printf("};\n");
}

void print_arrays(const std::string& name, const intact::layernorm_parameters& p) {
  print_array("uint8_t", name + "_shift", p.shift);
  print_array("int32_t", name + "_gain", p.gain);
  print_array("int64_t", name + "_bias", p.bias);
}

void print_arrays(const std::string& name, const intact::linear_parameters& p) {
  const auto& w = std::get<intact::packed_weights<std::int8_t>>(p.weights);
  const auto bytes = static_cast<std::size_t>(intact::packed_panel_bytes<std::int8_t>(w.rows, w.columns));
  print_array("uint8_t", name + "_weights", std::span(w.data, bytes));
  print_array("int32_t", name + "_sums", std::span(w.sums, static_cast<std::size_t>(w.rows)));
  print_array("int32_t", name + "_multiplier", p.scale.multiplier);
  print_array("int64_t", name + "_offset", p.scale.offset);
}

void print_arrays(const std::string& name, const intact::add_parameters& p) {
  print_array("int32_t", name + "_stream_multiplier", p.stream_multiplier);
  print_array("int32_t", name + "_branch_multiplier", p.branch_multiplier);
  print_array("int32_t", name + "_offset", p.offset);
}

void print(const char* name, const intact::layernorm_parameters& p) {
  std::printf(".%s = {.zero_point = %d, .shift = %s_shift, .epsilon = %" PRIu64
              "U, .gain = %s_gain, .bias = %s_bias, .output_shift = %d, .epsilon_fraction = %" PRId64 "},\n",
              name, p.zero_point, name, p.epsilon, name, name, p.output_shift, p.epsilon_fraction);
}

void print(const char* name, const intact::linear_parameters& p) {
  const auto& w = std::get<intact::packed_weights<std::int8_t>>(p.weights);
  std::printf(
      ".%s = {.weights = intact::packed_weights<std::int8_t>{.data = %s_weights, .sums = %s_sums, .rows = %td, "
      ".columns = %td, .packed_rows = %td, .packed_columns = %td}, .scale = {.multiplier = %s_multiplier, "
      ".offset = %s_offset, .shift = %d, .left_shift = %d}},\n",
      name, name, name, w.rows, w.columns, w.packed_rows, w.packed_columns, name, name, p.scale.shift,
      p.scale.left_shift);
}

void print(const char* name, const intact::add_parameters& p) {
  std::printf(
      ".%s = {.stream_multiplier = %s_stream_multiplier, .branch_multiplier = %s_branch_multiplier, .offset = "
      "%s_offset, .stream_zero_point = %d, .branch_zero_point = %d, .shift = %d},\n",
      name, name, name, name, p.stream_zero_point, p.branch_zero_point, p.shift);
}

std::string text(const intact::tensor_scale& p) {
  return "intact::tensor_scale{.multiplier = " + std::to_string(p.multiplier) +
         ", .offset = " + std::to_string(p.offset) + ", .shift = " + std::to_string(p.shift) +
         ", .left_shift = " + std::to_string(p.left_shift) + "}";
}

}  // namespace

int main() {
  constexpr intact::index_t tokens = shape.attention.tokens, width = shape.attention.width;
  const layer qkv{3 * width, width}, proj{width, width}, fc1{shape.hidden, width}, fc2{width, shape.hidden};
  const std::vector<float> ones(width, 1), zeros(width);
  std::vector<float> stream = random_numbers(tokens * width, 2);
  const intact::float_layernorm_view norm{.weight = ones, .bias = zeros};
  const intact::float_block_view block{
      .shape = shape, .norm1 = norm, .qkv = qkv, .proj = proj, .norm2 = norm, .fc1 = fc1, .fc2 = fc2};
  const intact::block_ranges ranges = intact::observe_block(block, intact::matrix_view(stream.data(), tokens, width));
  intact::block_calibration scales = intact::calibrate_block(ranges, recipe);
  std::vector<std::byte> memory(intact::block_memory_bytes(shape, recipe));
  const intact::block_parameters p = intact::build_block(block, scales, recipe, memory);
  const auto& softmax = std::get<intact::log2_of_sum>(p.attention.softmax.weights);

  std::printf(
      "// Made by export_block.cpp.\n#pragma once\n\n#include <cstdint>\n\n#include \"intact/model/block.hpp\"\n\n"
      "namespace block_data {\n\n");
  print_arrays("norm1", p.norm1);
  print_arrays("qkv", p.attention.qkv);
  print_array("uint64_t", "exponential", softmax.exponential);
  print_arrays("proj", p.attention.proj);
  print_arrays("add1", p.add1);
  print_arrays("norm2", p.norm2);
  print_arrays("fc1", p.mlp.fc1);
  print_array("uint8_t", "activation", p.mlp.table);
  print_arrays("fc2", p.mlp.fc2);
  print_arrays("add2", p.add2);

  std::printf(
      "\ninline constexpr intact::block_shape shape{.attention = {.tokens = %td, .width = %td, .heads = %td}, "
      ".hidden = %td};\n",
      tokens, width, shape.attention.heads, shape.hidden);
  std::printf("inline constexpr intact::block_parameters parameters{\n");
  print("norm1", p.norm1);
  std::printf(".attention = {\n");
  print("qkv", p.attention.qkv);
  std::printf(".zero_points = {.q = %d, .k = %d, .v = %d},\n", p.attention.zero_points.q, p.attention.zero_points.k,
              p.attention.zero_points.v);
  std::printf(".logits = %s,\n", text(p.attention.logits).c_str());
  std::printf(
      ".softmax = {.weights = intact::log2_of_sum{.exponential = exponential, .codes = "
      "intact::attention_code{%d}, .rounding = intact::log2_rounding{%d}}, .context = %s},\n",
      static_cast<int>(softmax.codes), static_cast<int>(softmax.rounding),
      text(std::get<intact::tensor_scale>(p.attention.softmax.context)).c_str());
  print("proj", p.attention.proj);
  std::printf("},\n");
  print("add1", p.add1);
  print("norm2", p.norm2);
  std::printf(".mlp = {\n");
  print("fc1", p.mlp.fc1);
  std::printf(".table = activation,\n");
  print("fc2", p.mlp.fc2);
  std::printf("},\n");
  print("add2", p.add2);
  std::printf("};\n\n}  // namespace block_data\n");
}
