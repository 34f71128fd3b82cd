#pragma once

#include <cmath>
#include <cstddef>
#include <iterator>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/scale_fitter.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/vit_weights.hpp"

// The scales of a vision transformer, raised where no integers compute the ratios of the observed ones.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Refuses weights of other sizes than the layer's that makes a tensor.
inline void require_layer(const char* operation, const tensor_place& place, const scaled_weights& layer,
                          const float_matrix& expected) {
  at_tensor(place, [&] {
    layer.weights.require_sizes();
    require_equal(operation, "rows of the weights", layer.weights.rows, expected.rows());
    require_equal(operation, "columns of the weights", layer.weights.columns, expected.cols());
    require_equal(operation, "scales of the weights", std::ssize(layer.scale), layer.weights.rows);
  });
}

/// The same for all layers of a block.
inline void require_layers(const char* operation, index_t position, const block_weights& weights,
                           const float_block& block) {
  require_layer(operation, {"qkv", position}, weights.qkv, block.qkv.weight);
  require_layer(operation, {"proj", position}, weights.proj, block.proj.weight);
  require_layer(operation, {"fc1", position}, weights.fc1, block.fc1.weight);
  require_layer(operation, {"fc2", position}, weights.fc2, block.fc2.weight);
  require_layer(operation, {"up", position}, weights.up, block.up.weight);
}

/// Refuses weights of other sizes than the model's.
inline void require_weights(const char* operation, const vit_weights& weights, const float_vit& model) {
  require_equal(operation, "number of blocks of the weights", std::ssize(weights.blocks), model.shape.depth);
  require_layer(operation, {"patch"}, weights.patch, model.patch.weight);
  for (std::size_t position = 0; position < weights.blocks.size(); ++position) {
    require_layers(operation, static_cast<index_t>(position), weights.blocks[position], model.blocks[position]);
  }
  if (model.shape.classes != 0) {
    require_layer(operation, {"logits"}, weights.head, model.head.weight);
  }
}

/// The scale of the features, the inputs of the head.
inline const affine_scale& features_scale(const vit_scales& scales, const vit_shape& shape) {
  return shape.pooling == vit_pooling::mean ? scales.pool : scales.norm;
}

/// The mean of so many normalized tokens.
inline scale_spec mean_spec(const affine_scale& norm, const affine_scale& mean, index_t tokens) {
  return average_pool_spec(scale_ratio(norm, mean), norm.zero_point, mean.zero_point, tokens);
}

/// The mean of so many tokens of a residual stream, channel by channel, in s16 codes of a scale.
inline std::vector<scale_spec> mean_specs(const ptf_scale& stream, stream_codes codes, float mean, index_t tokens) {
  std::vector<scale_spec> specs;
  for (std::size_t c = 0; c < stream.shift.size(); ++c) {
    const double ratio = channel_step(stream, c) / static_cast<double>(mean);
    specs.push_back(codes == stream_codes::s16 ? average_pool_s16_spec(ratio, tokens)
                                               : average_pool_spec(ratio, stream.zero_point, 0, tokens));
  }
  return specs;
}

/// A LayerNorm whose outputs have a power of two per channel: in the scale of all channels, gamma and beta are divided
/// by the powers.
inline float_layernorm divide_by_powers(const float_layernorm& norm, const ptf_scale& y) {
  float_layernorm divided = norm;
  for (std::size_t c = 0; c < y.shift.size(); ++c) {
    divided.weight[static_cast<index_t>(c)] = std::ldexp(norm.weight[static_cast<index_t>(c)], -y.shift[c]);
    divided.bias[static_cast<index_t>(c)] = std::ldexp(norm.bias[static_cast<index_t>(c)], -y.shift[c]);
  }
  return divided;
}

/// An s16 stream of the codes of the LayerNorm before the blocks.
inline std::vector<scale_spec> stream_specs(const ptf_scale& norm_pre, float stream) {
  std::vector<scale_spec> specs;
  for (std::size_t c = 0; c < norm_pre.shift.size(); ++c) {
    specs.push_back(
        convert_codes_spec(channel_step(norm_pre, c) / static_cast<double>(stream), norm_pre.zero_point, 0));
  }
  return specs;
}

/// Fits the scales of the LayerNorm before the blocks and of an s16 stream to the tokens'.
inline void fit_pre_norm(const float_vit& model, bool wide, layer_scale_fitter& fit, vit_scales& scales) {
  const double epsilon = static_cast<double>(model.epsilon);
  const index_t width = model.shape.width;
  require_equal("fit_scales", "number of shifts of norm_pre", std::ssize(scales.norm_pre.shift), width);
  fit.raise("norm_pre", scales.norm_pre,
            [&](const ptf_scale& y) { return fits_layernorm_output(view_of(*model.norm_pre), y.scale); });
  if (wide) {
    fit.norm_input("stream", scales.stream, width, epsilon);
    fit.raise("stream", scales.stream, [&](float stream) { return has_scale(stream_specs(scales.norm_pre, stream)); });
  } else {
    fit.norm_input("norm_pre", scales.norm_pre, width, epsilon);
  }
}

/// Fits the scales of the final LayerNorm and of the mean, if the features have one, to the residual stream's.
inline void fit_features(const float_vit& model, const quantization_recipe& recipe, const ptf_scale& stream,
                         layer_scale_fitter& fit, vit_scales& scales) {
  const vit_shape& shape = model.shape;
  if (shape.pooling == vit_pooling::normalized_mean) {
    fit.raise("pool", scales.pool.scale, [&](float scale) {
      return fits_layernorm_input(scale, shape.width, static_cast<double>(model.epsilon)) &&
             has_scale(mean_specs(stream, recipe.stream, scale, shape.patches()));
    });
  }
  fit.norm("norm", view_of(model.norm), scales.norm);
  if (shape.pooling == vit_pooling::mean) {
    fit.raise("pool", scales.pool.scale, [&](float scale) {
      const scale_spec target = mean_spec(scales.norm, {scale, scales.pool.zero_point}, shape.patches());
      return has_scale({&target, 1});
    });
  }
}

}  // namespace detail

/// The scales with those raised for which the integers of a recipe's graph do not exist. Scales of a model that
/// build_vit() takes as they are stay as they are.
///
/// Formula:   context, where rows are normalized: s_v / 3.99; additions of u8 streams: the channel's power of two, then
///            the scale, doubled; all others doubled, until has_scale, has_normalization and has_add_scale hold. In the
///            order of the graph, as later scales depend on earlier ones.
/// Errors:    scales or weights of another depth or width, a recipe whose parts exclude each other; scales that are not
///            above 0 and finite, naming tensor and block.
/// Source:    docs/numerics.md, section 9.
inline fitted_scales<vit_scales> fit_scales(const float_vit& model, const vit_scales& observed,
                                            const vit_weights& weights, const quantization_recipe& recipe) {
  require_recipe(recipe);
  require_equal("fit_scales", "number of blocks of the scales", std::ssize(observed.blocks), model.shape.depth);
  require_equal("fit_scales", "number of shifts of the tokens", std::ssize(observed.tokens.shift), model.shape.width);
  detail::require_weights("fit_scales", weights, model);
  fitted_scales<vit_scales> fitted{observed, {}};
  vit_scales& scales = fitted.scales;
  layer_scale_fitter fit(fitted.changes);
  const double epsilon = static_cast<double>(model.epsilon);
  const index_t width = model.shape.width;
  const bool wide = recipe.stream == stream_codes::s16;

  float& s16_tokens = model.norm_pre ? scales.s16_tokens : scales.stream;
  affine_scale s16{s16_tokens, 0};
  fit.linear("patch", weights.patch, span_of(patch_layer(model, recipe).bias),
             recipe.pixel_codes ? affine_scale{1, 0} : scales.input, wide ? s16 : scales.patch);
  s16_tokens = s16.scale;
  if (wide) {
    fit.norm_input("tokens", s16_tokens, width, epsilon);
  } else {
    fit.addition("tokens", unshifted_scale(scales.embed, width), scales.positions, scales.tokens);
    fit.norm_input("tokens", scales.tokens, width, epsilon);
  }
  if (model.norm_pre) {
    detail::fit_pre_norm(model, wide, fit, scales);
  }
  const ptf_scale& first = model.norm_pre ? scales.norm_pre : scales.tokens;
  for (std::size_t position = 0; position < scales.blocks.size(); ++position) {
    fit.enter_block(static_cast<index_t>(position));
    const ptf_scale& stream = position == 0 ? first : scales.blocks[position - 1].add2;
    const float_block_view block = block_view(model, static_cast<index_t>(position));
    block_scale_fitter{.block = block, .recipe = recipe, .fit = fit, .s16_step = scales.stream}(
        weights.blocks[position], scales.blocks[position], stream);
  }
  fit.enter_block(-1);
  const ptf_scale& last = scales.blocks.empty() ? first : scales.blocks.back().add2;
  detail::fit_features(model, recipe, wide ? unshifted_scale({scales.stream, 0}, width) : last, fit, scales);
  if (model.shape.classes != 0) {
    fit.head(weights.head, span_of(model.head.bias), detail::features_scale(scales, model.shape), scales.logits);
  }
  return fitted;
}

}  // namespace INTACT_UNIT
}  // namespace intact
