#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "attention.hpp"
#include "intact/build/owned_packed_weights.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/model/block.hpp"
#include "intact/reference/model/block.hpp"
#include "memory.hpp"
#include "program.hpp"
#include "shapes.hpp"

namespace intact_bench {

/// A transformer block of random weights, whose codes spread over their ranges and whose stream stays as it is when the
/// block is called on its own output, again and again.
struct block_task : task {
  static constexpr int zero_point = 125;  ///< of all u8 codes but these
  static constexpr int activation_zero_point = 11;
  static constexpr double deviation = 40;  ///< of codes

  block_task(const token_shape& of_, const named_recipe& recipe, int threads_)
      : of(of_), is_wide(recipe.parts.stream == intact::stream_codes::s16), contents(make_contents(recipe.parts)) {
    shape = of.name();
    output = recipe.name;
    threads = threads_;
    const double multiplications_of_layers =
        static_cast<double>(of.rows() * of.width) * static_cast<double>(4 * of.width + 2 * of.hidden());
    operations = 2 * multiplications_of_layers + attention_operations(of, recipe.parts);
    parameters_ = intact::view_block(contents, [&](intact::owned_weights weights) { return panels_.take(weights); });
    is_wide ? compute_expected<std::int16_t>() : compute_expected<std::uint8_t>();
  }

  intact::block_shape block_shape() const {
    return {{.tokens = of.tokens, .width = of.width, .heads = of.heads}, of.hidden()};
  }

  const intact::block_parameters& parameters() const { return parameters_; }

  /// The stream on entry.
  template <class Code>
  aligned_vector<Code> stream() const {
    return is_wide ? random_codes<Code>(of.rows() * of.width, -3000, 3000)
                   : random_codes<Code>(of.rows() * of.width, 0, 255);
  }

  const token_shape of;
  const bool is_wide;  ///< the stream is s16
  const intact::owned_block contents;

 private:
  intact::owned_layernorm make_layernorm() const {
    const auto channels = static_cast<std::size_t>(of.width);
    const std::vector<float> gamma(channels, 0.9F), beta(channels, 0.1F);
    std::vector<std::uint8_t> shift(channels, 0);
    for (std::size_t c = 0; c < channels && !is_wide; ++c) {
      shift[c] = static_cast<std::uint8_t>(c % 4);
    }
    return intact::owned_layernorm(intact::layernorm_spec{.gamma = gamma,
                                                          .beta = beta,
                                                          .input_scale = is_wide ? 1.0 / 1024 : 1.0 / 64,
                                                          .input_zero_point = is_wide ? 0 : zero_point,
                                                          .shift = shift,
                                                          .output_scale = 1 / deviation,
                                                          .output_zero_point = zero_point});
  }

  static intact::owned_linear make_linear(index_t outputs, index_t inputs, int input_zero_point, double middle,
                                          double spread, std::uint64_t seed) {
    const aligned_vector<std::int8_t> weights = random_codes<std::int8_t>(outputs * inputs, -128, 127, seed);
    const double factor = spread / (deviation * 74 * std::sqrt(static_cast<double>(inputs)));
    std::vector<intact::scale_spec> specs;
    for (index_t n = 0; n < outputs; ++n) {
      const auto channel =
          std::span(weights).subspan(static_cast<std::size_t>(n * inputs), static_cast<std::size_t>(inputs));
      const double variety = 0.75 + 0.5 * static_cast<double>(n % 17) / 16;
      specs.push_back(intact::linear_spec<std::uint8_t>(
          {.weights = channel, .factor = variety * factor, .addend = middle, .zero_point = input_zero_point}));
    }
    return {{{weights.begin(), weights.end()}, outputs, inputs}, intact::owned_channel_scale(specs)};
  }

  /// One channel's scales for all: building them takes a while.
  intact::owned_add make_add() const {
    if (is_wide) {
      return {};
    }
    const intact::add_spec target{0.9, 0.4};
    intact::owned_add made({&target, 1}, {.stream = zero_point, .branch = zero_point, .output = zero_point});
    const auto channels = static_cast<std::size_t>(of.width);
    made.stream_multiplier.assign(channels, made.stream_multiplier[0]);
    made.branch_multiplier.assign(channels, made.branch_multiplier[0]);
    made.offset.assign(channels, made.offset[0]);
    return made;
  }

  intact::owned_block make_contents(const intact::quantization_recipe& parts) const {
    const double branch_middle = is_wide ? 0 : zero_point, branch_spread = is_wide ? 300 : deviation;
    const double logits_factor = 30 / (deviation * deviation * std::sqrt(static_cast<double>(of.head_size())));
    const intact::activation_table gelu =
        intact::build_activation_table(intact::gelu, -4, 4, {4.2 / 255, activation_zero_point});
    intact::owned_block made;
    made.norm1 = make_layernorm();
    made.qkv = make_linear(3 * of.width, of.width, zero_point, zero_point, deviation, 1);
    made.qkv_zero_point = zero_point;
    made.attention_logits =
        intact::owned_tensor_scale(intact::attention_logits_spec(logits_factor, zero_point, of.head_size()));
    made.softmax = make_softmax(parts, 0.1F, of.tokens, 3, zero_point);
    made.proj = make_linear(of.width, of.width, zero_point, branch_middle, branch_spread, 2);
    made.add1 = make_add();
    made.norm2 = make_layernorm();
    made.fc1 = make_linear(of.hidden(), of.width, zero_point, gelu.input.zero_point, 1 / gelu.input.scale, 3);
    made.activation.assign(gelu.codes.begin(), gelu.codes.end());
    made.fc2 = make_linear(of.width, of.hidden(), activation_zero_point, branch_middle, branch_spread, 4);
    made.add2 = make_add();
    return made;
  }

  /// By the specification.
  template <class Code>
  void compute_expected() {
    aligned_vector<Code> codes = stream<Code>();
    aligned_vector<std::byte> memory(intact::reference::block_workspace_bytes(block_shape()));
    const intact::matrix_view all(codes.data(), of.rows(), of.width);
    for (index_t image = 0; image < of.batch; ++image) {
      intact::reference::block(all.row_block(image * of.tokens, of.tokens), parameters_, block_shape(),
                               intact::workspace(memory.data(), memory.size()));
    }
    expected = as_numbers(codes);
  }

  intact::owned_packed_weights panels_;
  intact::block_parameters parameters_;
};

/// Each call goes on with the stream that the one before has left.
template <class Isa, class Code>
class intact_block : public program {
 public:
  explicit intact_block(const block_task& task) : intact_block(task, task.threads) {}
  intact_block(const block_task& task, int threads)
      : task_(task),
        threads_(threads),
        parameters_(task.parameters()),
        stream_(task.stream<Code>()),
        memory_(intact::block_workspace_bytes(task.block_shape(), task.of.batch, threads)) {}

  void run() override {
    with_threads(threads_, [&](const auto& executor) {
      intact::block<Isa>(intact::matrix_view(stream_.data(), task_.of.rows(), task_.of.width), parameters_,
                         task_.block_shape(), intact::workspace(memory_.data(), memory_.size()), executor);
    });
  }

  std::vector<std::int32_t> outputs() const override { return as_numbers(stream_); }

 private:
  const block_task& task_;
  int threads_;
  intact::block_parameters parameters_;
  aligned_vector<Code> stream_;
  aligned_vector<std::byte> memory_;
};

}  // namespace intact_bench
