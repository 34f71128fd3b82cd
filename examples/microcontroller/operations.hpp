#pragma once

#include <cstdint>
#include <span>

#include "intact/model/block.hpp"

// Each operation as a function of its own, by the kernel and by the specification: a linker that starts at one of them
// shows its code size.

/// Operands of all of them. `codes` has the columns of queries, keys and values; most operations take a third.
struct operands {
  const intact::block_parameters& block;
  intact::block_shape shape;
  intact::matrix_view<const std::uint8_t> codes;
  intact::matrix_view<const std::uint8_t> exponents;  ///< tokens x tokens
  intact::matrix_view<const std::int8_t> taps;        ///< 9 x width, for a grid of 4 x (tokens / 4) tokens
  std::span<const std::uint8_t> table;                ///< 256 entries
  intact::tensor_scale scale;
  intact::matrix_view<std::uint8_t> y;  ///< of the shape of `codes`
  intact::workspace memory;
};

/// One that writes codes to y, and its name.
struct operation {
  const char* name;
  void (*kernel)(const operands&);
  void (*specification)(const operands&);
};

extern "C" {
void gemm_kernel(const operands& x);
void gemm_specification(const operands& x);
void layernorm_kernel(const operands& x);
void layernorm_specification(const operands& x);
void activation_kernel(const operands& x);
void activation_specification(const operands& x);
void add_kernel(const operands& x);
void add_specification(const operands& x);
void log_softmax_kernel(const operands& x);
void log_softmax_specification(const operands& x);
void max_softmax_kernel(const operands& x);
void max_softmax_specification(const operands& x);
void shift_matmul_kernel(const operands& x);
void shift_matmul_specification(const operands& x);
void depthwise_conv_kernel(const operands& x);
void depthwise_conv_specification(const operands& x);
void average_pool_kernel(const operands& x);
void average_pool_specification(const operands& x);
void attention_kernel(const operands& x);
void attention_specification(const operands& x);
void block_kernel(const operands& x);
void block_specification(const operands& x);
}

inline constexpr operation operations[] = {
    {"gemm", gemm_kernel, gemm_specification},
    {"layernorm", layernorm_kernel, layernorm_specification},
    {"activation", activation_kernel, activation_specification},
    {"add", add_kernel, add_specification},
    {"log_softmax", log_softmax_kernel, log_softmax_specification},
    {"max_softmax", max_softmax_kernel, max_softmax_specification},
    {"shift_matmul", shift_matmul_kernel, shift_matmul_specification},
    {"depthwise_conv", depthwise_conv_kernel, depthwise_conv_specification},
    {"average_pool", average_pool_kernel, average_pool_specification},
    {"attention", attention_kernel, attention_specification},
    {"block", block_kernel, block_specification},
};
