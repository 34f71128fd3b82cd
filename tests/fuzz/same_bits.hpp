#pragma once

#include <cstdint>
#include <string>

#include "fuzz_input.hpp"
#include "heap_watch.hpp"
#include "intact/types/executor.hpp"
#include "kernel_tests.hpp"
#include "refusal.hpp"
#include "reversed_executor.hpp"

// Comparisons of an operation with its specification.

namespace intact_test {

/// `what`: how messages call the matrix that is compared.
template <class View, class Expected>
void expect_equal(const char* what, const View& view, const Expected& expected) {
  const std::string difference = first_difference(view, expected);
  if (!difference.empty()) {
    fail(std::string(what) + ' ' + difference);
  }
}

/// A kernel and the specification give the same bits and leave all other memory as it is, or refuse their arguments with
/// the same message before they write anything. A kernel asks nothing of the heap.
///
/// specified(y) and computed(y, executor) write to a matrix of that shape, the kernel with one thread and with others.
template <class Tensor, class Specified, class Computed>
void expect_same_bits(fuzz_input& input, index_t rows, index_t columns, const Specified& specified,
                      const Computed& computed) {
  const reversed_executor backwards{.at_a_time = input.threads()};
  Tensor expected(rows, columns), y(rows, columns, input.where()), z(rows, columns);
  const std::string refused = refusal([&] { specified(expected.view()); });
  const auto refusal_of_kernel = [&](auto to, const auto& run) {
    const heap_watch watch(refused.empty() ? 0 : SIZE_MAX);
    return refusal([&] { computed(to, run); });
  };
  const std::string refused_by_kernel = refusal_of_kernel(y.view(), sequential{});
  const std::string refused_by_threads = refusal_of_kernel(z.view(), backwards);
  expect(refused_by_kernel == refused, "\"" + refused_by_kernel + "\", by the specification \"" + refused + '"');
  expect(refused_by_threads == refused, "\"" + refused_by_threads + "\", by the specification \"" + refused + '"');
  expect_equal("one thread:", y.view(), expected.view());
  expect_equal("threads:", z.view(), expected.view());
  expect(y.surroundings_untouched(), "memory beside the output is written");
}

/// The same in place: `x` is input and output of the kernel.
template <class Tensor, class Specified, class Computed>
void expect_same_bits_in_place(const Tensor& x, const Specified& specified, const Computed& computed) {
  Tensor expected(x.rows(), x.columns()), y = x;
  if (refusal([&] { specified(expected.view()); }).empty()) {
    computed(y.view());
    expect_equal("in place:", y.view(), expected.view());
    expect(y.surroundings_untouched(), "memory beside the output is written");
  }
}

}  // namespace intact_test
