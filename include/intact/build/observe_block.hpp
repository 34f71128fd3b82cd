#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <vector>

#include "intact/build/activation_function.hpp"
#include "intact/build/block_ranges.hpp"
#include "intact/build/float_block.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/config/floating_point.hpp"

// The ranges of a block's tensors, from a float block that runs in plain loops. Standard library only; quantize/
// observes whole models.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// A float matrix that owns its elements.
class float_tensor {
 public:
  float_tensor(index_t rows, index_t columns)
      : values_(static_cast<std::size_t>(rows * columns)), rows_(rows), columns_(columns) {}

  float* row(index_t i) { return values_.data() + i * columns_; }
  const float* row(index_t i) const { return values_.data() + i * columns_; }
  index_t rows() const { return rows_; }
  index_t columns() const { return columns_; }
  matrix_view<const float> view() const { return {values_.data(), rows_, columns_}; }
  std::vector<float>& values() { return values_; }

 private:
  std::vector<float> values_;
  index_t rows_, columns_;
};

inline float_tensor apply(const float_linear_view& layer, const float_tensor& x) {
  float_tensor y(x.rows(), layer.weight.rows);
  for (index_t i = 0; i < y.rows(); ++i) {
    for (index_t n = 0; n < y.columns(); ++n) {
      const float* const weight = layer.weight.data + n * layer.weight.stride;
      y.row(i)[n] =
          std::inner_product(weight, weight + x.columns(), x.row(i), 0.0F) + layer.bias[static_cast<std::size_t>(n)];
    }
  }
  return y;
}

inline float_tensor apply(const float_layernorm_view& norm, matrix_view<const float> x, normalization kind,
                          float epsilon) {
  float_tensor y(x.rows, x.columns);
  const float count = static_cast<float>(x.columns);
  for (index_t i = 0; i < x.rows; ++i) {
    float* const row = y.row(i);
    std::copy_n(&x(i, 0), x.columns, row);
    if (kind == normalization::layernorm) {
      const float mean = std::accumulate(row, row + x.columns, 0.0F) / count;
      std::for_each(row, row + x.columns, [=](float& value) { value -= mean; });
    }
    const float mean_square = std::inner_product(row, row + x.columns, row, 0.0F) / count;
    const float divisor = std::sqrt(mean_square + epsilon);
    for (std::size_t c = 0; c < norm.weight.size(); ++c) {
      row[c] = row[c] / divisor * norm.weight[c] + (norm.bias.empty() ? 0 : norm.bias[c]);
    }
  }
  return y;
}

/// Runs a block and records the range of each tensor.
class block_observer {
 public:
  block_observer(const float_block_view& block, matrix_view<float> stream) : block_(block), stream_(stream) {}

  block_ranges operator()() {
    ranges_.stream = channel_ranges("stream");
    float_tensor x = apply(block_.norm1, stream_, block_.shape.norm, block_.epsilon);
    ranges_.norm1 = range("norm1", x.view());
    x = apply(block_.qkv, x);
    ranges_.qkv = range("qkv", x.view());
    if (block_.shape.attention.qk_norm) {
      ranges_.q_norm = normalize_heads("q_norm", block_.q_norm, 0, x);
      ranges_.k_norm = normalize_heads("k_norm", block_.k_norm, 1, x);
    }
    x = attention(x);
    ranges_.context = range("context", x.view());
    x = apply(block_.proj, x);
    ranges_.proj = range("proj", x.view());
    add_to_stream(x);
    ranges_.add1 = channel_ranges("add1");

    const float_tensor norm2 = apply(block_.norm2, stream_, block_.shape.norm, block_.epsilon);
    ranges_.norm2 = range("norm2", norm2.view());
    x = apply(block_.fc1, norm2);
    ranges_.fc1 = range("fc1", x.view());
    for (float& value : x.values()) {
      value = static_cast<float>(activate(block_.activation, static_cast<double>(value)));
    }
    ranges_.activation = range("activation", x.view());
    if (block_.shape.gated) {
      float_tensor up = apply(block_.up, norm2);
      ranges_.up = range("up", up.view());
      std::transform(x.values().begin(), x.values().end(), up.values().begin(), x.values().begin(),
                     std::multiplies<>());
      ranges_.gated = range("gated", x.view());
    }
    x = apply(block_.fc2, x);
    ranges_.fc2 = range("fc2", x.view());
    add_to_stream(x);
    ranges_.add2 = channel_ranges("add2");
    return ranges_;
  }

 private:
  value_range range(const char* tensor, matrix_view<const float> x) const {
    require_finite("observe_block", tensor_place{tensor, block_.position}.text().c_str(), x);
    value_range range{x(0, 0), x(0, 0)};
    for (index_t i = 0; i < x.rows; ++i) {
      const auto [low, high] = std::minmax_element(&x(i, 0), &x(i, 0) + x.columns);
      range = {std::min(range.low, *low), std::max(range.high, *high)};
    }
    return range;
  }

  std::vector<value_range> channel_ranges(const char* tensor) const {
    std::vector<value_range> ranges;
    for (index_t c = 0; c < stream_.columns; ++c) {
      ranges.push_back(range(tensor, stream_.column_block(c, 1)));
    }
    return ranges;
  }

  void add_to_stream(const float_tensor& branch) const {
    for (index_t i = 0; i < stream_.rows; ++i) {
      std::transform(&stream_(i, 0), &stream_(i, 0) + stream_.columns, branch.row(i), &stream_(i, 0), std::plus<>());
    }
  }

  /// Normalizes the queries (part 0) or the keys (part 1) of each head, in place. Returns the range of all.
  value_range normalize_heads(const char* tensor, const float_layernorm_view& norm, index_t part,
                              float_tensor& qkv) const {
    const attention_shape& shape = block_.shape.attention;
    const index_t size = shape.head_size();
    float_tensor all(qkv.rows(), shape.width);
    for (index_t head = 0; head < shape.heads; ++head) {
      const index_t channel = part * shape.width + head * size;
      const float_tensor normalized =
          apply(norm, qkv.view().column_block(channel, size), *shape.qk_norm, block_.epsilon);
      for (index_t i = 0; i < qkv.rows(); ++i) {
        std::copy_n(normalized.row(i), size, qkv.row(i) + channel);
        std::copy_n(normalized.row(i), size, all.row(i) + head * size);
      }
    }
    return range(tensor, all.view());
  }

  /// Of all heads and inputs.
  float_tensor attention(const float_tensor& qkv) {
    const attention_shape& shape = block_.shape.attention;
    float_tensor context(qkv.rows(), shape.width);
    float_tensor logits(1, shape.tokens);
    for (index_t i = 0; i < qkv.rows(); ++i) {
      const index_t first_key = i - i % shape.tokens;
      for (index_t head = 0; head < shape.heads; ++head) {
        attention_row(qkv, {.query = i, .first_key = first_key, .channel = head * shape.head_size()}, logits,
                      context.row(i));
      }
    }
    return context;
  }

  /// A query, the first key of its input, and the first channel of its head.
  struct query_place {
    index_t query, first_key, channel;
  };

  void attention_row(const float_tensor& qkv, const query_place& at, float_tensor& logits, float* context) {
    const attention_shape& shape = block_.shape.attention;
    const index_t size = shape.head_size();
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
    const auto part = [&](index_t which, index_t token) { return qkv.row(token) + which * shape.width + at.channel; };
    const float* const query = part(0, at.query);
    for (index_t key = 0; key < shape.tokens; ++key) {
      logits.row(0)[key] = std::inner_product(query, query + size, part(1, at.first_key + key), 0.0F) * scale;
    }
    const value_range seen = range("attention_logits", logits.view());
    ranges_.attention_logits = {std::min(ranges_.attention_logits.low, seen.low),
                                std::max(ranges_.attention_logits.high, seen.high)};
    float sum = 0;
    for (float& logit : logits.values()) {
      logit = std::exp(logit - seen.high);
      sum += logit;
    }
    for (index_t key = 0; key < shape.tokens; ++key) {
      const float weight = logits.row(0)[key] / sum;
      for (index_t c = 0; c < size; ++c) {
        context[at.channel + c] += weight * part(2, at.first_key + key)[c];
      }
    }
  }

  const float_block_view& block_;
  matrix_view<float> stream_;
  block_ranges ranges_;
};

}  // namespace detail

/// Runs a float block, in place on the residual streams of a batch, and returns the range of each of its tensors. The
/// range of attention_logits is widened to contain 0.
///
/// Shapes:    stream (batch * tokens) x width, one input after the other; at least one input.
/// Exactness: float32, within rounding.
/// Errors:    sizes that do not match, weights, biases or values of the stream that are not finite, before anything is
///            written; a tensor that is not finite in float32. Each names the block and the tensor.
/// Source:    docs/numerics.md, section 1.
inline block_ranges observe_block(const float_block_view& block, matrix_view<float> stream) {
  const detail::float_block_check checked("observe_block", block);
  require_shape("observe_block", "stream", stream, stream.rows, block.shape.attention.width);
  require_at_least("observe_block", "rows of stream", stream.rows, 1);
  require_equal("observe_block", "rows of stream % tokens", stream.rows % block.shape.attention.tokens, 0);
  return detail::block_observer(block, stream)();
}

}  // namespace INTACT_UNIT
}  // namespace intact
