#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "intact/adapt/integer_vit.hpp"
#include "tensor.hpp"

// Integer vision transformers of random parameters, and images for them.

namespace intact_test {

/// What a random model is made of.
struct model_recipe {
  vit_shape shape;
  tail probabilities = tail::zero;
  bool i_exp = false;
  values weights = values::random;
};

/// Where the codes of a tensor shall lie: about 1 in 25 beyond two spreads, where codes of 8 bits end.
struct code_distribution {
  double middle = 0;
  double spread = 0;
};

/// Power-of-two-factor codes of the residual stream.
struct stream_codes {
  int zero_point = 0;
  std::vector<std::uint8_t> shift;
};

/// Builds models of random weights whose codes spread over their ranges and beyond both ends.
class model_builder {
 public:
  model_builder(const model_recipe& recipe, std::uint64_t seed) : recipe_(recipe), random_(seed) {}

  vit_contents model();
  /// A block of `tokens` tokens; `stream` becomes that of its output.
  owned_block block(index tokens, stream_codes& stream);
  stream_codes first_stream();

 private:
  int integer(int low, int high) { return static_cast<int>(random_.between(low, high)); }
  double real_number(double low, double high) { return low + (high - low) * integer(0, 1 << 20) / (1 << 20); }
  int zero_point() { return integer(100, 156); }
  code_distribution u8_distribution() { return {static_cast<double>(zero_point()), 60}; }

  std::vector<std::uint8_t> bytes(index count);
  owned_weights weights(index rows, index columns);
  owned_channel_scale scale(const owned_weights& layer, int zero_point, const code_distribution& y);
  owned_linear linear(index outputs, index inputs, int zero_point, const code_distribution& y);
  owned_layernorm layernorm(const stream_codes& stream, int output_zero_point);
  stream_codes next_stream(const stream_codes& stream);
  owned_add addition(const stream_codes& stream, const code_distribution& branch, const stream_codes& sum);
  exp_values<std::uint64_t> exponential(index keys);

  model_recipe recipe_;
  generator random_;  // drawn from in an order that the language fixes: never twice among a call's arguments
};

inline std::vector<std::uint8_t> model_builder::bytes(index count) {
  std::vector<std::uint8_t> made(static_cast<std::size_t>(count));
  fill(matrix_view(made.data(), 1, count), values::random, 0, 255, random_);
  return made;
}

/// Random rows differ in their magnitude, and some are 0.
inline owned_weights model_builder::weights(index rows, index columns) {
  owned_weights made{std::vector<std::int8_t>(static_cast<std::size_t>(rows * columns)), rows, columns};
  const matrix_view all(made.codes.data(), rows, columns);
  if (recipe_.weights != values::random) {
    fill(all, recipe_.weights, -128, 127, random_);
    return made;
  }
  for (index n = 0; n < rows; ++n) {
    const int magnitudes[] = {0, 5, 50, 127, 127, 127, 127, 127};
    const int magnitude = magnitudes[integer(0, 7)];
    fill(all.row_block(n, 1), values::random, -magnitude, magnitude, random_);
  }
  return made;
}

inline owned_channel_scale model_builder::scale(const owned_weights& layer, int zero_point,
                                                const code_distribution& y) {
  std::vector<scale_target> targets;
  for (index n = 0; n < layer.rows; ++n) {
    double squares = 0;
    for (const int w : layer.row(n)) {
      squares += w * w;
    }
    const double factor = real_number(0.5, 1.5) * y.spread / (60 * std::sqrt(std::max(squares, 100.0)));
    const double addend = y.middle + real_number(-0.5, 0.5) * y.spread;
    targets.push_back(linear_target(layer.row(n), factor, addend, zero_point));
  }
  return owned_channel_scale(targets);
}

inline owned_linear model_builder::linear(index outputs, index inputs, int zero_point, const code_distribution& y) {
  owned_weights layer = weights(outputs, inputs);
  owned_channel_scale of_layer = scale(layer, zero_point, y);
  return {std::move(layer), std::move(of_layer)};
}

inline owned_layernorm model_builder::layernorm(const stream_codes& stream, int output_zero_point) {
  std::vector<float> gamma, beta;
  for (std::size_t c = 0; c < stream.shift.size(); ++c) {
    gamma.push_back(static_cast<float>(integer(0, 9) == 0 ? 0 : real_number(-1.5, 1.5)));
    beta.push_back(static_cast<float>(real_number(-0.5, 0.5)));
  }
  return owned_layernorm(layernorm_target{.gamma = gamma,
                                          .beta = beta,
                                          .epsilon = integer(0, 3) == 0 ? 1.0 : 1e-6,
                                          .input_scale = real_number(0.005, 0.02),
                                          .input_zero_point = stream.zero_point,
                                          .shift = stream.shift,
                                          .output_scale = 1.0 / 60,
                                          .output_zero_point = output_zero_point});
}

inline stream_codes model_builder::first_stream() {
  stream_codes stream{zero_point(), {}};
  for (index c = 0; c < recipe_.shape.width; ++c) {
    stream.shift.push_back(static_cast<std::uint8_t>(integer(0, layernorm_max_shift)));
  }
  return stream;
}

/// A channel's factor is doubled, halved or kept.
inline stream_codes model_builder::next_stream(const stream_codes& stream) {
  stream_codes next{zero_point(), stream.shift};
  for (std::uint8_t& shift : next.shift) {
    shift = static_cast<std::uint8_t>(std::clamp(shift + integer(-1, 1), 0, layernorm_max_shift));
  }
  return next;
}

inline owned_add model_builder::addition(const stream_codes& stream, const code_distribution& branch,
                                         const stream_codes& sum) {
  std::vector<add_target> targets;
  for (std::size_t c = 0; c < sum.shift.size(); ++c) {
    const double kept = std::ldexp(real_number(0.6, 1.0), stream.shift[c] - sum.shift[c]);
    targets.push_back({kept, real_number(0.2, 1.2)});
  }
  return owned_add(targets, {stream.zero_point, static_cast<int>(branch.middle), sum.zero_point});
}

inline exp_values<std::uint64_t> model_builder::exponential(index keys) {
  const double scale = real_number(0.03, 0.4);
  if (recipe_.i_exp) {
    return i_exp_table(static_cast<float>(scale), keys);
  }
  const exp_values<std::uint32_t> narrow = exact_exp_table(scale, keys);
  exp_values<std::uint64_t> table;
  std::copy(narrow.begin(), narrow.end(), table.begin());
  return table;
}

inline owned_block model_builder::block(index tokens, stream_codes& stream) {
  const index width = recipe_.shape.width, hidden = recipe_.shape.hidden;
  const index head_size = width / recipe_.shape.heads;
  const stream_codes middle = next_stream(stream), last = next_stream(middle);
  const int norm1 = zero_point(), norm2 = zero_point(), context = zero_point(), activation = zero_point();
  const code_distribution proj = u8_distribution(), fc2 = u8_distribution();

  owned_block made;
  made.norm1 = layernorm(stream, norm1);
  made.qkv_zero_point = zero_point();
  made.qkv = linear(3 * width, width, norm1, {static_cast<double>(made.qkv_zero_point), 60});
  const double logits_factor = real_number(0.5, 1.5) / (60 * std::sqrt(static_cast<double>(head_size)));
  made.attention_logits = owned_tensor_scale(attention_logits_target(logits_factor, zero_point(), head_size));
  made.exponential = exponential(tokens);
  made.probabilities = recipe_.probabilities;
  made.context = owned_tensor_scale(attention_context_target(real_number(0.7, 2.5), context, tokens));
  made.proj = linear(width, width, context, proj);
  made.add1 = addition(stream, proj, middle);
  made.norm2 = layernorm(middle, norm2);
  made.fc1 = linear(hidden, width, norm2, {real_number(1500, 2500), 1000});
  made.activation = bytes(activation_table_size_12);
  made.fc2 = linear(width, hidden, activation, fc2);
  made.add2 = addition(middle, fc2, last);
  stream = last;
  return made;
}

inline vit_contents model_builder::model() {
  const vit_shape& shape = recipe_.shape;
  const int input = zero_point();
  const code_distribution patch = u8_distribution(), embed = u8_distribution(), positions = u8_distribution();
  stream_codes stream = first_stream();

  vit_contents made;
  made.shape = shape;
  made.pixel_table = bytes(shape.channels * 256);
  made.patch = linear(shape.width, shape.patch_samples(), input, patch);
  made.embed_table = bytes(256);
  made.class_token = bytes(shape.width);
  made.positions = bytes(shape.tokens() * shape.width);
  const stream_codes unshifted{static_cast<int>(embed.middle), std::vector<std::uint8_t>(stream.shift.size(), 1)};
  made.add_positions = addition(unshifted, positions, stream);
  for (index position = 0; position < shape.depth; ++position) {
    made.blocks.push_back(block(shape.tokens(), stream));
  }
  const int norm = zero_point();
  made.norm = layernorm(stream, norm);
  made.head = weights(shape.classes, shape.width);
  made.logits = scale(made.head, norm, {0, 256 * 60});
  made.logits_u8 = scale(made.head, norm, u8_distribution());
  return made;
}

/// An image that owns its samples.
struct owned_image {
  std::vector<std::uint8_t> samples;
  image_view view;

  owned_image(const vit_shape& shape, values what, bool interleaved, generator& random)
      : samples(static_cast<std::size_t>(shape.channels * shape.height * shape.width_pixels)) {
    fill(matrix_view(samples.data(), 1, std::ssize(samples)), what, 0, 255, random);
    view = interleaved ? interleaved_image(samples.data(), shape.channels, shape.height, shape.width_pixels)
                       : planar_image(samples.data(), shape.channels, shape.height, shape.width_pixels);
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
