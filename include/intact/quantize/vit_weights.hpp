#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/float_vit.hpp"

// The weights of a float model as codes. Who wants to round them in a way of their own builds vit_weights themselves.

namespace intact {
inline namespace INTACT_UNIT {

/// Weights with the scale of each output channel: weight (n, k) is its code, shifted if there are shifts, times
/// scale[n].
struct scaled_weights {
  owned_weights weights;
  std::vector<float> scale;
};

/// Weights of a block's layers.
struct block_weights {
  scaled_weights qkv, proj, fc1, fc2;
};

/// Weights of a vision transformer's layers.
struct vit_weights {
  scaled_weights patch;  ///< of patch_layer
  std::vector<block_weights> blocks;
  scaled_weights head;
};

namespace detail {

/// The patch layer for pixels that are codes: w * (pixel / max - mean) / deviation + b as weights and a bias of pixels,
/// none beyond the largest float.
template <class Model>
float_linear fold_normalization(const Model& model) {
  constexpr double largest = static_cast<double>(std::numeric_limits<float>::max());
  const auto to_float = [=](double x) { return static_cast<float>(std::clamp(x, -largest, largest)); };
  float_linear folded = model.patch;
  const index_t samples = model.shape.patch * model.shape.patch;
  for (index_t n = 0; n < folded.weight.rows(); ++n) {
    double bias = static_cast<double>(folded.bias[n]);
    for (index_t k = 0; k < folded.weight.cols(); ++k) {
      const std::size_t channel = static_cast<std::size_t>(k / samples);
      const double scaled =
          static_cast<double>(model.patch.weight(n, k)) / static_cast<double>(model.standard_deviation[channel]);
      bias -= scaled * static_cast<double>(model.mean[channel]);
      folded.weight(n, k) = to_float(scaled / static_cast<double>(model.pixel_max));
    }
    folded.bias[n] = to_float(bias);
  }
  return folded;
}

}  // namespace detail

/// The layer that makes patches of what the integer model has: normalized pixels in codes, or pixels that are codes.
template <class Model>
float_linear patch_layer(const Model& model, const quantization_recipe& recipe) {
  return recipe.pixel_codes ? detail::fold_normalization(model) : model.patch;
}

/// Quantizes the weights of a layer, by themselves: to nearest, in the scales of quantize_weights and
/// quantize_grouped_weights, whose errors it has.
inline scaled_weights quantize_layer(const float_matrix& weight, const quantization_recipe& recipe) {
  if (recipe.weights == weight_kind::grouped_s4) {
    grouped_weights s4 = quantize_grouped_weights(view_of(weight), recipe.weight_group);
    return {
        owned_weights::pack_grouped_s4(s4.weights.codes, weight.rows(), weight.cols(), std::move(s4.shift), s4.group),
        std::move(s4.weights.scale)};
  }
  const bool narrow = recipe.weights == weight_kind::s4;
  quantized_weights codes = quantize_weights(view_of(weight), narrow ? s4_codes : s8_codes);
  return {narrow ? owned_weights::pack_s4(codes.codes, codes.rows, codes.columns)
                 : owned_weights(std::move(codes.codes), codes.rows, codes.columns),
          std::move(codes.scale)};
}

namespace detail {

/// The same for a layer of a model, which refusals name.
inline scaled_weights quantize_layer_at(const tensor_place& place, const float_matrix& weight,
                                        const quantization_recipe& recipe) {
  return at_tensor(place, [&] { return quantize_layer(weight, recipe); });
}

}  // namespace detail

/// Quantizes the weights of the layers of a block, which has a position in its model.
inline block_weights quantize_block(const float_block& block, const quantization_recipe& recipe, index_t position) {
  const auto quantize = [&](const char* tensor, const float_linear& layer) {
    return detail::quantize_layer_at({tensor, position}, layer.weight, recipe);
  };
  return {quantize("qkv", block.qkv), quantize("proj", block.proj), quantize("fc1", block.fc1),
          quantize("fc2", block.fc2)};
}

/// Quantizes the weights of all layers.
inline vit_weights quantize_weights(const float_vit& model, const quantization_recipe& recipe) {
  vit_weights weights;
  weights.patch = detail::quantize_layer_at({"patch"}, patch_layer(model, recipe).weight, recipe);
  for (const float_block& block : model.blocks) {
    weights.blocks.push_back(quantize_block(block, recipe, std::ssize(weights.blocks)));
  }
  weights.head = detail::quantize_layer_at({"logits"}, model.head.weight, recipe);
  return weights;
}

}  // namespace INTACT_UNIT
}  // namespace intact
