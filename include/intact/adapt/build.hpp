#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "intact/adapt/float_vit.hpp"
#include "intact/adapt/integer_vit.hpp"
#include "intact/adapt/observe.hpp"
#include "intact/adapt/quantize.hpp"

// From a float model and the scales of its tensors to an integer model.

namespace intact::inline INTACT_ABI {

/// Scales of a block's tensors; fields are named like the tensors of model/trace.hpp.
struct block_scales {
  affine_scale norm1, qkv, attention_logits, context, proj;
  ptf_scale add1;
  affine_scale norm2;
  value_range fc1;  ///< before the activation function
  affine_scale activation, fc2;
  ptf_scale add2;
};

/// Scales of a vision transformer's tensors.
struct vit_scales {
  affine_scale input, patch, embed, positions;
  ptf_scale tokens;
  std::vector<block_scales> blocks;
  affine_scale norm, logits;
};

/// Which exponential Log-Int-Softmax uses: I-BERT's polynomial, as FQ-ViT does, or true exponentials.
enum class exponential { i_exp, exact };

/// What can be chosen about the graph.
struct build_options {
  tail probabilities = tail::zero;
  intact::exponential exponential = intact::exponential::i_exp;
};

namespace detail {

/// The scales of a layer's outputs y = (x * w + bias) / s_y + zp_y.
inline owned_channel_scale build_linear_scale(const owned_weights& weights, std::span<const float> weight_scales,
                                              std::span<const float> bias, const affine_scale& x, const code_scale& y) {
  std::vector<scale_target> targets(static_cast<std::size_t>(weights.rows));
  for (std::size_t n = 0; n < targets.size(); ++n) {
    const double factor = static_cast<double>(x.scale) * static_cast<double>(weight_scales[n]) / y.scale;
    const double addend = static_cast<double>(bias[n]) / y.scale + y.zero_point;
    targets[n] = linear_target(weights.row(static_cast<index>(n)), factor, addend, x.zero_point);
  }
  return owned_channel_scale(targets);
}

inline code_scale to_code_scale(const affine_scale& scale) {
  return {static_cast<double>(scale.scale), static_cast<double>(scale.zero_point)};
}

inline owned_linear build_linear(const float_linear& layer, const affine_scale& x, const code_scale& y) {
  quantized_weights quantized = quantize_weights(view_of(layer.weight), s8_codes);
  owned_weights weights{std::move(quantized.codes), quantized.rows, quantized.columns};
  owned_channel_scale scale = build_linear_scale(weights, quantized.scale, span_of(layer.bias), x, y);
  return {std::move(weights), std::move(scale)};
}

inline owned_linear build_linear(const float_linear& layer, const affine_scale& x, const affine_scale& y) {
  return build_linear(layer, x, to_code_scale(y));
}

/// Scale of channel c of a power-of-two-factor tensor.
inline double channel_step(const ptf_scale& scale, std::size_t c) {
  return std::ldexp(static_cast<double>(scale.scale), scale.shift[c]);
}

inline owned_layernorm build_norm(const float_layernorm& norm, double epsilon, const ptf_scale& x,
                                  const affine_scale& y) {
  return owned_layernorm(layernorm_target{.gamma = span_of(norm.weight),
                                          .beta = span_of(norm.bias),
                                          .epsilon = epsilon,
                                          .input_scale = static_cast<double>(x.scale),
                                          .input_zero_point = x.zero_point,
                                          .shift = x.shift,
                                          .output_scale = static_cast<double>(y.scale),
                                          .output_zero_point = y.zero_point});
}

/// The stream has a scale per channel, given as a function of the channel.
template <class StreamStep>
owned_add build_residual(StreamStep stream_step, int stream_zero_point, const affine_scale& branch,
                         const ptf_scale& y) {
  std::vector<add_target> targets(y.shift.size());
  for (std::size_t c = 0; c < targets.size(); ++c) {
    targets[c] = {stream_step(c) / channel_step(y, c), static_cast<double>(branch.scale) / channel_step(y, c)};
  }
  return owned_add(targets, {stream_zero_point, branch.zero_point, y.zero_point});
}

inline exp_values<std::uint64_t> build_exponential(const affine_scale& logits, index keys, exponential kind) {
  if (kind == exponential::i_exp) {
    return i_exp_table(logits.scale, keys);
  }
  const exp_values<std::uint32_t> narrow = exact_exp_table(static_cast<double>(logits.scale), keys);
  exp_values<std::uint64_t> table;
  std::copy(narrow.begin(), narrow.end(), table.begin());
  return table;
}

/// `stream` is the scale of the residual stream that enters the block.
inline owned_block build_block(const float_block& block, const block_scales& scales, const ptf_scale& stream,
                               const vit_shape& shape, double epsilon, const build_options& options) {
  const double qkv = static_cast<double>(scales.qkv.scale);
  const index head_size = shape.block().attention.head_size();
  const double logits_factor =
      qkv * qkv / std::sqrt(static_cast<double>(head_size)) / static_cast<double>(scales.attention_logits.scale);

  owned_block built;
  built.norm1 = build_norm(block.norm1, epsilon, stream, scales.norm1);
  built.qkv = build_linear(block.qkv, scales.norm1, scales.qkv);
  built.qkv_zero_point = scales.qkv.zero_point;
  built.attention_logits =
      owned_tensor_scale(attention_logits_target(logits_factor, scales.attention_logits.zero_point, head_size));
  built.exponential = build_exponential(scales.attention_logits, shape.tokens(), options.exponential);
  built.probabilities = options.probabilities;
  built.context = owned_tensor_scale(attention_context_target(qkv / static_cast<double>(scales.context.scale),
                                                              scales.context.zero_point, shape.tokens()));
  built.proj = build_linear(block.proj, scales.context, scales.proj);
  built.add1 = build_residual([&](std::size_t c) { return channel_step(stream, c); }, stream.zero_point, scales.proj,
                              scales.add1);

  const activation_table table =
      build_activation_table(gelu, static_cast<double>(scales.fc1.low), static_cast<double>(scales.fc1.high),
                             to_code_scale(scales.activation));
  built.norm2 = build_norm(block.norm2, epsilon, scales.add1, scales.norm2);
  built.fc1 = build_linear(block.fc1, scales.norm2, table.input);
  built.activation.assign(table.codes.begin(), table.codes.end());
  built.fc2 = build_linear(block.fc2, scales.activation, scales.fc2);
  built.add2 = build_residual([&](std::size_t c) { return channel_step(scales.add1, c); }, scales.add1.zero_point,
                              scales.fc2, scales.add2);
  return built;
}

/// Normalization and quantization of every pixel value of every channel.
inline std::vector<std::uint8_t> build_pixel_table(const float_vit& model, const affine_scale& input) {
  std::vector<std::uint8_t> table;
  for (index channel = 0; channel < model.shape.channels; ++channel) {
    for (int pixel = 0; pixel < 256; ++pixel) {
      table.push_back(quantize_code<std::uint8_t>(model.normalize(pixel, channel), input));
    }
  }
  return table;
}

/// From the codes of one scale to those of another.
inline std::vector<std::uint8_t> build_rescale_table(const affine_scale& from, const affine_scale& to) {
  std::vector<std::uint8_t> table;
  for (int code = 0; code < 256; ++code) {
    table.push_back(quantize_code<std::uint8_t>(dequantize_code(code, from), to));
  }
  return table;
}

inline std::vector<std::uint8_t> quantize_all(std::span<const float> values, const affine_scale& scale) {
  std::vector<std::uint8_t> codes;
  for (const float value : values) {
    codes.push_back(quantize_code<std::uint8_t>(value, scale));
  }
  return codes;
}

}  // namespace detail

/// Builds the integer model of a float model whose tensors have the given scales.
///
/// Errors:    scales of another depth or width; whatever the builders of adapt/ refuse, such as a scale that is not
///            above 0, logits whose scale is too large for the exponential, or ratios that no dyadic scale holds.
/// Source:    docs/numerics.md, section 9.
inline integer_vit build_vit(const float_vit& model, const vit_scales& scales, const build_options& options = {}) {
  require_equal("build_vit", "number of blocks of the scales", std::ssize(scales.blocks), model.shape.depth);
  require_equal("build_vit", "number of shifts of the tokens", std::ssize(scales.tokens.shift), model.shape.width);
  const double epsilon = static_cast<double>(model.epsilon);

  vit_contents contents;
  contents.shape = model.shape;
  contents.pixel_table = detail::build_pixel_table(model, scales.input);
  contents.patch = detail::build_linear(model.patch, scales.input, scales.patch);
  contents.embed_table = detail::build_rescale_table(scales.patch, scales.embed);
  contents.class_token = detail::quantize_all(span_of(model.class_token), scales.embed);
  contents.positions = detail::quantize_all(span_of(model.positions), scales.positions);
  contents.add_positions = detail::build_residual([&](std::size_t) { return static_cast<double>(scales.embed.scale); },
                                                  scales.embed.zero_point, scales.positions, scales.tokens);

  const ptf_scale* stream = &scales.tokens;
  for (std::size_t position = 0; position < scales.blocks.size(); ++position) {
    const block_scales& block = scales.blocks[position];
    contents.blocks.push_back(
        detail::build_block(model.blocks[position], block, *stream, model.shape, epsilon, options));
    stream = &block.add2;
  }

  contents.norm = detail::build_norm(model.norm, epsilon, *stream, scales.norm);
  contents.logits_scale = static_cast<double>(scales.logits.scale) / 256;
  owned_linear head = detail::build_linear(model.head, scales.norm, code_scale{contents.logits_scale, 0});
  contents.logits_u8 = detail::build_linear(model.head, scales.norm, scales.logits).scale;
  contents.head = std::move(head.weights);
  contents.logits = std::move(head.scale);
  return integer_vit(std::move(contents));
}

}  // namespace intact::inline INTACT_ABI
