#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/fit_scales.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/vit_weights.hpp"

// From a float model, the scales of its tensors and its weights as codes to an integer model.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// A layer whose weights are codes, with the bias of the float layer.
inline owned_linear build_linear(const scaled_weights& layer, const float_row& bias, const affine_scale& x,
                                 const code_scale& y) {
  return {layer.weights, owned_channel_scale(linear_specs(layer, bias, x, y))};
}

inline owned_layernorm build_norm(const float_layernorm& norm, double epsilon, const ptf_scale& x,
                                  const affine_scale& y) {
  return owned_layernorm(layernorm_spec{.gamma = span_of(norm.weight),
                                        .beta = span_of(norm.bias),
                                        .epsilon = epsilon,
                                        .input_scale = static_cast<double>(x.scale),
                                        .input_zero_point = x.zero_point,
                                        .shift = x.shift,
                                        .output_scale = static_cast<double>(y.scale),
                                        .output_zero_point = y.zero_point});
}

/// The stream has a scale per channel, given as a function of the channel.
template <class StreamStep>
owned_add build_residual(StreamStep stream_step, int stream_zero_point, const affine_scale& branch,
                         const ptf_scale& y) {
  std::vector<add_spec> specs(y.shift.size());
  for (std::size_t c = 0; c < specs.size(); ++c) {
    specs[c] = addition_spec(stream_step(c), branch, channel_step(y, c));
  }
  return owned_add(specs, {stream_zero_point, branch.zero_point, y.zero_point});
}

/// Exponentials of logits; true ones, too, where the polynomial has no integers.
inline std::vector<std::uint64_t> build_exponential(const affine_scale& logits, index_t keys, exponential_kind kind) {
  if (kind == exponential_kind::i_exp && has_i_exp_table(logits.scale, keys)) {
    const exp_values<std::uint64_t> table = i_exp_table(logits.scale, keys);
    return {table.begin(), table.end()};
  }
  const exp_values<std::uint32_t> table = exact_exp_table(static_cast<double>(logits.scale), keys);
  return {table.begin(), table.end()};
}

/// The table of attention relative to the maximum.
inline std::vector<std::uint8_t> build_softmax_table(const affine_scale& logits, const quantization_recipe& recipe) {
  const double scale = static_cast<double>(logits.scale);
  exp_values<std::uint8_t> table;
  if (recipe.attention == attention_kind::weights) {
    table = attention_weight_table(scale);
  } else if (recipe.probabilities == attention_code::u4_clipped) {
    table = max_relative_code_table<attention_code::u4_clipped>(scale);
  } else {
    table = max_relative_code_table<attention_code::u8_masked>(scale);
  }
  return {table.begin(), table.end()};
}

/// The tables of attention. `logits`: of what the softmax is taken.
inline owned_softmax build_softmax(const affine_scale& logits, index_t keys, const quantization_recipe& recipe) {
  owned_softmax built;
  built.kind = recipe.attention;
  built.probabilities = recipe.probabilities;
  built.rounding = recipe.rounding;
  if (recipe.attention == attention_kind::log2_of_sum) {
    built.exponential = build_exponential(logits, keys, recipe.exponential);
  } else {
    built.table = build_softmax_table(logits, recipe);
  }
  built.normalize = recipe.normalize_rows;
  return built;
}

/// The scale of attention times V, beside its tables.
inline void build_context(const affine_scale& v, const affine_scale& context, index_t keys, owned_softmax& built) {
  if (built.normalize) {
    built.normalization = build_row_divisor(scale_ratio(v, context), context.zero_point);
  } else {
    built.context = owned_tensor_scale(context_spec(v, context, keys));
  }
}

/// Builds blocks of one width.
struct block_builder {
  attention_shape shape;
  double epsilon;
  float s16_step;  ///< the scale of an s16 stream
  const quantization_recipe& recipe;

  bool wide() const { return recipe.stream == stream_codes::s16; }

  /// The scale of an s16 stream: no shifts, zero point 0.
  ptf_scale s16_scale() const {
    return {s16_step, 0, std::vector<std::uint8_t>(static_cast<std::size_t>(shape.width))};
  }

  /// The layer at the end of a branch: to the branch's own u8 scale, or to the s16 stream's.
  owned_linear branch(const scaled_weights& layer, const float_row& bias, const affine_scale& x,
                      const affine_scale& y) const {
    const code_scale stream{static_cast<double>(s16_step), 0};
    return build_linear(layer, bias, x, wide() ? stream : to_code_scale(y));
  }

  owned_add add(const ptf_scale& stream, const affine_scale& branch, const ptf_scale& y) const {
    const auto step = [&](std::size_t c) { return channel_step(stream, c); };
    return wide() ? owned_add() : build_residual(step, stream.zero_point, branch, y);
  }

  /// `stream` is the scale of the residual stream that enters the block; `softmax` is that of what the softmax is
  /// taken of. Refusals name the tensor and the block's position.
  owned_block operator()(index_t position, const float_block& block, const block_weights& weights,
                         const block_scales& own, const ptf_scale& stream, const affine_scale& softmax) const {
    const auto at = [&](const char* tensor, auto build) { return at_tensor({tensor, position}, build); };
    const ptf_scale middle = wide() ? s16_scale() : own.add1;
    const activation_table table = at("fc1", [&] { return gelu_table(own); });

    owned_block built;
    built.norm1 = at("norm1", [&] { return build_norm(block.norm1, epsilon, stream, own.norm1); });
    built.qkv = at("qkv", [&] { return build_linear(weights.qkv, block.qkv.bias, own.norm1, to_code_scale(own.qkv)); });
    built.qkv_zero_point = own.qkv.zero_point;
    built.attention_logits = at("attention_logits", [&] {
      return owned_tensor_scale(logits_spec(own.qkv, own.attention_logits, shape.head_size()));
    });
    built.softmax = at("attention", [&] { return build_softmax(softmax, shape.tokens, recipe); });
    at("context", [&] { build_context(own.qkv, own.context, shape.tokens, built.softmax); });
    built.proj = at("proj", [&] { return branch(weights.proj, block.proj.bias, own.context, own.proj); });
    built.add1 = at("add1", [&] { return add(stream, own.proj, own.add1); });
    built.norm2 = at("norm2", [&] { return build_norm(block.norm2, epsilon, middle, own.norm2); });
    built.fc1 = at("fc1", [&] { return build_linear(weights.fc1, block.fc1.bias, own.norm2, table.input); });
    built.activation.assign(table.codes.begin(), table.codes.end());
    built.fc2 = at("fc2", [&] { return branch(weights.fc2, block.fc2.bias, own.activation, own.fc2); });
    built.add2 = at("add2", [&] { return add(own.add1, own.fc2, own.add2); });
    return built;
  }
};

/// Normalization and quantization of every pixel value of every channel.
template <class Model>
std::vector<std::uint8_t> build_pixel_table(const Model& model, const affine_scale& input) {
  std::vector<std::uint8_t> table;
  for (index_t channel = 0; channel < model.shape.channels; ++channel) {
    for (int pixel = 0; pixel < 256; ++pixel) {
      table.push_back(quantize_code<std::uint8_t>(model.normalize(pixel, channel), input));
    }
  }
  return table;
}

/// From the codes of one scale to those of another.
inline std::vector<std::uint8_t> build_rescale_table(const affine_scale& from, const affine_scale& to) {
  std::vector<std::uint8_t> table;
  for (int code = 0; code < 256; ++code) {
    table.push_back(quantize_code<std::uint8_t>(dequantize_code(code, from), to));
  }
  return table;
}

inline std::vector<std::uint8_t> quantize_all(std::span<const float> values, const affine_scale& scale) {
  std::vector<std::uint8_t> codes;
  for (const float value : values) {
    codes.push_back(quantize_code<std::uint8_t>(value, scale));
  }
  return codes;
}

/// Class tokens and positions as codes of an s16 stream, which the patches are added to.
inline std::vector<std::int16_t> build_token_addend(const float_vit& model, float scale) {
  std::vector<std::int16_t> addend;
  for (index_t token = 0; token < model.shape.tokens(); ++token) {
    for (index_t c = 0; c < model.shape.width; ++c) {
      const float value =
          model.positions(token, c) + (token < model.shape.class_tokens ? model.class_token(token, c) : 0.0F);
      addend.push_back(quantize_code<std::int16_t>(value, {scale, 0}));
    }
  }
  return addend;
}

/// Pixels, patches and embeddings.
inline void build_embedding(const float_vit& model, const scaled_weights& patch_weights, const vit_scales& scales,
                            const quantization_recipe& recipe, vit_tensors& contents) {
  const bool wide = recipe.stream == stream_codes::s16;
  const code_scale patch = wide ? code_scale{static_cast<double>(scales.stream), 0} : to_code_scale(scales.patch);
  const affine_scale input = recipe.pixel_codes ? affine_scale{1, 0} : scales.input;
  contents.patch =
      at_tensor({"patch"}, [&] { return build_linear(patch_weights, patch_layer(model, recipe).bias, input, patch); });
  if (!recipe.pixel_codes) {
    contents.pixel_table = at_tensor({"input"}, [&] { return build_pixel_table(model, scales.input); });
  }
  if (wide) {
    contents.token_addend = at_tensor({"tokens"}, [&] { return build_token_addend(model, scales.stream); });
    return;
  }
  at_tensor({"embed"}, [&] {
    contents.embed_table = build_rescale_table(scales.patch, scales.embed);
    contents.class_token = quantize_all(span_of(model.class_token), scales.embed);
  });
  contents.positions =
      at_tensor({"positions"}, [&] { return quantize_all(span_of(model.positions), scales.positions); });
  contents.add_positions = at_tensor({"tokens"}, [&] {
    return build_residual([&](std::size_t) { return static_cast<double>(scales.embed.scale); }, scales.embed.zero_point,
                          scales.positions, scales.tokens);
  });
}

}  // namespace detail

/// Builds the integer model of a float model whose tensors have the given scales and whose weights are given as codes.
/// Scales that no integers compute are replaced by those of fit_scales().
///
/// Errors:    scales or weights of another depth or width, a recipe that makes no sense; whatever the builders of
///            adapt/ refuse, such as a scale that is not above 0, naming tensor and block.
/// Source:    docs/numerics.md, section 9.
inline integer_vit build_vit(const float_vit& model, const vit_scales& observed, const vit_weights& weights,
                             const quantization_recipe& recipe) {
  const vit_scales scales = fit_scales(model, observed, weights, recipe).scales;

  vit_tensors contents;
  contents.shape = model.shape;
  contents.shape.stream = recipe.stream;
  detail::build_embedding(model, weights.patch, scales, recipe, contents);

  const double epsilon = static_cast<double>(model.epsilon);
  const detail::block_builder build_block{model.shape.block().attention, epsilon, scales.stream, recipe};
  const bool wide = build_block.wide();
  ptf_scale stream = wide ? build_block.s16_scale() : scales.tokens;
  for (std::size_t position = 0; position < scales.blocks.size(); ++position) {
    const block_scales& own = scales.blocks[position];
    contents.blocks.push_back(build_block(static_cast<index_t>(position), model.blocks[position],
                                          weights.blocks[position], own, stream, own.attention_logits));
    stream = wide ? stream : own.add2;
  }

  contents.norm =
      detail::at_tensor({"norm"}, [&] { return detail::build_norm(model.norm, epsilon, stream, scales.norm); });
  contents.logits_scale = static_cast<double>(scales.logits.scale) / 256;
  const auto build_logits = [&](const code_scale& y) {
    return detail::at_tensor({"logits"},
                             [&] { return detail::build_linear(weights.head, model.head.bias, scales.norm, y).scale; });
  };
  contents.head = weights.head.weights;
  contents.logits = build_logits({contents.logits_scale, 0});
  contents.logits_u8 = build_logits(detail::to_code_scale(scales.logits));
  return integer_vit(std::move(contents));
}

/// The same with weights quantized by themselves.
inline integer_vit build_vit(const float_vit& model, const vit_scales& scales,
                             const quantization_recipe& recipe = paper_recipe) {
  require_recipe(recipe);
  return build_vit(model, scales, quantize_weights(model, recipe), recipe);
}

}  // namespace INTACT_UNIT
}  // namespace intact
