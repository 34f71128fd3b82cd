#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <locale>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/build/activation_function.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/checkpoint_names.hpp"
#include "intact/io/model_file_checks.hpp"
#include "intact/io/named_tensors.hpp"
#include "intact/io/nearest_name.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/float_layers.hpp"

// The tensors of a checkpoint as layers of a float model.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Reads the tensors of a float model, and remembers which it has read and which it has looked for. Messages call
/// tensors by the file's names.
class float_model_reader {
 public:
  explicit float_model_reader(const named_tensors& tensors) : tensors_(tensors) {
    for (const std::string& name : tensors.names()) {
      separate_biases_ = separate_biases_ || name.ends_with(".q_bias") || name.ends_with(".v_bias");
      joint_biases_ = joint_biases_ || name.ends_with(".qkv.bias");
    }
  }

  [[noreturn]] void refuse(const std::string& problem) const { throw file_error(tensors_.file_name(), problem); }

  /// How messages call a tensor that is there; if it is made of several, the one that has element `i` of `size`.
  std::string quoted(const std::string& name, std::size_t i = 0, std::size_t size = 1) const {
    const std::vector<std::string>& originals = tensors_.originals(name);
    return "tensor " + in_quotes(originals[i * originals.size() / size]);
  }

  /// Size `dimension` of a tensor that must have `rank` of them, all those of a model in a file.
  index_t size(const std::string& name, std::size_t rank, std::size_t dimension) const {
    require_present(name);
    const std::vector<std::int64_t> shape = tensors_.shape(name);
    const auto valid = [](std::int64_t size) { return size >= 1 && size <= model_file_max_size; };
    if (shape.size() != rank || !std::all_of(shape.begin(), shape.end(), valid)) {
      refuse(quoted(name) + " has shape " + shape_text(shape) + "; it must have " + std::to_string(rank) +
             " sizes in 1.." + std::to_string(model_file_max_size));
    }
    return static_cast<index_t>(shape[dimension]);
  }

  /// The number of sizes of a tensor that is there.
  std::size_t rank(const std::string& name) const { return tensors_.shape(name).size(); }

  /// A tensor of exactly this shape as a matrix whose columns are the last dimensions.
  float_matrix matrix(const std::string& name, index_t rows, const std::vector<std::int64_t>& shape) {
    require_present(name);
    const std::vector<float> values = tensors_.real_values(name, shape);
    const index_t columns = std::ssize(values) / rows;
    const std::size_t part = values.size() / tensors_.originals(name).size();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) {
        const index_t at = static_cast<index_t>(i % part);
        refuse(quoted(name, i, values.size()) + " has the value " + std::to_string(values[i]) + " at row " +
               std::to_string(at / columns) + ", column " + std::to_string(at % columns) + "; it must be finite");
      }
    }
    read_.insert(name);
    return map_of(matrix_view<const float>(values.data(), rows, columns));
  }

  float_linear linear(const std::string& name, index_t outputs, index_t inputs) {
    return {matrix(name + ".weight", outputs, {outputs, inputs}), matrix(name + ".bias", 1, {outputs})};
  }

  float_layernorm layernorm(const std::string& name, index_t width) {
    return {matrix(name + ".weight", 1, {width}), matrix(name + ".bias", 1, {width})};
  }

  /// A norm of this kind. RMSNorms have no biases.
  float_layernorm norm(const std::string& name, index_t width, normalization kind) {
    return kind == normalization::layernorm
               ? layernorm(name, width)
               : float_layernorm{matrix(name + ".weight", 1, {width}), float_row::Zero(width)};
  }

  /// Queries, keys and values. All layers of a model may lack their bias, or have none for keys: then it is 0.
  float_linear qkv(const std::string& name, index_t width) {
    const std::string q = name + ".q_bias", v = name + ".v_bias";
    if (!separate_biases_ && joint_biases_) {
      return linear(name + ".qkv", 3 * width, width);
    }
    float_linear layer{matrix(name + ".qkv.weight", 3 * width, {3 * width, width}), float_row::Zero(3 * width)};
    if (separate_biases_) {
      layer.bias.head(width) = matrix(q, 1, {width});
      layer.bias.tail(width) = matrix(v, 1, {width});
    }
    return layer;
  }

  /// A layer with the LayerScale after it, if there is one, in its weights and bias.
  float_linear scaled(float_linear layer, const std::string& name) {
    if (contains(name)) {
      const float_row gamma = matrix(name, 1, {layer.bias.size()});
      layer.weight.array().colwise() *= gamma.transpose().array();
      layer.bias.array() *= gamma.array();
    }
    return layer;
  }

  /// Whether the rows of fc1 are those of a gate and, below them, those of the layer that it multiplies.
  bool has_gate(const std::string& name) const {
    const std::string fc1 = name + ".mlp.fc1.weight", fc2 = name + ".mlp.fc2.weight";
    if (!contains(fc1) || !contains(fc2) || rank(fc1) != 2 || rank(fc2) != 2) {
      return false;
    }
    const std::int64_t rows = tensors_.shape(fc1)[0];
    return rows % 2 == 0 && rows / 2 == tensors_.shape(fc2)[1];
  }

  float_block block(const std::string& name, const block_shape& shape) {
    const index_t width = shape.attention.width, hidden = shape.hidden;
    const bool gated = shape.gated;
    float_block made{.norm1 = norm(name + ".norm1", width, shape.norm),
                     .qkv = qkv(name + ".attn", width),
                     .proj = scaled(linear(name + ".attn.proj", width, width), name + ".ls1.gamma"),
                     .norm2 = norm(name + ".norm2", width, shape.norm),
                     .fc1 = linear(name + ".mlp.fc1", gated ? 2 * hidden : hidden, width),
                     .fc2 = scaled(linear(name + ".mlp.fc2", width, hidden), name + ".ls2.gamma")};
    if (gated) {
      const float_linear both = std::exchange(made.fc1, {});
      made.fc1 = {both.weight.topRows(hidden), both.bias.head(hidden)};
      made.up = {both.weight.bottomRows(hidden), both.bias.tail(hidden)};
    }
    if (shape.attention.qk_norm) {
      made.q_norm = norm(name + ".attn.q_norm", shape.attention.head_size(), *shape.attention.qk_norm);
      made.k_norm = norm(name + ".attn.k_norm", shape.attention.head_size(), *shape.attention.qk_norm);
    }
    return made;
  }

  /// Whole numbers of exactly this shape.
  std::vector<std::int64_t> integers(const std::string& name, const std::vector<std::int64_t>& shape) {
    require_present(name);
    read_.insert(name);
    return tensors_.integers(name, shape);
  }

  bool contains(const std::string& name) const {
    known_.insert(name_pattern(name).text);
    return tensors_.contains(name);
  }

  bool some_name_starts(std::string_view begin) const {
    const std::vector<std::string> names = tensors_.names();
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(begin); });
  }

  /// A tensor that follows from the others.
  void skip(const std::string& name) { read_.insert(name); }
  /// The tensors whose names begin so, which are not wanted.
  void skip_all(std::string_view begin) {
    for (const std::string& name : tensors_.names()) {
      if (name.starts_with(begin)) {
        skip(name);
      }
    }
  }

  /// Refuses tensors that have not been read: a model that has more parts computes something else.
  void require_all_read() const {
    std::vector<unknown_name> unknown;
    for (const std::string& name : tensors_.names()) {
      if (!read_.contains(name)) {
        unknown.push_back({tensors_.originals(name).front(), name});
      }
    }
    if (!unknown.empty()) {
      refuse("tensor " + in_quotes(unknown.front().shown) +
             " has no place in a vision transformer of this architecture; not understood: " +
             list_unknown(unknown, known_));
    }
  }

  /// The numbers of a metadata value, separated by commas; none if there is no such value.
  std::vector<float> numbers(const std::string& key) const {
    std::vector<float> numbers;
    const auto found = tensors_.metadata().find(key);
    if (found == tensors_.metadata().end()) {
      return numbers;
    }
    std::istringstream items(found->second + ",");
    for (std::string item; std::getline(items, item, ',');) {
      std::istringstream stream(item);
      stream.imbue(std::locale::classic());
      float number = 0;
      if (!(stream >> number) || !(stream >> std::ws).eof()) {
        refuse("metadata \"" + key + "\" is " + in_quotes(found->second) + "; it must be numbers separated by commas");
      }
      numbers.push_back(number);
    }
    return numbers;
  }

  /// A metadata value, if there is one.
  std::optional<std::string> text(const std::string& key) const {
    const auto found = tensors_.metadata().find(key);
    return found == tensors_.metadata().end() ? std::nullopt : std::optional(found->second);
  }

  /// A metadata value, which must be one of some; empty if there is none.
  std::string text(const std::string& key, std::initializer_list<const char*> allowed) const {
    const std::optional<std::string> given = text(key);
    if (given && std::find(allowed.begin(), allowed.end(), *given) == allowed.end()) {
      std::string all;
      for (const char* const one : allowed) {
        all += (all.empty() ? "" : " or ") + in_quotes(one);
      }
      refuse("metadata \"" + key + "\" is " + in_quotes(*given) + "; it must be " + all);
    }
    return given.value_or("");
  }

  /// The option, else the one number of a metadata value, else the alternative.
  float number(const std::string& key, const std::optional<float>& option, float alternative) const {
    const std::vector<float> given = numbers(key);
    if (given.size() > 1) {
      refuse("metadata \"" + key + "\" has " + std::to_string(given.size()) + " numbers; it must have 1");
    }
    return option.value_or(given.empty() ? alternative : given.front());
  }

  /// The option, else the numbers of a metadata value: one per channel.
  std::vector<float> per_channel(const std::string& key, const std::vector<float>& option, index_t channels) const {
    std::vector<float> values = option.empty() ? numbers(key) : option;
    if (values.empty()) {
      refuse("metadata \"" + key + "\" is missing, and no option takes its place");
    }
    if (values.size() == 1) {
      values.resize(static_cast<std::size_t>(channels), values.front());
    }
    if (std::ssize(values) != channels) {
      refuse("\"" + key + "\" has " + std::to_string(values.size()) + " numbers; it must have 1 or, one per channel, " +
             std::to_string(channels));
    }
    return values;
  }

 private:
  /// Refuses a checkpoint without a tensor, and names those that have a name of no vision transformer.
  void require_present(const std::string& name) const {
    if (contains(name)) {
      return;
    }
    std::vector<unknown_name> unknown;
    for (const std::string& other : tensors_.names()) {
      if (!known_.contains(name_pattern(other).text)) {
        unknown.push_back({tensors_.originals(other).front(), other});
      }
    }
    refuse("tensor " + in_quotes(expected_tensor_name(tensors_, name)) + " is missing" +
           (unknown.empty() ? "" : "; not understood: " + list_unknown(unknown, known_)));
  }

  const named_tensors& tensors_;
  bool separate_biases_ = false, joint_biases_ = false;  ///< of queries and values, and of queries, keys and values
  std::set<std::string> read_;
  mutable std::set<std::string> known_ = known_name_patterns();
};

/// Refuses a normalization that is not one, wherever its numbers come from.
inline void require_row_divisor(const float_model_reader& reader, const pixel_normalization& pixels, float epsilon) {
  const auto require = [&](const char* name, float value, bool valid, const char* rule) {
    if (!valid || !std::isfinite(value)) {
      reader.refuse(std::string(name) + " is " + std::to_string(value) + "; it must be finite and " + rule);
    }
  };
  require("ln_eps", epsilon, epsilon >= 0, "at least 0");
  require("pixel_max", pixels.pixel_max, pixels.pixel_max > 0, "above 0");
  for (std::size_t c = 0; c < pixels.mean.size(); ++c) {
    require("mean", pixels.mean[c], true, "a number");
    require("std", pixels.standard_deviation[c], pixels.standard_deviation[c] > 0, "above 0");
  }
}

/// Reads how pixels become inputs, and the epsilon of every LayerNorm, from the options or the metadata.
template <class Options, class Model>
void read_normalization(const float_model_reader& reader, const Options& options, index_t channels, Model& model) {
  model.epsilon = reader.number("ln_eps", options.epsilon, model.epsilon);
  model.pixel_max = reader.number("pixel_max", options.pixel_max, model.pixel_max);
  model.mean = reader.per_channel("mean", options.mean, channels);
  model.standard_deviation = reader.per_channel("std", options.standard_deviation, channels);
  require_row_divisor(reader, model, model.epsilon);
}

/// The kind of all norms: the option, else the metadata's, else LayerNorm.
inline normalization read_norm_kind(const float_model_reader& reader, const std::optional<normalization>& option) {
  const bool is_rmsnorm = reader.text("norm", {"layernorm", "rmsnorm"}) == "rmsnorm";
  return option.value_or(is_rmsnorm ? normalization::rmsnorm : normalization::layernorm);
}

/// The option, else the metadata's, else GELU, or, of a gate, SiLU.
inline activation_function read_activation(const float_model_reader& reader,
                                           const std::optional<activation_function>& option, bool gated = false) {
  const std::optional<std::string> name = reader.text("activation");
  if (option || !name) {
    return option.value_or(gated ? activation_function::silu : activation_function::gelu);
  }
  const std::optional<activation_function> named = find_activation(*name);
  if (!named) {
    reader.refuse("metadata \"activation\" is " + in_quotes(*name) + "; it must be " + known_activations());
  }
  return *named;
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
