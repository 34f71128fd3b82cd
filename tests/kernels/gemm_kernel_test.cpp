#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "gemm_operands.hpp"
#include "guarded_memory.hpp"
#include "intact/gemm.hpp"
#include "intact/pack.hpp"
#include "intact/reference/gemm.hpp"
#include "reversed_executor.hpp"
#include "stage_cases.hpp"
#include "tensor.hpp"

// The fast matrix product of one instruction set, isa::INTACT_TEST_ISA, against the specification, bit by bit. This
// file is compiled once per instruction set.

namespace intact_test::gemm_kernel_test {
namespace {

using test_isa = isa::INTACT_TEST_ISA;

constexpr index_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};  // every rest of tiles of 6, and of 5
constexpr index_t channel_counts[] = {
    1,  2,  3,  4,  5,  7,  8,  9,  11,  12,  13,  15,  16,  17,    // around a register of
    19, 20, 21, 23, 24, 25, 31, 32, 33,                             // 4, 8 or 16 channels
    47, 48, 49, 63, 64, 65, 95, 97, 127, 128, 129, 130, 192, 200};  // around panels
constexpr index_t depths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33};   // around a group of 4 and a pair of groups

/// The sums, by loops of this file alone.
template <class A, class Weights>
tensor<std::int32_t> exact_sums(matrix_view<const A> a, const Weights& w) {
  tensor<std::int32_t> sums(a.rows, w.rows);
  for (index_t m = 0; m < a.rows; ++m) {
    for (index_t n = 0; n < w.rows; ++n) {
      std::int64_t sum = 0;
      for (index_t k = 0; k < a.columns; ++k) {
        sum += std::int64_t{a(m, k)} * w(n, k);
      }
      sums(m, n) = static_cast<std::int32_t>(sum);
    }
  }
  return sums;
}

template <class Product>
void check_sums(const gemm_shape& shape, const layout& where, values a_values, values w_values) {
  generator random(static_cast<std::uint64_t>(shape.m + 100 * shape.n + 100000 * shape.k));
  Product product(shape, where, a_values, w_values, random);
  guarded_tensor<std::int32_t> y(shape.m, shape.n, where);
  gemm<test_isa>(product.a(), product.packed(), raw_accumulator{}, y.view());
  const std::string difference = first_difference(y.view(), exact_sums(product.a(), product.w()).view());
  if (difference != "" || !y.surroundings_untouched()) {
    CAPTURE(shape.m, shape.n, shape.k, where.gap, where.offset, int(a_values), int(w_values));
    CHECK(difference == "");
    CHECK(y.surroundings_untouched());
  }
}

/// Calls check(shape, layout) for every pair of two of the three sizes, each time with another layout.
template <class Check>
void for_each_shape(const Check& check) {
  std::size_t i = 0;
  const auto next = [&](const auto& all) { return all[i % std::size(all)]; };
  for (const index_t n : channel_counts) {
    for (const index_t m : row_counts) {
      check(gemm_shape{m, n, next(depths)}, next(layouts));
      ++i;
    }
    for (const index_t k : depths) {
      check(gemm_shape{next(row_counts), n, k}, next(layouts));
      ++i;
    }
  }
  for (const index_t m : {0, 1, 6, 7}) {
    for (const index_t k : depths) {
      check(gemm_shape{m, 0, k}, next(layouts));
      check(gemm_shape{m, 17, k}, next(layouts));
      ++i;
    }
  }
}

TEMPLATE_LIST_TEST_CASE("gemm: sums are exact in tiles and remainders [every shape]", "", all_products) {
  for_each_shape([](const gemm_shape& shape, const layout& where) {
    check_sums<TestType>(shape, where, values::random, values::random);
  });
  CHECK(true);
}

TEMPLATE_LIST_TEST_CASE("gemm: sums of the largest products are exact [all pairs of bytes]", "", all_products) {
  for (const gemm_shape& shape : {gemm_shape{7, 21, 16}, gemm_shape{6, 64, 33}, gemm_shape{1, 17, 3072}}) {
    for (const values a : all_values) {
      for (const values w : all_values) {
        check_sums<TestType>(shape, layouts[0], a, w);
      }
    }
  }
  CHECK(true);
}

TEMPLATE_LIST_TEST_CASE("gemm: sums of the largest products are exact [every rest of the inner dimension]", "",
                        all_products) {
  // Instruction sets that add products in 16 bits do so over up to 120 columns.
  for (index_t k = 1; k <= 130; ++k) {
    for (const values a : {values::smallest, values::largest, values::alternating}) {
      for (const values w : {values::smallest, values::largest}) {
        check_sums<TestType>({row_counts[k % 7], 17 + k % 3 * 24, k}, layouts[0], a, w);
      }
    }
  }
  CHECK(true);
}

TEMPLATE_LIST_TEST_CASE("gemm: sums are exact if the inner dimension is cut into chunks", "", all_products) {
  for (const index_t chunks : {1, 2, 3}) {
    for (const index_t rest : {-8, -7, -4, -1, 0, 1, 3, 4, 5, 8}) {
      check_sums<TestType>({6, 65, kernel::gemm_chunk * chunks + rest}, layouts[1], values::random, values::random);
      check_sums<TestType>({4, 17, kernel::gemm_chunk * chunks + rest}, layouts[0], values::random, values::random);
    }
    // More panels than share a copy of the activations.
    check_sums<TestType>({13, 64 * kernel::gemm_panels_per_pass + 65, kernel::gemm_chunk * chunks + 1}, layouts[1],
                         values::random, values::random);
  }
  CHECK(true);
}

TEMPLATE_LIST_TEST_CASE("gemm: sums are exact at the limit of the inner dimension", "", all_products) {
  using element = typename TestType::element;
  constexpr index_t depth = gemm_depth_limit<typename TestType::activation, packed_weights<element>>();
  for (const values a : {values::smallest, values::largest}) {
    for (const values w : {values::smallest, values::largest}) {
      check_sums<TestType>({2, 3, depth}, layouts[0], a, w);
    }
  }
  check_sums<TestType>({7, 2, depth}, layouts[1], values::alternating, values::constant_rows);
}

TEST_CASE("gemm: a product without columns needs no memory for them") {
  packed_memory memory(packed_weights_bytes<std::int8_t>(5, 0));
  const packed_weights<std::int8_t> w = pack_weights(matrix_view<const std::int8_t>(nullptr, 5, 0, 3), memory.span());
  guarded_tensor<std::int32_t> y(8, 5);
  gemm<test_isa>(matrix_view<const std::uint8_t>(nullptr, 8, 0, 7), w, raw_accumulator{}, y.view());
  CHECK(first_difference(y.view(), tensor<std::int32_t>(exact_sums(matrix_view<const std::uint8_t>(nullptr, 8, 0),
                                                                   matrix_view<const std::int8_t>(nullptr, 5, 0)))
                                       .view()) == "");
}

TEMPLATE_LIST_TEST_CASE("gemm: sums may start from a number per channel", "", all_products) {
  for (const gemm_shape& shape : {gemm_shape{7, 130, 9}, gemm_shape{1, 65, 0}, gemm_shape{6, 17, 2049}}) {
    generator random(10);
    TestType product(shape, layouts[0], values::random, values::random, random);
    guarded_vector<std::int32_t> start(static_cast<std::size_t>(shape.n));
    tensor<std::int32_t> expected = exact_sums(product.a(), product.w());
    for (index_t n = 0; n < shape.n; ++n) {
      const std::int64_t rest = std::numeric_limits<std::int32_t>::max() - product.bound();
      start[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(random.between(-rest, rest));
      for (index_t m = 0; m < shape.m; ++m) {
        expected(m, n) += start[static_cast<std::size_t>(n)];
      }
    }
    guarded_tensor<std::int32_t> y(shape.m, shape.n);
    const gemm_operands<typename TestType::activation, typename TestType::element, raw_accumulator> operands{
        product.a(), product.packed(), raw_accumulator{}, y.view(), start.data()};
    kernel::gemm<test_isa>(operands, 0, kernel::gemm_units(shape.m, product.packed()));
    CAPTURE(shape.m, shape.n, shape.k);
    CHECK(first_difference(y.view(), expected.view()) == "");
  }
}

/// One stage on one product, against the specification.
template <class Stage, class Product>
void check_stage(Product& product, const layout& where, scales what, generator& random) {
  const stage_arrays arrays(product.a().rows, product.packed().rows, where, what, product.bound(), random);
  const Stage stage = stage_of<Stage>(arrays);
  guarded_tensor<typename Stage::output> y(product.a().rows, product.packed().rows, where);
  gemm<test_isa>(product.a(), product.packed(), stage, y.view());
  tensor<typename Stage::output> expected(y.rows(), y.columns());
  reference::gemm(product.a(), product.w(), stage, expected.view());
  const std::string difference = first_difference(y.view(), expected.view());
  if (difference != "" || !y.surroundings_untouched()) {
    CAPTURE(y.rows(), y.columns(), product.a().columns, where.gap, where.offset, int(what));
    CHECK(difference == "");
    CHECK(y.surroundings_untouched());
  }
}

constexpr index_t stage_channel_counts[] = {1,  2,  3,  4,  5,  7,  8,  9,  12, 13, 15, 16,  17,  20, 24,
                                            25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 80, 127, 129, 200};

/// Every number of channels, with every number of rows in turn, and with two rows, which have a tile of their own.
template <class Stage, class Product>
void check_stage_on_shapes() {
  std::size_t i = 0;
  const auto next = [&](const auto& all) { return all[i % std::size(all)]; };
  const auto check = [&](index_t rows, index_t channels, scales what) {
    generator random(i);
    Product product({rows, channels, next(depths)}, next(layouts), values::random, values::random, random);
    check_stage<Stage>(product, next(layouts), what, random);
    ++i;
  };
  for (const index_t n : stage_channel_counts) {
    for (const scales what : all_scales) {
      check(next(row_counts), n, what);
    }
    check(2, n, next(all_scales));
  }
}

TEMPLATE_LIST_TEST_CASE("gemm: every output stage equals the specification", "", all_stages) {
  check_stage_on_shapes<TestType, product<std::uint8_t, s8_weights>>();
  CHECK(true);
}

// Two rows at the end have a tile that takes as many columns as are widened at a time.
TEMPLATE_LIST_TEST_CASE("gemm: output stages equal the specification [two rows, around 1,024 columns]", "",
                        few_stages) {
  generator random(5);
  for (const index_t rows : {2, 8}) {
    for (const index_t channels : {1, 4, 5, 8, 9, 16, 17}) {
      for (const index_t depth : {1023, 1024, 1025, 1040, 2500}) {
        product<std::uint8_t, s8_weights> all({rows, channels, depth}, layouts[1], values::random, values::random,
                                              random);
        check_stage<TestType>(all, layouts[1], scales::bytes, random);
      }
    }
  }
  CHECK(true);
}

TEMPLATE_LIST_TEST_CASE("gemm: output stages equal the specification [all kinds of operands]", "", few_stages) {
  check_stage_on_shapes<TestType, product<std::int8_t, s8_weights>>();
  check_stage_on_shapes<TestType, product<std::uint8_t, s4_weights>>();
  check_stage_on_shapes<TestType, product<std::uint8_t, grouped_s4_weights<true>>>();
  CHECK(true);
}

TEMPLATE_LIST_TEST_CASE("gemm: every output stage equals the specification [accumulators over all of int32]", "",
                        all_stages) {
  generator random(20);
  using widest = product<std::uint8_t, s8_weights>;
  for (const values w : {values::smallest, values::largest, values::constant_rows}) {
    widest product({2, 17, gemm_max_depth_u8_s8}, layouts[0], values::largest, w, random);
    for (int i = 0; i < 8; ++i) {
      check_stage<TestType>(product, layouts[1], i < 3 ? all_scales[i] : scales::extreme, random);
    }
  }
  CHECK(true);
}

/// The output of a stage that adds to a matrix, computed into that matrix.
template <class Stage, class Element>
void check_in_place(matrix_view<const Element> Stage::*addend, guarded_tensor<Element> stage_arrays::*values_of) {
  std::size_t i = 0;
  for (const gemm_shape& shape : {gemm_shape{13, 200, 9}, gemm_shape{7, 33, 4}, gemm_shape{1, 5, 3}}) {
    for (const layout& where : layouts) {
      generator random(30 + i++);
      product<std::uint8_t, s8_weights> product(shape, where, values::random, values::random, random);
      stage_arrays arrays(shape.m, shape.n, where, scales::words, product.bound(), random);
      Stage stage = stage_of<Stage>(arrays);
      tensor<Element> expected(shape.m, shape.n);
      reference::gemm(product.a(), product.w(), stage, expected.view());
      guarded_tensor<Element>& y = arrays.*values_of;
      stage.*addend = y.view();
      gemm<test_isa>(product.a(), product.packed(), stage, y.view());
      CAPTURE(shape.m, shape.n, where.gap);
      CHECK(first_difference(y.view(), expected.view()) == "");
      CHECK(y.surroundings_untouched());
    }
  }
}

TEST_CASE("gemm: a stage may add to the output itself") {
  check_in_place(&add_to_stream::addend, &stage_arrays::addend);
  check_in_place(&requantize_add::stream, &stage_arrays::stream);
}

/// Prefixes of packed weights equal products with prefixes of the weights: slices cut panels, registers and groups.
template <class Product>
void check_prefixes() {
  for (const gemm_shape& full : {gemm_shape{7, 130, 33}, gemm_shape{2, 50, 16}, gemm_shape{3, 16, 5}}) {
    generator random(40);
    Product product(full, layouts[0], values::random, values::random, random);
    for (const index_t n : {0, 1, 15, 16, 17, 40, 64, 65, 129, 130}) {
      for (const index_t k : {0, 1, 3, 4, 5, 7, 8, 9, 12, 16, 31, 33}) {
        if (n > full.n || k > full.k) {
          continue;
        }
        guarded_tensor<std::int32_t> y(full.m, n);
        gemm<test_isa>(product.a().prefix(full.m, k), product.packed().prefix(n, k), raw_accumulator{}, y.view());
        const auto expected = exact_sums(product.a().prefix(full.m, k), product.w().prefix(n, k));
        CAPTURE(full.n, full.k, n, k);
        CHECK(first_difference(y.view(), expected.view()) == "");
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("gemm: the first channels and columns of packed weights are packed weights", "", all_products) {
  check_prefixes<TestType>();
}

/// The whole memory of the output when the work is done in these pieces.
template <class Product, class Stage>
std::vector<std::uint8_t> output_of_pieces(Product& product, const Stage& stage, const std::vector<index_t>& ends,
                                           bool reversed) {
  tensor<std::uint8_t> y(product.a().rows, product.packed().rows, layouts[1]);
  const gemm_operands<typename Product::activation, typename Product::element, Stage> operands{
      product.a(), product.packed(), stage, y.view()};
  for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
    const std::size_t piece = reversed ? ends.size() - 2 - i : i;
    kernel::gemm<test_isa>(operands, ends[piece], ends[piece + 1]);
  }
  return y.memory();
}

TEMPLATE_LIST_TEST_CASE("gemm: the bits do not depend on how the work is split", "", all_products) {
  for (const gemm_shape& shape :
       {gemm_shape{25, 200, 9}, gemm_shape{6, 64, 4}, gemm_shape{5, 129, 33}, gemm_shape{20, 370, 5}}) {
    generator random(50);
    TestType product(shape, layouts[1], values::random, values::random, random);
    const stage_arrays arrays(shape.m, shape.n, layouts[0], scales::bytes, product.bound(), random);
    const auto stage = stage_of<requantize<std::uint8_t>>(arrays);
    const index_t units = kernel::gemm_units(shape.m, product.packed());
    const auto whole = output_of_pieces(product, stage, {0, units}, false);
    tensor<std::uint8_t> expected(shape.m, shape.n, layouts[1]);
    reference::gemm(product.a(), product.w(), stage, expected.view());
    CHECK(whole == expected.memory());
    std::vector<index_t> single;
    for (index_t unit = 0; unit <= units; ++unit) {
      CHECK(output_of_pieces(product, stage, {0, unit, units}, unit % 2 != 0) == whole);
      single.push_back(unit);
    }
    CHECK(output_of_pieces(product, stage, single, false) == whole);
    CHECK(output_of_pieces(product, stage, single, true) == whole);
    for (int i = 0; i < 10; ++i) {
      std::vector<index_t> ends{0, units};
      for (int cut = 0; cut < 4; ++cut) {
        ends.push_back(random.between(0, units));
      }
      std::sort(ends.begin(), ends.end());
      CHECK(output_of_pieces(product, stage, ends, i % 2 != 0) == whole);
    }
  }
}

TEST_CASE("gemm: a unit of work writes only its own part of the output") {
  generator random(51);
  product<std::uint8_t, s8_weights> product({13, 130, 5}, layouts[0], values::random, values::random, random);
  const index_t units = kernel::gemm_units(13, product.packed());
  CHECK(units == 9);  // 3 panels, of 6, 6 and 1 rows
  const tensor<std::int32_t> sums = exact_sums(product.a(), product.w());
  for (index_t unit = 0; unit < units; ++unit) {
    tensor<std::int32_t> y(13, 130);
    const gemm_operands<std::uint8_t, std::int8_t, raw_accumulator> operands{product.a(), product.packed(),
                                                                             raw_accumulator{}, y.view()};
    kernel::gemm<test_isa>(operands, unit, unit + 1);
    int wrong = 0;
    for (index_t m = 0; m < 13; ++m) {
      for (index_t n = 0; n < 130; ++n) {
        const bool in_unit = m / 6 == unit % 3 && n / 64 == unit / 3;
        wrong += y(m, n) != (in_unit ? sums(m, n) : tensor<std::int32_t>::pattern) ? 1 : 0;
      }
    }
    CAPTURE(unit);
    CHECK(wrong == 0);
  }
}

/// Threads that take the next task each.
struct thread_team {
  index_t size;

  index_t threads() const { return size; }
  template <class Task>
  void for_each(index_t tasks, Task&& task) const {
    std::atomic<index_t> next{0};
    std::vector<std::thread> team;
    for (index_t i = 0; i < size; ++i) {
      team.emplace_back([&] {
        for (index_t one = next++; one < tasks; one = next++) {
          task(one);
        }
      });
    }
    for (std::thread& member : team) {
      member.join();
    }
  }
};
static_assert(executor<thread_team>);

TEST_CASE("gemm: the bits do not depend on the executor") {
  for (const gemm_shape& shape : {gemm_shape{0, 0, 0}, gemm_shape{0, 5, 3}, gemm_shape{1, 1, 1}, gemm_shape{6, 65, 8},
                                  gemm_shape{49, 320, 64}, gemm_shape{197, 192, 256}}) {
    generator random(60);
    product<std::uint8_t, s8_weights> product(shape, layouts[0], values::random, values::random, random);
    const stage_arrays arrays(shape.m, shape.n, layouts[0], scales::bytes, product.bound(), random);
    const auto stage = stage_of<requantize<std::uint8_t>>(arrays);
    tensor<std::uint8_t> expected(shape.m, shape.n, layouts[1]);
    reference::gemm(product.a(), product.w(), stage, expected.view());
    for (const index_t threads : {1, 2, 3, 7}) {
      tensor<std::uint8_t> alone(shape.m, shape.n, layouts[1]);
      index_t tasks = 0;
      gemm<test_isa>(product.a(), product.packed(), stage, alone.view(), reversed_executor{threads, &tasks});
      tensor<std::uint8_t> together(shape.m, shape.n, layouts[1]);
      gemm<test_isa>(product.a(), product.packed(), stage, together.view(), thread_team{threads});
      CAPTURE(shape.m, shape.n, threads);
      CHECK(alone.memory() == expected.memory());
      CHECK(together.memory() == expected.memory());
      const index_t units = kernel::gemm_units(shape.m, product.packed());
      CHECK(tasks <= units);
      // Each thread gets something to do if there is work for it.
      const index_t work = shape.m * shape.n * shape.k;
      CHECK(tasks >= std::min({units, threads, std::max<index_t>(work >> 20, 1)}));
      CHECK(tasks <= 2 * threads);
    }
  }
}

}  // namespace
}  // namespace intact_test::gemm_kernel_test
