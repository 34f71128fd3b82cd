// Matrix products with every kind of weights and every output stage, and products of two activations.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "fuzz_input.hpp"
#include "gemm_operands.hpp"
#include "intact/gemm.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/row_sums.hpp"
#include "intact/row_sums.hpp"
#include "same_bits.hpp"
#include "stage_cases.hpp"

namespace intact_test {
namespace {

/// Any shape that takes the specification no longer than a millisecond or ten; at times a small one whose inner
/// dimension is next to the limit.
gemm_shape some_shape(fuzz_input& input, index_t limit) {
  if (input.between(0, 63) == 63) {
    return {input.between(0, 2), input.between(1, 3), limit + input.between(-1, 1)};
  }
  constexpr index_t most_products = 1 << 18;
  const index_t n = input.size(), k = input.size(600);
  return {input.size(std::min<index_t>(300, most_products / std::max<index_t>(n * k, 1))), n, k};
}

/// Accumulators of a product that is not refused fit int32.
std::int64_t stage_bound(std::int64_t bound) {
  return std::min<std::int64_t>(bound, std::numeric_limits<std::int32_t>::max());
}

template <class Stage, class Product>
void check_product(fuzz_input& input) {
  constexpr index_t limit = gemm_depth_limit<typename Product::activation, packed_weights<typename Product::element>>();
  const gemm_shape shape = some_shape(input, limit);
  const layout where = input.where();
  const values a_values = input.contents(), w_values = input.contents();
  generator random = input.random();
  Product product(shape, where, a_values, w_values, random);
  const stage_arrays arrays(shape.m, shape.n, input.where(), input.one_of(all_scales), stage_bound(product.bound()),
                            random);
  const Stage stage = stage_of<Stage>(arrays);
  expect_same_bits<guarded_tensor<typename Stage::output>>(
      input, shape.m, shape.n, [&](auto y) { reference::gemm(product.a(), product.w(), stage, y); },
      [&](auto y, const auto& run) { gemm<tested_isa>(product.a(), product.packed(), stage, y, run); });
}

void check_stages(fuzz_input& input) {
  with_type_of<all_stages>(input, [&]<class Stage>(std::type_identity<Stage>) {
    check_product<Stage, product<std::uint8_t, s8_weights>>(input);
  });
}

void check_weights(fuzz_input& input) {
  with_type_of<all_products>(input, [&]<class Product>(std::type_identity<Product>) {
    input.flag() ? check_product<raw_accumulator, Product>(input)
                 : check_product<requantize<std::uint8_t>, Product>(input);
  });
}

template <class Stage>
void check_activation_product(fuzz_input& input) {
  const gemm_shape shape = some_shape(input, gemm_max_depth_u8_u8);
  const layout where = input.where();
  const values a_values = input.contents(), b_values = input.contents();
  const std::pair<int, int> zero_points = {input.code(), input.code()};
  generator random = input.random();
  activation_pair x(shape, where, a_values, b_values, zero_points, random);
  input.change(x.a_codes.view(), 0, 255);
  input.change(x.b_codes.view(), 0, 255);
  const stage_arrays arrays(shape.m, shape.n, input.where(), input.one_of(all_scales), stage_bound(x.bound()), random);
  const Stage stage = stage_of<Stage>(arrays);
  const auto misaligned = static_cast<std::size_t>(input.between(0, 63));
  expect_same_bits<guarded_tensor<typename Stage::output>>(
      input, shape.m, shape.n, [&](auto y) { reference::gemm(x.a(), x.b(), stage, y); },
      [&](auto y, const auto& run) {
        exact_workspace memory(gemm_workspace_bytes(shape.m, shape.n, shape.k, run.threads()), misaligned);
        gemm<tested_isa>(x.a(), x.b(), stage, y, memory.get(), run);
      });
}

void check_activation_products(fuzz_input& input) {
  with_type_of<few_stages>(input,
                           [&]<class Stage>(std::type_identity<Stage>) { check_activation_product<Stage>(input); });
}

template <class A>
void check_row_sums(fuzz_input& input) {
  const index_t rows = input.size(), columns = input.between(0, 63) == 63 ? input.between(33024, 33026) : input.size();
  guarded_tensor<A> a(rows, columns, input.where());
  generator random = input.random();
  fill(a.view(), input.contents(), std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), random);
  const auto factor = static_cast<std::int32_t>(input.between(-256, 256));
  const auto sums = [](auto y) { return std::span(y.data, static_cast<std::size_t>(y.columns)); };
  expect_same_bits<guarded_tensor<std::int32_t>>(
      input, 1, rows, [&](auto y) { reference::row_sums(a.view(), factor, sums(y)); },
      [&](auto y, const auto&) { row_sums<tested_isa>(a.view(), factor, sums(y)); });
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  fuzz_input input(bytes, size);
  input.call_one({check_stages, check_weights, check_activation_products, check_row_sums<std::uint8_t>,
                  check_row_sums<std::int8_t>});
  return 0;
}
