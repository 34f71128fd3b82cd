// One fully-integer transformer block in the hands of another program: parameters, tokens and scratch memory are plain
// arrays of the program's own. No Eigen, no heap; floating point only while the scales are built, which an engine does
// when it loads a model.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "intact/build/add.hpp"
#include "intact/build/layernorm.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/table.hpp"
#include "intact/intact.hpp"

namespace {

constexpr intact::block_shape shape{.attention = {.tokens = 17, .width = 64, .heads = 4}, .hidden = 128};
constexpr std::size_t tokens = shape.attention.tokens;
constexpr std::size_t width = shape.attention.width;
constexpr std::size_t hidden = shape.hidden;

/// All memory that the block needs while it runs, known at compile time.
std::array<std::byte, intact::block_workspace_bytes(shape)> scratch;

/// Stands for a model's weights: a fixed sequence of bytes.
std::uint8_t next_byte() {
  static std::uint32_t state = 1;
  state = state * 1664525U + 1013904223U;
  return static_cast<std::uint8_t>(state >> 24);
}

/// A fully connected layer in arrays: packed weights, and the dyadic scales of its outputs.
template <std::size_t Outputs, std::size_t Inputs>
struct layer {
  alignas(intact::packed_weights_alignment)
      std::array<std::byte, intact::packed_weights_bytes<std::int8_t>(Outputs, Inputs)> packed;
  std::array<std::int32_t, Outputs> multiplier;
  std::array<std::int64_t, Outputs> offset;

  /// `spread` is the standard deviation that the output codes shall have around their zero point.
  intact::linear_parameters build(double spread, int zero_point) {
    std::array<std::int8_t, Outputs * Inputs> weights;
    std::array<intact::scale_spec, Outputs> specs;
    const double factor = spread / (74.0 * 74.0 * std::sqrt(double{Inputs}));
    for (std::size_t n = 0; n < Outputs; ++n) {
      for (std::size_t k = 0; k < Inputs; ++k) {
        weights[n * Inputs + k] = static_cast<std::int8_t>(next_byte() - 128);
      }
      specs[n] = intact::linear_spec<std::uint8_t>({.weights = {&weights[n * Inputs], Inputs},
                                                    .factor = factor,
                                                    .addend = static_cast<double>(zero_point),
                                                    .zero_point = 128});
    }
    return {intact::pack_weights(intact::matrix_view<const std::int8_t>(weights.data(), Outputs, Inputs), packed),
            intact::build_scale(specs, multiplier, offset)};
  }
};

/// A LayerNorm in arrays.
struct norm {
  std::array<float, width> gamma, beta;
  std::array<std::uint8_t, width> shift;
  std::array<std::int32_t, width> gain;
  std::array<std::int64_t, width> bias;

  intact::layernorm_parameters build() {
    for (std::size_t c = 0; c < width; ++c) {
      gamma[c] = 0.5F + static_cast<float>(next_byte()) / 256.0F;
      beta[c] = static_cast<float>(next_byte()) / 256.0F - 0.5F;
      shift[c] = next_byte() % 4;
    }
    return intact::build_layernorm({.gamma = gamma,
                                    .beta = beta,
                                    .epsilon = 1e-6,
                                    .input_scale = 0.01,
                                    .input_zero_point = 128,
                                    .shift = shift,
                                    .output_scale = 0.025,
                                    .output_zero_point = 128},
                                   gain, bias);
  }
};

/// A residual addition in arrays.
struct residual {
  std::array<std::int32_t, width> stream, branch, offset;

  intact::add_parameters build(double stream_ratio, double branch_ratio) {
    std::array<intact::add_spec, width> specs;
    specs.fill({stream_ratio, branch_ratio});
    return intact::build_add(specs, {128, 128, 128}, stream, branch, offset);
  }
};

layer<3 * width, width> qkv;
layer<width, width> proj;
layer<hidden, width> fc1;
layer<width, hidden> fc2;
norm norm1, norm2;
residual add1, add2;
intact::exp_values<std::uint64_t> exponential;
intact::activation_table gelu_table;

intact::block_parameters build_block() {
  constexpr float logits_scale = 0.05F;
  intact::block_parameters block;
  intact::realized_scale exact;
  block.norm1 = norm1.build();
  block.attention.qkv = qkv.build(40, 128);
  block.attention.qkv_zero_point = 128;
  block.attention.logits =
      intact::build_scale(intact::attention_logits_spec(0.004, 128, shape.attention.head_size()), exact);
  exponential = intact::i_exp_table(logits_scale, shape.attention.tokens);
  block.attention.softmax.exponential = exponential;
  block.attention.softmax.probabilities = intact::attention_code::u4_clipped;
  block.attention.softmax.context =
      intact::build_scale(intact::attention_context_spec(1.5, 128, shape.attention.tokens), exact);
  block.attention.proj = proj.build(40, 128);
  block.add1 = add1.build(0.9, 0.4);
  block.norm2 = norm2.build();
  gelu_table = intact::build_activation_table(intact::gelu, -4.0, 4.0, {4.17 / 255, 10});
  block.mlp.fc1 = fc1.build(700, 2048);
  block.mlp.table = gelu_table.codes;
  block.mlp.fc2 = fc2.build(40, 128);
  block.add2 = add2.build(0.9, 0.4);
  return block;
}

}  // namespace

int main() {
  const intact::block_parameters block = build_block();

  std::array<std::uint8_t, tokens * width> stream;
  for (std::uint8_t& code : stream) {
    code = next_byte();
  }
  intact::block(intact::matrix_view(stream.data(), tokens, width), block, shape,
                intact::workspace(scratch.data(), scratch.size()));

  std::uint64_t fingerprint = 14695981039346656037U;  // FNV-1a
  for (const std::uint8_t code : stream) {
    fingerprint = (fingerprint ^ code) * 1099511628211U;
  }
  std::printf("block of %zu tokens x %zu channels, %zu bytes of workspace\n", tokens, width, scratch.size());
  std::printf("first codes of the residual stream: %d %d %d %d\n", stream[0], stream[1], stream[2], stream[3]);
  std::printf("fingerprint %016llx\n", static_cast<unsigned long long>(fingerprint));
}
