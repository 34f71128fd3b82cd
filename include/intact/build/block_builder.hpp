#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "intact/build/float_block.hpp"
#include "intact/build/layer_specs.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/scaled_weights.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"

// From float layers, the scales of their inputs and outputs and their weights as codes to integer layers and blocks.
// Sizes are not checked here: build_block(), build_vit() and build_swin() do that.

namespace intact {
inline namespace INTACT_UNIT {

/// A layer whose weights are codes, with the bias of the float layer, from scale x to y.
/// Errors: as of owned_channel_scale.
inline owned_linear build_linear(const scaled_weights& layer, std::span<const float> bias, const affine_scale& x,
                                 const code_scale& y) {
  return {layer.weights, owned_channel_scale(linear_specs(layer, bias, x, y))};
}

/// A LayerNorm from scale x to y.
/// Errors: as of build_layernorm().
inline owned_layernorm build_norm(const float_layernorm_view& norm, float epsilon, const ptf_scale& x,
                                  const affine_scale& y, normalization kind = normalization::layernorm) {
  return owned_layernorm(layernorm_spec{.gamma = norm.weight,
                                        .beta = norm.bias,
                                        .epsilon = static_cast<double>(epsilon),
                                        .input_scale = static_cast<double>(x.scale),
                                        .input_zero_point = x.zero_point,
                                        .shift = x.shift,
                                        .output_scale = static_cast<double>(y.scale),
                                        .output_zero_point = y.zero_point},
                         kind);
}

/// The addition of a branch to a stream, into scale y: as many shifts as the stream has.
/// Errors: as of build_add().
inline owned_add build_residual(const ptf_scale& stream, const affine_scale& branch, const ptf_scale& y) {
  std::vector<add_spec> specs(y.shift.size());
  for (std::size_t c = 0; c < specs.size(); ++c) {
    specs[c] = addition_spec(channel_step(stream, c), branch, channel_step(y, c));
  }
  return owned_add(specs, {.stream = stream.zero_point, .branch = branch.zero_point, .output = y.zero_point});
}

namespace detail {

/// Exponentials of logits: true ones also where the polynomial has no integers.
inline std::vector<std::uint64_t> build_exponential(const affine_scale& logits, index_t keys, exponential_kind kind) {
  if (kind == exponential_kind::i_exp && has_i_exp_table(logits.scale, keys)) {
    const exp_values<std::uint64_t> table = i_exp_table(logits.scale, keys);
    return {table.begin(), table.end()};
  }
  const exp_values<std::uint32_t> table = exact_exp_table(static_cast<double>(logits.scale), keys);
  return {table.begin(), table.end()};
}

/// The table of attention relative to the maximum.
inline std::vector<std::uint8_t> build_softmax_table(const affine_scale& logits, const code_weight_values& weights,
                                                     const quantization_recipe& recipe) {
  const double scale = static_cast<double>(logits.scale);
  exp_values<std::uint8_t> table;
  if (recipe.attention == attention_kind::weights) {
    table = attention_weight_table(scale);
  } else if (recipe.attention == attention_kind::weight_codes) {
    table = weight_code_table(scale, weights);
  } else if (recipe.probabilities == attention_code::u4_clipped) {
    table = max_relative_code_table<attention_code::u4_clipped>(scale);
  } else {
    table = max_relative_code_table<attention_code::u8_masked>(scale);
  }
  return {table.begin(), table.end()};
}

}  // namespace detail

/// The tables of attention. `logits`: the scale of the input of the softmax; `weights`: of
/// attention_kind::weight_codes. The scale of attention times V is not among them.
/// Errors: as of the builders of table.hpp.
inline owned_softmax build_softmax(const affine_scale& logits, const code_weight_values& weights, index_t keys,
                                   const quantization_recipe& recipe) {
  owned_softmax built;
  built.kind = recipe.attention;
  built.probabilities = recipe.probabilities;
  built.rounding = recipe.rounding;
  if (recipe.attention == attention_kind::log2_of_sum) {
    built.exponential = detail::build_exponential(logits, keys, recipe.exponential);
  } else {
    built.table = detail::build_softmax_table(logits, weights, recipe);
  }
  if (recipe.attention == attention_kind::weight_codes) {
    built.code_weights.assign(weights.begin(), weights.end());
  }
  built.normalize = recipe.normalize_rows;
  return built;
}

namespace detail {

/// Adds the scale of attention times V.
inline void build_context(const affine_scale& v, const affine_scale& context, index_t keys, owned_softmax& built) {
  if (built.normalize) {
    built.normalization = build_row_divisor(scale_ratio(v, context), context.zero_point);
  } else {
    built.context = owned_tensor_scale(context_spec(v, context, keys));
  }
}

}  // namespace detail

/// Builds a block from its scales and its weights as codes.
struct block_builder {
  const float_block_view& block;      ///< the float block
  const quantization_recipe& recipe;  ///< the parts of the integer graph

  /// `stream` is the scale of the residual stream that enters the block, of an s16 stream without shifts; `softmax` is
  /// the scale of the input of the softmax. Refusals name the tensor and the block's position.
  owned_block operator()(const block_weights& weights, const block_scales& own, const ptf_scale& stream,
                         const affine_scale& softmax) const {
    const attention_shape& shape = block.shape.attention;
    const bool wide = recipe.stream == stream_codes::s16;
    const auto at = [&](const char* tensor, auto build) { return at_tensor({tensor, block.position}, build); };
    const auto norm = [&](const char* tensor, const float_layernorm_view& layer, const ptf_scale& x,
                          const affine_scale& y) {
      return at(tensor, [&] { return build_norm(layer, block.epsilon, x, y, block.shape.norm); });
    };
    const auto linear = [&](const char* tensor, const scaled_weights& layer, std::span<const float> bias,
                            const affine_scale& x, const code_scale& y) {
      return at(tensor, [&] { return build_linear(layer, bias, x, y); });
    };
    // The layers at the ends of the branches: to a u8 scale of their own, or to the s16 stream's.
    const auto branch = [&](const affine_scale& y) {
      return wide ? code_scale{.scale = static_cast<double>(stream.scale), .zero_point = 0} : to_code_scale(y);
    };
    const activation_table table = at("fc1", [&] { return block_activation_table(block.activation, own); });

    owned_block built;
    built.norm1 = norm("norm1", block.norm1, stream, own.norm1);
    built.qkv = at("qkv", [&] {
      return owned_linear{weights.qkv.weights,
                          owned_channel_scale(detail::qkv_specs(weights.qkv, block.qkv.bias, own.norm1, own))};
    });
    if (shape.qk_norm) {
      const auto of_heads = [&](const char* tensor, const float_layernorm_view& layer, const affine_scale& x,
                                const affine_scale& y) {
        return at(tensor, [&] {
          return build_norm(layer, block.epsilon, unshifted_scale(x, shape.head_size()), y, *shape.qk_norm);
        });
      };
      built.qk_norms = owned_qk_norms{.q = of_heads("q_norm", block.q_norm, own.qkv, own.q_norm),
                                      .k = of_heads("k_norm", block.k_norm, own.keys(), own.k_norm)};
    }
    built.qkv_zero_point = query_scale(own, shape).zero_point;
    if (own.k || shape.qk_norm) {
      built.k_zero_point = key_scale(own, shape).zero_point;
    }
    if (own.v || shape.qk_norm) {
      built.v_zero_point = own.values().zero_point;
    }
    built.attention_logits = at(
        "attention_logits", [&] { return owned_tensor_scale(detail::logits_spec(own, own.attention_logits, shape)); });
    built.softmax =
        at("attention", [&] { return build_softmax(softmax, own.attention_weights, shape.tokens, recipe); });
    at("context", [&] { detail::build_context(own.values(), own.context, shape.tokens, built.softmax); });
    built.proj = linear("proj", weights.proj, block.proj.bias, own.context, branch(own.proj));
    built.norm2 = norm("norm2", block.norm2, wide ? stream : own.add1, own.norm2);
    built.fc1 = linear("fc1", weights.fc1, block.fc1.bias, own.norm2, table.input);
    built.activation.assign(table.codes.begin(), table.codes.end());
    if (block.shape.gated) {
      built.gate =
          owned_gate{.up = linear("up", weights.up, block.up.bias, own.norm2, to_code_scale(own.up)),
                     .activation_zero_point = own.activation.zero_point,
                     .up_zero_point = own.up.zero_point,
                     .product = at("gated", [&] { return owned_tensor_scale(detail::product_spec(own, own.gated)); })};
    }
    built.fc2 = linear("fc2", weights.fc2, block.fc2.bias, fc2_input(own, block.shape), branch(own.fc2));
    if (!wide) {
      built.add1 = at("add1", [&] { return build_residual(stream, own.proj, own.add1); });
      built.add2 = at("add2", [&] { return build_residual(own.add1, own.fc2, own.add2); });
    }
    return built;
  }
};

}  // namespace INTACT_UNIT
}  // namespace intact
