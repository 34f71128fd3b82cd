#pragma once

#include <cstddef>
#include <span>
#include <thread>
#include <variant>
#include <vector>

#include "intact/model/attention.hpp"
#include "intact/model/block.hpp"
#include "intact/model/linear.hpp"
#include "intact/pack.hpp"
#include "tensor.hpp"

// What tests of models on kernels have in common: the instruction set, threads, and weights in packed form.

namespace intact_test {

using tested_isa = intact::isa::INTACT_TEST_ISA;

/// As many threads as asked for, new ones each time.
struct thread_pool {
  index_t count = 1;

  index_t threads() const { return count; }
  template <class Task>
  void for_each(index_t tasks, const Task& task) const {
    std::vector<std::thread> all;
    for (index_t t = 0; t < count; ++t) {
      all.emplace_back([&, t] {
        for (index_t i = t; i < tasks; i += count) {
          task(i);
        }
      });
    }
    for (std::thread& thread : all) {
      thread.join();
    }
  }
};

/// A scale of logits whose left_shift leaves no room in 32 bits, although all logits of heads of 8 columns fit. Then
/// attention goes through its steps one by one.
inline tensor_scale without_room(const tensor_scale& logits) {
  return {(logits.multiplier >> 12) * (1 << logits.left_shift), logits.offset, logits.shift, 12};
}
static_assert(!attention_fits_kernels({0, 0, 0, 12}, 8) && attention_fits_kernels({0, 0, 0, 11}, 8));

/// Weights in packed form.
class packed_layers {
 public:
  void pack(weights_view& weights) {
    weights = std::visit([&](const auto& view) { return packed(view); }, weights);
  }
  void pack(block_parameters& p) {
    for (linear_parameters* layer : {&p.attention.qkv, &p.attention.proj, &p.mlp.fc1, &p.mlp.fc2}) {
      pack(layer->weights);
    }
  }

 private:
  struct alignas(64) line {
    std::byte bytes[64];
  };

  template <class Weights>
  weights_view packed(const Weights& weights) {
    if constexpr (detail::is_packed<Weights>) {
      return weights;
    } else {
      memory_.emplace_back(static_cast<std::size_t>(packed_weights_bytes(weights) + 63) / 64 + 1);
      return pack_weights(weights, std::as_writable_bytes(std::span(memory_.back())));
    }
  }

  std::vector<std::vector<line>> memory_;
};

}  // namespace intact_test
