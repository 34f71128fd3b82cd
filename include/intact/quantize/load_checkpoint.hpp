#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "intact/config/floating_point.hpp"
#include "intact/io/checkpoint_config.hpp"
#include "intact/io/checkpoint_names.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/checkpoint_values.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/resize_images.hpp"

// Float models from checkpoints with timm's or Hugging Face's names, for images of their own size or of another.

namespace intact {
inline namespace INTACT_UNIT {

/// Of every LayerNorm, in Hugging Face's ViT and DeiT, if nothing else is said.
inline constexpr float hugging_face_epsilon = 1e-12F;
/// Likewise, in timm's models that have a LayerNorm before the blocks.
inline constexpr float clip_epsilon = 1e-5F;

/// A vision transformer of a checkpoint.
using loaded_checkpoint = loaded_model<float_vit>;

namespace detail {

/// Heads of models of a width: 64 channels each, but for those that were published with fewer heads (ViT-H, ViT-g,
/// ViT-G, SO400M).
inline std::pair<index_t, std::string> assumed_heads(index_t width) {
  if (width == 1152 || width == 1280 || width == 1408 || width == 1664) {
    return {16, "that of published models of this width"};
  }
  return {width % 64 == 0 ? width / 64 : 0, "width / 64"};
}

/// Refuses a configuration that contradicts the tensors, or names functions that are not here.
inline void require_config(const safetensors_index& file, const checkpoint_config& config, const vit_shape& shape) {
  const std::map<std::string, index_t> actual = {
      {"hidden_size", shape.width},       {"embed_dim", shape.width},         {"num_features", shape.width},
      {"num_hidden_layers", shape.depth}, {"patch_size", shape.patch.height}, {"patch_width", shape.patch.width},
      {"num_channels", shape.channels},   {"num_labels", shape.classes},      {"num_classes", shape.classes},
      {"id2label", shape.classes},        {"intermediate_size", shape.hidden}};
  for (const stated_size& size : config.sizes) {
    const auto found = actual.find(size.key);
    const bool of_head = size.key == "num_labels" || size.key == "num_classes" || size.key == "id2label";
    if (found != actual.end() && size.value != found->second && !(of_head && shape.classes == 0)) {
      refuse_config(file, size.source, std::to_string(size.value), "the tensors have " + std::to_string(found->second));
    }
  }
  const image_sides trained = {shape.height, shape.image_width};
  if (config.trained_size && config.trained_size->value != trained) {
    refuse_config(file, config.trained_size->source, product_text(config.trained_size->value),
                  "the positions are those of " + product_text(trained) + " pixels");
  }
  if (config.image_size) {
    const image_sides size = config.image_size->value, grid = patch_grid(size, shape.patch);
    const index_t most = std::max(most_patches(shape), shape.patches());
    if (!fills(shape.patch, size) || size_product(grid.height, grid.width) > most) {
      refuse_config(file, config.image_size->source, product_text(size),
                    "the sides must be multiples of those of a patch, " +
                        product_text({shape.patch.height, shape.patch.width}) + ", and make at most " +
                        std::to_string(most) + " patches");
    }
  }
}

/// The pooling of a configuration, if it names one.
inline std::optional<vit_pooling> configured_pooling(const safetensors_file& file, const checkpoint_config& config,
                                                     const named_tensors& tensors) {
  if (!config.pooling || config.pooling->value.empty()) {
    return std::nullopt;
  }
  if (config.pooling->value == "token") {
    return vit_pooling::class_tokens;
  }
  if (config.pooling->value != "avg") {
    refuse_config(file, config.pooling->source, in_quotes(config.pooling->value), "it must be \"token\" or \"avg\"");
  }
  return tensors.contains("fc_norm.weight") ? vit_pooling::normalized_mean : vit_pooling::mean;
}

/// The features of a model without a head, for people.
inline std::string features_text(const vit_shape& shape) {
  switch (shape.pooling) {
    case vit_pooling::class_tokens:
      return "class tokens";
    case vit_pooling::class_tokens_and_mean:
      return "class tokens and mean of the patch tokens";
    case vit_pooling::patch_tokens:
      return "patch tokens";
    default:
      return "mean of the patch tokens";
  }
}

}  // namespace detail

/// Makes a model of a checkpoint under the names that with_timm_names takes, and tells what it took from where.
///
/// Types:     F32, F16, BF16 and F64.
/// Defaults:  those of load_float_vit; mean and standard deviation of ImageNet, Hugging Face's epsilon for its names,
///            CLIP's beside a LayerNorm before the blocks; SiLU of the gates of Hugging Face's models, whatever their
///            hidden_act is.
/// Errors:    file_error, as of load_float_vit and with_timm_names; a configuration that contradicts the shapes of the
///            tensors, or needs an activation function, pooling, interpolation or cropping that is not here, naming
///            its file and key. std::invalid_argument, as of resize_images.
inline loaded_checkpoint read_checkpoint(const safetensors_file& file, const checkpoint_options& options = {}) {
  checkpoint_config config = detail::used_config(file, options);
  const named_tensors tensors = with_timm_names(file);
  const std::string patch = "patch_embed.proj.weight";
  const detail::float_model_reader reader(tensors);
  const index_t width = reader.size(patch, 4, 0), channels = reader.size(patch, 4, 1);
  if (config.heads && width % config.heads->value != 0) {
    detail::refuse_config(file, config.heads->source, std::to_string(config.heads->value),
                          "it must divide the width, " + std::to_string(width));
  }

  float_vit_options model_options = options.model;
  detail::completed_options completed(file);
  completed.complete("heads", "heads", model_options.heads, config.heads, detail::assumed_heads(width));
  const bool hugging_face = has_hugging_face_names(file);
  detail::assumed_values assumed{
      hugging_face ? std::pair(hugging_face_epsilon, std::string("that of Hugging Face's models"))
      : tensors.contains("norm_pre.weight") ? std::pair(clip_epsilon, std::string("that of CLIP's models"))
                                            : std::pair(float_vit().epsilon, std::string("that of timm's models"))};
  if (reader.has_gate("blocks.0")) {
    assumed.activation = {activation_function::silu, "that of SwiGLU"};
    if (hugging_face) {  // whose DINOv2 takes SiLU whatever hidden_act is
      config.activation.reset();
    }
  }
  detail::complete_model(file, config, channels, assumed, model_options, completed);

  if (model_options.without_head && model_options.pooling == vit_pooling::mean && tensors.contains("fc_norm.weight")) {
    model_options.pooling = vit_pooling::normalized_mean;
  }
  if (!model_options.pooling && !file.metadata().contains("global_pool")) {
    model_options.pooling = detail::configured_pooling(file, config, tensors);
  }

  for (const auto& size : {options.config.trained_size, options.config.image_size}) {
    if (size) {
      model_options.images.push_back(size->value);
    }
  }
  if (options.image_size) {
    model_options.images.push_back(*options.image_size);
  }
  loaded_checkpoint loaded{
      .model = load_float_vit(tensors, model_options), .preprocessing = {}, .values = {}, .unused = tensors.unused()};
  float_vit& model = loaded.model;
  detail::require_config(file, config, model.shape);
  const image_sides trained = {model.shape.height, model.shape.image_width};
  std::optional<image_sides> image_size = options.image_size;
  completed.complete("size", nullptr, image_size, config.image_size,
                     std::pair(trained, std::string("that of the positions")));
  resize_images(model, *image_size);
  loaded.preprocessing = detail::complete_preprocessing(file, options, *image_size, completed);

  const activation_function activation =
      model.blocks.empty() ? activation_function::gelu : model.blocks.front().activation;
  loaded.values = detail::values_with_texts(
      completed, model, activation, loaded.preprocessing,
      {{"heads", std::to_string(model.shape.heads)}, {"norm", detail::norm_name(model.shape.norm)}});
  if (model.shape.classes == 0) {
    loaded.values.push_back({.name = "features",
                             .value = detail::features_text(model.shape),
                             .source = options.model.without_head ? "" : "the file has no head",
                             .origin = options.model.without_head ? value_origin::option : value_origin::file});
  }
  if (*image_size != trained) {
    const auto grid = [&](const image_sides& image) { return sides_text(patch_grid(image, model.shape.patch)); };
    loaded.values.push_back({.name = "positions",
                             .value = grid(trained) + " to " + grid(*image_size) + " on a side",
                             .source = std::string("bicubic, antialiased as in timm") +
                                       (hugging_face ? "; transformers does not antialias" : "")});
  }
  return loaded;
}

/// The model alone.
inline float_vit load_checkpoint(const safetensors_file& file, const checkpoint_options& options = {}) {
  return read_checkpoint(file, options).model;
}

}  // namespace INTACT_UNIT
}  // namespace intact
