#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/scale_spec.hpp"
#include "intact/build/table.hpp"
#include "tensor.hpp"

// Integer vision transformers of random parameters for every recipe, and images for them.

namespace intact_test {

/// Every choice of attention, whether or not its parts exclude each other; the rest is the paper's.
inline std::vector<quantization_recipe> all_attention_recipes() {
  std::vector<quantization_recipe> all;
  for (const attention_kind kind : {attention_kind::log2_of_sum, attention_kind::log2_of_max, attention_kind::weights,
                                    attention_kind::weight_codes}) {
    for (const attention_code probabilities :
         {attention_code::u8_masked, attention_code::u4_clipped, attention_code::u8_full}) {
      for (const exponential_kind exponential : {exponential_kind::i_exp, exponential_kind::exact}) {
        for (const auto rounding : {log2_rounding::round_ratio, log2_rounding::round_log}) {
          for (const bool normalize : {false, true}) {
            all.push_back({.attention = kind,
                           .probabilities = probabilities,
                           .exponential = exponential,
                           .rounding = rounding,
                           .normalize_rows = normalize});
          }
        }
      }
    }
  }
  return all;
}

/// Why a recipe makes no sense: what a refusal must name, for every reason.
inline std::vector<std::string> reasons_to_refuse(const quantization_recipe& p) {
  std::vector<std::string> reasons;
  if (p.attention != attention_kind::log2_of_sum) {
    if (!p.normalize_rows) {
      reasons.push_back("choose normalize_rows = true");
    }
    if (p.exponential != exponential_kind::exact) {
      reasons.push_back("choose exponential_kind::exact");
    }
    if (p.rounding != log2_rounding::round_log) {
      reasons.push_back("choose log2_rounding::round_log");
    }
  }
  if (p.probabilities == attention_code::u8_full && p.attention != attention_kind::log2_of_sum) {
    reasons.push_back("choose attention_kind::log2_of_sum");
  }
  if (p.probabilities == attention_code::u8_full && p.normalize_rows) {
    reasons.push_back("choose normalize_rows = false");
  }
  const bool has_weights = p.attention == attention_kind::weights || p.attention == attention_kind::weight_codes;
  if (p.probabilities != attention_code::u8_masked && has_weights) {
    reasons.push_back("choose attention_code::u8_masked");
  }
  if (p.weights == weight_kind::grouped_s4 && p.weight_group < 1) {
    reasons.push_back("weight_group is");
  }
  return reasons;
}

/// The choices of attention whose parts do not exclude each other.
inline std::vector<quantization_recipe> sensible_attention_recipes() {
  std::vector<quantization_recipe> sensible = all_attention_recipes();
  std::erase_if(sensible, [](const quantization_recipe& p) { return !reasons_to_refuse(p).empty(); });
  return sensible;
}

/// A recipe in words, for messages.
inline std::string recipe_text(const quantization_recipe& p) {
  const auto number = [](const char* name, auto value) {
    return std::string(name) + " " + std::to_string(static_cast<int>(value)) + " ";
  };
  return number("attention", p.attention) + number("probabilities", p.probabilities) +
         number("exponential", p.exponential) + number("rounding", p.rounding) +
         number("normalize_rows", p.normalize_rows) + number("stream", p.stream) +
         number("pixel_codes", p.pixel_codes) + number("weights", p.weights) + number("weight_group", p.weight_group);
}

/// The parts of a random model.
struct model_recipe {
  vit_shape shape;  ///< its stream is the recipe's
  quantization_recipe parts;
  values weights = values::random;
  bool norm_pre = false;  ///< a LayerNorm before the blocks
};

/// Where the codes of a tensor shall lie: about 1 in 25 beyond two spreads, where codes of 8 bits end.
struct code_distribution {
  double middle = 0;
  double spread = 0;
};

/// Codes of the residual stream: zero point and powers of two.
struct stream_factors {
  int zero_point = 0;
  std::vector<std::uint8_t> shift;
};

/// Builds models of random weights whose codes spread over their ranges and beyond both ends.
class model_builder {
 public:
  model_builder(const model_recipe& recipe, std::uint64_t seed) : recipe_(recipe), random_(seed) {
    recipe_.shape.stream = recipe.parts.stream;
  }

  vit_tensors model();
  /// A block of `tokens` tokens; `stream` becomes that of its output.
  owned_block block(index_t tokens, stream_factors& stream);
  stream_factors first_stream();

 private:
  int integer(int low, int high) { return static_cast<int>(random_.between(low, high)); }
  double real_number(double low, double high) { return low + (high - low) * integer(0, 1 << 20) / (1 << 20); }
  int zero_point() { return integer(100, 156); }
  bool wide() const { return recipe_.parts.stream == stream_codes::s16; }
  int stream_zero_point() { return wide() ? 0 : zero_point(); }
  code_distribution u8_distribution() { return {static_cast<double>(zero_point()), 60}; }
  /// Of what is added to the stream: u8 codes, or steps of an s16 stream, which a few of them let saturate.
  code_distribution branch_distribution() { return wide() ? code_distribution{0, 5000} : u8_distribution(); }

  std::vector<std::uint8_t> bytes(index_t count);
  std::vector<std::int16_t> token_addend();
  owned_weights weights(index_t rows, index_t columns);
  owned_channel_scale scale(const owned_weights& layer, int zero_point, const code_distribution& y);
  owned_linear linear(index_t outputs, index_t inputs, int zero_point, const code_distribution& y);
  owned_layernorm layernorm(const stream_factors& stream, int output_zero_point, bool of_s16);
  owned_layernorm layernorm(const stream_factors& stream, int output_zero_point) {
    return layernorm(stream, output_zero_point, wide());
  }
  stream_factors next_stream(const stream_factors& stream);
  owned_add addition(const stream_factors& stream, const code_distribution& branch, const stream_factors& sum);
  std::vector<std::uint64_t> exponential(index_t keys);
  std::vector<std::uint8_t> softmax_table();
  owned_softmax softmax(index_t keys, int context_zero_point);
  owned_gate gate(int norm2, int activation, int gated);
  void add_qk_norms(owned_block& made, index_t head_size);
  void add_embedding(vit_tensors& made, const stream_factors& stream);
  void add_pre_norm(vit_tensors& made, stream_factors& stream);
  int add_features(vit_tensors& made, const stream_factors& stream);

  model_recipe recipe_;
  generator random_;  // drawn from in an order that the language fixes: never twice among a call's arguments
};

inline std::vector<std::uint8_t> model_builder::bytes(index_t count) {
  std::vector<std::uint8_t> made(static_cast<std::size_t>(count));
  fill(matrix_view(made.data(), 1, count), values::random, 0, 255, random_);
  return made;
}

/// One code in eight may be anything.
inline std::vector<std::int16_t> model_builder::token_addend() {
  std::vector<std::int16_t> made;
  for (index_t i = 0; i < recipe_.shape.tokens() * recipe_.shape.width; ++i) {
    const int largest = integer(0, 7) == 0 ? 32767 : 12000;
    made.push_back(static_cast<std::int16_t>(integer(-largest - 1, largest)));
  }
  return made;
}

/// Random rows differ in their magnitude, and some are 0.
inline owned_weights model_builder::weights(index_t rows, index_t columns) {
  const quantization_recipe& parts = recipe_.parts;
  const int largest = parts.weights == weight_kind::s8 ? 127 : 7;
  std::vector<std::int8_t> codes(static_cast<std::size_t>(rows * columns));
  const matrix_view all(codes.data(), rows, columns);
  for (index_t n = 0; n < rows; ++n) {
    const int magnitudes[] = {0, largest / 7, largest / 2, largest, largest, largest, largest, largest};
    const int magnitude = recipe_.weights == values::random ? magnitudes[integer(0, 7)] : largest;
    const int lowest = magnitude == largest ? -largest - 1 : -magnitude;
    fill(all.row_block(n, 1), recipe_.weights, lowest, magnitude, random_);
  }
  if (parts.weights == weight_kind::s8) {
    return {std::move(codes), rows, columns};
  }
  if (parts.weights == weight_kind::s4) {
    return owned_weights::pack_s4(codes, rows, columns);
  }
  std::vector<std::uint8_t> shifts;
  for (index_t i = 0; i < rows * ((columns + parts.weight_group - 1) / parts.weight_group); ++i) {
    shifts.push_back(static_cast<std::uint8_t>(recipe_.weights == values::random ? integer(0, 3) : 3));
  }
  return owned_weights::pack_grouped_s4(codes, rows, columns, std::move(shifts), parts.weight_group);
}

inline owned_channel_scale model_builder::scale(const owned_weights& layer, int zero_point,
                                                const code_distribution& y) {
  std::vector<scale_spec> specs;
  for (index_t n = 0; n < layer.rows; ++n) {
    double squares = 0;
    for (const int w : layer.row(n)) {
      squares += w * w;
    }
    const double factor = real_number(0.5, 1.5) * y.spread / (60 * std::sqrt(std::max(squares, 100.0)));
    const double addend = y.middle + real_number(-0.5, 0.5) * y.spread;
    specs.push_back(linear_spec<std::uint8_t>(
        {.weights = layer.row(n), .factor = factor, .addend = addend, .zero_point = zero_point}));
  }
  return owned_channel_scale(specs);
}

inline owned_linear model_builder::linear(index_t outputs, index_t inputs, int zero_point, const code_distribution& y) {
  owned_weights layer = weights(outputs, inputs);
  owned_channel_scale of_layer = scale(layer, zero_point, y);
  return {std::move(layer), std::move(of_layer)};
}

inline owned_layernorm model_builder::layernorm(const stream_factors& stream, int output_zero_point, bool of_s16) {
  std::vector<float> gamma, beta;
  for (std::size_t c = 0; c < stream.shift.size(); ++c) {
    gamma.push_back(static_cast<float>(integer(0, 9) == 0 ? 0 : real_number(-1.5, 1.5)));
    beta.push_back(static_cast<float>(real_number(-0.5, 0.5)));
  }
  return owned_layernorm(layernorm_spec{.gamma = gamma,
                                        .beta = beta,
                                        .epsilon = integer(0, 3) == 0 ? 1.0 : 1e-6,
                                        .input_scale = real_number(0.005, 0.02) / (of_s16 ? 256 : 1),
                                        .input_zero_point = stream.zero_point,
                                        .shift = stream.shift,
                                        .output_scale = 1.0 / 60,
                                        .output_zero_point = output_zero_point},
                         recipe_.shape.norm);
}

inline stream_factors model_builder::first_stream() {
  stream_factors stream{stream_zero_point(), {}};
  for (index_t c = 0; c < recipe_.shape.width; ++c) {
    stream.shift.push_back(static_cast<std::uint8_t>(integer(0, layernorm_max_shift)));
  }
  return stream;
}

/// A channel's factor is doubled, halved or kept.
inline stream_factors model_builder::next_stream(const stream_factors& stream) {
  stream_factors next{stream_zero_point(), stream.shift};
  for (std::uint8_t& shift : next.shift) {
    shift = static_cast<std::uint8_t>(std::clamp(shift + integer(-1, 1), 0, layernorm_max_shift));
  }
  return next;
}

inline owned_add model_builder::addition(const stream_factors& stream, const code_distribution& branch,
                                         const stream_factors& sum) {
  if (wide()) {
    return {};
  }
  std::vector<add_spec> specs;
  for (std::size_t c = 0; c < sum.shift.size(); ++c) {
    const double kept = std::ldexp(real_number(0.6, 1.0), stream.shift[c] - sum.shift[c]);
    specs.push_back({kept, real_number(0.2, 1.2)});
  }
  return owned_add(specs, {stream.zero_point, static_cast<int>(branch.middle), sum.zero_point});
}

inline std::vector<std::uint64_t> model_builder::exponential(index_t keys) {
  const double scale = real_number(0.03, 0.4);
  if (recipe_.parts.exponential == exponential_kind::i_exp) {
    const exp_values<std::uint64_t> table = i_exp_table(static_cast<float>(scale), keys);
    return {table.begin(), table.end()};
  }
  const exp_values<std::uint32_t> table = exact_exp_table(scale, keys);
  return {table.begin(), table.end()};
}

/// Every other table has random entries, the first among them at times: rows may weigh nothing at all then.
inline std::vector<std::uint8_t> model_builder::softmax_table() {
  const double scale = real_number(0.03, 0.4);
  const quantization_recipe& parts = recipe_.parts;
  const bool of_weights = parts.attention == attention_kind::weights,
             of_codes = parts.attention == attention_kind::weight_codes,
             clipped = of_codes || parts.probabilities == attention_code::u4_clipped;
  const exp_values<std::uint8_t> made = of_weights ? attention_weight_table(scale)
                                        : of_codes ? weight_code_table(scale, geometric_code_weights)
                                        : clipped  ? max_relative_code_table<attention_code::u4_clipped>(scale)
                                                   : max_relative_code_table<attention_code::u8_masked>(scale);
  std::vector<std::uint8_t> table(made.begin(), made.end());
  const int largest = of_weights ? 255 : clipped ? 15 : 40;
  for (int change = integer(0, 1) * 20; change > 0; --change) {
    table[static_cast<std::size_t>(integer(0, 63))] = static_cast<std::uint8_t>(integer(0, largest));
  }
  if (integer(0, 5) == 0) {
    table[0] = of_weights ? 0 : clipped ? 15 : 255;
  }
  return table;
}

inline owned_softmax model_builder::softmax(index_t keys, int context_zero_point) {
  const quantization_recipe& parts = recipe_.parts;
  owned_softmax made;
  made.kind = parts.attention;
  made.probabilities = parts.probabilities;
  made.rounding = parts.rounding;
  if (made.kind == attention_kind::log2_of_sum) {
    made.exponential = exponential(keys);
  } else {
    made.table = softmax_table();
  }
  if (made.kind == attention_kind::weight_codes) {
    made.code_weights.assign(geometric_code_weights.begin(), geometric_code_weights.end());
    for (int change = integer(0, 1) * 10; change > 0; --change) {
      made.code_weights[static_cast<std::size_t>(integer(0, 14))] = static_cast<std::uint8_t>(integer(0, 255));
    }
  }
  made.normalize = parts.normalize_rows;
  const double ratio = real_number(0.7, 2.5);
  if (made.normalize) {
    made.normalization = build_row_divisor(ratio, context_zero_point);
  } else {
    made.context = owned_tensor_scale(attention_context_spec(ratio, context_zero_point, keys));
  }
  return made;
}

/// The layer that a gate multiplies, by the zero points of its inputs, of the gate and of the products.
inline owned_gate model_builder::gate(int norm2, int activation, int gated) {
  owned_gate made;
  made.activation_zero_point = activation;
  made.up_zero_point = zero_point();
  made.up = linear(recipe_.shape.hidden, recipe_.shape.width, norm2, {static_cast<double>(made.up_zero_point), 60});
  const double factor = real_number(0.5, 1.5) * 60 / (74 * 60);  // bytes deviate by 74
  made.product = owned_tensor_scale(multiply_spec(factor, activation, made.up_zero_point, gated));
  return made;
}

/// Norms of queries and keys, after which these have zero points of their own.
inline void model_builder::add_qk_norms(owned_block& made, index_t head_size) {
  const stream_factors codes{made.qkv_zero_point, std::vector<std::uint8_t>(static_cast<std::size_t>(head_size))};
  made.v_zero_point = made.qkv_zero_point;
  made.qkv_zero_point = zero_point();
  made.k_zero_point = zero_point();
  owned_qk_norms& norms = made.qk_norms.emplace();
  norms.q = layernorm(codes, made.qkv_zero_point, false);
  norms.k = layernorm(codes, *made.k_zero_point, false);
}

inline owned_block model_builder::block(index_t tokens, stream_factors& stream) {
  const index_t width = recipe_.shape.width, hidden = recipe_.shape.hidden;
  const index_t head_size = width / recipe_.shape.heads;
  const stream_factors middle = next_stream(stream), last = next_stream(middle);
  const int norm1 = zero_point(), norm2 = zero_point(), context = zero_point(), activation = zero_point();
  const code_distribution proj = branch_distribution(), fc2 = branch_distribution();

  owned_block made;
  made.norm1 = layernorm(stream, norm1);
  made.qkv_zero_point = zero_point();
  made.qkv = linear(3 * width, width, norm1, {static_cast<double>(made.qkv_zero_point), 60});
  if (recipe_.shape.qk_norm) {
    add_qk_norms(made, head_size);
  }
  const double logits_factor = real_number(0.5, 1.5) / (60 * std::sqrt(static_cast<double>(head_size)));
  made.attention_logits = owned_tensor_scale(attention_logits_spec(logits_factor, zero_point(), head_size));
  made.softmax = softmax(tokens, context);
  made.proj = linear(width, width, context, proj);
  made.add1 = addition(stream, proj, middle);
  made.norm2 = layernorm(middle, norm2);
  made.fc1 = linear(hidden, width, norm2, {real_number(1500, 2500), 1000});
  made.activation = bytes(activation_table_size_12);
  const int gated = recipe_.shape.gated ? zero_point() : activation;
  if (recipe_.shape.gated) {
    made.gate = gate(norm2, activation, gated);
  }
  made.fc2 = linear(width, hidden, gated, fc2);
  made.add2 = addition(middle, fc2, last);
  stream = last;
  return made;
}

/// Patches, class token and positions.
inline void model_builder::add_embedding(vit_tensors& made, const stream_factors& stream) {
  const vit_shape& shape = recipe_.shape;
  const int input = recipe_.parts.pixel_codes ? 0 : zero_point();
  const code_distribution patch = branch_distribution();
  if (!recipe_.parts.pixel_codes) {
    made.pixel_table = bytes(shape.channels * 256);
  }
  made.patch = linear(shape.width, shape.patch_values(), input, patch);
  if (wide()) {
    made.token_addend = token_addend();
    return;
  }
  const code_distribution embed = u8_distribution(), positions = u8_distribution();
  made.embed_table = bytes(256);
  made.class_token = bytes(shape.prefix_tokens() * shape.width);
  made.positions = bytes(shape.tokens() * shape.width);
  const stream_factors unshifted{static_cast<int>(embed.middle), std::vector<std::uint8_t>(stream.shift.size(), 1)};
  made.add_positions = addition(unshifted, positions, stream);
}

/// The LayerNorm before the blocks; `stream` becomes that of its output.
inline void model_builder::add_pre_norm(vit_tensors& made, stream_factors& stream) {
  owned_pre_norm& norm_pre = made.norm_pre.emplace();
  const int output = zero_point();
  norm_pre.norm = layernorm(stream, output);
  stream = next_stream(stream);
  if (!wide()) {
    stream.zero_point = output;
    return;
  }
  std::vector<scale_spec> specs;
  for (std::size_t c = 0; c < stream.shift.size(); ++c) {
    specs.push_back(convert_codes_spec(real_number(20, 300), output, 0));
  }
  norm_pre.stream = owned_channel_scale(specs);
}

/// The final LayerNorm, and the mean if the features have one. Returns the zero point of the features.
inline int model_builder::add_features(vit_tensors& made, const stream_factors& stream) {
  const vit_shape& shape = recipe_.shape;
  const int norm = zero_point();
  if (shape.pooling != vit_pooling::normalized_mean) {
    made.norm = layernorm(stream, norm);
    if (!shape.pools_normalized()) {
      return norm;
    }
    const int mean = shape.class_features() == 0 ? zero_point() : norm;
    const double ratio = shape.class_features() == 0 ? real_number(1, 3) : 1;
    made.mean = owned_tensor_scale(average_pool_spec(ratio, norm, mean, shape.patches()));
    return mean;
  }
  std::vector<scale_spec> specs;
  for (const std::uint8_t shift : stream.shift) {
    specs.push_back(
        wide() ? average_pool_s16_spec(real_number(1, 4), shape.patches())
               : average_pool_spec(std::ldexp(real_number(20, 150), shift), stream.zero_point, 0, shape.patches()));
  }
  made.mean = owned_channel_scale(specs);
  made.norm = layernorm({0, std::vector<std::uint8_t>(stream.shift.size())}, norm, true);
  return norm;
}

inline vit_tensors model_builder::model() {
  const vit_shape& shape = recipe_.shape;
  stream_factors stream = first_stream();

  vit_tensors made;
  made.shape = shape;
  add_embedding(made, stream);
  if (recipe_.norm_pre) {
    add_pre_norm(made, stream);
  }
  for (index_t position = 0; position < shape.depth; ++position) {
    made.blocks.push_back(block(shape.tokens(), stream));
  }
  const int features = add_features(made, stream);
  made.head = weights(shape.classes, shape.head_features());
  made.logits = scale(made.head, features, {0, 256 * 60});
  made.logits_u8 = scale(made.head, features, u8_distribution());
  return made;
}

/// An image that owns its samples.
struct owned_image {
  std::vector<std::uint8_t> samples;
  image_view view;

  owned_image(const vit_shape& shape, values what, bool interleaved, generator& random)
      : samples(static_cast<std::size_t>(shape.channels * shape.height * shape.image_width)) {
    fill(matrix_view(samples.data(), 1, std::ssize(samples)), what, 0, 255, random);
    view = interleaved ? interleaved_image(samples.data(), shape.channels, shape.height, shape.image_width)
                       : planar_image(samples.data(), shape.channels, shape.height, shape.image_width);
  }
  owned_image(owned_image&&) = default;
};

/// A black, a white and a few random images, planar and interleaved.
inline std::vector<owned_image> make_images(const vit_shape& shape, int random_images) {
  generator random(5);
  std::vector<owned_image> images;
  images.emplace_back(shape, values::smallest, false, random);
  images.emplace_back(shape, values::largest, true, random);
  for (int i = 0; i < random_images; ++i) {
    images.emplace_back(shape, values::random, i % 2 != 0, random);
  }
  return images;
}

}  // namespace intact_test
