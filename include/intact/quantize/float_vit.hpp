#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "intact/config/floating_point.hpp"
#include "intact/io/named_tensors.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/model/vit.hpp"
#include "intact/quantize/float_layers.hpp"
#include "intact/quantize/float_model_reader.hpp"
#include "intact/quantize/patch_grid.hpp"

// The vision transformer in float32 that calibration runs: loading it, and running it with a callback per tensor.

namespace intact {
inline namespace INTACT_UNIT {

/// A vision transformer of the architecture and with the names of timm's. A distilled one has a second class token
/// with a head of its own, and averages both heads' logits: halves of the two, in one row, are one head of both
/// tokens. Const objects may be shared between threads.
struct float_vit : pixel_normalization {
  vit_shape shape;                  ///< sizes
  float epsilon = 1e-6f;            ///< of every norm
  float_linear patch;               ///< weights width x (channels * patch^2), columns in the order of im2col
  float_matrix class_token;         ///< prefix tokens x width: class tokens, then register tokens
  float_matrix positions;           ///< tokens x width
  std::vector<float_block> blocks;  ///< from the first to the last
  float_layernorm norm;             ///< of the features
  float_linear head;                ///< classes x head features; none if there are no classes
  std::optional<float_layernorm> norm_pre = {};  ///< before the first block
};

/// A view of a block.
inline float_block_view block_view(const float_vit& model, index_t position) {
  return view_of(model.blocks[static_cast<std::size_t>(position)], model.shape.block(), model.epsilon, position);
}

/// Values that a file of weights may lack. A value given here takes the place of the file's metadata, in brackets.
struct float_vit_options {
  std::optional<index_t> heads = {};           ///< ["heads"] else width / 64
  std::optional<float> epsilon = {};           ///< ["ln_eps"] else 1e-6
  std::optional<float> pixel_max = {};         ///< ["pixel_max"] else 255
  std::vector<float> mean = {};                ///< ["mean"] one value for all channels, or one per channel
  std::vector<float> standard_deviation = {};  ///< ["std"] likewise
  std::optional<vit_pooling> pooling = {};     ///< ["global_pool", "token" or "avg"] else as the tensors are named
  std::vector<image_sides> images = {};        ///< whose positions the file may have, the likeliest first; else squares
  bool without_head = false;                   ///< a head of the file is left out, and the features come out
  std::optional<activation_function> activation =
      {};                                  ///< ["activation", a name of find_activation] else gelu; silu with a gate
  std::optional<normalization> norm = {};  ///< ["norm", "layernorm" or "rmsnorm"] else layernorm
};

namespace detail {

/// The head's name, which differs between timm's models.
inline std::string head_name(const float_model_reader& reader) {
  return reader.contains("head.fc.weight") ? "head.fc" : "head";
}

/// The option, else the metadata's, else that which the names and shapes of the tensors tell.
inline vit_pooling read_pooling(const float_model_reader& reader, const vit_shape& shape,
                                const std::optional<vit_pooling>& option) {
  const bool normalizes_features = reader.contains("fc_norm.weight"), has_class = shape.class_tokens != 0;
  const std::string given = reader.text("global_pool", {"token", "avg"});
  if (option || given == "token") {
    const vit_pooling pooling = option.value_or(vit_pooling::class_tokens);
    if (pooling == vit_pooling::patch_tokens && (shape.classes != 0 || normalizes_features)) {
      reader.refuse(shape.classes != 0 ? "the features are patch tokens; a head takes class tokens or means"
                                       : "the features are patch tokens; " + reader.quoted("fc_norm.weight") +
                                             " is that of a mean's LayerNorm, and patch tokens have none");
    }
    if (!has_class && vit_shape{.pooling = pooling}.has_class_features()) {
      reader.refuse("the features are those of a class token; the model has no tensor \"cls_token\"");
    }
    return pooling;
  }
  if (normalizes_features) {
    return vit_pooling::normalized_mean;
  }
  const bool twice_as_wide = shape.classes != 0 && reader.size(head_name(reader) + ".weight", 2, 1) == 2 * shape.width;
  return given == "avg" || !has_class               ? vit_pooling::mean
         : twice_as_wide && shape.class_tokens == 1 ? vit_pooling::class_tokens_and_mean
                                                    : vit_pooling::class_tokens;
}

/// The sizes of a model, from the shapes of its tensors.
inline vit_shape read_vit_shape(const float_model_reader& reader, const named_tensors& tensors,
                                const float_vit_options& options) {
  vit_shape shape;
  const std::string patch = "patch_embed.proj.weight";
  shape.width = reader.size(patch, 4, 0);
  shape.channels = reader.size(patch, 4, 1);
  shape.patch = {reader.size(patch, 4, 2), reader.size(patch, 4, 3)};
  shape.class_tokens = reader.contains("dist_token") ? 2 : reader.contains("cls_token") ? 1 : 0;
  shape.registers = reader.contains("reg_token") ? reader.size("reg_token", 3, 1) : 0;
  const image_sides grid = read_grid(reader, shape, options.images);
  shape.height = grid.height * shape.patch.height;
  shape.image_width = grid.width * shape.patch.width;
  shape.gated = reader.has_gate("blocks.0");
  shape.norm = read_norm_kind(reader, options.norm);
  if (reader.contains("blocks.0.attn.q_norm.weight")) {
    shape.qk_norm = shape.norm;
  }
  shape.hidden = reader.size("blocks.0.mlp.fc1.weight", 2, 0) / (shape.gated ? 2 : 1);
  const bool has_head = !options.without_head && reader.some_name_starts("head");
  shape.classes = has_head ? reader.size(head_name(reader) + ".weight", 2, 0) : 0;
  shape.pooling = read_pooling(reader, shape, options.pooling);
  for (const std::string& name : tensors.names()) {
    shape.depth += name.starts_with("blocks.") && name.ends_with(".norm1.weight");
  }
  return shape;
}

/// The option, else the metadata's, else heads of 64 channels.
inline index_t read_heads(const float_model_reader& reader, index_t width, const std::optional<index_t>& option) {
  const float heads =
      option ? static_cast<float>(*option) : reader.number("heads", std::nullopt, static_cast<float>(width) / 64);
  if (!(heads >= 1) || heads != std::floor(heads) || std::fmod(static_cast<float>(width), heads) != 0) {
    reader.refuse("heads is " + std::to_string(heads) + "; it must be a whole number that divides the width, " +
                  std::to_string(width));
  }
  return static_cast<index_t>(heads);
}

/// The class token, the distillation token and the register tokens.
inline float_matrix read_prefix_tokens(float_model_reader& reader, const vit_shape& shape) {
  float_matrix tokens(shape.prefix_tokens(), shape.width);
  const auto read = [&](const char* name, index_t first, index_t count) {
    if (count != 0) {
      tokens.middleRows(first, count) = reader.matrix(name, count, {1, count, shape.width});
    }
  };
  read("cls_token", 0, std::min<index_t>(shape.class_tokens, 1));
  read("dist_token", 1, std::max<index_t>(shape.class_tokens - 1, 0));
  read("reg_token", shape.class_tokens, shape.registers);
  return tokens;
}

/// Positions; register tokens, or all tokens but the patches, have zeros if they have no positions of their own.
inline float_matrix read_positions(float_model_reader& reader, const vit_shape& shape) {
  const index_t rows = reader.size("pos_embed", 3, 1), others = rows - shape.patches();
  const float_matrix given = reader.matrix("pos_embed", rows, {1, rows, shape.width});
  float_matrix positions = float_matrix::Zero(shape.tokens(), shape.width);
  positions.topRows(others) = given.topRows(others);
  positions.bottomRows(shape.patches()) = given.bottomRows(shape.patches());
  return positions;
}

/// The head, or the average of the heads of two tokens as one head. Of a distilled model without a second head the
/// logits are those of the class token.
inline float_linear read_head(float_model_reader& reader, const vit_shape& shape) {
  const bool of_two_tokens = shape.pooling == vit_pooling::class_tokens && shape.class_tokens == 2;
  const float_linear head =
      reader.linear(head_name(reader), shape.classes, of_two_tokens ? shape.width : shape.head_features());
  if (!of_two_tokens) {
    return head;
  }
  float_linear both{float_matrix::Zero(shape.classes, shape.head_features()), head.bias};
  if (!reader.some_name_starts("head_dist.")) {
    both.weight.leftCols(shape.width) = head.weight;
    return both;
  }
  const float_linear other = reader.linear("head_dist", shape.classes, shape.width);
  both.bias = (head.bias + other.bias) / 2;
  both.weight << head.weight / 2, other.weight / 2;
  return both;
}

/// Attention of all heads on queries, keys and values.
template <class Recorder>
float_matrix float_attention(const float_matrix& qkv, const vit_shape& shape, index_t position, Recorder& record) {
  const index_t size = shape.width / shape.heads;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
  float_matrix context(qkv.rows(), shape.width);
  for (index_t head = 0; head < shape.heads; ++head) {
    const auto part = [&](index_t which) { return qkv.middleCols(which * shape.width + head * size, size); };
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
void float_forward_block(const float_vit& model, index_t position, float_matrix& stream, Recorder& record) {
  const float_block& block = model.blocks[static_cast<std::size_t>(position)];
  const auto show = [&](traced_tensor name, float_matrix& tensor) { record(trace_site{name, position}, tensor); };

  float_matrix x = apply(block.norm1, stream, model.epsilon, model.shape.norm);
  show("norm1", x);
  x = apply(block.qkv, x);
  show("qkv", x);
  if (model.shape.qk_norm) {
    float_qk_norms(block, model.shape.block().attention, model.epsilon, position, x, record);
  }
  x = float_attention(x, model.shape, position, record);
  show("context", x);
  x = apply(block.proj, x);
  show("proj", x);
  stream += x;
  show("add1", stream);
  float_mlp_half(block, model.shape.block(), model.epsilon, position, stream, record);
}

/// From the residual stream to the features, one row.
template <class Recorder>
float_matrix float_features(const float_vit& model, const float_matrix& stream, Recorder& record) {
  const vit_shape& shape = model.shape;
  const auto show = [&](traced_tensor name, float_matrix& tensor) { record(trace_site{name}, tensor); };
  if (shape.pooling == vit_pooling::normalized_mean) {
    float_matrix mean = stream.bottomRows(shape.patches()).colwise().mean();
    show("pool", mean);
    mean = apply(model.norm, mean, model.epsilon, shape.norm);
    show("norm", mean);
    return mean;
  }
  const index_t classes = shape.class_features(), pooled = shape.normalized_tokens() - classes;
  float_matrix taken(shape.normalized_tokens(), shape.width);
  taken << stream.topRows(classes), stream.bottomRows(pooled);
  float_matrix normalized = apply(model.norm, taken, model.epsilon, shape.norm);
  show("norm", normalized);
  float_matrix features(1, shape.head_features());
  if (shape.pooling == vit_pooling::patch_tokens) {
    return normalized.reshaped<Eigen::RowMajor>().transpose();
  }
  if (pooled != 0) {
    float_matrix mean = normalized.bottomRows(pooled).colwise().mean();
    show("pool", mean);
    features.rightCols(shape.width) = mean;
  }
  features.leftCols(classes * shape.width) = normalized.topRows(classes).reshaped<Eigen::RowMajor>().transpose();
  return features;
}

}  // namespace detail

/// Makes a model of a file of weights under timm's names. The sizes follow from the tensors' shapes; images are square
/// unless an option tells their size.
/// A model without tensors "head" has no classes: its outputs are features. If fc1 has twice as many rows as fc2 has
/// columns, the first half of them is a gate (timm's SwiGLUPacked, which DINOv2's largest models have). Tensors q_norm
/// and k_norm are norms of each head's queries and keys (timm's qk_norm).
///
/// Errors:    file_error, naming the tensor or the metadata: tensors that are missing, have another shape or dtype than
///            the sizes call for, or values that are not finite (naming the position); tensors that this architecture
///            does not have; a number of heads that does not divide the width; no mean or standard deviation.
inline float_vit load_float_vit(const named_tensors& tensors, const float_vit_options& options = {}) {
  detail::float_model_reader reader(tensors);
  float_vit model;
  vit_shape& shape = model.shape;
  shape = detail::read_vit_shape(reader, tensors, options);
  shape.heads = detail::read_heads(reader, shape.width, options.heads);
  detail::read_normalization(reader, options, shape.channels, model);

  model.patch.weight = reader.matrix("patch_embed.proj.weight", shape.width,
                                     {shape.width, shape.channels, shape.patch.height, shape.patch.width});
  const bool has_norm_pre = reader.contains("norm_pre.weight");
  model.patch.bias = has_norm_pre && !reader.contains("patch_embed.proj.bias")
                         ? float_row::Zero(shape.width).eval()
                         : float_row(reader.matrix("patch_embed.proj.bias", 1, {shape.width}));
  if (has_norm_pre) {
    model.norm_pre = reader.norm("norm_pre", shape.width, shape.norm);
  }
  model.class_token = detail::read_prefix_tokens(reader, shape);
  model.positions = detail::read_positions(reader, shape);
  const activation_function activation = detail::read_activation(reader, options.activation, shape.gated);
  for (index_t position = 0; position < shape.depth; ++position) {
    model.blocks.push_back(reader.block("blocks." + std::to_string(position), shape.block()));
    model.blocks.back().activation = activation;
  }
  model.norm = reader.norm(reader.contains("fc_norm.weight") ? "fc_norm" : "norm", shape.width, shape.norm);
  if (shape.classes != 0) {
    model.head = detail::read_head(reader, shape);
  } else {
    reader.skip_all("head");
  }
  reader.skip("mask_token");  // of training alone
  reader.require_all_read();
  return model;
}
/// The same from a file.
inline float_vit load_float_vit(const safetensors_file& file, const float_vit_options& options = {}) {
  return load_float_vit(named_tensors::all_of(file), options);
}

/// Runs the model on an image; returns the logits, or the features of a model without a head.
///
/// Recorder:  called as record(trace_site, float_matrix&) with every tensor of model/trace.hpp, under the same
///            names and in the same order: the real numbers before they are quantized to codes.
///            fc1 is before the activation function; logits_u8 is not shown. The tensor is valid during the call only.
///            A recorder that changes its values, by quantizing them for example, changes what follows.
/// Errors:    std::invalid_argument for an image of other sizes than the model's.
/// Source:    docs/numerics.md, section 9.
template <class Recorder = no_trace>
std::vector<float> forward(const float_vit& model, const image_view& image, Recorder&& record = {}) {
  const vit_shape& shape = model.shape;
  require_equal("forward", "image channels", image.channels, shape.channels);
  require_equal("forward", "image height", image.height, shape.height);
  require_equal("forward", "image width", image.width, shape.image_width);
  const auto show = [&](traced_tensor name, float_matrix& tensor) { record(trace_site{name}, tensor); };

  float_matrix input = detail::float_input(model, image);
  show("input", input);
  float_matrix patch = detail::apply(model.patch, input);
  show("patch", patch);
  float_matrix stream(shape.tokens(), shape.width);
  stream << model.class_token, patch;
  show("embed", stream);
  stream += model.positions;
  show("tokens", stream);
  if (model.norm_pre) {
    stream = detail::apply(*model.norm_pre, stream, model.epsilon, shape.norm);
    show("norm_pre", stream);
  }

  for (index_t position = 0; position < shape.depth; ++position) {
    detail::float_forward_block(model, position, stream, record);
  }

  float_matrix logits = detail::float_features(model, stream, record);
  if (shape.classes != 0) {
    logits = detail::apply(model.head, logits);
    show("logits", logits);
  }
  return {logits.data(), logits.data() + logits.size()};
}

}  // namespace INTACT_UNIT
}  // namespace intact
