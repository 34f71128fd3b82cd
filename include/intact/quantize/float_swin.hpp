#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "intact/arith/integer_math.hpp"
#include "intact/average_pool.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/model_file_swin_fields.hpp"
#include "intact/io/named_tensors.hpp"
#include "intact/model/swin.hpp"
#include "intact/patch_merge.hpp"
#include "intact/quantize/float_layers.hpp"
#include "intact/quantize/float_model_reader.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/windows.hpp"

// The Swin transformer in float32 that calibration runs: loading it, and running it with a callback per tensor.

namespace intact {
inline namespace INTACT_UNIT {

/// A block and its position biases, one row per relative position of two tokens of a window, one column per head.
struct float_swin_block {
  float_block block;           ///< attention and perceptron
  float_matrix position_bias;  ///< (2 window - 1)^2 x heads
};

/// A Swin stage: blocks, and the merging after them.
struct float_swin_stage {
  std::vector<float_swin_block> blocks;  ///< from the first to the last
  float_layernorm merge_norm;            ///< these two not of the last Swin stage
  float_matrix reduction;                ///< next width x 4 width
};

/// A Swin transformer of the architecture and with the names of timm's. Const objects may be shared between threads.
struct float_swin : pixel_normalization {
  swin_shape shape;                      ///< sizes
  float epsilon = 1e-5f;                 ///< of every LayerNorm
  float_linear patch;                    ///< weights width x (channels * patch^2), columns in the order of im2col
  float_layernorm patch_norm;            ///< after the patch embedding
  std::vector<float_swin_stage> stages;  ///< from the first to the last
  float_layernorm norm;                  ///< the final LayerNorm
  float_linear head;                     ///< classes x width
};

/// A view of block `position` of Swin stage `s`; `number` counts the blocks of all Swin stages.
inline float_block_view block_view(const float_swin& model, index_t s, index_t position, index_t number) {
  return view_of(model.stages[static_cast<std::size_t>(s)].blocks[static_cast<std::size_t>(position)].block,
                 model.shape.block(s, position).per_window(), model.epsilon, number);
}

/// Values that a file of weights may lack. A value given here takes the place of the file's metadata, in brackets.
struct float_swin_options {
  std::optional<index_t> height = {};                  ///< of images; ["img_size"] else 224
  std::optional<index_t> image_width = {};             ///< likewise
  std::optional<float> epsilon = {};                   ///< ["ln_eps"] else 1e-5
  std::optional<float> pixel_max = {};                 ///< ["pixel_max"] else 255
  std::vector<float> mean = {};                        ///< ["mean"] one value for all channels, or one per channel
  std::vector<float> standard_deviation = {};          ///< ["std"] likewise
  std::optional<activation_function> activation = {};  ///< ["activation", a name of find_activation] else gelu
};

/// The row of a position bias that token j has for token i of a window.
constexpr index_t relative_position(index_t window, index_t i, index_t j) {
  const index_t down = i / window - j / window, across = i % window - j % window;
  return (down + window - 1) * (2 * window - 1) + across + window - 1;
}

namespace detail {

/// The sizes of a Swin stage, from the shapes of its first block's tensors.
inline swin_stage_shape read_stage_shape(const float_model_reader& reader, const std::string& stage) {
  swin_stage_shape shape;
  while (reader.contains(stage + ".blocks." + std::to_string(shape.depth) + ".norm1.weight")) {
    ++shape.depth;
  }
  const std::string block = stage + ".blocks.0", table = block + ".attn.relative_position_bias_table";
  shape.width = reader.size(block + ".norm1.weight", 1, 0);
  shape.hidden = reader.size(block + ".mlp.fc1.weight", 2, 0);
  shape.heads = reader.size(table, 2, 1);
  if (shape.width % shape.heads != 0) {
    reader.refuse(reader.quoted(table) + " has " + std::to_string(shape.heads) +
                  " columns, the heads; their number must divide the width, " + std::to_string(shape.width));
  }
  const index_t positions = reader.size(table, 2, 0);
  const index_t side = static_cast<index_t>(integer_sqrt(static_cast<std::uint64_t>(positions)));
  if (side * side != positions || side % 2 == 0) {
    reader.refuse(reader.quoted(table) + " has " + std::to_string(positions) +
                  " rows; it must have (2 window - 1)^2 for some window");
  }
  shape.window = (side + 1) / 2;
  if (shape.window * shape.window > shift_matmul_max_keys) {
    reader.refuse(reader.quoted(table) + " has " + std::to_string(positions) + " rows, those of windows of " +
                  std::to_string(shape.window * shape.window) + " tokens; they must have at most " +
                  std::to_string(shift_matmul_max_keys));
  }
  return shape;
}

/// The sizes that follow from the tensors without a head: all but those of the images, and the classes.
inline swin_shape read_swin_stages(const float_model_reader& reader) {
  swin_shape shape;
  const std::string patch = "patch_embed.proj.weight";
  shape.channels = reader.size(patch, 4, 1);
  shape.patch = reader.size(patch, 4, 2);
  while (reader.contains("layers." + std::to_string(shape.stages) + ".blocks.0.norm1.weight")) {
    if (shape.stages == swin_max_stages) {
      reader.refuse("it has more than " + std::to_string(swin_max_stages) + " stages");
    }
    const std::string name = "layers." + std::to_string(shape.stages);
    shape.stage[static_cast<std::size_t>(shape.stages++)] = read_stage_shape(reader, name);
  }
  if (shape.stages == 0) {
    reader.size("layers.0.blocks.0.norm1.weight", 1, 0);  // missing
  }
  return shape;
}

inline swin_shape read_swin_shape(const float_model_reader& reader, const float_swin_options& options,
                                  const std::string& head) {
  swin_shape shape = read_swin_stages(reader);
  shape.classes = reader.size(head + ".weight", 2, 0);
  const float side = reader.number("img_size", std::nullopt, 224);
  if (!(side >= 1) || !(side <= 65536) || side != std::floor(side)) {
    reader.refuse("img_size is " + std::to_string(side) + "; it must be a whole number in 1..65536");
  }
  shape.height = options.height.value_or(static_cast<index_t>(side));
  shape.image_width = options.image_width.value_or(static_cast<index_t>(side));
  require_swin_shape(shape);
  const index_t last = shape.tokens_of(shape.stages - 1);
  if (shape.patches() > swin_file_max_tokens || last > average_pool_max_tokens) {
    reader.refuse("images of " + std::to_string(shape.height) + " x " + std::to_string(shape.image_width) +
                  " pixels make " + std::to_string(shape.patches()) + " tokens, and " + std::to_string(last) +
                  " of the last stage; they must be at most " + std::to_string(swin_file_max_tokens) + " and " +
                  std::to_string(average_pool_max_tokens));
  }
  return shape;
}

/// Refuses a table of relative positions that is not this architecture's.
inline void read_relative_positions(float_model_reader& reader, const std::string& name, index_t window) {
  const index_t tokens = window * window;
  const bool flat = reader.contains(name) && reader.rank(name) == 1;  // torchvision's
  const std::vector<std::int64_t> positions = reader.integers(
      name, flat ? std::vector<std::int64_t>{tokens * tokens} : std::vector<std::int64_t>{tokens, tokens});
  for (index_t at = 0; at < tokens * tokens; ++at) {
    const std::int64_t expected = relative_position(window, at / tokens, at % tokens);
    if (positions[static_cast<std::size_t>(at)] != expected) {
      reader.refuse(reader.quoted(name) + " has the value " + std::to_string(positions[static_cast<std::size_t>(at)]) +
                    " at row " + std::to_string(at / tokens) + ", column " + std::to_string(at % tokens) +
                    "; it must be " + std::to_string(expected));
    }
  }
}

inline float_swin_block read_swin_block(float_model_reader& reader, const std::string& name,
                                        const swin_stage_shape& shape) {
  const index_t positions = (2 * shape.window - 1) * (2 * shape.window - 1);
  float_swin_block block{
      reader.block(name, {.attention = {.width = shape.width}, .hidden = shape.hidden}),
      reader.matrix(name + ".attn.relative_position_bias_table", positions, {positions, shape.heads})};
  if (reader.contains(name + ".attn.relative_position_index")) {
    read_relative_positions(reader, name + ".attn.relative_position_index", shape.window);
  }
  reader.skip(name + ".attn_mask");
  return block;
}

/// Rows of tokens in window order; padding is 0.
inline float_matrix to_windows(const float_matrix& x, const window_grid& grid) {
  float_matrix y(grid.padded_tokens(), x.cols());
  window_partition(view_of(x), grid, 0, view_of(y));
  return y;
}

inline float_matrix from_windows(const float_matrix& x, const window_grid& grid) {
  float_matrix y(grid.tokens(), x.cols());
  window_reverse(view_of(x), grid, view_of(y));
  return y;
}

/// Minus infinity where tokens of a window are no neighbours, else 0.
inline float_matrix float_window_mask(const window_grid& grid, index_t window) {
  const index_t tokens = grid.tokens_per_window();
  const bool bottom = window / grid.windows_across() == grid.windows_down() - 1;
  const bool right = window % grid.windows_across() == grid.windows_across() - 1;
  row_major_matrix<std::uint8_t> visible(tokens, tokens);
  shifted_window_mask(grid, grid.shift != 0 && bottom, grid.shift != 0 && right, view_of(visible));
  return visible.unaryExpr([](std::uint8_t v) { return v != 0 ? 0 : -std::numeric_limits<float>::infinity(); });
}

/// The position bias of one head, T x T.
inline float_matrix float_head_bias(const float_swin_block& block, index_t window, index_t head) {
  float_matrix bias(window * window, window * window);
  for (index_t i = 0; i < bias.rows(); ++i) {
    for (index_t j = 0; j < bias.cols(); ++j) {
      bias(i, j) = block.position_bias(relative_position(window, i, j), head);
    }
  }
  return bias;
}

/// Attention inside windows, of all heads, on queries, keys and values in window order.
template <class Recorder>
float_matrix float_window_attention(const float_swin_block& block, const float_matrix& qkv,
                                    const window_attention_shape& shape, index_t position, Recorder& record) {
  const index_t tokens = shape.grid.tokens_per_window(), size = shape.width / shape.heads;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
  float_matrix context(qkv.rows(), shape.width);
  for (index_t head = 0; head < shape.heads; ++head) {
    const float_matrix bias = float_head_bias(block, shape.grid.window, head);
    for (index_t window = 0; window < shape.grid.windows(); ++window) {
      const auto part = [&](index_t which) {
        return qkv.block(window * tokens, which * shape.width + head * size, tokens, size);
      };
      float_matrix weights(tokens, tokens);
      weights.noalias() = part(0) * part(1).transpose();
      weights *= scale;
      record(trace_site{"attention_logits", position, head, window}, weights);
      weights += bias;
      record(trace_site{"biased_logits", position, head, window}, weights);
      weights += float_window_mask(shape.grid, window);
      softmax_rows(weights);
      record(trace_site{"attention", position, head, window}, weights);
      context.block(window * tokens, head * size, tokens, size).noalias() = weights * part(2);
    }
  }
  return context;
}

/// A block, in place on the residual stream.
template <class Recorder>
void float_forward_block(const float_swin_block& block, const swin_block_shape& shape, float epsilon, index_t position,
                         float_matrix& stream, Recorder& record) {
  const auto show = [&](traced_tensor name, float_matrix& tensor) { record(trace_site{name, position}, tensor); };
  const window_grid& grid = shape.attention.grid;
  float_matrix x = apply(block.block.norm1, stream, epsilon);
  show("norm1", x);
  x = apply(block.block.qkv, to_windows(x, grid));
  show("qkv", x);
  x = float_window_attention(block, x, shape.attention, position, record);
  show("context", x);
  x = apply(block.block.proj, x);
  show("proj", x);
  stream += from_windows(x, grid);
  show("add1", stream);
  float_mlp_half(block.block, shape.per_window(), epsilon, position, stream, record);
}

/// The residual stream of the next Swin stage.
template <class Recorder>
float_matrix float_merge(const float_swin& model, index_t s, const float_matrix& stream, Recorder& record) {
  const float_swin_stage& stage = model.stages[static_cast<std::size_t>(s)];
  float_matrix x(model.shape.tokens_of(s + 1), 4 * model.shape.of(s).width);
  patch_merge(view_of(stream), model.shape.rows_of(s), model.shape.columns_of(s), 0, view_of(x));
  x = apply(stage.merge_norm, x, model.epsilon);
  record(trace_site{"merge_norm", s}, x);
  float_matrix merged = x * stage.reduction.transpose();
  record(trace_site{"merge", s}, merged);
  return merged;
}

}  // namespace detail

/// Makes a model of a file of weights under timm's names, old or new: merging s is called layers.s.downsample, or, with
/// the Swin stage after it, layers.(s + 1).downsample; the classifier head or head.fc. All sizes but the image's follow
/// from the tensors' shapes. Tables of relative positions must be this architecture's; masks follow from the sizes.
///
/// Errors:    file_error, naming the tensor or the metadata, as of load_float_vit; windows or images of more tokens
///            than integer models take; std::invalid_argument for an image size that is no multiple of the patch.
inline float_swin load_float_swin(const named_tensors& tensors, const float_swin_options& options = {}) {
  detail::float_model_reader reader(tensors);
  float_swin model;
  const std::string head = reader.contains("head.fc.weight") ? "head.fc" : "head";
  const swin_shape& shape = model.shape = detail::read_swin_shape(reader, options, head);
  detail::read_normalization(reader, options, shape.channels, model);

  const index_t width = shape.of(0).width;
  model.patch.weight =
      reader.matrix("patch_embed.proj.weight", width, {width, shape.channels, shape.patch, shape.patch});
  model.patch.bias = reader.matrix("patch_embed.proj.bias", 1, {width});
  model.patch_norm = reader.layernorm("patch_embed.norm", width);
  const activation_function activation = detail::read_activation(reader, options.activation);
  const index_t first_merging = reader.contains("layers.0.downsample.reduction.weight") ? 0 : 1;
  for (index_t s = 0; s < shape.stages; ++s) {
    float_swin_stage& stage = model.stages.emplace_back();
    const std::string blocks = "layers." + std::to_string(s) + ".blocks.";
    for (index_t position = 0; position < shape.of(s).depth; ++position) {
      stage.blocks.push_back(detail::read_swin_block(reader, blocks + std::to_string(position), shape.of(s)));
      stage.blocks.back().block.activation = activation;
    }
    if (s + 1 < shape.stages) {
      const std::string merging = "layers." + std::to_string(s + first_merging) + ".downsample.";
      const index_t merged = 4 * shape.of(s).width, next = shape.of(s + 1).width;
      stage.merge_norm = reader.layernorm(merging + "norm", merged);
      stage.reduction = reader.matrix(merging + "reduction.weight", next, {next, merged});
    }
  }
  model.norm = reader.layernorm("norm", shape.of(shape.stages - 1).width);
  model.head = reader.linear(head, shape.classes, shape.of(shape.stages - 1).width);
  reader.require_all_read();
  return model;
}
/// The same from a file.
inline float_swin load_float_swin(const safetensors_file& file, const float_swin_options& options = {}) {
  return load_float_swin(named_tensors::all_of(file), options);
}

/// Runs the model on an image; returns the logits.
///
/// Recorder:  as of forward() of a float_vit, with the tensors of a Swin transformer in model/trace.hpp; patch_norm is
///            not shown, as it is `tokens`.
/// Errors:    std::invalid_argument for an image of other sizes than the model's.
/// Source:    docs/numerics.md, section 12.
template <class Recorder = no_trace>
std::vector<float> forward(const float_swin& model, const image_view& image, Recorder&& record = {}) {
  const swin_shape& shape = model.shape;
  require_image("swin", image, shape);
  const auto show = [&](traced_tensor name, float_matrix& tensor) { record(trace_site{name}, tensor); };

  float_matrix input = detail::float_input(model, image);
  show("input", input);
  float_matrix stream = detail::apply(model.patch, input);
  show("patch", stream);
  stream = detail::apply(model.patch_norm, stream, model.epsilon);
  show("tokens", stream);
  index_t block = 0;
  for (index_t s = 0; s < shape.stages; ++s) {
    const float_swin_stage& stage = model.stages[static_cast<std::size_t>(s)];
    for (std::size_t position = 0; position < stage.blocks.size(); ++position, ++block) {
      detail::float_forward_block(stage.blocks[position], shape.block(s, static_cast<index_t>(position)), model.epsilon,
                                  block, stream, record);
    }
    if (s + 1 < shape.stages) {
      stream = detail::float_merge(model, s, stream, record);
    }
  }

  float_matrix normalized = detail::apply(model.norm, stream, model.epsilon);
  show("norm", normalized);
  float_matrix pooled = normalized.colwise().mean();
  show("pool", pooled);
  float_matrix logits = detail::apply(model.head, pooled);
  show("logits", logits);
  return {logits.data(), logits.data() + logits.size()};
}

}  // namespace INTACT_UNIT
}  // namespace intact
