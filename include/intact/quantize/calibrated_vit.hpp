#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/fit_scales.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/tensor_rounding.hpp"
#include "intact/quantize/vit_weights.hpp"

// A float model with the scales and the codes that an integer model is built of.

namespace intact {
inline namespace INTACT_UNIT {

/// The arguments of build_vit, and the float model whose weights are those of the codes.
struct calibrated_vit {
  float_vit model;                         ///< with rounded weights
  vit_scales scales;                       ///< of the tensors
  vit_weights weights;                     ///< as codes
  std::vector<scale_change> changes = {};  ///< scales that were raised so that integers can represent them
};

namespace detail {

/// Sets the patch layer for normalized pixels, from the layer for pixels that are codes.
inline void unfold_patch(float_vit& model, const float_linear& folded) {
  const index_t samples = model.shape.patch.samples();
  model.patch.bias = folded.bias;
  for (index_t k = 0; k < folded.weight.cols(); ++k) {
    const std::size_t channel = static_cast<std::size_t>(k / samples);
    const Eigen::VectorXf column = folded.weight.col(k) * model.pixel_max;
    model.patch.weight.col(k) = column * model.standard_deviation[channel];
    model.patch.bias += (column * model.mean[channel]).transpose();
  }
}

}  // namespace detail

/// The same model with scales that integers can represent. Every scale that is raised is added to the changes.
///
/// Errors:    as of fit_scales.
inline calibrated_vit fit_scales(calibrated_vit calibrated, const quantization_recipe& recipe) {
  fitted_scales<vit_scales> fitted = fit_scales(calibrated.model, calibrated.scales, calibrated.weights, recipe);
  calibrated.scales = std::move(fitted.scales);
  calibrated.changes.insert(calibrated.changes.end(), fitted.changes.begin(), fitted.changes.end());
  return calibrated;
}

/// A calibrated model whose weights are rounded to nearest, each by itself.
///
/// Errors:    as of quantize_weights.
inline calibrated_vit round_to_nearest(const float_vit& model, const vit_scales& scales,
                                       const quantization_recipe& recipe) {
  calibrated_vit rounded{.model = model, .scales = scales, .weights = quantize_weights(model, recipe)};
  float_linear patch = patch_layer(model, recipe);
  patch.weight = real_weights(rounded.weights.patch);
  if (recipe.pixel_codes) {
    detail::unfold_patch(rounded.model, patch);
  } else {
    rounded.model.patch = patch;
  }
  for (std::size_t layer = 0; layer < rounded.model.blocks.size(); ++layer) {
    float_block& block = rounded.model.blocks[layer];
    const block_weights& weights = rounded.weights.blocks[layer];
    block.qkv.weight = real_weights(weights.qkv);
    block.proj.weight = real_weights(weights.proj);
    block.fc1.weight = real_weights(weights.fc1);
    block.fc2.weight = real_weights(weights.fc2);
    if (model.shape.gated) {
      block.up.weight = real_weights(weights.up);
    }
  }
  if (model.shape.classes != 0) {
    rounded.model.head.weight = real_weights(rounded.weights.head);
  }
  return rounded;
}

}  // namespace INTACT_UNIT
}  // namespace intact
