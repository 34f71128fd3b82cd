#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "intact/arith/integer_math.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/named_tensors.hpp"
#include "intact/model/vit.hpp"
#include "intact/quantize/float_layers.hpp"

// The vision transformer in float32 that calibration runs: loading it, and running it with a callback per tensor.

namespace intact {
inline namespace INTACT_UNIT {

/// A vision transformer with a class token, of the architecture and with the names of timm's. A distilled one has a
/// second token with a head of its own, and averages both heads' logits: halves of the two, side by side, are one head
/// of both tokens. Const objects may be shared between threads.
struct float_vit : pixel_normalization {
  vit_shape shape;
  float epsilon = 1e-6f;     ///< of every LayerNorm
  float_linear patch;        ///< weights width x (channels * patch^2), columns in the order of im2col
  float_matrix class_token;  ///< class tokens x width
  float_matrix positions;    ///< tokens x width
  std::vector<float_block> blocks;
  float_layernorm norm;
  float_linear head;  ///< of all class tokens, one after the other
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
};

namespace detail {

/// The head's name, which differs between timm's models.
inline std::string head_name(const float_model_reader& reader) {
  return reader.contains("head.fc.weight") ? "head.fc" : "head";
}

/// The sizes of a model, from the shapes of its tensors.
inline vit_shape read_vit_shape(const float_model_reader& reader, const named_tensors& tensors) {
  vit_shape shape;
  const std::string patch = "patch_embed.proj.weight";
  shape.width = reader.size(patch, 4, 0);
  shape.channels = reader.size(patch, 4, 1);
  shape.patch = reader.size(patch, 4, 2);
  shape.class_tokens = reader.contains("dist_token") ? 2 : 1;
  const index_t tokens = reader.size("pos_embed", 3, 1);
  const auto side_of = [](index_t patches) {  // 0 if they are no square
    const index_t side = static_cast<index_t>(integer_sqrt(static_cast<std::uint64_t>(std::max<index_t>(patches, 0))));
    return side * side == patches ? side : 0;
  };
  // Class tokens may have no positions.
  const index_t side = side_of(side_of(tokens) == 0 ? tokens - shape.class_tokens : tokens);
  if (side == 0) {
    reader.refuse(reader.quoted("pos_embed") + " has " + std::to_string(tokens) + " tokens; it must have " +
                  (shape.class_tokens == 1 ? "1, the class token," : "2, the class and the distillation token,") +
                  " and a square number of patches, or the patches alone");
  }
  shape.height = shape.image_width = side * shape.patch;
  shape.hidden = reader.size("blocks.0.mlp.fc1.weight", 2, 0);
  shape.classes = reader.size(head_name(reader) + ".weight", 2, 0);
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

/// The class token, and the distillation token below it.
inline float_matrix read_class_tokens(float_model_reader& reader, const vit_shape& shape) {
  float_matrix tokens(shape.class_tokens, shape.width);
  tokens.row(0) = reader.matrix("cls_token", 1, {1, 1, shape.width});
  if (shape.class_tokens == 2) {
    tokens.row(1) = reader.matrix("dist_token", 1, {1, 1, shape.width});
  }
  return tokens;
}

/// Positions; class tokens without positions of their own have zeros.
inline float_matrix read_positions(float_model_reader& reader, const vit_shape& shape) {
  const index_t rows = reader.size("pos_embed", 3, 1);
  float_matrix positions = float_matrix::Zero(shape.tokens(), shape.width);
  positions.bottomRows(rows) = reader.matrix("pos_embed", rows, {1, rows, shape.width});
  return positions;
}

/// The head, or the average of the heads of two tokens as one head. Of a distilled model without a second head the
/// logits are those of the class token.
inline float_linear read_head(float_model_reader& reader, const vit_shape& shape) {
  const float_linear head = reader.linear(head_name(reader), shape.classes, shape.width);
  if (shape.class_tokens == 1) {
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
  float_mlp_half(block, model.epsilon, position, stream, record);
}

}  // namespace detail

/// Makes a model of a file of weights under timm's names. The sizes follow from the tensors' shapes; images are square.
///
/// Errors:    file_error, naming the tensor or the metadata: tensors that are missing, have another shape or dtype than
///            the sizes call for, or values that are not finite (naming the position); tensors that this architecture
///            does not have; a number of heads that does not divide the width; no mean or standard deviation.
inline float_vit load_float_vit(const named_tensors& tensors, const float_vit_options& options = {}) {
  detail::float_model_reader reader(tensors);
  float_vit model;
  vit_shape& shape = model.shape;
  shape = detail::read_vit_shape(reader, tensors);
  shape.heads = detail::read_heads(reader, shape.width, options.heads);
  detail::read_normalization(reader, options, shape.channels, model);

  model.patch.weight =
      reader.matrix("patch_embed.proj.weight", shape.width, {shape.width, shape.channels, shape.patch, shape.patch});
  model.patch.bias = reader.matrix("patch_embed.proj.bias", 1, {shape.width});
  model.class_token = detail::read_class_tokens(reader, shape);
  model.positions = detail::read_positions(reader, shape);
  for (index_t position = 0; position < shape.depth; ++position) {
    model.blocks.push_back(reader.block("blocks." + std::to_string(position), shape.width, shape.hidden));
  }
  model.norm = reader.layernorm("norm", shape.width);
  model.head = detail::read_head(reader, shape);
  reader.skip("mask_token");  // of training alone
  reader.require_all_read();
  return model;
}
inline float_vit load_float_vit(const safetensors_file& file, const float_vit_options& options = {}) {
  return load_float_vit(named_tensors::all_of(file), options);
}

/// Runs the model on an image; returns the logits.
///
/// Recorder:  called as record(trace_site, float_matrix&) with every tensor of model/trace.hpp, under the same
///            names and in the same order: the real numbers that the codes stand for, before they are quantized.
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

  for (index_t position = 0; position < shape.depth; ++position) {
    detail::float_forward_block(model, position, stream, record);
  }

  float_matrix normalized = detail::apply(model.norm, stream.topRows(shape.class_tokens), model.epsilon);
  show("norm", normalized);
  normalized.resize(1, shape.head_features());  // row by row: one token after the other
  float_matrix logits = detail::apply(model.head, normalized);
  show("logits", logits);
  return {logits.data(), logits.data() + logits.size()};
}

}  // namespace INTACT_UNIT
}  // namespace intact
