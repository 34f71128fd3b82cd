#pragma once

#include <thread>
#include <vector>

#include "intact/model/attention.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/executor_ref.hpp"
#include "tensor.hpp"

// Helpers of the tests of models that run once for each instruction set.

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

/// The same scale with a left_shift that is too large for the offsets of the rows, although all logits of heads of 8
/// columns fit 32 bits.
inline tensor_scale without_room(const tensor_scale& logits) {
  return {(logits.multiplier >> 12) * (1 << logits.left_shift), logits.offset, logits.shift, 12};
}
static_assert(!kernel::logits_fit_offsets({0, 0, 0, 12}, 8) && kernel::logits_fit_offsets({0, 0, 0, 11}, 8));

}  // namespace intact_test
