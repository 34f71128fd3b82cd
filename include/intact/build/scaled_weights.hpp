#pragma once

#include <utility>
#include <vector>

#include "intact/build/float_block.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"

// Weights of float layers as codes. Programs that round weights by a method of their own fill scaled_weights
// themselves.

namespace intact {
inline namespace INTACT_UNIT {

/// Weights with the scale of each output channel: weight (n, k) is its code, shifted if there are shifts, times
/// scale[n].
struct scaled_weights {
  owned_weights weights;     ///< codes, and shifts of grouped s4
  std::vector<float> scale;  ///< one per output channel
};

/// Weights of a block's layers.
struct block_weights {
  /// In the order of the block.
  scaled_weights qkv, proj, fc1, fc2;
  scaled_weights up = {};  ///< of a block with a gate
};

/// Quantizes the weights of one layer to nearest, in the scales of quantize_weights() and quantize_grouped_weights(),
/// whose errors it has.
inline scaled_weights quantize_layer(matrix_view<const float> weight, const quantization_recipe& recipe) {
  if (recipe.weights == weight_kind::grouped_s4) {
    grouped_weights s4 = quantize_grouped_weights(weight, recipe.weight_group);
    return {
        owned_weights::pack_grouped_s4(s4.weights.codes, weight.rows, weight.columns, std::move(s4.shift), s4.group),
        std::move(s4.weights.scale)};
  }
  const bool narrow = recipe.weights == weight_kind::s4;
  quantized_weights codes = quantize_weights(weight, narrow ? s4_codes : s8_codes);
  return {narrow ? owned_weights::pack_s4(codes.codes, codes.rows, codes.columns)
                 : owned_weights(std::move(codes.codes), codes.rows, codes.columns),
          std::move(codes.scale)};
}

/// The same for a layer of a model, which refusals name.
inline scaled_weights quantize_layer(const tensor_place& place, matrix_view<const float> weight,
                                     const quantization_recipe& recipe) {
  return at_tensor(place, [&] { return quantize_layer(weight, recipe); });
}

/// Quantizes the weights of a block's layers.
inline block_weights quantize_block(const float_block_view& block, const quantization_recipe& recipe) {
  const auto quantize = [&](const char* tensor, const float_linear_view& layer) {
    return quantize_layer({tensor, block.position}, layer.weight, recipe);
  };
  return {.qkv = quantize("qkv", block.qkv),
          .proj = quantize("proj", block.proj),
          .fc1 = quantize("fc1", block.fc1),
          .fc2 = quantize("fc2", block.fc2),
          .up = block.shape.gated ? quantize("up", block.up) : scaled_weights()};
}

}  // namespace INTACT_UNIT
}  // namespace intact
