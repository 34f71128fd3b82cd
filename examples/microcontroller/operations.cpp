#include "operations.hpp"

#include <algorithm>
#include <cstdint>
#include <variant>

#include "intact/intact.hpp"
#include "intact/reference/all.hpp"

namespace {

using codes_view = intact::matrix_view<const std::uint8_t>;
using s8_weights = intact::weight_kinds<std::int8_t>;
using intact::requantize;
using intact::tensor_scale;

codes_view third(const operands& x, intact::index_t i) {
  return x.codes.column_block(i * x.shape.attention.width, x.shape.attention.width);
}

intact::matrix_view<std::uint8_t> y_third(const operands& x) {
  return x.y.column_block(0, x.shape.attention.width);
}

const intact::packed_weights<std::int8_t>& weights(const operands& x) {
  return *std::get_if<intact::packed_weights<std::int8_t>>(&x.block.attention.qkv.weights);
}

requantize<std::uint8_t> stage(const operands& x) {
  return {x.block.attention.qkv.scale};
}

requantize<std::uint8_t, tensor_scale> context_stage(const operands& x) {
  return {*std::get_if<tensor_scale>(&x.block.attention.softmax.context)};
}

intact::exp_table<std::uint64_t> exponential(const operands& x) {
  return std::get_if<intact::log2_of_sum>(&x.block.attention.softmax.weights)->exponential;
}

intact::quantized_matrix values(const operands& x) {
  return {third(x, 2), x.block.attention.zero_points.v};
}

intact::token_grid grid(const operands& x) {
  return {4, x.shape.attention.tokens / 4};
}

intact::multihead_parameters heads(const operands& x) {
  return x.block.attention.multihead(x.shape.attention.heads);
}

/// The block works in place on the residual stream.
intact::matrix_view<std::uint8_t> stream(const operands& x) {
  const intact::matrix_view<std::uint8_t> y(x.y.data, x.shape.attention.tokens, x.shape.attention.width);
  for (intact::index_t i = 0; i < y.rows; ++i) {
    std::copy_n(&x.codes(i, 0), y.columns, &y(i, 0));
  }
  return y;
}

}  // namespace

void gemm_kernel(const operands& x) {
  intact::gemm(third(x, 0), weights(x), stage(x), x.y);
}
void gemm_specification(const operands& x) {
  intact::reference::gemm(third(x, 0), weights(x), stage(x), x.y);
}

void layernorm_kernel(const operands& x) {
  intact::layernorm(third(x, 0), x.block.norm1, y_third(x));
}
void layernorm_specification(const operands& x) {
  intact::reference::layernorm(third(x, 0), x.block.norm1, y_third(x));
}

void activation_kernel(const operands& x) {
  intact::activation(x.codes, x.table, x.y);
}
void activation_specification(const operands& x) {
  intact::reference::activation(x.codes, x.table, x.y);
}

void add_kernel(const operands& x) {
  intact::add(third(x, 0), third(x, 1), x.block.add1, y_third(x));
}
void add_specification(const operands& x) {
  intact::reference::add(third(x, 0), third(x, 1), x.block.add1, y_third(x));
}

void log_softmax_kernel(const operands& x) {
  intact::log_softmax(x.codes, exponential(x), x.y);
}
void log_softmax_specification(const operands& x) {
  intact::reference::log_softmax(x.codes, exponential(x), x.y);
}

void max_softmax_kernel(const operands& x) {
  intact::max_softmax(x.codes, x.table, x.y);
}
void max_softmax_specification(const operands& x) {
  intact::reference::max_softmax(x.codes, x.table, x.y);
}

void shift_matmul_kernel(const operands& x) {
  intact::shift_matmul(x.exponents, values(x), context_stage(x), y_third(x), x.memory);
}
void shift_matmul_specification(const operands& x) {
  intact::reference::shift_matmul(x.exponents, values(x), context_stage(x), y_third(x));
}

void depthwise_conv_kernel(const operands& x) {
  const requantize<std::uint8_t, tensor_scale> stage{x.scale};
  intact::depthwise_conv(values(x), grid(x), {x.taps, 3}, stage, y_third(x));
}
void depthwise_conv_specification(const operands& x) {
  const requantize<std::uint8_t, tensor_scale> stage{x.scale};
  intact::reference::depthwise_conv(values(x), grid(x), {x.taps, 3}, stage, y_third(x));
}

void average_pool_kernel(const operands& x) {
  const requantize<std::uint8_t, tensor_scale> stage{x.scale};
  intact::average_pool(x.codes, stage, x.y.row_block(0, 1));
}
void average_pool_specification(const operands& x) {
  const requantize<std::uint8_t, tensor_scale> stage{x.scale};
  intact::reference::average_pool(x.codes, stage, x.y.row_block(0, 1));
}

void attention_kernel(const operands& x) {
  intact::attention(x.block.attention.operands(x.codes), heads(x), y_third(x), x.memory);
}
void attention_specification(const operands& x) {
  intact::reference::attention(x.block.attention.operands(x.codes), heads(x), y_third(x), x.memory);
}

void block_kernel(const operands& x) {
  intact::block<intact::isa::native, s8_weights>(stream(x), x.block, x.shape, x.memory);
}
void block_specification(const operands& x) {
  intact::reference::block(stream(x), x.block, x.shape, x.memory);
}
