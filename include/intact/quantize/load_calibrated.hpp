#pragma once

#include <cstddef>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/swin_scales.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/calibrated_reader.hpp"
#include "intact/quantize/calibrated_vit.hpp"
#include "intact/quantize/fit_swin_scales.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/swin_weights.hpp"

// Models that another tool has calibrated: files of weights, scales, zero points and bit widths, of which build_vit and
// build_swin make integer models. docs/calibrated_models.md has the names of the tensors.

namespace intact {
inline namespace INTACT_UNIT {

/// The metadata "format" of files with a calibrated vision transformer.
inline constexpr const char* calibrated_vit_format = "intact-calibrated-vit";
/// The same of a Swin transformer.
inline constexpr const char* calibrated_swin_format = "intact-calibrated-swin";

/// A vision transformer that was calibrated elsewhere, and the recipe for its integer model.
struct loaded_calibrated_vit {
  calibrated_vit model;        ///< float model, scales and codes
  quantization_recipe recipe;  ///< of the integer model
};

/// The same of a Swin transformer.
struct loaded_calibrated_swin {
  float_swin model;                   ///< with the weights of the codes
  swin_scales scales;                 ///< of the tensors
  swin_weights weights;               ///< as codes
  std::vector<scale_change> changes;  ///< scales that were raised so that integers can represent them
  quantization_recipe recipe;         ///< of the integer model
};

namespace detail {

inline float_vit read_calibrated_floats(calibrated_reader& reader) {
  for (const char* const name : {"cls_token", "pos_embed"}) {
    reader.take(name);
  }
  reader.take_layer("patch_embed.proj");
  for (index_t n = 0; reader.contains("blocks." + std::to_string(n) + ".norm1.weight"); ++n) {
    reader.take_block("blocks." + std::to_string(n));
  }
  reader.take_norm("norm");
  reader.take_layer("head");
  reader.require_metadata_if_any("global_pool", {"token"});
  float_vit model = load_float_vit(reader.float_file(), {.pooling = vit_pooling::class_tokens});
  if (model.shape.gated) {
    reader.refuse(
        "tensor \"blocks.0.mlp.fc1.weight\" has twice as many rows as blocks.0.mlp.fc2.weight has columns; a "
        "calibrated model has no gates");
  }
  return model;
}

/// The name of a block of a Swin stage.
inline std::string swin_block_name(index_t stage, index_t block) {
  return "layers." + std::to_string(stage) + ".blocks." + std::to_string(block);
}

inline float_swin read_calibrated_swin_floats(calibrated_reader& reader) {
  reader.take_layer("patch_embed.proj");
  reader.take_norm("patch_embed.norm");
  for (index_t s = 0; reader.contains(swin_block_name(s, 0) + ".norm1.weight"); ++s) {
    for (index_t n = 0; reader.contains(swin_block_name(s, n) + ".norm1.weight"); ++n) {
      reader.take_block(swin_block_name(s, n));
      reader.take(swin_block_name(s, n) + ".attn.relative_position_bias_table");
    }
    const std::string merging = "layers." + std::to_string(s) + ".downsample";
    reader.take_norm(merging + ".norm");
    reader.take_layer(merging + ".reduction");
  }
  reader.take_norm("norm");
  reader.take_layer("head");
  return reader.in_file([&] { return load_float_swin(reader.float_file()); });
}

/// The scales and the weights of Swin stage s.
inline void read_calibrated_stage(calibrated_reader& reader, index_t s, loaded_calibrated_swin& loaded) {
  const float_swin_stage& layers = loaded.model.stages[static_cast<std::size_t>(s)];
  swin_stage_scales& scales = loaded.scales.stages.emplace_back();
  swin_stage_weights& weights = loaded.weights.stages.emplace_back();
  for (index_t n = 0; n < std::ssize(layers.blocks); ++n) {
    const std::string name = swin_block_name(s, n);
    scales.blocks.push_back({.block = reader.block(name, loaded.model.shape.of(s).width),
                             .position_bias = reader.affine(name + ".position_bias"),
                             .biased_logits = reader.affine(name + ".biased_logits")});
    weights.blocks.push_back(reader.weights(name, layers.blocks[static_cast<std::size_t>(n)].block));
  }
  if (s + 1 < loaded.model.shape.stages) {
    const std::string stage = "layers." + std::to_string(s);
    scales.merge_norm = reader.affine(stage + ".merge_norm");
    scales.merge = reader.ptf(stage + ".merge", loaded.model.shape.of(s + 1).width);
    weights.reduction = reader.weights(stage + ".downsample.reduction", layers.reduction);
  }
}

}  // namespace detail

/// Makes the arguments of build_vit of a file of weights, scales and zero points, in FQ-ViT's graph.
///
/// Formula:   weights: the file's codes, or clamp(rne(w / weight_scale)) of its real numbers; scales and zero points as
///            they are, but for those that no integers compute: fit_scales raises them, and `changes` names them.
/// Errors:    file_error, naming the tensor or the metadata, the value and the limit: metadata that is missing or has
///            another value than the format's; tensors that are missing, have another dtype or shape, or have no place
///            in the model; features other than the class token's; scales that are not above 0 and finite, or too
///            large for the range of GELU's inputs; zero points outside 0..255, shifts above 3, codes of weights
///            outside their bits; whatever load_float_vit and the builders refuse.
/// Source:    docs/calibrated_models.md.
inline loaded_calibrated_vit load_calibrated_vit(const safetensors_file& file) {
  detail::calibrated_reader reader(file, calibrated_vit_format);
  loaded_calibrated_vit loaded{{.model = detail::read_calibrated_floats(reader), .scales = {}, .weights = {}},
                               reader.recipe()};
  const float_vit& model = loaded.model.model;
  file.require_shape("pos_embed", {1, model.shape.tokens(), model.shape.width});
  vit_scales& scales = loaded.model.scales;
  vit_weights& weights = loaded.model.weights;

  scales.input = reader.affine("input");
  scales.patch = reader.affine("patch");
  scales.embed = reader.affine("embed");
  scales.positions = reader.affine("positions");
  scales.tokens = reader.ptf("tokens", model.shape.width);
  weights.patch = reader.weights("patch_embed.proj", model.patch.weight);
  for (std::size_t n = 0; n < model.blocks.size(); ++n) {
    const std::string name = "blocks." + std::to_string(n);
    scales.blocks.push_back(reader.block(name, model.shape.width));
    weights.blocks.push_back(reader.weights(name, model.blocks[n]));
  }
  scales.norm = reader.affine("norm");
  scales.logits = reader.affine("logits");
  weights.head = reader.weights("head", model.head.weight);
  reader.require_all_read();
  loaded.model = reader.in_file([&] { return fit_scales(std::move(loaded.model), loaded.recipe); });
  return loaded;
}

/// The same for build_swin. Tensors of mergings have the old names of timm.
inline loaded_calibrated_swin load_calibrated_swin(const safetensors_file& file) {
  detail::calibrated_reader reader(file, calibrated_swin_format);
  loaded_calibrated_swin loaded{.model = detail::read_calibrated_swin_floats(reader),
                                .scales = {},
                                .weights = {},
                                .changes = {},
                                .recipe = reader.recipe()};
  const float_swin& model = loaded.model;
  swin_scales& scales = loaded.scales;

  scales.input = reader.affine("input");
  scales.patch = reader.affine("patch");
  scales.tokens = reader.affine("tokens");
  loaded.weights.patch = reader.weights("patch_embed.proj", model.patch.weight);
  for (index_t s = 0; s < model.shape.stages; ++s) {
    detail::read_calibrated_stage(reader, s, loaded);
  }
  scales.norm = reader.affine("norm");
  scales.pool = reader.affine("pool");
  scales.logits = reader.affine("logits");
  loaded.weights.head = reader.weights("head", model.head.weight);
  reader.require_all_read();
  fitted_scales<swin_scales> fitted =
      reader.in_file([&] { return fit_scales(model, scales, loaded.weights, loaded.recipe); });
  loaded.scales = std::move(fitted.scales);
  loaded.changes = std::move(fitted.changes);
  return loaded;
}

}  // namespace INTACT_UNIT
}  // namespace intact
