#pragma once

#include <cmath>
#include <iterator>
#include <span>
#include <string>

#include "intact/build/activation_function.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/block.hpp"

// A float transformer block in memory of the caller: the input of the builder in block.hpp. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// A fully connected layer: y = x * weight^T + bias, one row of weights per output channel.
struct float_linear_view {
  matrix_view<const float> weight;  ///< N x K
  std::span<const float> bias;      ///< N; empty: none
};

/// LayerNorm, y = (x - mean) / sqrt(variance + epsilon) * weight + bias, per row; or RMSNorm,
/// y = x / sqrt(mean square + epsilon) * weight + bias.
struct float_layernorm_view {
  std::span<const float> weight;  ///< gamma, one per channel
  std::span<const float> bias;    ///< of RMSNorm it may be empty: all are 0
};

/// A pre-norm transformer block: x <- x + proj(attention(norm1(x)));  x <- x + fc2(f(fc1(norm2(x)))), f the activation.
/// With a gate (shape.gated; SwiGLU, GeGLU): x <- x + fc2(f(fc1(norm2(x))) * up(norm2(x))). With norms of queries and
/// keys (shape.attention.qk_norm) q_norm is applied to the queries of each head and k_norm to its keys.
///
/// Shapes:    C = shape.attention.width, H = shape.hidden, d = C / heads: norm1 and norm2 C, of the kind shape.norm;
///            qkv 3C x C, the rows of q, then k, then v, each head after head; proj C x C; fc1 H x C; fc2 C x H; up
///            H x C, without a gate none; q_norm and k_norm d, of the kind shape.attention.qk_norm, without norms none.
struct float_block_view {
  block_shape shape;           ///< sizes, kind of norms, gate
  float_layernorm_view norm1;  ///< before attention
  /// The layers before and after attention.
  float_linear_view qkv, proj;
  float_layernorm_view norm2;  ///< before the perceptron
  /// The perceptron's layers.
  float_linear_view fc1, fc2;
  float_linear_view up = {};  ///< the layer that the gate multiplies
  /// The norms of queries and keys, if there are any.
  float_layernorm_view q_norm = {}, k_norm = {};
  float epsilon = 1e-6F;                                       ///< of all norms
  index_t position = -1;                                       ///< of the block in its model, for messages; -1: none
  activation_function activation = activation_function::gelu;  ///< between fc1 and fc2
};

namespace detail {

/// Checks the sizes and the values of a block. Messages name the block and the tensor.
class float_block_check {
 public:
  float_block_check(const char* operation, const float_block_view& block)
      : operation_(operation), position_(block.position) {
    const attention_shape& attention = block.shape.attention;
    const index_t width = attention.width, hidden = block.shape.hidden;
    size("shape.attention.tokens", attention.tokens);
    size("shape.attention.width", width);
    size("shape.attention.heads", attention.heads);
    size("shape.hidden", hidden);
    require_equal(operation_, block_text("shape.attention.width % heads").c_str(), width % attention.heads, 0);
    if (!(block.epsilon >= 0) || !std::isfinite(block.epsilon)) {
      contract_failed("intact::%s: %s is %g; it must be finite and at least 0", operation_,
                      block_text("epsilon").c_str(), static_cast<double>(block.epsilon));
    }
    norm("norm1", block.norm1, width, block.shape.norm);
    linear("qkv", block.qkv, size_product(3, width), width);
    linear("proj", block.proj, width, width);
    norm("norm2", block.norm2, width, block.shape.norm);
    linear("fc1", block.fc1, hidden, width);
    linear("fc2", block.fc2, width, hidden);
    if (block.shape.gated) {
      linear("up", block.up, hidden, width);
    } else if (block.up.weight.rows != 0) [[unlikely]] {
      contract_failed("intact::%s: %s is %td x %td; the shape calls for no gate", operation_,
                      tensor_place{"up.weight", position_}.text().c_str(), block.up.weight.rows,
                      block.up.weight.columns);
    }
    of_heads("q_norm", block.q_norm, attention);
    of_heads("k_norm", block.k_norm, attention);
    if (attention.rotary_prefix) [[unlikely]] {
      contract_failed("intact::%s: %s is %td; blocks are built without rotary positions", operation_,
                      block_text("shape.attention.rotary_prefix").c_str(), *attention.rotary_prefix);
    }
  }

 private:
  std::string block_text(const std::string& argument) const {
    return position_ < 0 ? argument : argument + " of block " + std::to_string(position_);
  }

  void size(const char* argument, index_t size) const {
    require_at_least(operation_, block_text(argument).c_str(), size, 1);
  }

  void row(const std::string& tensor, std::span<const float> values, index_t size) const {
    const std::string place = tensor_place{tensor, position_}.text();
    require_equal(operation_, ("size of " + place).c_str(), std::ssize(values), size);
    require_finite(operation_, place.c_str(), {values.data(), 1, size});
  }

  void norm(const std::string& name, const float_layernorm_view& norm, index_t channels, normalization kind) const {
    row(name + ".weight", norm.weight, channels);
    if (kind == normalization::layernorm || !norm.bias.empty()) {
      row(name + ".bias", norm.bias, channels);
    }
  }

  /// A norm of the queries or the keys of each head.
  void of_heads(const std::string& name, const float_layernorm_view& given, const attention_shape& shape) const {
    if (shape.qk_norm) {
      norm(name, given, shape.head_size(), *shape.qk_norm);
    } else {
      row(name + ".weight", given.weight, 0);
      row(name + ".bias", given.bias, 0);
    }
  }

  void linear(const std::string& name, const float_linear_view& layer, index_t outputs, index_t inputs) const {
    const std::string place = tensor_place{name + ".weight", position_}.text();
    require_shape(operation_, place.c_str(), layer.weight, outputs, inputs);
    require_finite(operation_, place.c_str(), layer.weight);
    row(name + ".bias", layer.bias, outputs);
  }

  const char* operation_;
  index_t position_;
};

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
