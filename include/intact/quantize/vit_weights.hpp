#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <limits>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/scaled_weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/float_vit.hpp"

// The weights of a float model as codes. Programs that round weights by a method of their own fill vit_weights
// themselves.

namespace intact {
inline namespace INTACT_UNIT {

/// Weights of a vision transformer's layers.
struct vit_weights {
  scaled_weights patch;               ///< of patch_layer
  std::vector<block_weights> blocks;  ///< from the first to the last
  scaled_weights head;                ///< of the classes
};

namespace detail {

/// The patch layer for pixels that are codes: w * (pixel / max - mean) / deviation + b as weights and a bias of pixels,
/// none beyond the largest float.
template <class Model>
float_linear fold_normalization(const Model& model) {
  constexpr double largest = static_cast<double>(std::numeric_limits<float>::max());
  const auto to_float = [=](double x) { return static_cast<float>(std::clamp(x, -largest, largest)); };
  float_linear folded = model.patch;
  const index_t samples = patch_size(model.shape.patch).samples();
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

/// The layer of the patches for the integer model's input: normalized pixels in codes, or pixels that are codes.
template <class Model>
float_linear patch_layer(const Model& model, const quantization_recipe& recipe) {
  return recipe.pixel_codes ? detail::fold_normalization(model) : model.patch;
}

/// Quantizes the weights of all layers.
inline vit_weights quantize_weights(const float_vit& model, const quantization_recipe& recipe) {
  vit_weights weights;
  weights.patch = quantize_layer({"patch"}, view_of(patch_layer(model, recipe).weight), recipe);
  for (index_t position = 0; position < std::ssize(model.blocks); ++position) {
    weights.blocks.push_back(quantize_block(block_view(model, position), recipe));
  }
  if (model.shape.classes != 0) {
    weights.head = quantize_layer({"logits"}, view_of(model.head.weight), recipe);
  }
  return weights;
}

}  // namespace INTACT_UNIT
}  // namespace intact
