#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/model/swin.hpp"
#include "kernel_tests.hpp"
#include "small_model.hpp"

// Valid random parameters of Swin blocks with every attention, and a Swin transformer of two stages.

namespace intact_test {

/// A scale that spreads numbers up to `largest` over the codes and beyond.
inline tensor_scale some_scale(double largest, double codes, double middle) {
  const double factor = codes / largest;
  const int left_shift = factor < 0.125 ? 0 : 12;
  const auto multiplier = static_cast<std::int32_t>(std::ldexp(factor, 34 - left_shift));
  return {multiplier, static_cast<std::int64_t>(std::ldexp(middle + 0.5, 34)), 2, left_shift};
}

/// A variant of attention.
struct attention_choice {
  attention_kind kind = attention_kind::log2_of_sum;
  attention_code probabilities = attention_code::u8_masked;
  log2_rounding rounding = log2_rounding::round_ratio;
  bool normalize = false;
  bool no_room = false;  ///< the offsets of rows have no room for the logits
};

inline constexpr attention_choice all_choices[] = {
    {},
    {.rounding = log2_rounding::round_log},
    {.normalize = true},
    {.probabilities = attention_code::u8_full},
    {.kind = attention_kind::log2_of_max, .normalize = true},
    {.kind = attention_kind::weights, .normalize = true},
    {.kind = attention_kind::weight_codes, .normalize = true},
    {.no_room = true},
    {.probabilities = attention_code::u8_full, .no_room = true},
};

/// Makes the softmax of valid parameters, which have the default choice, that of another choice.
inline void choose_softmax(parameter_memory& memory, const attention_choice& choice, attention_parameters& p) {
  if (choice.no_room) {
    p.logits = without_room(p.logits);
  }
  softmax_parameters& softmax = p.softmax;
  const std::span<const std::uint8_t> table = memory.array<std::uint8_t>(
      256, [&](index_t d) { return choice.kind == attention_kind::weights ? 255 - d : std::min<index_t>(d / 7, 16); });
  if (choice.kind == attention_kind::log2_of_sum) {
    std::get<log2_of_sum>(softmax.weights).rounding = choice.rounding;
  } else if (choice.kind == attention_kind::log2_of_max) {
    softmax.weights = log2_of_max{table};
  } else if (choice.kind == attention_kind::weights) {
    softmax.weights = weights_of_max{table};
  } else {
    softmax.weights =
        weight_codes_of_max{memory.array<std::uint8_t>(256, [](index_t d) { return std::min<index_t>(d / 7, 15); }),
                            memory.array<std::uint8_t>(16, [](index_t code) { return 255 - 17 * code; })};
  }
  if (choice.normalize) {
    softmax.context = row_divisor{1 << 28, 120};
  }
}

/// Valid random parameters of a block of this shape.
inline swin_block_parameters random_swin_block(parameter_memory& memory, const swin_block_shape& shape,
                                               const attention_choice& choice, stream_codes stream, generator& random) {
  const block_shape window = shape.per_window();
  const index_t tokens = window.attention.tokens;
  swin_block_parameters p{random_block(memory, window, choice.probabilities, random), 99, {}, {}};
  if (stream == stream_codes::s16) {
    p.block.norm1.zero_point = p.block.norm2.zero_point = 0;
    p.block.add1 = p.block.add2 = {};
  }
  choose_softmax(memory, choice, p.block.attention);
  p.position_bias = memory.matrix<std::uint8_t>(shape.attention.heads * tokens, tokens, 0, 255, random);
  p.add_bias = {memory.array<std::int32_t>(tokens, [](index_t) { return 90000; }),
                memory.array<std::int32_t>(tokens, [](index_t) { return 40000; }),
                memory.array<std::int32_t>(tokens, [](index_t) { return (128 << 17) + 65537; }),
                128,
                120,
                17};
  return p;
}

/// Two stages whose blocks shift and pad.
constexpr swin_shape small_swin_shape(stream_codes stream) {
  return {.channels = 3,
          .height = 20,
          .image_width = 28,
          .patch = 4,
          .stages = 2,
          .stage = {{{16, 2, 24, 2, 2}, {24, 3, 40, 1, 4}}},
          .classes = 5,
          .stream = stream};
}

/// A model of valid random parameters.
struct small_swin {
  swin_shape shape;
  parameter_memory memory;
  std::vector<std::vector<swin_block_parameters>> blocks;
  std::vector<swin_stage_parameters> stages;
  swin_parameters parameters;

  explicit small_swin(stream_codes stream) : small_swin(small_swin_shape(stream), {}, 5) {}
  small_swin(const swin_shape& sizes, const attention_choice& choice, std::uint64_t seed) : shape(sizes) {
    generator random(seed);
    const bool wide = shape.stream == stream_codes::s16;
    const index_t last = shape.stages - 1, width = shape.of(0).width, features = shape.of(last).width;
    parameters.pixel_table = memory.matrix<std::uint8_t>(shape.channels, 256, 0, 255, random);
    parameters.patch = random_linear(memory, width, shape.patch_values(), {}, random);
    parameters.patch_norm = norm(width, false, random);
    parameters.tokens = some_scale(255, 6000, -3000);
    blocks.resize(static_cast<std::size_t>(shape.stages));
    for (index_t s = 0; s < shape.stages; ++s) {
      std::vector<swin_block_parameters>& made = blocks[static_cast<std::size_t>(s)];
      for (index_t position = 0; position < shape.of(s).depth; ++position) {
        made.push_back(random_swin_block(memory, shape.block(s, position), choice, shape.stream, random));
      }
      swin_stage_parameters& stage = stages.emplace_back();
      stage.blocks = made;
      if (s < last) {
        const index_t merged = 4 * shape.of(s).width;
        stage.merging = {norm(merged, wide, random), random_linear(memory, shape.of(s + 1).width, merged, {}, random)};
      }
    }
    parameters.stages = stages;
    parameters.norm = norm(features, wide, random);
    parameters.pool = some_scale(255.0 * static_cast<double>(shape.tokens_of(last)), 255, 0);
    parameters.head = memory.packed(memory.matrix<std::int8_t>(shape.classes, features, -127, 127, random));
    parameters.logits = random_scale(memory, shape.classes, features, {0, 10000});
    parameters.logits_u8 = random_scale(memory, shape.classes, features, {});
  }

 private:
  layernorm_parameters norm(index_t width, bool wide, generator& random) {
    layernorm_parameters made = random_layernorm(memory, width, random);
    made.zero_point = wide ? 0 : made.zero_point;
    return made;
  }
};

}  // namespace intact_test
