#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/block_builder.hpp"
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

/// Prefix tokens and positions as codes of an s16 stream, which the patches are added to.
inline std::vector<std::int16_t> build_token_addend(const float_vit& model, float scale) {
  std::vector<std::int16_t> addend;
  for (index_t token = 0; token < model.shape.tokens(); ++token) {
    for (index_t c = 0; c < model.shape.width; ++c) {
      const float value =
          model.positions(token, c) + (token < model.shape.prefix_tokens() ? model.class_token(token, c) : 0.0F);
      addend.push_back(quantize_code<std::int16_t>(value, {scale, 0}));
    }
  }
  return addend;
}

/// Pixels, patches and embeddings.
inline void build_embedding(const float_vit& model, const scaled_weights& patch_weights, const vit_scales& scales,
                            const quantization_recipe& recipe, vit_tensors& contents) {
  const bool wide = recipe.stream == stream_codes::s16;
  const float s16_tokens = model.norm_pre ? scales.s16_tokens : scales.stream;
  const code_scale patch =
      wide ? code_scale{.scale = static_cast<double>(s16_tokens), .zero_point = 0} : to_code_scale(scales.patch);
  const affine_scale input = recipe.pixel_codes ? affine_scale{1, 0} : scales.input;
  contents.patch = at_tensor(
      {"patch"}, [&] { return build_linear(patch_weights, span_of(patch_layer(model, recipe).bias), input, patch); });
  if (!recipe.pixel_codes) {
    contents.pixel_table = at_tensor({"input"}, [&] { return build_pixel_table(model, scales.input); });
  }
  if (wide) {
    contents.token_addend = at_tensor({"tokens"}, [&] { return build_token_addend(model, s16_tokens); });
    return;
  }
  at_tensor({"embed"}, [&] {
    contents.embed_table = build_rescale_table(scales.patch, scales.embed);
    contents.class_token = quantize_all(span_of(model.class_token), scales.embed);
  });
  contents.positions =
      at_tensor({"positions"}, [&] { return quantize_all(span_of(model.positions), scales.positions); });
  contents.add_positions = at_tensor({"tokens"}, [&] {
    return build_residual(unshifted_scale(scales.embed, model.shape.width), scales.positions, scales.tokens);
  });
}

/// The LayerNorm before the blocks, from the tokens to the residual stream.
inline owned_pre_norm build_pre_norm(const float_vit& model, const vit_scales& scales, stream_codes stream) {
  owned_pre_norm built;
  const bool wide = stream == stream_codes::s16;
  const ptf_scale tokens = wide ? unshifted_scale({scales.s16_tokens, 0}, model.shape.width) : scales.tokens;
  const float_layernorm norm = divide_by_powers(*model.norm_pre, scales.norm_pre);
  built.norm = at_tensor({"norm_pre"}, [&] {
    return build_norm(view_of(norm), model.epsilon, tokens, {scales.norm_pre.scale, scales.norm_pre.zero_point},
                      model.shape.norm);
  });
  if (wide) {
    built.stream =
        at_tensor({"stream"}, [&] { return owned_channel_scale(stream_specs(scales.norm_pre, scales.stream)); });
  }
  return built;
}

/// The final LayerNorm, and the mean if the features have one; `stream` is the scale of the residual stream.
inline void build_features(const float_vit& model, const vit_scales& scales, const ptf_scale& stream,
                           vit_tensors& contents) {
  const vit_shape& shape = model.shape;
  const bool of_stream = shape.pooling == vit_pooling::normalized_mean;
  contents.norm = at_tensor({"norm"}, [&] {
    return build_norm(view_of(model.norm), model.epsilon,
                      of_stream ? unshifted_scale(scales.pool, shape.width) : stream, scales.norm, shape.norm);
  });
  at_tensor({"pool"}, [&] {
    if (of_stream) {
      contents.mean =
          owned_channel_scale(mean_specs(stream, contents.shape.stream, scales.pool.scale, shape.patches()));
    } else if (shape.pools_normalized()) {
      contents.mean = owned_tensor_scale(mean_spec(scales.norm, features_scale(scales, shape), shape.patches()));
    }
  });
}

/// The head of a model of any kind: int32 logits have steps of 1/256 of the scale `y`. `x`: the scale of the features.
template <class Contents>
void build_head(const scaled_weights& head, std::span<const float> bias, const affine_scale& x, const affine_scale& y,
                Contents& contents) {
  const auto build = [&](const code_scale& codes) {
    return at_tensor({"logits"}, [&] { return build_linear(head, bias, x, codes).scale; });
  };
  contents.logits_scale = static_cast<double>(y.scale) / 256;
  contents.head = head.weights;
  contents.logits = build({.scale = contents.logits_scale, .zero_point = 0});
  contents.logits_u8 = build(to_code_scale(y));
}

}  // namespace detail

/// Builds the integer model of a float model whose tensors have the given scales and whose weights are given as codes.
/// Scales for which no integers exist are replaced by those of fit_scales().
///
/// Errors:    scales or weights of another depth or width, a recipe whose parts exclude each other; values that the
///            builders of build/ refuse, such as a scale that is not above 0: each names tensor and block.
/// Source:    docs/numerics.md, section 9.
inline integer_vit build_vit(const float_vit& model, const vit_scales& observed, const vit_weights& weights,
                             const quantization_recipe& recipe) {
  const vit_scales scales = fit_scales(model, observed, weights, recipe).scales;

  vit_tensors contents;
  contents.shape = model.shape;
  contents.shape.stream = recipe.stream;
  detail::build_embedding(model, weights.patch, scales, recipe, contents);

  const bool wide = recipe.stream == stream_codes::s16;
  if (model.norm_pre) {
    contents.norm_pre = detail::build_pre_norm(model, scales, recipe.stream);
  }
  ptf_scale stream = wide             ? unshifted_scale({scales.stream, 0}, model.shape.width)
                     : model.norm_pre ? scales.norm_pre
                                      : scales.tokens;
  for (std::size_t position = 0; position < scales.blocks.size(); ++position) {
    const block_scales& own = scales.blocks[position];
    const float_block_view block = block_view(model, static_cast<index_t>(position));
    contents.blocks.push_back(
        block_builder{block, recipe}(weights.blocks[position], own, stream, own.attention_logits));
    stream = wide ? stream : own.add2;
  }

  detail::build_features(model, scales, stream, contents);
  const affine_scale& features = detail::features_scale(scales, model.shape);
  if (model.shape.classes == 0) {
    contents.features_scale = static_cast<double>(features.scale);
    contents.features_zero_point = features.zero_point;
  } else {
    detail::build_head(weights.head, span_of(model.head.bias), features, scales.logits, contents);
  }
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
