#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/json_text.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/types/view.hpp"

// The configurations of a checkpoint: config.json of Hugging Face's transformers and of timm,
// preprocessor_config.json in its folder, and timm's pretrained_cfg in its metadata.

namespace intact {
inline namespace INTACT_UNIT {

/// A value of a configuration, and its place for messages: a file and a key.
template <class T>
struct configured {
  T value = {};        ///< as it is used
  std::string source;  ///< file and key
};

/// A size that the shapes of tensors have, too. `key` is the configuration's, but for "patch_width"; the second element
/// of a list "depths", which has one for each Swin stage, is "depths 1".
struct stated_size {
  std::string key;     ///< of the configuration
  index_t value = 0;   ///< as it is stated
  std::string source;  ///< file and key
};

/// The values of configurations. Where several have one, the first counts: pretrained_cfg of the metadata,
/// preprocessor_config.json, config.json.
struct checkpoint_config {
  std::optional<configured<index_t>> heads;                           ///< of attention
  std::optional<configured<double>> epsilon;                          ///< of LayerNorms
  std::optional<configured<double>> pixel_max;                        ///< the pixel that becomes 1
  std::optional<configured<std::vector<double>>> mean;                ///< of pixels from 0 to 1
  std::optional<configured<std::vector<double>>> standard_deviation;  ///< of pixels from 0 to 1
  std::optional<configured<image_sides>> image_size;                  ///< that images are prepared for
  std::optional<configured<image_sides>> trained_size;                ///< that the positions are for
  std::optional<configured<double>> crop;                             ///< part of the resized side that remains
  std::optional<configured<std::string>> interpolation;               ///< its name, such as "bicubic"
  std::optional<configured<std::string>> resizing;    ///< "center" or "squash", as timm's crop_mode; "none"
  std::optional<configured<std::string>> activation;  ///< its name, such as "gelu"
  std::optional<configured<std::string>> pooling;     ///< timm's name, such as "token"
  std::optional<configured<std::string>> norm;        ///< timm's name of the kind of norms, such as "rmsnorm"
  std::vector<stated_size> sizes;                     ///< to be compared with the tensors
};

namespace detail {

/// Configurations are larger only if they are none; the labels of 22,000 classes take 2 MB.
inline constexpr std::size_t config_max_bytes = 16 << 20;

/// The JSON of a file, if there is one of this name. Its size is checked before it is read.
inline std::optional<nlohmann::json> read_config(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error) && !error) {
    return std::nullopt;
  }
  const std::size_t size = regular_file_size(path);
  if (size > config_max_bytes) {
    throw file_error(path.string(), "has " + std::to_string(size) + " bytes; a configuration has at most " +
                                        std::to_string(config_max_bytes));
  }
  std::ifstream stream(path, std::ios::binary);
  std::string text(size, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(size));
  if (!stream) {
    throw file_error(path.string(), "the file cannot be read");
  }
  return parse_json_object(path.string(), text);
}

/// Reads values of an object, and names file, key and limit where they are wrong. null is no value.
class config_object {
 public:
  /// `place`: how messages call the object, "config.json" or "metadata "pretrained_cfg"".
  config_object(std::string file, std::string place, const nlohmann::json& object)
      : file_(std::move(file)), place_(std::move(place)), object_(&object) {}

  /// An object inside, if there is one.
  std::optional<config_object> object(const char* key) const {
    const nlohmann::json* const found = find(key);
    return found != nullptr && found->is_object() ? std::optional(config_object(file_, source(key), *found))
                                                  : std::nullopt;
  }

  const nlohmann::json* find(const char* key) const {
    const auto found = object_->find(key);
    return found == object_->end() || found->is_null() ? nullptr : &*found;
  }

  std::string source(const char* key) const { return place_ + ' ' + in_quotes(key); }

  std::optional<configured<index_t>> integer(const char* key) const {
    const nlohmann::json* const found = find(key);
    return found == nullptr ? std::nullopt : std::optional(configured<index_t>{size_of(key, *found), source(key)});
  }

  std::optional<configured<double>> real(const char* key, double smallest, double largest) const {
    const nlohmann::json* const found = find(key);
    return found == nullptr ? std::nullopt
                            : std::optional(configured<double>{real_of(key, *found, smallest, largest), source(key)});
  }

  /// A number, or an array of numbers.
  std::optional<configured<std::vector<double>>> reals(const char* key, double smallest) const {
    const nlohmann::json* const found = find(key);
    if (found == nullptr) {
      return std::nullopt;
    }
    configured<std::vector<double>> all{{}, source(key)};
    constexpr std::size_t most = 1024;
    if (found->is_array() && (found->empty() || found->size() > most)) {
      refuse(key, *found, "1 to " + std::to_string(most) + " numbers");
    }
    for (const nlohmann::json& one : found->is_array() ? *found : nlohmann::json::array({*found})) {
      all.value.push_back(real_of(key, one, smallest, 1e30));
    }
    return all;
  }

  std::optional<configured<std::string>> text(const char* key) const {
    const nlohmann::json* const found = find(key);
    if (found == nullptr) {
      return std::nullopt;
    }
    if (!found->is_string()) {
      refuse(key, *found, "a text");
    }
    return configured<std::string>{found->get<std::string>(), source(key)};
  }

  bool flag(const char* key, bool alternative) const {
    const nlohmann::json* const found = find(key);
    if (found == nullptr) {
      return alternative;
    }
    if (!found->is_boolean()) {
      refuse(key, *found, "true or false");
    }
    return found->get<bool>();
  }

  /// Sides of an image: one number, [height, width], [channels, height, width], or an object of height and width or of
  /// shortest_edge.
  std::optional<configured<image_sides>> sides(const char* key) const {
    const nlohmann::json* found = find(key);
    if (found == nullptr) {
      return std::nullopt;
    }
    std::array<const nlohmann::json*, 2> both = {found, found};
    if (found->is_array() && (found->size() == 2 || found->size() == 3)) {
      both = {&(*found)[found->size() - 2], &(*found)[found->size() - 1]};
    } else if (found->is_object() && found->contains("shortest_edge")) {
      both = {&(*found)["shortest_edge"], &(*found)["shortest_edge"]};
    } else if (found->is_object() && found->contains("height") && found->contains("width")) {
      both = {&(*found)["height"], &(*found)["width"]};
    }
    return configured<image_sides>{{size_of(key, *both[0]), size_of(key, *both[1])}, source(key)};
  }

  bool is_list(const char* key) const {
    const nlohmann::json* const found = find(key);
    return found != nullptr && found->is_array();
  }

  /// The elements of a list of sizes; none of another value.
  std::vector<stated_size> list(const char* key) const {
    std::vector<stated_size> all;
    if (is_list(key)) {
      constexpr std::size_t most = 64;
      const nlohmann::json& sizes = *find(key);
      if (sizes.size() > most) {
        refuse(key, sizes, "at most " + std::to_string(most) + " sizes");
      }
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        const std::string number = ' ' + std::to_string(i);
        all.push_back({.key = key + number, .value = size_of(key, sizes[i]), .source = source(key) + number});
      }
    }
    return all;
  }

  [[noreturn]] void refuse(const char* key, const nlohmann::json& value, const std::string& expected) const {
    throw file_error(file_, source(key) + " is " + printable_json(value) + "; it must be " + expected);
  }

 private:
  index_t size_of(const char* key, const nlohmann::json& value) const {
    constexpr std::int64_t largest = std::int64_t{1} << 20;
    // A negative number is no unsigned one.
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() - 1 >= std::uint64_t{largest}) {
      refuse(key, value, "a whole number in 1.." + std::to_string(largest));
    }
    return static_cast<index_t>(value.get<std::uint64_t>());
  }

  double real_of(const char* key, const nlohmann::json& value, double smallest, double largest) const {
    const double number = value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
    if (!(number >= smallest && number <= largest)) {
      const auto text = [](double limit) { return nlohmann::json(limit).dump(); };
      refuse(key, value, "a number from " + text(smallest) + " to " + text(largest));
    }
    return number;
  }

  std::string file_, place_;
  const nlohmann::json* object_;
};

/// Takes a value if there is none yet.
template <class T>
void take_first(std::optional<T>& known, std::optional<T> value) {
  if (!known) {
    known = std::move(value);
  }
}

inline void read_normalization(const config_object& object, const char* mean, const char* deviation,
                               checkpoint_config& config) {
  take_first(config.mean, object.reals(mean, -1e30));
  take_first(config.standard_deviation, object.reals(deviation, 1e-30));
}

/// timm's pretrained_cfg.
inline void read_timm_config(const config_object& object, checkpoint_config& config) {
  read_normalization(object, "mean", "std", config);
  take_first(config.image_size, object.sides("input_size"));
  take_first(config.crop, object.real("crop_pct", 0.1, 1));
  take_first(config.interpolation, object.text("interpolation"));
  take_first(config.resizing, object.text("crop_mode"));
}

/// The crop with which an image of `resized` samples becomes one of `size`, preprocess_image's rounding included.
inline double crop_of(index_t size, index_t resized) {
  double crop = static_cast<double>(size) / static_cast<double>(resized);
  while (static_cast<index_t>(static_cast<double>(size) / crop) < resized) {
    crop = std::nextafter(crop, 0.0);
  }
  return crop;
}

/// Image sizes of a preprocessor_config.json: images are resized to "size", and "crop_size" is cut out.
inline void read_preprocessor_sizes(const config_object& object, checkpoint_config& config) {
  const bool resizes = object.flag("do_resize", true);
  if (!resizes) {
    take_first(config.resizing, std::optional(configured<std::string>{"none", object.source("do_resize")}));
  }
  const auto resized = resizes ? object.sides("size") : std::nullopt;
  const auto cropped =
      object.flag("do_center_crop", object.find("crop_size") != nullptr) ? object.sides("crop_size") : std::nullopt;
  const auto size = cropped ? cropped : resized;
  if (!size) {
    return;
  }
  take_first(config.image_size, size);
  if (cropped && resized && resized->value.height != resized->value.width) {  // without a crop it is the images' size
    object.refuse("size", *object.find("size"), "a square");
  }
  const index_t from = resized ? resized->value.height : size->value.height, to = size->value.height;
  if (to > from || 10 * to < from) {
    object.refuse("crop_size", *object.find("crop_size"), "0.1 to 1 times \"size\", " + std::to_string(from));
  }
  take_first(config.crop, std::optional(configured<double>{crop_of(to, from), size->source}));
  if (resized) {  // one number is a square, but for two processors
    auto type = object.text("image_processor_type");
    take_first(type, object.text("feature_extractor_type"));
    const std::string processor = type ? type->value : "";
    const nlohmann::json& stated = *object.find("size");
    const bool shorter_side = stated.is_object() ? stated.contains("shortest_edge")
                                                 : processor.starts_with("CLIP") || processor.starts_with("Bit");
    take_first(config.resizing,
               std::optional(configured<std::string>{shorter_side ? "center" : "squash", resized->source}));
  }
}

/// preprocessor_config.json of Hugging Face's transformers.
inline void read_preprocessor(const config_object& object, checkpoint_config& config) {
  if (object.flag("do_normalize", true)) {
    read_normalization(object, "image_mean", "image_std", config);
  } else {
    take_first(config.mean, std::optional(configured<std::vector<double>>{{0}, object.source("do_normalize")}));
    take_first(config.standard_deviation,
               std::optional(configured<std::vector<double>>{{1}, object.source("do_normalize")}));
  }
  if (!object.flag("do_rescale", true)) {
    take_first(config.pixel_max, std::optional(configured<double>{1, object.source("do_rescale")}));
  } else if (const auto factor = object.real("rescale_factor", 1e-6, 1e6)) {
    take_first(config.pixel_max, std::optional(configured<double>{1 / factor->value, factor->source}));
  }
  constexpr std::array<const char*, 6> resampling = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};
  if (const nlohmann::json* const number = object.find("resample")) {
    if (!number->is_number_unsigned() || number->get<std::uint64_t>() >= resampling.size()) {
      object.refuse("resample", *number, "a whole number in 0..5");
    }
    take_first(config.interpolation, std::optional(configured<std::string>{resampling[number->get<std::size_t>()],
                                                                           object.source("resample")}));
  }
  read_preprocessor_sizes(object, config);
}

/// The sizes of the Swin stages, of which there is a list, and of its windows.
inline void read_stage_sizes(const config_object& object, checkpoint_config& config) {
  for (const char* const key : {"depths", "num_heads"}) {
    for (stated_size& size : object.list(key)) {
      config.sizes.push_back(std::move(size));
    }
  }
  const nlohmann::json* const stated = object.find("window_size");  // models without windows have 0
  if (const auto window = stated == nullptr || *stated == 0 ? std::nullopt : object.sides("window_size")) {
    for (const index_t side : {window->value.height, window->value.width}) {
      config.sizes.push_back({.key = "window_size", .value = side, .source = window->source});
    }
  }
}

/// config.json of Hugging Face's transformers or of timm.
inline void read_model_config(const config_object& object, checkpoint_config& config) {
  take_first(config.heads, object.integer("num_attention_heads"));
  take_first(config.epsilon, object.real("layer_norm_eps", 0, 1));
  take_first(config.activation, object.text("hidden_act"));
  take_first(config.pooling, object.text("global_pool"));
  config.trained_size = object.sides("image_size");
  if (const auto arguments = object.object("model_args")) {
    take_first(config.heads, arguments->is_list("num_heads") ? std::nullopt : arguments->integer("num_heads"));
    take_first(config.activation, arguments->text("act_layer"));
    take_first(config.norm, arguments->text("norm_layer"));
    read_stage_sizes(*arguments, config);
  }
  read_stage_sizes(object, config);
  for (const char* const key : {"hidden_size", "embed_dim", "num_features", "num_hidden_layers", "num_layers",
                                "intermediate_size", "num_channels", "num_labels"}) {
    if (const auto size = object.integer(key)) {
      config.sizes.push_back({.key = key, .value = size->value, .source = size->source});
    }
  }
  if (const auto patch = object.sides("patch_size")) {
    config.sizes.push_back({.key = "patch_size", .value = patch->value.height, .source = patch->source});
    config.sizes.push_back({.key = "patch_width", .value = patch->value.width, .source = patch->source});
  }
  if (const nlohmann::json* const classes = object.find("num_classes"); classes != nullptr && *classes != 0) {
    config.sizes.push_back(
        {.key = "num_classes", .value = object.integer("num_classes")->value, .source = object.source("num_classes")});
  }
  if (const nlohmann::json* const labels = object.find("id2label"); labels != nullptr && labels->is_object()) {
    config.sizes.push_back(
        {.key = "id2label", .value = static_cast<index_t>(labels->size()), .source = object.source("id2label")});
  }
  read_timm_config(object.object("pretrained_cfg").value_or(object), config);
}

}  // namespace detail

/// The values of the metadata of a checkpoint and of the configurations in its folder.
///
/// Files:     config.json and preprocessor_config.json, of at most 16 MiB each; neither need be there.
/// Errors:    file_error naming the file, the key, the value and the limit: no JSON, no object, more than 32 levels, a
///            value of another type or out of range. Keys that are not known are skipped.
inline checkpoint_config read_checkpoint_config(const safetensors_index& file, const std::filesystem::path& folder) {
  checkpoint_config config;
  if (const auto text = file.metadata().find("pretrained_cfg"); text != file.metadata().end()) {
    if (text->second.size() > detail::config_max_bytes) {
      throw file_error(file.name(), "metadata \"pretrained_cfg\" has " + std::to_string(text->second.size()) +
                                        " bytes; a configuration has at most " +
                                        std::to_string(detail::config_max_bytes));
    }
    const std::string place = "metadata \"pretrained_cfg\"";
    const nlohmann::json json = detail::parse_json_object(file.name() + ": " + place, text->second);
    detail::read_timm_config({file.name(), place, json}, config);
  }
  const auto beside = [&](const char* name, auto read) {
    const std::filesystem::path path = folder / name;
    if (const std::optional<nlohmann::json> json = detail::read_config(path)) {
      read(detail::config_object(path.string(), name, *json), config);
    }
  };
  beside("preprocessor_config.json", detail::read_preprocessor);
  beside("config.json", detail::read_model_config);
  return config;
}

}  // namespace INTACT_UNIT
}  // namespace intact
