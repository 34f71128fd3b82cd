#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "gemm_operands.hpp"
#include "guarded_memory.hpp"
#include "heap_counter.hpp"
#include "intact/gemm.hpp"
#include "intact/reference/gemm.hpp"
#include "kernel_tests.hpp"
#include "reversed_executor.hpp"
#include "stage_cases.hpp"
#include "tensor.hpp"

// Products of two activations on one instruction set, isa::INTACT_TEST_ISA, against the specification, and their sums
// against loops of this file alone. This file is compiled once per instruction set.

namespace intact_test::activation_product_test {
namespace {

constexpr index_t row_counts[] = {0, 1, 2, 3, 5, 6, 7, 11, 13};
constexpr index_t second_row_counts[] = {0, 1, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 129, 197};
constexpr index_t depths[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 65, 2051};

/// Calls check(shape, layout) for every pair of two of the three sizes, each time with another layout.
template <class Check>
void for_each_shape(const Check& check) {
  std::size_t i = 0;
  const auto next = [&](const auto& all) { return all[i % std::size(all)]; };
  for (const index_t n : second_row_counts) {
    for (const index_t m : row_counts) {
      check(gemm_shape{m, n, next(depths)}, next(layouts));
      ++i;
    }
    for (const index_t k : depths) {
      check(gemm_shape{next(row_counts), n, k}, next(layouts));
      ++i;
    }
  }
}

std::size_t workspace_bytes_of(const gemm_shape& shape, index_t threads) {
  return gemm_workspace_bytes(shape.m, shape.n, shape.k, threads);
}

/// The sums, by loops of this file alone.
tensor<std::int32_t> exact_sums(const quantized_matrix& a, const quantized_matrix& b) {
  tensor<std::int32_t> sums(a.codes.rows, b.codes.rows);
  for (index_t m = 0; m < a.codes.rows; ++m) {
    for (index_t n = 0; n < b.codes.rows; ++n) {
      int128 sum = 0;
      for (index_t k = 0; k < a.codes.columns; ++k) {
        sum += int128{a.codes(m, k) - a.zero_point} * (b.codes(n, k) - b.zero_point);
      }
      sums(m, n) = static_cast<std::int32_t>(sum);
    }
  }
  return sums;
}

constexpr std::pair<int, int> all_zero_points[] = {{0, 0}, {255, 255}, {0, 255}, {255, 0}, {128, 128}, {131, 7}};

void check_sums(const gemm_shape& shape, const layout& where, values a_values, values b_values,
                std::pair<int, int> zero_points) {
  generator random(static_cast<std::uint64_t>(shape.m + 100 * shape.n + 100000 * shape.k));
  const activation_pair x(shape, where, a_values, b_values, zero_points, random);
  guarded_tensor<std::int32_t> y(shape.m, shape.n, where);
  exact_workspace memory(workspace_bytes_of(shape, 1), static_cast<std::size_t>(where.offset) % 64);
  gemm<tested_isa>(x.a(), x.b(), raw_accumulator{}, y.view(), memory.get());
  const std::string difference = first_difference(y.view(), exact_sums(x.a(), x.b()).view());
  if (difference != "" || !y.surroundings_untouched()) {
    CAPTURE(shape.m, shape.n, shape.k, where.gap, int(a_values), int(b_values), zero_points.first, zero_points.second);
    CHECK(difference == "");
    CHECK(y.surroundings_untouched());
  }
}

TEST_CASE("gemm: sums are exact in tiles and remainders [two activations, every shape]") {
  std::size_t i = 0;
  for_each_shape([&](const gemm_shape& shape, const layout& where) {
    check_sums(shape, where, values::random, values::random, all_zero_points[i++ % std::size(all_zero_points)]);
  });
  CHECK(true);
}

TEST_CASE("gemm: sums are exact for extreme codes and zero points [two activations]") {
  for (const gemm_shape& shape : {gemm_shape{7, 21, 16}, {6, 64, 33}, {1, 17, 3072}, {3, 5, 1}}) {
    for (const values a : all_values) {
      for (const values b : all_values) {
        for (const auto& zero_points : all_zero_points) {
          check_sums(shape, layouts[0], a, b, zero_points);
        }
      }
    }
  }
  CHECK(true);
}

TEST_CASE("gemm: sums are exact at the limit of the inner dimension [two activations]") {
  for (const values a : {values::smallest, values::largest}) {
    for (const values b : {values::smallest, values::largest}) {
      for (const auto& zero_points : all_zero_points) {
        check_sums({2, 3, gemm_max_depth_u8_u8}, layouts[0], a, b, zero_points);
      }
    }
  }
  check_sums({7, 2, gemm_max_depth_u8_u8}, layouts[1], values::alternating, values::constant_rows, {255, 0});
  check_sums({3, 17, gemm_max_depth_u8_u8 - 1}, layouts[2], values::random, values::random, {0, 255});
}

TEST_CASE("gemm: both operands may be the same memory [two activations]") {
  generator random(8);
  const activation_pair x({13, 13, 37}, layouts[1], values::random, values::random, {100, 100}, random);
  guarded_tensor<std::int32_t> y(13, 13);
  exact_workspace memory(workspace_bytes_of({13, 13, 37}, 1));
  gemm<tested_isa>(x.a(), x.a(), raw_accumulator{}, y.view(), memory.get());
  CHECK(first_difference(y.view(), exact_sums(x.a(), x.a()).view()) == "");
}

template <class Stage>
void check_stage(const gemm_shape& shape, const layout& where, scales what, std::pair<int, int> zero_points,
                 generator& random) {
  const activation_pair x(shape, where, values::random, values::random, zero_points, random);
  const stage_arrays arrays(shape.m, shape.n, where, what, x.bound(), random);
  const Stage stage = stage_of<Stage>(arrays);
  guarded_tensor<typename Stage::output> y(shape.m, shape.n, where), expected(shape.m, shape.n);
  exact_workspace memory(workspace_bytes_of(shape, 1));
  gemm<tested_isa>(x.a(), x.b(), stage, y.view(), memory.get());
  reference::gemm(x.a(), x.b(), stage, expected.view());
  const std::string difference = first_difference(y.view(), expected.view());
  if (difference != "" || !y.surroundings_untouched()) {
    CAPTURE(shape.m, shape.n, shape.k, where.gap, int(what), zero_points.first, zero_points.second);
    CHECK(difference == "");
    CHECK(y.surroundings_untouched());
  }
}

TEMPLATE_LIST_TEST_CASE("gemm: every output stage equals the specification [two activations]", "", all_stages) {
  std::size_t i = 0;
  const auto next = [&](const auto& all) { return all[i % std::size(all)]; };
  for (const index_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 63, 64, 65, 127, 129}) {
    for (const scales what : all_scales) {
      generator random(i);
      check_stage<TestType>({next(row_counts), n, next(depths)}, next(layouts), what, next(all_zero_points), random);
      ++i;
    }
  }
  CHECK(true);
}

/// The matrices of a batch: one after the other, side by side as heads are, or one for all.
enum class arrangement { one_after_another, side_by_side, shared };

struct batch_operand {
  guarded_tensor<std::uint8_t> codes;
  matrix_batch<const std::uint8_t> batch;

  batch_operand(arrangement how, index_t count, index_t rows, index_t columns, generator& random)
      : codes(how == arrangement::one_after_another ? std::max<index_t>(count, 1) * rows : rows,
              how == arrangement::side_by_side ? std::max<index_t>(count, 1) * columns : columns) {
    fill(codes.view(), values::random, 0, 255, random);
    batch = {std::as_const(codes).view(), count, 0};
    batch.first.rows = rows;
    batch.first.columns = columns;
    batch.distance = how == arrangement::one_after_another ? rows * batch.first.stride
                     : how == arrangement::side_by_side    ? columns
                                                           : 0;
  }
};

template <class Executor>
void check_batch(index_t count, const gemm_shape& shape, arrangement how, const Executor& run) {
  CAPTURE(count, shape.m, shape.n, shape.k, int(how), run.threads());
  generator random(70);
  const batch_operand a(how, count, shape.m, shape.k, random);
  const batch_operand b(arrangement::side_by_side, count, shape.n, shape.k, random);
  const quantized_batch all_a{a.batch, 130}, all_b{b.batch, 9};
  const stage_arrays arrays(shape.m, shape.n, layouts[0], scales::bytes, 255 * 255 * shape.k + 1, random);
  const auto stage = stage_of<requantize_per_row<std::uint8_t>>(arrays);
  const bool beside = how == arrangement::side_by_side;
  const index_t memory_for = std::max<index_t>(count, 1);
  guarded_tensor<std::uint8_t> y(beside ? shape.m : memory_for * shape.m, beside ? memory_for * shape.n : shape.n,
                                 layouts[1]);
  matrix_batch<std::uint8_t> outputs{y.view(), count, 0};
  outputs.first.rows = shape.m;
  outputs.first.columns = shape.n;
  outputs.distance = beside ? shape.n : shape.m * y.view().stride;
  exact_workspace memory(workspace_bytes_of(shape, run.threads()), 1);
  gemm<tested_isa>(all_a, all_b, stage, outputs, memory.get(), run);
  for (index_t i = 0; i < count; ++i) {
    tensor<std::uint8_t> expected(shape.m, shape.n);
    reference::gemm(all_a[i], all_b[i], stage, expected.view());
    CHECK(first_difference(outputs[i], expected.view()) == "");
  }
  CHECK(y.surroundings_untouched());
}

TEST_CASE("gemm: a batch of products equals the products one by one [two activations, every executor]") {
  for (const arrangement how : {arrangement::one_after_another, arrangement::side_by_side, arrangement::shared}) {
    for (const index_t count : {0, 1, 2, 3, 5, 12}) {
      for (const gemm_shape& shape : {gemm_shape{7, 17, 9}, {1, 1, 1}, {5, 3, 0}, {0, 4, 3}, {6, 0, 5}}) {
        check_batch(count, shape, how, sequential{});
        check_batch(count, shape, how, reversed_executor{});
        check_batch(count, shape, how, executor_ref(thread_pool{7}));
      }
    }
  }
  // Products that are large enough to be split among threads.
  for (const index_t threads : {1, 2, 3, 7}) {
    for (const index_t count : {1, 2}) {
      check_batch(count, {197, 197, 96}, arrangement::one_after_another, executor_ref(thread_pool{threads}));
    }
  }
}

TEST_CASE("gemm: takes no memory from the heap [two activations]") {
  tensor<std::uint8_t> a(50, 64), b(70, 64), y(50, 70);
  std::vector<std::byte> scratch(gemm_workspace_bytes(50, 70, 64));
  const workspace memory(scratch.data(), scratch.size());
  const requantize<std::uint8_t, tensor_scale> stage{{1 << 20, 0, 0, 0}};
  const std::size_t live = live_bytes;
  most_live_bytes = live;
  largest_block = 0;
  gemm<tested_isa>(quantized_matrix{a.view(), 1}, quantized_matrix{b.view(), 2}, stage, y.view(), memory);
  const std::size_t most = most_live_bytes, largest = largest_block;
  CHECK(most == live);
  CHECK(largest == 0);
}

}  // namespace
}  // namespace intact_test::activation_product_test
