// Blocks that the C library builds and runs have the codes of the specification.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/block.hpp"
#include "intact/build/observe_block.hpp"
#include "intact/c/intact.h"
#include "intact/reference/model/block.hpp"

namespace intact_test::block_reference_test {
namespace {

using namespace intact;

constexpr block_shape shape{.attention = {.tokens = 11, .width = 24, .heads = 2}, .hidden = 56};
constexpr index_t width = shape.attention.width, rows = 2 * shape.attention.tokens;

std::vector<float> random_numbers(index_t count, float deviation) {
  static std::mt19937 engine(5);
  std::vector<float> numbers;
  for (index_t i = 0; i < count; ++i) {
    numbers.push_back(deviation * (static_cast<float>(engine() >> 8) / 8'388'608 - 1));
  }
  return numbers;
}

struct layer {
  index_t outputs, inputs;
  std::vector<float> weight = random_numbers(outputs * inputs, 2 / std::sqrt(static_cast<float>(inputs)));
  std::vector<float> bias = random_numbers(outputs, 0.5F);

  float_linear_view view() const { return {{weight.data(), outputs, inputs}, bias}; }
  intact_float_linear c_view() const { return {weight.data(), bias.data()}; }
};

/// A float block for both interfaces.
struct random_block {
  std::vector<float> gamma = random_numbers(width, 1), beta = random_numbers(width, 0.2F);
  layer qkv{3 * width, width}, proj{width, width}, fc1{shape.hidden, width}, fc2{width, shape.hidden};
  std::vector<float> input = random_numbers(rows * width, 2);

  float_block_view view() const {
    const float_layernorm_view norm{gamma, beta};
    return {.shape = shape,
            .norm1 = norm,
            .qkv = qkv.view(),
            .proj = proj.view(),
            .norm2 = norm,
            .fc1 = fc1.view(),
            .fc2 = fc2.view(),
            .position = 0,
            .activation = activation_function::silu};
  }
  intact_float_block c_view() const {
    const intact_float_norm norm{gamma.data(), beta.data()};
    return {.shape = {shape.attention.tokens, width, shape.attention.heads, shape.hidden},
            .norm1 = norm,
            .qkv = qkv.c_view(),
            .proj = proj.c_view(),
            .norm2 = norm,
            .fc1 = fc1.c_view(),
            .fc2 = fc2.c_view(),
            .epsilon = 1e-6F,
            .activation = INTACT_SILU,
            .position = 0};
  }
};

/// The codes of the block by the specification.
template <class Code>
std::vector<Code> reference_codes(const random_block& block, const quantization_recipe& recipe) {
  std::vector<float> stream = block.input;
  block_calibration scales =
      calibrate_block(observe_block(block.view(), matrix_view(stream.data(), rows, width)), recipe);
  std::vector<std::byte> memory(block_memory_bytes(shape, recipe));
  const block_parameters parameters = build_block(block.view(), scales, recipe, memory);
  std::vector<Code> codes(block.input.size());
  const matrix_view<Code> view(codes.data(), rows, width);
  quantize_codes(matrix_view<const float>(block.input.data(), rows, width), scales.stream, view);
  std::vector<std::byte> scratch(reference::block_workspace_bytes(shape));
  for (index_t i = 0; i < rows; i += shape.attention.tokens) {
    reference::block(view.row_block(i, shape.attention.tokens), parameters, shape,
                     workspace(scratch.data(), scratch.size()));
  }
  return codes;
}

/// The codes of the block by the C library.
template <class Code>
std::vector<Code> c_codes(const random_block& block, const intact_recipe& recipe) {
  const intact_float_block from = block.c_view();
  std::vector<float> stream = block.input;
  std::vector<intact_range> ranges(3 * width);
  intact_block_ranges observed{};
  observed.stream = ranges.data();
  observed.add1 = ranges.data() + width;
  observed.add2 = ranges.data() + 2 * width;
  const intact_matrix float_stream{stream.data(), rows, width, width, INTACT_F32};
  REQUIRE(intact_observe_block(&from, &float_stream, &observed) == INTACT_OK);
  intact_block_scales* scales = nullptr;
  REQUIRE(intact_calibrate_block(&observed, &recipe, &scales) == INTACT_OK);
  std::size_t bytes = 0;
  REQUIRE(intact_block_bytes(&from.shape, &recipe, &bytes) == INTACT_OK);
  std::vector<std::byte> memory(bytes);
  const intact_workspace place{memory.data(), bytes};
  const intact_block* built = nullptr;
  REQUIRE(intact_build_block(&from, scales, &recipe, &place, &built) == INTACT_OK);

  std::vector<Code> codes(block.input.size());
  const intact_const_matrix input{block.input.data(), rows, width, width, INTACT_F32};
  const intact_matrix to{codes.data(), rows, width, width, sizeof(Code) == 1 ? INTACT_U8 : INTACT_S16};
  intact_scale scale{};
  REQUIRE(intact_block_stream_scale(scales, INTACT_STREAM_ENTERS, &scale) == INTACT_OK);
  REQUIRE(intact_quantize(&input, &scale, &to) == INTACT_OK);
  REQUIRE(intact_free_block_scales(scales) == INTACT_OK);
  REQUIRE(intact_block_workspace_bytes(built, 2, 1, &bytes) == INTACT_OK);
  std::vector<std::byte> scratch(bytes);
  const intact_workspace workspace{scratch.data(), bytes};
  REQUIRE(intact_run_block(built, &to, &workspace, nullptr) == INTACT_OK);
  return codes;
}

struct recipe_pair {
  const char* name;
  intact_recipe c;
  quantization_recipe reference;
};

intact_recipe precise(intact_attention_kind kind, std::int32_t weight_bits = 0, std::ptrdiff_t group = 0) {
  return {.attention = kind,
          .probabilities = INTACT_CODE_U8_MASKED,
          .exponential = INTACT_EXACT_EXP,
          .rounding = INTACT_ROUND_LOG,
          .normalize_rows = 1,
          .s16_stream = 1,
          .pixel_codes = 0,
          .weight_bits = weight_bits,
          .weight_group = group};
}

quantization_recipe with_weights(quantization_recipe recipe, weight_kind weights, index_t group = 32) {
  recipe.weights = weights;
  recipe.weight_group = group;
  return recipe;
}

}  // namespace

TEST_CASE("intact_run_block: the codes of reference::block [recipes]", "[c]") {
  intact_recipe u4{}, full{}, s4{};
  u4.probabilities = INTACT_CODE_U4_CLIPPED;
  full.probabilities = INTACT_CODE_U8_FULL;
  s4.weight_bits = 4;
  quantization_recipe clipped = paper_recipe;
  clipped.probabilities = attention_code::u4_clipped;
  const recipe_pair recipes[] = {
      {"paper", {}, paper_recipe},
      {"clipped", u4, clipped},
      {"8-bit attention", full, paper_recipe_888},
      {"s4 weights", s4, with_weights(paper_recipe, weight_kind::s4)},
      {"precise", precise(INTACT_LOG2_OF_MAX), precise_recipe},
      {"precise, weights", precise(INTACT_WEIGHTS), precise_recipe_888},
      {"precise, codes of weights", precise(INTACT_WEIGHT_CODES), precise_recipe_weight_codes},
      {"precise, s4 weights with groups", precise(INTACT_LOG2_OF_MAX, 4, 8),
       with_weights(precise_recipe, weight_kind::grouped_s4, 8)}};
  const random_block block;
  for (const recipe_pair& recipe : recipes) {
    INFO(recipe.name);
    if (recipe.c.s16_stream == 1) {
      CHECK(c_codes<std::int16_t>(block, recipe.c) == reference_codes<std::int16_t>(block, recipe.reference));
    } else {
      CHECK(c_codes<std::uint8_t>(block, recipe.c) == reference_codes<std::uint8_t>(block, recipe.reference));
    }
  }
}

}  // namespace intact_test::block_reference_test
