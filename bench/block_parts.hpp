#pragma once

#include <algorithm>
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

/// The parts of a block, in this order. Attention is one part where several threads share it; else it is four.
enum class block_part { norm1, qkv, attention, packing, logits, softmax, context, proj, norm2, fc1, fc2 };
inline constexpr std::array block_part_names = {"norm1",   "qkv",        "attention",   "attention: packing",
                                                "q * k^T", "softmax",    "softmax * v", "proj + add",
                                                "norm2",   "fc1 + GELU", "fc2 + add"};

/// The operations of intact::block, one after the other in the same memory, each with its time. Reading the clock takes
/// some ten nanoseconds per operation and, in attention, per step of a band of queries.
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
            intact::attention_workspace_bytes(task.of.tokens, task.of.heads, task.of.head_size(), task.threads))) {}

  void run() override {
    with_threads(task_.threads, [&](const auto& executor) { run_with(executor); });
  }

  /// Runs for a while.
  void measure(const effort& limits) {
    for (std::vector<double>& part : seconds_) {
      part.clear();
    }
    const clock::time_point start = clock::now();
    while (goes_on(limits, seconds_[0].size(), seconds_since(start))) {
      run();
    }
  }

  /// Seconds of each part that there is, medians.
  std::vector<std::pair<std::string, double>> parts() const {
    std::vector<std::pair<std::string, double>> all;
    for (std::size_t i = 0; i < seconds_.size(); ++i) {
      if (const double seconds = median(seconds_[i]); seconds > 0) {
        all.emplace_back(block_part_names[i], seconds);
      }
    }
    return all;
  }

  std::vector<std::int32_t> outputs() const override { return as_numbers(stream_); }

 private:
  using weights = intact::weight_kinds<std::int8_t>;

  template <class Executor>
  void run_with(const Executor& executor) {
    const token_shape& of = task_.of;
    const intact::block_parameters& p = parameters_;
    const intact::matrix_view stream(stream_.data(), of.rows(), of.width);
    const intact::matrix_view normalized(normalized_.data(), of.rows(), of.width);
    const intact::matrix_view qkv(wide_.data(), of.rows(), 3 * of.width);
    const intact::matrix_view hidden(wide_.data(), of.rows(), of.hidden());
    const intact::requantize<std::uint8_t> qkv_stage{p.attention.qkv.scale};
    const intact::requantize_lut activation{p.mlp.fc1.scale, p.mlp.table};

    this_run_ = {};
    last_ = clock::now();
    intact::layernorm<Isa>(stream, p.norm1, normalized, executor);
    finish(block_part::norm1);
    intact::linear<Isa, weights>(normalized, p.attention.qkv.weights, qkv_stage, qkv, executor);
    finish(block_part::qkv);
    attend(qkv, normalized, executor);
    add_branch(normalized, p.attention.proj, p.add1, executor);
    finish(block_part::proj);
    intact::layernorm<Isa>(stream, p.norm2, normalized, executor);
    finish(block_part::norm2);
    intact::linear<Isa, weights>(normalized, p.mlp.fc1.weights, activation, hidden, executor);
    finish(block_part::fc1);
    add_branch(hidden, p.mlp.fc2, p.add2, executor);
    finish(block_part::fc2);
    for (std::size_t i = 0; i < seconds_.size(); ++i) {
      seconds_[i].push_back(this_run_[i]);
    }
  }

  template <class Executor>
  void attend(const intact::matrix_view<std::uint8_t>& qkv, const intact::matrix_view<std::uint8_t>& context,
              const Executor& executor) {
    const token_shape& of = task_.of;
    const intact::attention_parameters& p = parameters_.attention;
    const bool in_steps = task_.threads == 1;
    for (index_t image = 0; image < of.batch; ++image) {
      const intact::attention_operands operands = p.operands(qkv.row_block(image * of.tokens, of.tokens));
      const auto y = context.row_block(image * of.tokens, of.tokens);
      const intact::workspace memory(memory_.data(), memory_.size());
      if (in_steps) {
        attend_in_steps(operands, y, memory);
      } else {
        intact::attention<Isa>(operands, p.multihead(of.heads), y, memory, executor);
        finish(block_part::attention);
      }
    }
  }

  /// The steps of intact::attention on one thread.
  void attend_in_steps(const intact::attention_operands& x, const intact::matrix_view<std::uint8_t>& y,
                       intact::workspace memory) {
    namespace kernel = intact::kernel;
    const token_shape& of = task_.of;
    const intact::attention_parameters& p = parameters_.attention;
    const index_t size = of.head_size(), band = kernel::attention_band(of.tokens);
    const auto head_of = [&](const intact::quantized_matrix& all, index_t head) {
      return intact::quantized_matrix{all.codes.column_block(head * size, size), all.zero_point};
    };
    std::vector<intact::attention_head> heads;
    for (index_t h = 0; h < of.heads; ++h) {
      const auto place = kernel::attention_head_memory::take(memory, of.tokens, size);
      heads.push_back(kernel::prepare_head<Isa>(head_of(x.k, h), head_of(x.v, h), x.q.zero_point, place));
    }
    const auto scratch = kernel::attention_scratch::take(memory, of.tokens, band);
    const kernel::softmax_row_encoder<Isa> code_rows(p.softmax);
    finish(block_part::packing);
    for (index_t h = 0; h < of.heads; ++h) {
      for (index_t first = 0; first < of.tokens; first += band) {
        const index_t rows = std::min(band, of.tokens - first);
        const auto q = head_of(x.q, h).codes.row_block(first, rows);
        const auto codes = kernel::band_logits<Isa>(q, heads[static_cast<std::size_t>(h)], p.logits, scratch);
        finish(block_part::logits);
        code_rows(codes);
        finish(block_part::softmax);
        kernel::band_context<Isa>(codes, heads[static_cast<std::size_t>(h)], p.softmax,
                                  y.column_block(h * size, size).row_block(first, rows), scratch);
        finish(block_part::context);
      }
    }
  }

  template <class Executor>
  void add_branch(const intact::matrix_view<const std::uint8_t>& x, const intact::linear_parameters& layer,
                  const intact::add_parameters& addition, const Executor& executor) {
    const intact::matrix_view stream(stream_.data(), task_.of.rows(), task_.of.width);
    if constexpr (std::is_same_v<Code, std::uint8_t>) {
      intact::linear<Isa, weights>(x, layer.weights, intact::requantize_add{layer.scale, addition, stream}, stream,
                                   executor);
    } else {
      intact::linear<Isa, weights>(x, layer.weights, intact::add_to_stream{layer.scale, stream}, stream, executor);
    }
  }

  /// Adds the time since the part before.
  void finish(block_part part) {
    const clock::time_point now = clock::now();
    this_run_[static_cast<std::size_t>(part)] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

  const block_task& task_;
  intact::block_parameters parameters_;
  aligned_vector<Code> stream_;
  aligned_vector<std::uint8_t> normalized_, wide_;
  aligned_vector<std::byte> memory_;
  clock::time_point last_;
  std::array<double, block_part_names.size()> this_run_{};
  std::array<std::vector<double>, block_part_names.size()> seconds_;  ///< of each run
};

}  // namespace intact_bench
