#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <locale>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "intact/adapt/eigen.hpp"
#include "intact/adapt/safetensors.hpp"
#include "intact/arith/integer_math.hpp"
#include "intact/im2col.hpp"
#include "intact/model/trace.hpp"
#include "intact/model/vit.hpp"

// The vision transformer in float32 that calibration runs: loading it, and running it with every tensor on show.

namespace intact::inline INTACT_ABI {

/// A fully connected layer: y = x * weight^T + bias, one row of weights per output channel.
struct float_linear {
  float_matrix weight;
  float_row bias;
};

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias, per row.
struct float_layernorm {
  float_row weight;
  float_row bias;
};

/// A pre-norm transformer block: x <- x + proj(attention(norm1(x)));  x <- x + fc2(gelu(fc1(norm2(x)))).
struct float_block {
  float_layernorm norm1;
  float_linear qkv;
  float_linear proj;
  float_layernorm norm2;
  float_linear fc1;
  float_linear fc2;
};

/// A vision transformer with a class token, of the architecture and with the names of timm's. Const objects may be
/// shared between threads.
struct float_vit {
  vit_shape shape;
  float epsilon = 1e-6f;                  ///< of every LayerNorm
  float pixel_max = 255;                  ///< the pixel that stands for 1
  std::vector<float> mean;                ///< per channel, of pixels from 0 to 1
  std::vector<float> standard_deviation;  ///< per channel
  float_linear patch;                     ///< weights width x (channels * patch^2), columns in the order of im2col
  float_matrix class_token;               ///< 1 x width
  float_matrix positions;                 ///< tokens x width
  std::vector<float_block> blocks;
  float_layernorm norm;
  float_linear head;

  /// The input that a pixel makes, (pixel / pixel_max - mean) / standard_deviation, every operation rounded to float.
  float normalize(int pixel, index channel) const {
    const std::size_t c = static_cast<std::size_t>(channel);
    return (static_cast<float>(pixel) / pixel_max - mean[c]) / standard_deviation[c];
  }
};

/// What a file of weights need not say. A value given here takes the place of the file's metadata, in brackets.
struct float_vit_options {
  std::optional<index> heads = {};             ///< ["heads"] else width / 64
  std::optional<float> epsilon = {};           ///< ["ln_eps"] else 1e-6
  std::optional<float> pixel_max = {};         ///< ["pixel_max"] else 255
  std::vector<float> mean = {};                ///< ["mean"] one value for all channels, or one per channel
  std::vector<float> standard_deviation = {};  ///< ["std"] likewise
};

namespace detail {

/// Reads the tensors of a vision transformer, and remembers which it has read.
class float_vit_reader {
 public:
  explicit float_vit_reader(const safetensors_file& file) : file_(file) {}

  [[noreturn]] void refuse(const std::string& problem) const { throw file_error(file_.name(), problem); }

  /// Size `dimension` of a tensor that must have `rank` of them, all at least 1.
  index size(const std::string& name, std::size_t rank, std::size_t dimension) const {
    const std::vector<std::int64_t>& shape = file_.info(name).shape;
    if (shape.size() != rank || std::find(shape.begin(), shape.end(), 0) != shape.end()) {
      refuse("tensor \"" + name + "\" has shape " + printable(shape) + "; it must have " + std::to_string(rank) +
             " sizes of at least 1");
    }
    return static_cast<index>(shape[dimension]);
  }

  /// A tensor of exactly this shape as a matrix whose columns are the last dimensions.
  float_matrix matrix(const std::string& name, index rows, const std::vector<std::int64_t>& shape) {
    const std::vector<float> values = file_.values<float>(name, shape);
    const index columns = std::ssize(values) / rows;
    for (index i = 0; i < std::ssize(values); ++i) {
      const float value = values[static_cast<std::size_t>(i)];
      if (!std::isfinite(value)) {
        refuse("tensor \"" + name + "\" has the value " + std::to_string(value) + " at row " +
               std::to_string(i / columns) + ", column " + std::to_string(i % columns) + "; it must be finite");
      }
    }
    read_.insert(name);
    return map_of(matrix_view<const float>(values.data(), rows, columns));
  }

  float_linear linear(const std::string& name, index outputs, index inputs) {
    return {matrix(name + ".weight", outputs, {outputs, inputs}), matrix(name + ".bias", 1, {outputs})};
  }

  float_layernorm layernorm(const std::string& name, index width) {
    return {matrix(name + ".weight", 1, {width}), matrix(name + ".bias", 1, {width})};
  }

  float_block block(const std::string& name, index width, index hidden) {
    return {.norm1 = layernorm(name + ".norm1", width),
            .qkv = linear(name + ".attn.qkv", 3 * width, width),
            .proj = linear(name + ".attn.proj", width, width),
            .norm2 = layernorm(name + ".norm2", width),
            .fc1 = linear(name + ".mlp.fc1", hidden, width),
            .fc2 = linear(name + ".mlp.fc2", width, hidden)};
  }

  /// Refuses tensors that have not been read: a model that has more parts computes something else.
  void require_all_read() const {
    for (const std::string& name : file_.names()) {
      if (!read_.contains(name)) {
        refuse("tensor " + in_quotes(name) + " has no place in a vision transformer of this architecture");
      }
    }
  }

  /// The numbers of a metadata value, separated by commas; none if there is no such value.
  std::vector<float> numbers(const std::string& key) const {
    std::vector<float> numbers;
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end()) {
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

  /// The option, else the one number of a metadata value, else the alternative.
  float number(const std::string& key, const std::optional<float>& option, float alternative) const {
    const std::vector<float> given = numbers(key);
    if (given.size() > 1) {
      refuse("metadata \"" + key + "\" has " + std::to_string(given.size()) + " numbers; it must have 1");
    }
    return option.value_or(given.empty() ? alternative : given.front());
  }

  /// The option, else the numbers of a metadata value: one per channel.
  std::vector<float> per_channel(const std::string& key, const std::vector<float>& option, index channels) const {
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
  const safetensors_file& file_;
  std::set<std::string> read_;
};

/// The sizes of a model, from the shapes of its tensors.
inline vit_shape read_vit_shape(const float_vit_reader& reader, const safetensors_file& file) {
  vit_shape shape;
  const std::string patch = "patch_embed.proj.weight";
  shape.width = reader.size(patch, 4, 0);
  shape.channels = reader.size(patch, 4, 1);
  shape.patch = reader.size(patch, 4, 2);
  const index tokens = reader.size("pos_embed", 3, 1);
  const index side = integer_sqrt(static_cast<std::uint64_t>(tokens - 1));
  if (side == 0 || side * side != tokens - 1) {
    reader.refuse("tensor \"pos_embed\" has " + std::to_string(tokens) +
                  " tokens; it must have 1, the class token, and a square number of patches");
  }
  shape.height = shape.width_pixels = side * shape.patch;
  shape.hidden = reader.size("blocks.0.mlp.fc1.weight", 2, 0);
  shape.classes = reader.size("head.weight", 2, 0);
  for (const std::string& name : file.names()) {
    shape.depth += name.starts_with("blocks.") && name.ends_with(".norm1.weight");
  }
  return shape;
}

/// The option, else the metadata's, else heads of 64 channels.
inline index read_heads(const float_vit_reader& reader, index width, const std::optional<index>& option) {
  const float heads =
      option ? static_cast<float>(*option) : reader.number("heads", std::nullopt, static_cast<float>(width) / 64);
  if (!(heads >= 1) || heads != std::floor(heads) || std::fmod(static_cast<float>(width), heads) != 0) {
    reader.refuse("heads is " + std::to_string(heads) + "; it must be a whole number that divides the width, " +
                  std::to_string(width));
  }
  return static_cast<index>(heads);
}

/// Refuses a normalization that is not one, wherever its numbers come from.
inline void require_normalization(const float_vit_reader& reader, const float_vit& model) {
  const auto require = [&](const char* name, float value, bool valid, const char* rule) {
    if (!valid || !std::isfinite(value)) {
      reader.refuse(std::string(name) + " is " + std::to_string(value) + "; it must be finite and " + rule);
    }
  };
  require("ln_eps", model.epsilon, model.epsilon >= 0, "at least 0");
  require("pixel_max", model.pixel_max, model.pixel_max > 0, "above 0");
  for (std::size_t c = 0; c < model.mean.size(); ++c) {
    require("mean", model.mean[c], true, "a number");
    require("std", model.standard_deviation[c], model.standard_deviation[c] > 0, "above 0");
  }
}

inline float_matrix apply(const float_linear& layer, const float_matrix& x) {
  float_matrix y(x.rows(), layer.weight.rows());
  y.noalias() = x * layer.weight.transpose();
  y.rowwise() += layer.bias;
  return y;
}

inline float_matrix apply(const float_layernorm& norm, const float_matrix& x, float epsilon) {
  float_matrix y(x.rows(), x.cols());
  for (index i = 0; i < x.rows(); ++i) {
    y.row(i) = x.row(i).array() - x.row(i).mean();
    const float variance = y.row(i).squaredNorm() / static_cast<float>(x.cols());
    y.row(i) = y.row(i).array() / std::sqrt(variance + epsilon) * norm.weight.array() + norm.bias.array();
  }
  return y;
}

inline void softmax_rows(float_matrix& x) {
  for (index i = 0; i < x.rows(); ++i) {
    x.row(i) = (x.row(i).array() - x.row(i).maxCoeff()).exp();
    x.row(i) /= x.row(i).sum();
  }
}

inline void apply_gelu(float_matrix& x) {
  const float root_half = std::sqrt(0.5f);
  x = x.unaryExpr([=](float value) { return 0.5f * value * (1 + std::erf(value * root_half)); });
}

/// Normalized pixels, one row per patch.
inline float_matrix float_input(const float_vit& model, const image_view& image) {
  const vit_shape& shape = model.shape;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(shape.patches() * shape.patch_samples()));
  const matrix_view<std::uint8_t> patches(pixels.data(), shape.patches(), shape.patch_samples());
  im2col(image, shape.patch, patches);
  float_matrix input(patches.rows, patches.columns);
  for (index i = 0; i < patches.rows; ++i) {
    for (index k = 0; k < patches.columns; ++k) {
      input(i, k) = model.normalize(patches(i, k), k / (shape.patch * shape.patch));
    }
  }
  return input;
}

/// Attention of all heads on queries, keys and values.
template <class Recorder>
float_matrix float_attention(const float_matrix& qkv, const vit_shape& shape, index position, Recorder& record) {
  const index size = shape.width / shape.heads;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
  float_matrix context(qkv.rows(), shape.width);
  for (index head = 0; head < shape.heads; ++head) {
    const auto part = [&](index which) { return qkv.middleCols(which * shape.width + head * size, size); };
    float_matrix weights(qkv.rows(), qkv.rows());
    weights.noalias() = part(0) * part(1).transpose();
    weights *= scale;
    record(trace_site{"attention_logits", position, head}, weights);
    softmax_rows(weights);
    record(trace_site{"attention", position, head}, weights);
    context.middleCols(head * size, size).noalias() = weights * part(2);
  }
  return context;
}

/// A block, in place on the residual stream.
template <class Recorder>
void float_forward_block(const float_vit& model, index position, float_matrix& stream, Recorder& record) {
  const float_block& block = model.blocks[static_cast<std::size_t>(position)];
  const auto show = [&](const char* name, float_matrix& tensor) { record(trace_site{name, position}, tensor); };

  float_matrix x = apply(block.norm1, stream, model.epsilon);
  show("norm1", x);
  x = apply(block.qkv, x);
  show("qkv", x);
  x = float_attention(x, model.shape, position, record);
  show("context", x);
  x = apply(block.proj, x);
  show("proj", x);
  stream += x;
  show("add1", stream);

  x = apply(block.norm2, stream, model.epsilon);
  show("norm2", x);
  x = apply(block.fc1, x);
  show("fc1", x);
  apply_gelu(x);
  show("activation", x);
  x = apply(block.fc2, x);
  show("fc2", x);
  stream += x;
  show("add2", stream);
}

}  // namespace detail

/// Makes a model of a file of weights under timm's names. The sizes follow from the tensors' shapes; images are square.
///
/// Errors:    file_error, naming the tensor or the metadata: tensors that are missing, have another shape or dtype than
///            the sizes call for, or values that are not finite (naming the position); tensors that this architecture
///            does not have; a number of heads that does not divide the width; no mean or standard deviation.
inline float_vit load_float_vit(const safetensors_file& file, const float_vit_options& options = {}) {
  detail::float_vit_reader reader(file);
  float_vit model;
  vit_shape& shape = model.shape;
  shape = detail::read_vit_shape(reader, file);
  shape.heads = detail::read_heads(reader, shape.width, options.heads);
  model.epsilon = reader.number("ln_eps", options.epsilon, model.epsilon);
  model.pixel_max = reader.number("pixel_max", options.pixel_max, model.pixel_max);
  model.mean = reader.per_channel("mean", options.mean, shape.channels);
  model.standard_deviation = reader.per_channel("std", options.standard_deviation, shape.channels);
  detail::require_normalization(reader, model);

  model.patch.weight =
      reader.matrix("patch_embed.proj.weight", shape.width, {shape.width, shape.channels, shape.patch, shape.patch});
  model.patch.bias = reader.matrix("patch_embed.proj.bias", 1, {shape.width});
  model.class_token = reader.matrix("cls_token", 1, {1, 1, shape.width});
  model.positions = reader.matrix("pos_embed", shape.tokens(), {1, shape.tokens(), shape.width});
  for (index position = 0; position < shape.depth; ++position) {
    model.blocks.push_back(reader.block("blocks." + std::to_string(position), shape.width, shape.hidden));
  }
  model.norm = reader.layernorm("norm", shape.width);
  model.head = reader.linear("head", shape.classes, shape.width);
  reader.require_all_read();
  return model;
}

/// Runs the model on an image; returns the logits.
///
/// Recorder:  called as record(trace_site, float_matrix&) with every tensor of model/trace.hpp, under the same names and
///            in the same order: the real numbers that the integer model's codes stand for, before they are quantized.
///            fc1 is before the activation function; logits_u8 is not shown. The tensor is valid during the call only.
///            A recorder that changes its values, by quantizing them for example, changes what follows.
/// Errors:    std::invalid_argument for an image of other sizes than the model's.
/// Source:    docs/numerics.md, section 9.
template <class Recorder = no_trace>
std::vector<float> forward(const float_vit& model, const image_view& image, Recorder&& record = {}) {
  const vit_shape& shape = model.shape;
  require_equal("forward", "image channels", image.channels, shape.channels);
  require_equal("forward", "image height", image.height, shape.height);
  require_equal("forward", "image width", image.width, shape.width_pixels);
  const auto show = [&](const char* name, float_matrix& tensor) { record(trace_site{name}, tensor); };

  float_matrix input = detail::float_input(model, image);
  show("input", input);
  float_matrix patch = detail::apply(model.patch, input);
  show("patch", patch);
  float_matrix stream(shape.tokens(), shape.width);
  stream << model.class_token, patch;
  show("embed", stream);
  stream += model.positions;
  show("tokens", stream);

  for (index position = 0; position < shape.depth; ++position) {
    detail::float_forward_block(model, position, stream, record);
  }

  float_matrix normalized = detail::apply(model.norm, stream.topRows(1), model.epsilon);
  show("norm", normalized);
  float_matrix logits = detail::apply(model.head, normalized);
  show("logits", logits);
  return {logits.data(), logits.data() + logits.size()};
}

}  // namespace intact::inline INTACT_ABI
