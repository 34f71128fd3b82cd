#pragma once

#include <cstddef>
#include <iterator>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/quantize/vit_weights.hpp"

// The weights of a float Swin transformer as codes.

namespace intact {
inline namespace INTACT_UNIT {

/// Weights of a Swin stage's layers.
struct swin_stage_weights {
  std::vector<block_weights> blocks;  ///< from the first to the last
  scaled_weights reduction;           ///< not of the last Swin stage
};

/// Weights of a Swin transformer's layers.
struct swin_weights {
  scaled_weights patch;                    ///< of patch_layer
  std::vector<swin_stage_weights> stages;  ///< from the first to the last
  scaled_weights head;                     ///< of the classes
};

/// Quantizes the weights of all layers. Blocks are numbered through all Swin stages.
inline swin_weights quantize_weights(const float_swin& model, const quantization_recipe& recipe) {
  swin_weights weights;
  weights.patch = quantize_layer({"patch"}, view_of(patch_layer(model, recipe).weight), recipe);
  index_t number = 0;
  for (index_t s = 0; s < std::ssize(model.stages); ++s) {
    const float_swin_stage& stage = model.stages[static_cast<std::size_t>(s)];
    swin_stage_weights& made = weights.stages.emplace_back();
    for (index_t position = 0; position < std::ssize(stage.blocks); ++position) {
      made.blocks.push_back(quantize_block(block_view(model, s, position, number++), recipe));
    }
    if (stage.reduction.size() != 0) {
      made.reduction = quantize_layer({"merge", s}, view_of(stage.reduction), recipe);
    }
  }
  weights.head = quantize_layer({"logits"}, view_of(model.head.weight), recipe);
  return weights;
}

}  // namespace INTACT_UNIT
}  // namespace intact
