#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "intact/model/swin.hpp"
#include "kernel_tests.hpp"
#include "small_model.hpp"

// Valid random parameters of Swin blocks with every attention, and a Swin transformer of two stages.

namespace intact_test {

/// A scale that spreads numbers up to `largest` over the codes and beyond.
inline tensor_scale some_scale(double largest, double codes, double middle) {
  const double factor = codes / largest;
  const int left_shift = factor < 0.5 ? 0 : 12;
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
  if (choice.no_room) {
    p.block.attention.logits = without_room(p.block.attention.logits);
  }
  softmax_parameters& softmax = p.block.attention.softmax;
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
  p.position_bias = memory.matrix<std::uint8_t>(shape.attention.heads * tokens, tokens, 0, 255, random);
  p.add_bias = {memory.array<std::int32_t>(tokens, [](index_t) { return 90000; }),
                memory.array<std::int32_t>(tokens, [](index_t) { return 40000; }),
                memory.array<std::int32_t>(tokens, [](index_t) { return (128 << 17) + 65537; }),
                128,
                120,
                17};
  return p;
}

/// A model of two stages whose blocks shift and pad.
struct small_swin {
  static constexpr swin_shape shape_of(stream_codes stream) {
    return {.channels = 3,
            .height = 20,
            .image_width = 28,
            .patch = 4,
            .stages = 2,
            .stage = {{{16, 2, 24, 2, 2}, {24, 3, 40, 1, 4}}},
            .classes = 5,
            .stream = stream};
  }

  swin_shape shape;
  parameter_memory memory;
  std::vector<std::vector<swin_block_parameters>> blocks;
  std::vector<swin_stage_parameters> stages;
  swin_parameters parameters;

  explicit small_swin(stream_codes stream) : shape(shape_of(stream)) {
    generator random(5);
    const bool wide = stream == stream_codes::s16;
    parameters.pixel_table = memory.matrix<std::uint8_t>(3, 256, 0, 255, random);
    parameters.patch = random_linear(memory, 16, shape.patch_values(), {}, random);
    parameters.patch_norm = norm(16, false, random);
    parameters.tokens = some_scale(255, 6000, -3000);
    for (index_t s = 0; s < 2; ++s) {
      std::vector<swin_block_parameters>& made = blocks.emplace_back();
      for (index_t position = 0; position < shape.of(s).depth; ++position) {
        made.push_back(random_swin_block(memory, shape.block(s, position), {}, stream, random));
      }
    }
    stages = {{blocks[0], {norm(64, wide, random), random_linear(memory, 24, 64, {}, random)}}, {blocks[1]}};
    parameters.stages = stages;
    parameters.norm = norm(24, wide, random);
    parameters.pool = some_scale(255.0 * 12, 255, 0);
    parameters.head = memory.packed(memory.matrix<std::int8_t>(5, 24, -127, 127, random));
    parameters.logits = random_scale(memory, 5, 24, {0, 10000});
    parameters.logits_u8 = random_scale(memory, 5, 24, {});
  }

 private:
  layernorm_parameters norm(index_t width, bool wide, generator& random) {
    layernorm_parameters made = random_layernorm(memory, width, random);
    made.zero_point = wide ? 0 : made.zero_point;
    return made;
  }
};

}  // namespace intact_test
