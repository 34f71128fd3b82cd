#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/checkpoint_config.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/float_vit.hpp"

// Values that checkpoints of all models may leave open: of options, a file's metadata, a configuration or defaults.

namespace intact {
inline namespace INTACT_UNIT {

/// The mean and the standard deviation of ImageNet's pixels from 0 to 1: red, green, blue.
inline constexpr float imagenet_mean[] = {0.485F, 0.456F, 0.406F};
/// Their standard deviations.
inline constexpr float imagenet_deviation[] = {0.229F, 0.224F, 0.225F};

/// Values that a checkpoint may leave open. A value given here comes first, then the checkpoint's metadata, then the
/// configuration, then the default in brackets.
struct checkpoint_options {
  float_vit_options model = {};                ///< heads and epsilon
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
  std::string name;                          ///< "heads"
  std::string value;                         ///< as text
  std::string source;                        ///< a file's key, or why it is assumed; empty if an option gives it
  value_origin origin = value_origin::file;  ///< where it comes from
};

/// A float model, how its images are prepared, and where that comes from.
template <class Model>
struct loaded_model {
  Model model;                           ///< the float model
  image_preprocessing preprocessing;     ///< of its images
  std::vector<checkpoint_value> values;  ///< everything that was chosen, for people
  std::vector<std::string> unused;       ///< the file's tensors without a part in classification
};

/// The shortest text from which a number is read again.
template <class T>
std::string number_text(T value) {
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

namespace detail {

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
    text += text.empty() ? "" : " ";
    text += number_text(value);
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

}  // namespace detail

/// Sides for messages, height first: "128 x 256", of a square one number.
inline std::string sides_text(const image_sides& sides) {
  return sides.is_square() ? std::to_string(sides.height) : detail::product_text(sides);
}

namespace detail {

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

inline const char* norm_name(normalization kind) {
  return kind == normalization::rmsnorm ? "rmsnorm" : "layernorm";
}

/// The kind of norms of a configuration, if it names one: in letters of either case, as timm reads it.
inline std::optional<configured<normalization>> configured_norm(const safetensors_index& file,
                                                                const checkpoint_config& config) {
  if (!config.norm) {
    return std::nullopt;
  }
  const auto& [name, source] = *config.norm;
  std::string plain;
  for (const char c : name) {
    if (c != '_') {
      plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  for (const normalization kind : {normalization::layernorm, normalization::rmsnorm}) {
    if (plain == norm_name(kind)) {
      return configured<normalization>{kind, source};
    }
  }
  refuse_config(file, source, in_quotes(name), "it must be \"layernorm\" or \"rmsnorm\"");
}

/// The configuration without the sizes, heads, means, deviations, the activation function and the kind of norms that an
/// option or the metadata replaces.
inline checkpoint_config used_config(const safetensors_index& file, const checkpoint_options& options) {
  checkpoint_config config = options.config;
  const auto drop_if = [](bool replaced, auto& value) { value = replaced ? std::nullopt : value; };
  const auto& metadata = file.metadata();
  drop_if(options.image_size.has_value(), config.image_size);
  drop_if(is_given(options.model.heads) || metadata.contains("heads"), config.heads);
  drop_if(is_given(options.model.activation) || metadata.contains("activation"), config.activation);
  drop_if(is_given(options.model.norm) || metadata.contains("norm"), config.norm);
  drop_if(is_given(options.model.mean) || metadata.contains("mean"), config.mean);
  drop_if(is_given(options.model.standard_deviation) || metadata.contains("std"), config.standard_deviation);
  return config;
}

/// Values of models that tell none, and why.
struct assumed_values {
  std::pair<float, std::string> epsilon;
  std::pair<activation_function, std::string> activation = {activation_function::gelu, "that of most models"};
};

/// Completes the values that every model has: mean, standard deviation, epsilon, the largest pixel, the activation
/// function and the kind of norms, of images of so many channels.
inline void complete_model(const safetensors_index& file, const checkpoint_config& config, index_t channels,
                           const assumed_values& assumed, float_vit_options& options, completed_options& completed) {
  for (const auto& numbers : {config.mean, config.standard_deviation}) {
    if (numbers && numbers->value.size() != 1 && std::ssize(numbers->value) != channels) {
      refuse_config(file, numbers->source, "of " + std::to_string(numbers->value.size()) + " numbers",
                    "it must have 1 or, one per channel, " + std::to_string(channels));
    }
  }
  completed.complete("mean", "mean", options.mean, config.mean, assumed_pixels(imagenet_mean, channels));
  completed.complete("std", "std", options.standard_deviation, config.standard_deviation,
                     assumed_pixels(imagenet_deviation, channels));
  completed.complete("epsilon", "ln_eps", options.epsilon, config.epsilon, assumed.epsilon);
  completed.complete("pixel_max", "pixel_max", options.pixel_max, config.pixel_max,
                     std::pair(pixel_normalization().pixel_max, std::string("bytes")));
  completed.complete("activation", "activation", options.activation, configured_activation(file, config),
                     assumed.activation);
  completed.complete("norm", "norm", options.norm, configured_norm(file, config),
                     std::pair(normalization::layernorm, std::string("that of most models")));
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

/// The completed values of a model with their texts. `texts`: of values that not every model has.
template <class Model>
std::vector<checkpoint_value> values_with_texts(const completed_options& completed, const Model& model,
                                                activation_function activation,
                                                const image_preprocessing& preprocessing,
                                                std::map<std::string, std::string> texts = {}) {
  texts.insert({{"mean", numbers_text(model.mean)},
                {"std", numbers_text(model.standard_deviation)},
                {"epsilon", numbers_text({&model.epsilon, 1})},
                {"pixel_max", numbers_text({&model.pixel_max, 1})},
                {"activation", std::string(activation_name(activation))},
                {"norm", norm_name(normalization::layernorm)},
                {"size", sides_text(preprocessing.size)},
                {"crop", number_text(preprocessing.crop)},
                {"interpolation", preprocessing.kind == interpolation::bicubic ? "bicubic" : "bilinear"},
                {"resize", preprocessing.squash ? "squash" : "center"}});
  std::vector<checkpoint_value> values = completed.values;
  std::erase_if(values, [](const checkpoint_value& value) {  // all images are bytes, nearly all norms LayerNorms
    return (value.name == "pixel_max" || value.name == "norm") && value.origin == value_origin::assumed;
  });
  for (checkpoint_value& value : values) {
    value.value = texts.at(value.name);
  }
  return values;
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
