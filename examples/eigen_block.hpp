#pragma once

#include <Eigen/Core>
#include <cmath>
#include <iterator>
#include <span>
#include <unsupported/Eigen/SpecialFunctions>

#include "intact/build/float_block.hpp"
#include "intact/quantize/eigen.hpp"

/// A transformer block in float32 on Eigen, in place on the residual stream of one input.
class eigen_block {
  using float_matrix = intact::float_matrix;

 public:
  explicit eigen_block(const intact::float_block_view& block) : block_(block) {}

  void operator()(std::span<float> values) const {
    const intact::attention_shape& shape = block_.shape.attention;
    Eigen::Map<float_matrix> stream(values.data(), shape.tokens, shape.width);
    stream += apply(block_.proj, attention(apply(block_.qkv, apply(block_.norm1, stream))));
    float_matrix hidden = apply(block_.fc1, apply(block_.norm2, stream));
    hidden = hidden.array() * (1 + (hidden.array() / std::sqrt(2.0F)).erf()) / 2;
    stream += apply(block_.fc2, hidden);
  }

 private:
  static auto row_of(std::span<const float> values) {
    return Eigen::Map<const intact::float_row>(values.data(), std::ssize(values));
  }

  static float_matrix apply(const intact::float_linear_view& layer, const Eigen::Ref<const float_matrix>& x) {
    float_matrix y(x.rows(), layer.weight.rows);
    y.noalias() = x * intact::map_of(layer.weight).transpose();
    y.rowwise() += row_of(layer.bias);
    return y;
  }

  float_matrix apply(const intact::float_layernorm_view& norm, const Eigen::Ref<const float_matrix>& x) const {
    float_matrix y = x.colwise() - x.rowwise().mean();
    const Eigen::ArrayXf deviation = (y.array().square().rowwise().mean() + block_.epsilon).sqrt();
    y.array().colwise() /= deviation;
    y = y.array().rowwise() * row_of(norm.weight).array();
    y.rowwise() += row_of(norm.bias);
    return y;
  }

  float_matrix attention(const float_matrix& qkv) const {
    const intact::attention_shape& shape = block_.shape.attention;
    const intact::index_t size = shape.head_size();
    float_matrix context(qkv.rows(), shape.width), weights(qkv.rows(), qkv.rows());
    for (intact::index_t head = 0; head < shape.heads; ++head) {
      const auto part = [&](intact::index_t which) { return qkv.middleCols(which * shape.width + head * size, size); };
      weights.noalias() = part(0) * part(1).transpose();
      weights /= std::sqrt(static_cast<float>(size));
      weights = (weights.colwise() - weights.rowwise().maxCoeff()).array().exp();
      context.middleCols(head * size, size).noalias() = weights * part(2);
      context.middleCols(head * size, size).array().colwise() /= weights.rowwise().sum().array().eval();
    }
    return context;
  }

  const intact::float_block_view& block_;
};
