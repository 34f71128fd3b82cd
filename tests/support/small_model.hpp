#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "intact/model/vit.hpp"
#include "parameter_memory.hpp"
#include "tensor.hpp"

// Valid random parameters of blocks and models of any shape, whose codes spread over their range.

namespace intact_test {

/// Middle and standard deviation of a layer's output codes.
struct code_spread {
  double middle = 128;
  double deviation = 50;
};

/// Accumulators of random u8 and s8 codes deviate by sqrt(K) * 10,800; the scale takes that to the spread, or as near as
/// a multiplier can.
inline channel_scale random_scale(parameter_memory& memory, index_t outputs, index_t inputs,
                                  const code_spread& spread) {
  const double wanted = spread.deviation / (10'800 * std::sqrt(static_cast<double>(std::max<index_t>(inputs, 1))));
  const double factor = std::min(wanted, 0.49);
  const int shift = std::clamp(-2 - std::ilogb(factor), 0, 12);
  const auto multiplier = static_cast<std::int32_t>(std::lround(std::ldexp(factor, 32 + shift)));
  const auto offset = static_cast<std::int64_t>(std::ldexp(spread.middle + 0.5, 32 + shift));
  return {memory.array<std::int32_t>(outputs, [&](index_t) { return multiplier; }),
          memory.array<std::int64_t>(outputs, [&](index_t) { return offset; }), shift, 0};
}

inline linear_parameters random_linear(parameter_memory& memory, index_t outputs, index_t inputs,
                                       const code_spread& spread, generator& random) {
  return {memory.packed(memory.matrix<std::int8_t>(outputs, inputs, -127, 127, random)),
          random_scale(memory, outputs, inputs, spread)};
}

inline layernorm_parameters random_layernorm(parameter_memory& memory, index_t width, generator& random) {
  return {128,
          memory.array<std::uint8_t>(width, [&](index_t) { return random.between(0, layernorm_max_shift); }),
          100,
          memory.array<std::int32_t>(width, [&](index_t) { return random.between(30, 60) << 24; }),
          memory.array<std::int64_t>(width, [&](index_t) { return (std::int64_t{257} << 47) + random.between(0, 99); }),
          48};
}

inline add_parameters random_add(parameter_memory& memory, index_t width, generator& random) {
  const auto multipliers = [&] {
    return memory.array<std::int32_t>(width, [&](index_t) { return random.between(500'000, 1'000'000); });
  };
  const std::span<std::int32_t> stream = multipliers();
  return {stream, multipliers(), memory.array<std::int32_t>(width, [](index_t) { return 257 << 19; }), 128, 128, 20};
}

/// Logits of random codes in heads of a size spread over their range.
inline tensor_scale spread_logits(index_t head_size) {
  const double factor = 30 / (2500 * std::sqrt(static_cast<double>(std::max<index_t>(head_size, 1))));
  return {static_cast<std::int32_t>(std::lround(std::ldexp(factor, 36))), std::int64_t{257} << 35, 4, 0};
}

inline qk_norms random_norms(parameter_memory& memory, const attention_shape& shape, generator& random) {
  if (!shape.qk_norm) {
    return no_qk_norms{};
  }
  return qk_norm_parameters{.q = random_layernorm(memory, shape.head_size(), random),
                            .k = random_layernorm(memory, shape.head_size(), random)};
}

inline qk_rotation random_rotation(parameter_memory& memory, const attention_shape& shape, generator& random) {
  if (!shape.rotary_prefix) {
    return no_qk_rotation{};
  }
  const index_t rows = shape.tokens - *shape.rotary_prefix, pairs = shape.head_size() / 2;
  return rotation_parameters{.cosine = memory.matrix<std::int16_t>(rows, pairs, -16384, 16384, random),
                             .sine = memory.matrix<std::int16_t>(rows, pairs, -16384, 16384, random)};
}

inline attention_parameters random_attention(parameter_memory& memory, const attention_shape& shape,
                                             attention_code probabilities, generator& random) {
  const tensor_scale context{1 << 30, std::int64_t{257} << 44, 13, 0};
  return {.qkv = random_linear(memory, 3 * shape.width, shape.width, {}, random),
          .zero_points = {128, 128, 128},
          .logits = spread_logits(shape.head_size()),
          .softmax = {.weights = log2_of_sum{.exponential = memory.array<std::uint64_t>(
                                                 256, [](index_t d) { return (32 - d % 16) << 30 >> d / 16; }),
                                             .codes = probabilities},
                      .context = context},
          .proj = random_linear(memory, shape.width, shape.width, {}, random),
          .norms = random_norms(memory, shape, random),
          .rotation = random_rotation(memory, shape, random)};
}

inline mlp_gate random_gate(parameter_memory& memory, const block_shape& shape, generator& random) {
  if (!shape.gated) {
    return no_gate{};
  }
  return gate_parameters{.up = random_linear(memory, shape.hidden, shape.attention.width, {}, random),
                         .activation_zero_point = 20,
                         .up_zero_point = 128,
                         .product = {1 << 30, std::int64_t{257} << 35, 4, 0}};
}

inline block_parameters random_block(parameter_memory& memory, const block_shape& shape, attention_code probabilities,
                                     generator& random) {
  const index_t width = shape.attention.width;
  const std::span<std::uint8_t> rectifier = memory.array<std::uint8_t>(
      activation_table_size_12, [](index_t code) { return std::max<index_t>(code - 2048, 0) / 8; });
  return {.norm1 = random_layernorm(memory, width, random),
          .attention = random_attention(memory, shape.attention, probabilities, random),
          .add1 = random_add(memory, width, random),
          .norm2 = random_layernorm(memory, width, random),
          .mlp = {.fc1 = random_linear(memory, shape.hidden, width, {2048, 800}, random),
                  .table = rectifier,
                  .fc2 = random_linear(memory, width, shape.hidden, {}, random),
                  .gate = random_gate(memory, shape, random)},
          .add2 = random_add(memory, width, random)};
}

inline vit_parameters random_vit(parameter_memory& memory, const vit_shape& shape, attention_code probabilities,
                                 generator& random) {
  auto blocks = std::vector<block_parameters>();
  for (index_t i = 0; i < shape.depth; ++i) {
    blocks.push_back(random_block(memory, shape.block(), probabilities, random));
  }
  const linear_parameters head = random_linear(memory, shape.classes, shape.head_features(), {0, 50 * 256}, random);
  return {.pixel_table = memory.matrix<std::uint8_t>(shape.channels, 256, 0, 255, random),
          .patch = random_linear(memory, shape.width, shape.patch_values(), {}, random),
          .embedding = {.table = memory.array<std::uint8_t>(256, [](index_t code) { return 255 - code; }),
                        .class_token = memory.matrix<std::uint8_t>(shape.class_tokens, shape.width, 0, 255, random),
                        .positions = memory.matrix<std::uint8_t>(shape.tokens(), shape.width, 0, 255, random),
                        .add_positions = random_add(memory, shape.width, random)},
          .blocks = memory.array<block_parameters>(shape.depth,
                                                   [&](index_t i) { return blocks[static_cast<std::size_t>(i)]; }),
          .norm = random_layernorm(memory, shape.width, random),
          .head = head.weights,
          .logits = head.scale,
          .logits_u8 = random_scale(memory, shape.classes, shape.head_features(), {})};
}

}  // namespace intact_test
