#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/checkpoint_config.hpp"
#include "intact/io/checkpoint_names.hpp"
#include "intact/io/nearest_name.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/checkpoint_values.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/quantize/patch_grid.hpp"

// Float Swin transformers from checkpoints with the names of timm, Hugging Face's transformers or torchvision.

namespace intact {
inline namespace INTACT_UNIT {

/// A Swin transformer of a checkpoint.
using loaded_swin_checkpoint = loaded_model<float_swin>;

/// Whether tensors under timm's names are those of a Swin transformer, whose blocks are in Swin stages.
inline bool has_stages(const named_tensors& tensors) {
  const std::vector<std::string> names = tensors.names();
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name_pattern(name).text.starts_with("layers.*.blocks.*."); });
}

namespace detail {

/// Refuses a configuration that contradicts the tensors, or names a pooling that is not here.
inline void require_config(const safetensors_index& file, const checkpoint_config& config, const swin_shape& shape) {
  const index_t width = shape.of(0).width, features = shape.of(shape.stages - 1).width;
  std::map<std::string, index_t> actual = {
      {"embed_dim", width},           {"hidden_size", features},           {"num_features", features},
      {"num_layers", shape.stages},   {"num_hidden_layers", shape.stages}, {"patch_size", shape.patch},
      {"patch_width", shape.patch},   {"num_channels", shape.channels},    {"num_labels", shape.classes},
      {"num_classes", shape.classes}, {"id2label", shape.classes},         {"window_size", shape.of(0).window}};
  for (index_t s = 0; s < shape.stages; ++s) {
    actual.emplace("depths " + std::to_string(s), shape.of(s).depth);
    actual.emplace("num_heads " + std::to_string(s), shape.of(s).heads);
  }
  for (const stated_size& size : config.sizes) {
    const auto found = actual.find(size.key);
    if (found != actual.end() && size.value != found->second) {
      refuse_config(file, size.source, std::to_string(size.value), "the tensors have " + std::to_string(found->second));
    }
    if (size.key == "depths " + std::to_string(shape.stages)) {
      refuse_config(file, size.source, std::to_string(size.value),
                    "the tensors have " + std::to_string(shape.stages) + " stages");
    }
  }
  if (config.pooling && !config.pooling->value.empty() && config.pooling->value != "avg") {
    refuse_config(file, config.pooling->source, in_quotes(config.pooling->value), "it must be \"avg\"");
  }
}

/// The side of the images for which the last Swin stage has one window, as published models have it: 224 pixels for
/// patches of 4, four Swin stages and windows of 7, 384 for windows of 12.
inline image_sides assumed_sides(const swin_shape& shape) {
  index_t tokens = shape.of(shape.stages - 1).window;
  for (index_t s = 1; s < shape.stages; ++s) {
    tokens *= 2;
  }
  return size_product(tokens, shape.patch);
}

/// How windows of a Swin stage are padded and shifted, if implementations differ there.
inline std::optional<checkpoint_value> windows_value(const swin_shape& shape, index_t s) {
  const index_t rows = shape.rows_of(s), columns = shape.columns_of(s), window = shape.of(s).window;
  const auto value = [&](const char* what, const char* source) {
    return checkpoint_value{.name = "windows",
                            .value = "of " + std::to_string(window) + what + " in stage " + std::to_string(s) + ", " +
                                     product_text({rows, columns}) + " tokens",
                            .source = source};
  };
  if (std::min(rows, columns) < window) {
    return value(" padded", "as in torchvision; timm makes windows smaller");
  }
  if (shape.of(s).depth == 1) {  // never shifted
    return std::nullopt;
  }
  if (std::min(rows, columns) == window) {
    return std::max(rows, columns) == window
               ? std::nullopt
               : std::optional(value(" not shifted", "as in the original; timm and torchvision shift along one side"));
  }
  return rows % window == 0 && columns % window == 0
             ? std::nullopt
             : std::optional(value(" padded, then shifted", "as in torchvision; timm shifts first"));
}

}  // namespace detail

/// Makes a Swin transformer of a checkpoint under the names that with_timm_names takes, and tells what it took from
/// where.
///
/// Types:     F32, F16, BF16 and F64.
/// Defaults:  mean and standard deviation of ImageNet, epsilon 1e-5, GELU; images for which the last Swin stage has one
///            window. Windows have the size of the tables of relative positions whatever the size of the images.
/// Errors:    file_error, as of load_float_swin and with_timm_names; a number of heads, features or a pooling among the
///            options; images that patches do not fill; a configuration that contradicts the shapes of the tensors, or
///            needs an activation function, pooling, interpolation or cropping that is not here, naming its file and
///            key.
inline loaded_swin_checkpoint read_swin_checkpoint(const safetensors_file& file,
                                                   const checkpoint_options& options = {}) {
  if (options.model.heads || options.model.pooling || options.model.without_head) {
    throw file_error(file.name(),
                     "the options tell heads, a pooling or features; those of a Swin transformer follow "
                     "from its tensors");
  }
  const checkpoint_config config = detail::used_config(file, options);
  const named_tensors tensors = with_timm_names(file);
  const detail::float_model_reader reader(tensors);
  reader.text("global_pool", {"avg"});
  reader.text("norm", {"layernorm"});
  const swin_shape sizes = detail::read_swin_stages(reader);

  float_vit_options values = options.model;
  detail::completed_options completed(file);
  detail::complete_model(file, config, sizes.channels, {{float_swin().epsilon, "that of Swin transformers"}}, values,
                         completed);
  if (values.norm == normalization::rmsnorm) {
    const std::string& source = completed.values.back().source;
    detail::refuse_config(file, source.empty() ? "the kind of norms" : source, "\"rmsnorm\"",
                          "the norms of a Swin transformer are LayerNorms");
  }
  std::optional<image_sides> size = options.image_size;
  completed.complete("size", "img_size", size, config.image_size ? config.image_size : config.trained_size,
                     std::pair(detail::assumed_sides(sizes), std::string("with it the last stage is one window")));
  if (size && !fills(sizes.patch, *size)) {
    const checkpoint_value& stated = completed.values.back();
    const bool by_option = stated.origin == value_origin::option;
    detail::refuse_config(file, by_option ? "the image size" : stated.source, detail::product_text(*size),
                          "its sides must be multiples of that of a patch, " + std::to_string(sizes.patch));
  }
  float_swin_options model_options{.epsilon = values.epsilon,
                                   .pixel_max = values.pixel_max,
                                   .mean = values.mean,
                                   .standard_deviation = values.standard_deviation,
                                   .activation = values.activation};
  if (size) {
    model_options.height = size->height;
    model_options.image_width = size->width;
  }
  loaded_swin_checkpoint loaded{
      .model = load_float_swin(tensors, model_options), .preprocessing = {}, .values = {}, .unused = tensors.unused()};
  const float_swin& model = loaded.model;
  detail::require_config(file, config, model.shape);
  loaded.preprocessing =
      detail::complete_preprocessing(file, options, {model.shape.height, model.shape.image_width}, completed);
  loaded.values = detail::values_with_texts(completed, model, model.stages.front().blocks.front().block.activation,
                                            loaded.preprocessing);
  for (index_t s = 0; s < model.shape.stages; ++s) {
    if (const std::optional<checkpoint_value> windows = detail::windows_value(model.shape, s)) {
      loaded.values.push_back(*windows);
    }
  }
  return loaded;
}

}  // namespace INTACT_UNIT
}  // namespace intact
