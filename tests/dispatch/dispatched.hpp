#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "catch.hpp"
#include "intact/dispatch/table.hpp"
#include "kernel_tests.hpp"
#include "tensor.hpp"

// Helpers of the tests of functions of intact::dispatch.

namespace intact_test {

/// The integers themselves, or those of a number's bits.
template <class T>
auto integers_of(const matrix_view<T>& x) {
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>;
  using integer = std::conditional_t<std::is_integral_v<T>, std::remove_const_t<T>, bits>;
  tensor<integer> made(x.rows, x.columns);
  for (index_t i = 0; i < x.rows; ++i) {
    for (index_t j = 0; j < x.columns; ++j) {
      made(i, j) = std::bit_cast<integer>(x(i, j));
    }
  }
  return made;
}

/// Runs an operation through the table, with one thread and with three, and as it must be.
template <class T, class Dispatched, class Expected>
void check_dispatched(index_t rows, index_t columns, const Dispatched& dispatched, const Expected& write_expected) {
  tensor<T> expected(rows, columns, layouts[1]);
  write_expected(expected.view());
  for (const index_t threads : {1, 3}) {
    tensor<T> y(rows, columns, layouts[1]);
    dispatched(y.view(), thread_pool{threads});
    CAPTURE(threads);
    CHECK(first_difference(integers_of(y.view()).view(), integers_of(expected.view()).view()) == "");
    CHECK(y.surroundings_untouched());
  }
}

template <class T>
tensor<T> random_tensor(index_t rows, index_t columns, std::int64_t low, std::int64_t high, int seed = 1) {
  generator random(static_cast<std::uint64_t>(seed));
  tensor<T> made(rows, columns, layouts[1]);
  fill(made.view(), values::random, low, high, random);
  return made;
}

/// Calls check_stage for each stage of a list.
template <class... Stages, class Check>
void for_each_stage(dispatch_lists::stages<Stages...>, const Check& check_stage) {
  (check_stage(std::type_identity<Stages>{}), ...);
}

}  // namespace intact_test
