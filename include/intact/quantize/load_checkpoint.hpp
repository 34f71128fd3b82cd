#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/checkpoint_config.hpp"
#include "intact/io/checkpoint_names.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/resize_images.hpp"

// Float models from checkpoints with timm's or Hugging Face's names, for images of their own size or of another.

namespace intact {
inline namespace INTACT_UNIT {

/// The mean and the standard deviation of ImageNet's pixels from 0 to 1: red, green, blue.
inline constexpr float imagenet_mean[] = {0.485F, 0.456F, 0.406F};
inline constexpr float imagenet_deviation[] = {0.229F, 0.224F, 0.225F};

/// Of every LayerNorm, in Hugging Face's ViT and DeiT, if nothing else is said.
inline constexpr float hugging_face_epsilon = 1e-12F;
/// Likewise, in timm's models that have a LayerNorm before the blocks.
inline constexpr float clip_epsilon = 1e-5F;

/// Values that a checkpoint may leave open. A value given here comes first, then the checkpoint's metadata, then the
/// configuration, then the default in brackets.
struct checkpoint_options {
  float_vit_options model = {};
  std::optional<image_sides> image_size = {};  ///< [the size that the model was trained for]
  std::optional<double> crop = {};             ///< [0.875]
  std::optional<interpolation> kind = {};      ///< [bicubic]
  std::optional<bool> squash = {};             ///< [no]
  checkpoint_config config = {};               ///< of read_checkpoint_config
};

/// Where a value of a loaded model comes from.
enum class value_origin { option, file, assumed };

/// A value of a loaded model, for people.
struct checkpoint_value {
  std::string name;  ///< "heads"
  std::string value;
  std::string source;  ///< a file's key, or why it is assumed; empty if an option gives it
  value_origin origin = value_origin::file;
};

/// A float model, how its images are prepared, and where that comes from.
struct loaded_checkpoint {
  float_vit model;
  image_preprocessing preprocessing;
  std::vector<checkpoint_value> values;
  std::vector<std::string> unused;  ///< the file's tensors without a part in classification
};

/// The shortest text from which a number is read again.
template <class T>
std::string number_text(T value) {
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

namespace detail {

/// Heads of models of a width: 64 channels each, but for those that were published with fewer heads (ViT-H, ViT-g,
/// ViT-G, SO400M).
inline std::pair<index_t, std::string> assumed_heads(index_t width) {
  if (width == 1152 || width == 1280 || width == 1408 || width == 1664) {
    return {16, "that of published models of this width"};
  }
  return {width % 64 == 0 ? width / 64 : 0, "width / 64"};
}

inline bool is_given(const std::vector<float>& option) {
  return !option.empty();
}
template <class T>
bool is_given(const std::optional<T>& option) {
  return option.has_value();
}

inline void take(std::vector<float>& option, const std::vector<double>& value) {
  option.clear();
  for (const double one : value) {
    option.push_back(static_cast<float>(one));
  }
}
template <class T, class U>
void take(std::optional<T>& option, const U& value) {
  option = static_cast<T>(value);
}

/// Options that are completed by the configuration and by defaults, and the source of each.
class completed_options {
 public:
  explicit completed_options(const safetensors_index& file) : file_(file) {}

  std::vector<checkpoint_value> values;

  /// `key` of the metadata, which load_float_vit reads by itself; nullptr if there is none.
  template <class Option, class Configured, class Assumed>
  void complete(const char* name, const char* key, Option& option, const std::optional<Configured>& config,
                const std::pair<Assumed, std::string>& assumed) {
    checkpoint_value& value = values.emplace_back(checkpoint_value{.name = name, .value = {}, .source = {}});
    if (is_given(option)) {
      value.origin = value_origin::option;
    } else if (key != nullptr && file_.metadata().contains(key)) {
      value.source = "metadata " + in_quotes(key);
    } else if (config) {
      value.source = config->source;
      take(option, config->value);
    } else {
      value.source = assumed.second;
      value.origin = value_origin::assumed;
      take(option, assumed.first);
    }
  }

 private:
  const safetensors_index& file_;
};

/// The values of ImageNet's channels, or their average for images of another number of channels.
inline std::pair<std::vector<double>, std::string> assumed_pixels(std::span<const float, 3> imagenet,
                                                                  index_t channels) {
  std::vector<double> values(imagenet.begin(), imagenet.end());
  if (channels == 3) {
    return {values, "that of ImageNet"};
  }
  return {{(values[0] + values[1] + values[2]) / 3}, "the average of ImageNet's channels"};
}

/// Numbers, separated by blanks.
inline std::string numbers_text(std::span<const float> values) {
  std::string text;
  for (const float value : values) {
    text += (text.empty() ? "" : " ") + number_text(value);
  }
  return text;
}

[[noreturn]] inline void refuse_config(const safetensors_index& file, const std::string& source,
                                       const std::string& value, const std::string& expected) {
  throw file_error(file.name(), source + " is " + value + "; " + expected);
}

inline std::string product_text(const image_sides& sides) {
  return std::to_string(sides.height) + " x " + std::to_string(sides.width);
}

/// The same, but for squares, which are one number.
inline std::string sides_text(const image_sides& sides) {
  return sides.is_square() ? std::to_string(sides.height) : product_text(sides);
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

/// The activation function of a configuration, if it names one.
inline std::optional<configured<activation_function>> configured_activation(const safetensors_index& file,
                                                                            const checkpoint_config& config) {
  if (!config.activation) {
    return std::nullopt;
  }
  const auto& [name, source] = *config.activation;
  const std::optional<activation_function> function = find_activation(name);
  if (!function) {
    refuse_config(file, source, in_quotes(name), "it must be " + known_activations());
  }
  return configured<activation_function>{*function, source};
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

/// The configuration without the sizes, heads, means, deviations and the activation function that an option or
/// the metadata replaces.
inline checkpoint_config used_config(const safetensors_index& file, const checkpoint_options& options) {
  checkpoint_config config = options.config;
  const auto drop_if = [](bool replaced, auto& value) { value = replaced ? std::nullopt : value; };
  const auto& metadata = file.metadata();
  drop_if(options.image_size.has_value(), config.image_size);
  drop_if(is_given(options.model.heads) || metadata.contains("heads"), config.heads);
  drop_if(is_given(options.model.activation) || metadata.contains("activation"), config.activation);
  drop_if(is_given(options.model.mean) || metadata.contains("mean"), config.mean);
  drop_if(is_given(options.model.standard_deviation) || metadata.contains("std"), config.standard_deviation);
  return config;
}

/// The heads, the mean and the standard deviation of a configuration, checked against the first layer.
inline void require_config(const safetensors_index& file, const checkpoint_config& config, index_t width,
                           index_t channels) {
  if (config.heads && width % config.heads->value != 0) {
    refuse_config(file, config.heads->source, std::to_string(config.heads->value),
                  "it must divide the width, " + std::to_string(width));
  }
  for (const auto& numbers : {config.mean, config.standard_deviation}) {
    if (numbers && numbers->value.size() != 1 && std::ssize(numbers->value) != channels) {
      refuse_config(file, numbers->source, "of " + std::to_string(numbers->value.size()) + " numbers",
                    "it must have 1 or, one per channel, " + std::to_string(channels));
    }
  }
}

/// Images as the options or the configuration prepare them.
inline image_preprocessing complete_preprocessing(const safetensors_index& file, const checkpoint_options& options,
                                                  const image_sides& size, completed_options& completed) {
  checkpoint_options all = options;
  const auto text = [&](const std::optional<configured<std::string>>& one, const char* yes, const char* no) {
    if (one && one->value != yes && one->value != no) {
      refuse_config(file, one->source, in_quotes(one->value), "it must be " + in_quotes(yes) + " or " + in_quotes(no));
    }
    return one ? std::optional(configured<bool>{one->value == yes, one->source}) : std::nullopt;
  };
  completed.complete("crop", nullptr, all.crop, options.config.crop, std::pair(0.875, std::string("default")));
  const auto linear = options.kind ? std::nullopt : text(options.config.interpolation, "bilinear", "bicubic");
  completed.complete("interpolation", nullptr, all.kind, linear,
                     std::pair(interpolation::bicubic, std::string("default")));
  const auto& resizing = options.config.resizing;
  if (!options.squash && resizing && resizing->value == "none") {
    refuse_config(file, resizing->source, "false", "images are always resized, and an option must say how");
  }
  const auto squash = options.squash ? std::nullopt : text(resizing, "squash", "center");
  completed.complete("resize", nullptr, all.squash, squash, std::pair(false, std::string("default")));
  return {.size = size, .crop = *all.crop, .kind = *all.kind, .squash = *all.squash};
}

}  // namespace detail

/// Makes a model of a checkpoint under the names that with_timm_names takes, and tells what it took from where.
///
/// Types:     F32, F16, BF16 and F64.
/// Defaults:  those of load_float_vit; mean and standard deviation of ImageNet, Hugging Face's epsilon for its names,
///            CLIP's beside a LayerNorm before the blocks.
/// Errors:    file_error, as of load_float_vit and with_timm_names; a configuration that contradicts the shapes of the
///            tensors, or needs an activation function, pooling, interpolation or cropping that is not here, naming
///            its file and key. std::invalid_argument, as of resize_images.
inline loaded_checkpoint read_checkpoint(const safetensors_file& file, const checkpoint_options& options = {}) {
  const checkpoint_config config = detail::used_config(file, options);
  const named_tensors tensors = with_timm_names(file);
  const std::string patch = "patch_embed.proj.weight";
  const detail::float_model_reader reader(tensors);
  const index_t width = reader.size(patch, 4, 0), channels = reader.size(patch, 4, 1);
  detail::require_config(file, config, width, channels);

  float_vit_options model_options = options.model;
  detail::completed_options completed(file);
  completed.complete("heads", "heads", model_options.heads, config.heads, detail::assumed_heads(width));
  completed.complete("mean", "mean", model_options.mean, config.mean, detail::assumed_pixels(imagenet_mean, channels));
  completed.complete("std", "std", model_options.standard_deviation, config.standard_deviation,
                     detail::assumed_pixels(imagenet_deviation, channels));
  const bool hugging_face = has_hugging_face_names(file);
  const auto epsilon = hugging_face ? std::pair(hugging_face_epsilon, std::string("that of Hugging Face's models"))
                       : tensors.contains("norm_pre.weight")
                           ? std::pair(clip_epsilon, std::string("that of CLIP's models"))
                           : std::pair(float_vit().epsilon, std::string("that of timm's models"));
  completed.complete("epsilon", "ln_eps", model_options.epsilon, config.epsilon, epsilon);
  completed.complete("pixel_max", "pixel_max", model_options.pixel_max, config.pixel_max,
                     std::pair(float_vit().pixel_max, std::string("bytes")));
  completed.complete("activation", "activation", model_options.activation, detail::configured_activation(file, config),
                     std::pair(activation_function::gelu, std::string("that of most models")));

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

  loaded.values = std::move(completed.values);
  std::erase_if(loaded.values, [](const checkpoint_value& value) {  // all images are bytes
    return value.name == "pixel_max" && value.origin == value_origin::assumed;
  });
  const std::map<std::string, std::string> texts = {
      {"heads", std::to_string(model.shape.heads)},
      {"mean", detail::numbers_text(model.mean)},
      {"std", detail::numbers_text(model.standard_deviation)},
      {"epsilon", detail::numbers_text({&model.epsilon, 1})},
      {"pixel_max", detail::numbers_text({&model.pixel_max, 1})},
      {"activation", std::string(activation_name(model.blocks.empty() ? activation_function::gelu
                                                                      : model.blocks.front().activation))},
      {"size", detail::sides_text(*image_size)},
      {"crop", number_text(loaded.preprocessing.crop)},
      {"interpolation", loaded.preprocessing.kind == interpolation::bicubic ? "bicubic" : "bilinear"},
      {"resize", loaded.preprocessing.squash ? "squash" : "center"}};
  for (checkpoint_value& value : loaded.values) {
    value.value = texts.at(value.name);
  }
  if (model.shape.classes == 0) {
    loaded.values.push_back({.name = "features",
                             .value = detail::features_text(model.shape),
                             .source = options.model.without_head ? "" : "the file has no head",
                             .origin = options.model.without_head ? value_origin::option : value_origin::file});
  }
  if (*image_size != trained) {
    const auto grid = [&](const image_sides& image) {
      return detail::sides_text(patch_grid(image, model.shape.patch));
    };
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
