#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "intact/build/activation_function.hpp"
#include "intact/build/float_block.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/im2col.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/reference/model/trace.hpp"

// Layers and inference shared by the float models that calibration runs.

namespace intact {
inline namespace INTACT_UNIT {

/// A fully connected layer: y = x * weight^T + bias, one row of weights per output channel.
struct float_linear {
  float_matrix weight;  ///< N x K
  float_row bias;       ///< N; empty: none
};

/// LayerNorm, y = (x - mean) / sqrt(variance + epsilon) * weight + bias, per row; or RMSNorm,
/// y = x / sqrt(mean square + epsilon) * weight + bias.
struct float_layernorm {
  float_row weight;  ///< gamma, one per channel
  float_row bias;    ///< beta, one per channel
};

/// A pre-norm transformer block: x <- x + proj(attention(norm1(x)));  x <- x + fc2(f(fc1(norm2(x)))). With a gate:
/// x <- x + fc2(f(fc1(norm2(x))) * up(norm2(x))). With norms of queries and keys, each head's are normalized by q_norm
/// and k_norm.
struct float_block {
  float_layernorm norm1;                                       ///< before attention
  float_linear qkv;                                            ///< to queries, keys and values
  float_linear proj;                                           ///< after attention
  float_layernorm norm2;                                       ///< before the perceptron
  float_linear fc1;                                            ///< the perceptron's first layer
  float_linear fc2;                                            ///< the perceptron's second layer
  activation_function activation = activation_function::gelu;  ///< f
  float_linear up = {};                                        ///< only with a gate
  /// Only with norms of queries and keys.
  float_layernorm q_norm = {}, k_norm = {};
};

/// Views of layers and blocks. A block's position in its model is for messages.
inline float_linear_view view_of(const float_linear& layer) {
  return {view_of(layer.weight), span_of(layer.bias)};
}
/// A view, which must not outlive the argument.
inline float_layernorm_view view_of(const float_layernorm& norm) {
  return {span_of(norm.weight), span_of(norm.bias)};
}
/// The same of a block.
inline float_block_view view_of(const float_block& block, const block_shape& shape, float epsilon, index_t position) {
  return {.shape = shape,
          .norm1 = view_of(block.norm1),
          .qkv = view_of(block.qkv),
          .proj = view_of(block.proj),
          .norm2 = view_of(block.norm2),
          .fc1 = view_of(block.fc1),
          .fc2 = view_of(block.fc2),
          .up = view_of(block.up),
          .q_norm = view_of(block.q_norm),
          .k_norm = view_of(block.k_norm),
          .epsilon = epsilon,
          .position = position,
          .activation = block.activation};
}

/// How pixels become inputs.
struct pixel_normalization {
  float pixel_max = 255;                  ///< the pixel whose value is 1
  std::vector<float> mean;                ///< per channel, of pixels from 0 to 1
  std::vector<float> standard_deviation;  ///< per channel

  /// The input that a pixel makes, (pixel / pixel_max - mean) / standard_deviation, every operation rounded to float.
  float normalize(int pixel, index_t channel) const {
    const std::size_t c = static_cast<std::size_t>(channel);
    return (static_cast<float>(pixel) / pixel_max - mean[c]) / standard_deviation[c];
  }
};

namespace detail {

inline float_matrix apply(const float_linear& layer, const float_matrix& x) {
  float_matrix y(x.rows(), layer.weight.rows());
  y.noalias() = x * layer.weight.transpose();
  y.rowwise() += layer.bias;
  return y;
}

inline float_matrix apply(const float_layernorm& norm, const float_matrix& x, float epsilon,
                          normalization kind = normalization::layernorm) {
  float_matrix y = x;
  for (index_t i = 0; i < x.rows(); ++i) {
    if (kind == normalization::layernorm) {
      y.row(i) = x.row(i).array() - x.row(i).mean();
    }
    const float mean_square = y.row(i).squaredNorm() / static_cast<float>(x.cols());
    y.row(i) = y.row(i).array() / std::sqrt(mean_square + epsilon) * norm.weight.array() + norm.bias.array();
  }
  return y;
}

/// Norms of the queries and of the keys of each head, in place on queries, keys and values.
template <class Recorder>
void float_qk_norms(const float_block& block, const attention_shape& shape, float epsilon, index_t position,
                    float_matrix& qkv, Recorder& record) {
  const index_t size = shape.head_size();
  for (const index_t part : {0, 1}) {
    float_matrix all = qkv.middleCols(part * shape.width, shape.width);
    for (index_t head = 0; head < shape.heads; ++head) {
      all.middleCols(head * size, size) =
          apply(part == 0 ? block.q_norm : block.k_norm, all.middleCols(head * size, size), epsilon, *shape.qk_norm);
    }
    record(part == 0 ? trace_site{"q_norm", position} : trace_site{"k_norm", position}, all);
    qkv.middleCols(part * shape.width, shape.width) = all;
  }
}

inline void softmax_rows(float_matrix& x) {
  for (index_t i = 0; i < x.rows(); ++i) {
    x.row(i) = (x.row(i).array() - x.row(i).maxCoeff()).exp();
    x.row(i) /= x.row(i).sum();
  }
}

/// GELU in float, the others in double.
inline void apply(activation_function function, float_matrix& x) {
  const float root_half = std::sqrt(0.5f);
  if (function == activation_function::gelu) {
    x = x.unaryExpr([=](float value) { return 0.5f * value * (1 + std::erf(value * root_half)); });
  } else {
    x = x.unaryExpr([=](float value) { return static_cast<float>(activate(function, static_cast<double>(value))); });
  }
}

/// Normalized pixels, one row per patch.
template <class Model>
float_matrix float_input(const Model& model, const image_view& image) {
  const auto& shape = model.shape;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(shape.patches() * shape.patch_values()));
  const matrix_view<std::uint8_t> patches(pixels.data(), shape.patches(), shape.patch_values());
  im2col(image, shape.patch, patches);
  float_matrix input(patches.rows, patches.columns);
  for (index_t i = 0; i < patches.rows; ++i) {
    for (index_t k = 0; k < patches.columns; ++k) {
      input(i, k) = model.normalize(patches(i, k), k / patch_size(shape.patch).samples());
    }
  }
  return input;
}

/// The second half of a block, in place on the residual stream: x <- x + fc2(f(fc1(norm2(x)))), or that of a gate.
template <class Recorder>
void float_mlp_half(const float_block& block, const block_shape& shape, float epsilon, index_t position,
                    float_matrix& stream, Recorder& record) {
  const auto show = [&](traced_tensor name, float_matrix& tensor) { record(trace_site{name, position}, tensor); };
  float_matrix normalized = apply(block.norm2, stream, epsilon, shape.norm);
  show("norm2", normalized);
  float_matrix x = apply(block.fc1, normalized);
  show("fc1", x);
  apply(block.activation, x);
  show("activation", x);
  if (shape.gated) {
    float_matrix up = apply(block.up, normalized);
    show("up", up);
    x.array() *= up.array();
    show("gated", x);
  }
  x = apply(block.fc2, x);
  show("fc2", x);
  stream += x;
  show("add2", stream);
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
