#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "block.hpp"
#include "rounds.hpp"

namespace intact_bench {

/// What a fused block consists of, in this order.
inline constexpr std::array block_part_names = {"norm1", "qkv",        "attention", "proj + add",
                                                "norm2", "fc1 + GELU", "fc2 + add"};

/// The operations of fused_block, one after the other in the same memory, each with its time. Reading the clock takes
/// some ten nanoseconds per operation.
template <class Isa, class Code>
class intact_block_parts : public program {
 public:
  explicit intact_block_parts(const block_task& task)
      : task_(task),
        parameters_(task.parameters()),
        stream_(task.stream<Code>()),
        normalized_(static_cast<std::size_t>(task.of.rows() * task.of.width)),
        wide_(static_cast<std::size_t>(task.of.rows() * task.of.hidden())),
        memory_(static_cast<std::size_t>(
            intact::fused_attention_bytes(task.of.tokens, task.of.heads, task.of.head_size(), task.threads))) {}

  void run() override {
    with_threads(task_.threads, [&](const auto& executor) { run_with(executor); });
  }

  /// Runs for a while.
  void measure(const effort& limits) {
    seconds_ = {};
    const clock::time_point start = clock::now();
    while (goes_on(limits, seconds_[0].size(), seconds_since(start))) {
      run();
    }
  }

  /// Seconds of each part, medians.
  std::vector<std::pair<std::string, double>> parts() const {
    std::vector<std::pair<std::string, double>> all;
    for (std::size_t i = 0; i < seconds_.size(); ++i) {
      all.emplace_back(block_part_names[i], median(seconds_[i]));
    }
    return all;
  }

  std::vector<std::int32_t> outputs() const override { return as_numbers(stream_); }

 private:
  template <class Executor>
  void run_with(const Executor& executor) {
    using intact::linear;
    const token_shape& of = task_.of;
    const intact::block_parameters& p = parameters_;
    const intact::matrix_view stream(stream_.data(), of.rows(), of.width);
    const intact::matrix_view normalized(normalized_.data(), of.rows(), of.width);
    const intact::matrix_view qkv(wide_.data(), of.rows(), 3 * of.width);
    const intact::matrix_view hidden(wide_.data(), of.rows(), of.hidden());
    const intact::requantize<std::uint8_t> qkv_stage{p.attention.qkv.scale};
    const intact::activate activation{p.mlp.fc1.scale, p.mlp.table};

    last_ = clock::now();
    intact::layernorm<Isa>(stream, p.norm1, normalized, executor);
    finish(0);
    linear<Isa>(normalized, p.attention.qkv.weights, qkv_stage, qkv, executor);
    finish(1);
    attend(qkv, normalized, executor);
    finish(2);
    add_branch(normalized, p.attention.proj, p.add1, executor);
    finish(3);
    intact::layernorm<Isa>(stream, p.norm2, normalized, executor);
    finish(4);
    linear<Isa>(normalized, p.mlp.fc1.weights, activation, hidden, executor);
    finish(5);
    add_branch(hidden, p.mlp.fc2, p.add2, executor);
    finish(6);
  }

  template <class Executor>
  void attend(const intact::matrix_view<std::uint8_t>& qkv, const intact::matrix_view<std::uint8_t>& context,
              const Executor& executor) {
    const token_shape& of = task_.of;
    const intact::attention_parameters& p = parameters_.attention;
    for (index image = 0; image < of.batch; ++image) {
      const auto part = [&](index which) {
        return intact::activations{qkv.row_block(image * of.tokens, of.tokens).column_block(which * of.width, of.width),
                                   p.qkv_zero_point};
      };
      intact::fused_attention<Isa>({part(0), part(1), part(2)}, of.heads, p.logits, p.weighting,
                                   context.row_block(image * of.tokens, of.tokens),
                                   intact::workspace(memory_.data(), memory_.size()), executor);
    }
  }

  template <class Executor>
  void add_branch(const intact::matrix_view<const std::uint8_t>& x, const intact::linear_parameters& layer,
                  const intact::add_scale& addition, const Executor& executor) {
    const intact::matrix_view stream(stream_.data(), task_.of.rows(), task_.of.width);
    if constexpr (std::is_same_v<Code, std::uint8_t>) {
      intact::linear<Isa>(x, layer.weights, intact::requantize_and_add{layer.scale, addition, stream}, stream,
                          executor);
    } else {
      intact::linear<Isa>(x, layer.weights, intact::add_to_stream{layer.scale, stream}, stream, executor);
    }
  }

  /// Notes the time since the part before.
  void finish(std::size_t part) {
    const clock::time_point now = clock::now();
    seconds_[part].push_back(std::chrono::duration<double>(now - last_).count());
    last_ = now;
  }

  const block_task& task_;
  intact::block_parameters parameters_;
  aligned_vector<Code> stream_;
  aligned_vector<std::uint8_t> normalized_, wide_;
  aligned_vector<std::byte> memory_;
  clock::time_point last_;
  std::array<std::vector<double>, block_part_names.size()> seconds_;
};

}  // namespace intact_bench
