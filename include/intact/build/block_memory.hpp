#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "intact/build/owned_packed_weights.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/recipe.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/block.hpp"
#include "intact/types/workspace.hpp"

// The parameters of a block in one piece of memory of the caller.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Memory of a LayerNorm's parameters.
struct layernorm_memory {
  std::uint8_t* shift;
  std::int32_t* gain;
  std::int64_t* bias;

  template <class Workspace>
  static constexpr layernorm_memory take(Workspace& memory, index_t channels) {
    return {.shift = memory.template take<std::uint8_t>(channels),
            .gain = memory.template take<std::int32_t>(channels),
            .bias = memory.template take<std::int64_t>(channels)};
  }
};

/// Memory of a fully connected layer's parameters.
struct linear_memory {
  std::int32_t* multiplier;
  std::int64_t* offset;
  std::byte* weights;
  index_t weight_bytes;

  template <class Workspace>
  static constexpr linear_memory take(Workspace& memory, index_t outputs, index_t inputs,
                                      const quantization_recipe& recipe) {
    const index_t bytes = packed_weights_bytes(recipe.weights, outputs, inputs, recipe.weight_group);
    return {.multiplier = memory.template take<std::int32_t>(outputs),
            .offset = memory.template take<std::int64_t>(outputs),
            .weights = memory.template take<std::byte>(bytes),
            .weight_bytes = bytes};
  }
};

/// Memory of a residual addition's parameters.
struct add_memory {
  std::int32_t* stream_multiplier;
  std::int32_t* branch_multiplier;
  std::int32_t* offset;

  template <class Workspace>
  static constexpr add_memory take(Workspace& memory, index_t channels) {
    return {.stream_multiplier = memory.template take<std::int32_t>(channels),
            .branch_multiplier = memory.template take<std::int32_t>(channels),
            .offset = memory.template take<std::int32_t>(channels)};
  }
};

/// Memory of a block's parameters, taken from a workspace.
struct block_memory {
  layernorm_memory norm1;
  linear_memory qkv;
  std::uint64_t* exponential;
  std::uint8_t* table;
  std::uint8_t* code_weights;
  linear_memory proj;
  add_memory add1;
  layernorm_memory norm2;
  linear_memory fc1;
  std::uint8_t* activation;
  linear_memory up;  ///< of a block with a gate
  linear_memory fc2;
  add_memory add2;
  layernorm_memory q_norm, k_norm;  ///< of a block with norms of queries and keys

  template <class Workspace>
  static constexpr block_memory take(Workspace& memory, const block_shape& shape, const quantization_recipe& recipe) {
    const index_t width = shape.attention.width, hidden = shape.hidden;
    const bool relative_to_sum = recipe.attention == attention_kind::log2_of_sum;
    const bool of_codes = recipe.attention == attention_kind::weight_codes;
    const index_t added = recipe.stream == stream_codes::u8 ? width : 0;
    const index_t of_head = shape.attention.qk_norm ? shape.attention.head_size() : 0;
    return {.norm1 = layernorm_memory::take(memory, width),
            .qkv = linear_memory::take(memory, size_product(3, width), width, recipe),
            .exponential = memory.template take<std::uint64_t>(relative_to_sum ? softmax_distances : 0),
            .table = memory.template take<std::uint8_t>(relative_to_sum ? 0 : softmax_distances),
            .code_weights = memory.template take<std::uint8_t>(of_codes ? attention_code_weights : 0),
            .proj = linear_memory::take(memory, width, width, recipe),
            .add1 = add_memory::take(memory, added),
            .norm2 = layernorm_memory::take(memory, width),
            .fc1 = linear_memory::take(memory, hidden, width, recipe),
            .activation = memory.template take<std::uint8_t>(activation_table_size_12),
            .up = linear_memory::take(memory, shape.gated ? hidden : 0, width, recipe),
            .fc2 = linear_memory::take(memory, width, hidden, recipe),
            .add2 = add_memory::take(memory, added),
            .q_norm = layernorm_memory::take(memory, of_head),
            .k_norm = layernorm_memory::take(memory, of_head)};
  }
};

/// Copies values; a view of the copy.
template <class T, class Values>
std::span<const T> store(const Values& values, T* memory) {
  std::copy(values.begin(), values.end(), memory);
  return {memory, values.size()};
}

inline layernorm_parameters store(const owned_layernorm& norm, const layernorm_memory& memory) {
  layernorm_parameters stored = norm.view();
  stored.shift = store(norm.shift, memory.shift);
  stored.gain = store(norm.gain, memory.gain);
  stored.bias = store(norm.bias, memory.bias);
  return stored;
}

inline linear_parameters store(const owned_linear& layer, const linear_memory& memory) {
  channel_scale scale = layer.scale.view();
  scale.multiplier = store(layer.scale.multiplier, memory.multiplier);
  scale.offset = store(layer.scale.offset, memory.offset);
  return {pack_weights(layer.weights, {memory.weights, static_cast<std::size_t>(memory.weight_bytes)}), scale};
}

inline add_parameters store(const owned_add& add, const add_memory& memory) {
  add_parameters stored = add.view();
  stored.stream_multiplier = store(add.stream_multiplier, memory.stream_multiplier);
  stored.branch_multiplier = store(add.branch_multiplier, memory.branch_multiplier);
  stored.offset = store(add.offset, memory.offset);
  return stored;
}

/// Memory of tables that do not exist is not used.
inline softmax_parameters store(const owned_softmax& softmax, const block_memory& memory) {
  softmax_parameters stored = softmax.view();
  if (auto* const of_sum = std::get_if<log2_of_sum>(&stored.weights)) {
    of_sum->exponential = store(softmax.exponential, memory.exponential);
  } else if (auto* const of_max = std::get_if<log2_of_max>(&stored.weights)) {
    of_max->table = store(softmax.table, memory.table);
  } else if (auto* const of_codes = std::get_if<weight_codes_of_max>(&stored.weights)) {
    of_codes->table = store(softmax.table, memory.table);
    of_codes->weights = store(softmax.code_weights, memory.code_weights);
  } else {
    std::get<weights_of_max>(stored.weights).table = store(softmax.table, memory.table);
  }
  return stored;
}

inline qk_norms store(const std::optional<owned_qk_norms>& norms, const block_memory& memory) {
  if (!norms) {
    return no_qk_norms{};
  }
  return qk_norm_parameters{.q = store(norms->q, memory.q_norm), .k = store(norms->k, memory.k_norm)};
}

inline mlp_gate store(const std::optional<owned_gate>& gate, const linear_memory& memory) {
  if (!gate) {
    return no_gate{};
  }
  return gate_parameters{.up = store(gate->up, memory),
                         .activation_zero_point = gate->activation_zero_point,
                         .up_zero_point = gate->up_zero_point,
                         .product = gate->product.scale};
}

inline block_parameters store(const owned_block& block, const block_memory& memory) {
  return {.norm1 = store(block.norm1, memory.norm1),
          .attention = {.qkv = store(block.qkv, memory.qkv),
                        .zero_points = block.zero_points(),
                        .logits = block.attention_logits.scale,
                        .softmax = store(block.softmax, memory),
                        .proj = store(block.proj, memory.proj),
                        .norms = store(block.qk_norms, memory)},
          .add1 = store(block.add1, memory.add1),
          .norm2 = store(block.norm2, memory.norm2),
          .mlp = {.fc1 = store(block.fc1, memory.fc1),
                  .table = store(block.activation, memory.activation),
                  .fc2 = store(block.fc2, memory.fc2),
                  .gate = store(block.gate, memory.up)},
          .add2 = store(block.add2, memory.add2)};
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
