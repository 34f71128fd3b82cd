#include "intact/types/grouped_s4.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "intact/build/weights.hpp"
#include "intact/gemm.hpp"
#include "intact/reference/gemm.hpp"
#include "tensor.hpp"

// s4 weights with a power of two per group, and the first rows and columns of weights of every kind.

namespace intact_test::grouped_s4_test {
namespace {

index_t groups_of(index_t columns, index_t group) {
  return (columns + group - 1) / group;
}

/// Grouped weights that own their memory.
struct grouped_tensor {
  packed_tensor<s4> codes;
  tensor<std::uint8_t> shifts;
  index_t group;

  grouped_tensor(index_t rows, index_t columns, index_t group_, const layout& where = {})
      : codes(rows, columns, where), shifts(rows, groups_of(columns, group_), where), group(group_) {}

  grouped_s4_view view() { return {codes.view(), shifts.view(), group}; }

  void fill_with(values code_values, values shift_values, generator& random) {
    fill(codes.view(), code_values, s4::min, s4::max, random);
    fill(shifts.view(), shift_values, 0, 3, random);
  }

  /// The weights in s8, each read from its nibble and its group's shift.
  tensor<std::int8_t> expanded() {
    tensor<std::int8_t> w(codes.view().rows, codes.view().columns);
    for (index_t n = 0; n < w.rows(); ++n) {
      for (index_t k = 0; k < w.columns(); ++k) {
        const int byte = codes.bytes()(n, k / 2);
        const int nibble = k % 2 == 0 ? byte % 16 : byte / 16;
        const int code = nibble >= 8 ? nibble - 16 : nibble;
        const int factors[] = {1, 2, 4, 8};
        w(n, k) = static_cast<std::int8_t>(code * factors[shifts(n, k / group)]);
      }
    }
    return w;
  }
};

template <class A, class Weights>
tensor<std::int32_t> sums(const tensor<A>& a, const Weights& w) {
  tensor<std::int32_t> y(a.rows(), w.rows);
  reference::gemm(a.view(), w, raw_accumulator{}, y.view());
  return y;
}

struct weight_shape {
  index_t rows;
  index_t columns;
  index_t group;
};

constexpr weight_shape weight_shapes[] = {
    {0, 4, 2},   {4, 0, 3},    {3, 1, 1},    {2, 1, 32},                // no weights, one, a group that is never full
    {2, 2, 1},   {3, 5, 2},    {3, 5, 3},    {4, 6, 3},   {1, 7, 7},    // odd groups: bytes across two groups
    {5, 31, 8},  {5, 32, 8},   {5, 33, 8},   {2, 64, 32}, {2, 65, 32},  // around registers and their halves
    {3, 96, 16}, {3, 100, 33}, {10, 192, 32}                            // and DeiT-Tiny's width
};

template <class A>
void check_grouped_gemm() {
  generator random(80);
  for (const weight_shape& shape : weight_shapes) {
    for (const layout& where : layouts) {
      for (const values what : all_values) {
        tensor<A> a(3, shape.columns, where);
        fill(a.view(), values::random, std::numeric_limits<A>::min(), std::numeric_limits<A>::max(), random);
        grouped_tensor w(shape.rows, shape.columns, shape.group, where);
        w.fill_with(what, values::random, random);
        CAPTURE(shape.rows, shape.columns, shape.group, where.gap, int(what));
        tensor<std::int8_t> bytes = w.expanded();
        CHECK(first_difference(sums(a, w.view()).view(), sums(a, bytes.view()).view()) == "");
      }
    }
  }
}

TEST_CASE("reference::gemm: equals the product with the weights in s8 [grouped s4]") {
  check_grouped_gemm<std::uint8_t>();
  check_grouped_gemm<std::int8_t>();
}

TEST_CASE("reference::gemm: shifts of 0 are plain s4 weights, and every shift doubles [grouped s4]") {
  generator random(81);
  tensor<std::uint8_t> a(3, 37);
  fill(a.view(), values::random, 0, 255, random);
  grouped_tensor w(5, 37, 8);
  fill(w.codes.view(), values::random, s4::min, s4::max, random);
  const tensor<std::int32_t> plain = sums(a, w.codes.view());
  for (int shift = 0; shift <= 3; ++shift) {
    fill(w.shifts.view(), values::smallest, shift, shift, random);
    const tensor<std::int32_t> shifted = sums(a, w.view());
    for (std::size_t i = 0; i < plain.memory().size(); ++i) {
      CHECK(shifted.memory()[i] == plain.memory()[i] * (1 << shift));
    }
  }
}

TEST_CASE("reference::gemm: is exact for the largest products at the limit of K [grouped s4]") {
  STATIC_REQUIRE(gemm_max_depth_u8_grouped_s4 == 131586);
  CHECK(std::int64_t{131586} * 255 * 64 <= std::numeric_limits<std::int32_t>::max());
  CHECK(std::int64_t{131587} * 255 * 64 > std::numeric_limits<std::int32_t>::max());
  generator random(82);
  tensor<std::uint8_t> a(1, 131586);
  fill(a.view(), values::smallest, 255, 255, random);
  grouped_tensor w(2, 131586, 32);
  fill(w.shifts.view(), values::smallest, 3, 3, random);
  for (index_t k = 0; k < 131586; ++k) {
    w.codes.view().set(0, k, -8);
    w.codes.view().set(1, k, 7);
  }
  CHECK(sums(a, w.view()).memory() == std::vector<std::int32_t>{-2147483520, 1879048080});
}

/// A copy of the first rows and columns.
template <class View>
tensor<std::int8_t> copied(const View& view, index_t rows, index_t columns) {
  tensor<std::int8_t> copy(rows, columns);
  for (index_t n = 0; n < rows; ++n) {
    for (index_t k = 0; k < columns; ++k) {
      copy(n, k) = static_cast<std::int8_t>(view(n, k));
    }
  }
  return copy;
}

TEST_CASE("reference::gemm: the first rows and columns of weights equal a copy of them") {
  generator random(83);
  for (const layout& where : layouts) {
    tensor<std::int8_t> s8_weights(9, 70, where);
    packed_tensor<s4> s4_weights(9, 70, where);
    grouped_tensor grouped(9, 70, 32, where), odd_groups(9, 70, 5, where);
    fill(s8_weights.view(), values::random, -128, 127, random);
    fill(s4_weights.view(), values::random, s4::min, s4::max, random);
    grouped.fill_with(values::random, values::random, random);
    odd_groups.fill_with(values::random, values::random, random);
    for (const index_t n : {0, 1, 4, 9}) {
      for (const index_t k : {0, 1, 2, 5, 31, 32, 33, 64, 69, 70}) {
        tensor<std::uint8_t> a(2, k);
        fill(a.view(), values::random, 0, 255, random);
        CAPTURE(where.gap, n, k);
        const auto check = [&](const auto& prefix, tensor<std::int8_t> copy) {
          CHECK(prefix.rows == n);
          CHECK(prefix.columns == k);
          CHECK(first_difference(sums(a, prefix).view(), sums(a, copy.view()).view()) == "");
        };
        check(s8_weights.view().prefix(n, k), copied(s8_weights.view(), n, k));
        check(s4_weights.view().prefix(n, k), copied(s4_weights.view(), n, k));
        check(grouped.view().prefix(n, k), copied(grouped.expanded(), n, k));
        check(odd_groups.view().prefix(n, k), copied(odd_groups.expanded(), n, k));
      }
    }
  }
}

TEST_CASE("grouped_s4_view: a prefix has the strides and the memory of the whole") {
  grouped_tensor w(4, 70, 32, layouts[1]);
  const grouped_s4_view all = w.view();
  const grouped_s4_view prefix = all.prefix(3, 33);
  CHECK(prefix.codes.data == all.codes.data);
  CHECK(prefix.codes.stride == all.codes.stride);
  CHECK(prefix.shifts.data == all.shifts.data);
  CHECK(prefix.shifts.stride == all.shifts.stride);
  CHECK(prefix.shifts.rows == 3);
  CHECK(prefix.shifts.columns == 2);
  CHECK(prefix.group == 32);
}

TEST_CASE("reference::gemm: refuses grouped weights that do not fit") {
  generator random(84);
  tensor<std::uint8_t> a(2, 5);
  tensor<std::int32_t> y(2, 3);
  grouped_tensor w(3, 5, 2);
  w.fill_with(values::random, values::random, random);
  const auto call = [&](const grouped_s4_view& weights) {
    reference::gemm(a.view(), weights, raw_accumulator{}, y.view());
  };
  const grouped_s4_view good = w.view();
  const auto with_group = [&](index_t group) { return grouped_s4_view(good.codes, good.shifts, group); };
  const auto with_shifts = [&](index_t rows, index_t columns) {
    return grouped_s4_view(good.codes, good.shifts.prefix(rows, columns), 2);
  };
  CHECK_THROWS_WITH(call(with_group(0)), "intact::gemm: group size of the weights is 0; it must be at least 1");
  CHECK_THROWS_WITH(call(with_group(-2)), "intact::gemm: group size of the weights is -2; it must be at least 1");
  CHECK_THROWS_WITH(call(with_group(3)), "intact::gemm: shifts of the weights is 3 x 3; it must be 3 x 2");
  CHECK_THROWS_WITH(call(with_shifts(3, 2)), "intact::gemm: shifts of the weights is 3 x 2; it must be 3 x 3");
  CHECK_THROWS_WITH(call(with_shifts(2, 3)), "intact::gemm: shifts of the weights is 2 x 3; it must be 3 x 3");
  CHECK_THROWS_WITH(call(good.prefix(3, 4)), "intact::gemm: w is 3 x 4; it must be 3 x 5");
  CHECK_THROWS_WITH(call(good.prefix(2, 5)), "intact::gemm: y is 2 x 3; it must be 2 x 2");
  grouped_s4_view odd = good;
  odd.codes.stride = 5;
  CHECK_THROWS_WITH(call(odd), "intact::gemm: w has stride 5; the stride of packed rows must be even");
  w.shifts(2, 2) = 4;
  CHECK_THROWS_WITH(call(good), "intact::gemm: shift of a group of weights is 4; it must be at most 3");
  w.shifts(2, 2) = 3;
  CHECK(y.memory() == tensor<std::int32_t>(2, 3).memory());
  CHECK_NOTHROW(call(good));

  const packed_view<s4, const std::uint8_t> no_codes(nullptr, 0, 131587);
  const grouped_s4_view too_deep(no_codes, {nullptr, 0, groups_of(131587, 32)}, 32);
  CHECK_THROWS_WITH(reference::gemm(matrix_view<const std::uint8_t>(nullptr, 0, 131587), too_deep, raw_accumulator{},
                                    matrix_view<std::int32_t>()),
                    "intact::gemm: columns of a is 131587; it must be at most 131586");
}

tensor<float> random_weights(index_t rows, index_t columns, generator& random) {
  tensor<float> w(rows, columns);
  for (index_t n = 0; n < rows; ++n) {
    const double spread = std::ldexp(1.0, static_cast<int>(random.between(-12, 3)));
    for (index_t k = 0; k < columns; ++k) {
      const auto uniform = static_cast<double>(random.between(-1'000'000, 1'000'000)) / 1e6;
      w(n, k) = static_cast<float>(uniform * uniform * uniform * spread);  // most are small, as trained weights are
    }
  }
  return w;
}

/// Squared error of a group with codes of a step, as s4 codes make it.
double group_error(const tensor<float>& w, index_t n, index_t first, index_t last, float step) {
  double error = 0;
  for (index_t k = first; k < last; ++k) {
    const int code = quantize_code(w(n, k), {step, 0}, s4_codes);
    const auto difference = static_cast<double>(w(n, k) - static_cast<float>(code) * step);
    error += difference * difference;
  }
  return error;
}

/// Squared error of row n in all groups, group by group.
template <class Step>
double row_error(const tensor<float>& w, index_t n, index_t group, Step step_of_group) {
  double error = 0;
  for (index_t first = 0; first < w.columns(); first += group) {
    error += group_error(w, n, first, std::min(first + group, w.columns()), step_of_group(first / group));
  }
  return error;
}

struct grouped_choice {
  float scale = 0;
  std::vector<std::uint8_t> shift;
  double error = std::numeric_limits<double>::infinity();
};

/// The first best of all channel scales and all combinations of shifts, compared one by one.
grouped_choice searched_row(const tensor<float>& w, index_t n, index_t group) {
  float largest = 0;
  for (index_t k = 0; k < w.columns(); ++k) {
    largest = std::max(largest, std::fabs(w(n, k)));
  }
  const index_t groups = groups_of(w.columns(), group);
  grouped_choice best;
  for (int percent = 100; percent <= 200; percent += 2) {
    const float scale = std::max(largest / 60 * (static_cast<float>(percent) / 100), smallest_scale);
    for (int combination = 0; combination < 1 << (2 * groups); ++combination) {
      const auto shift = [&](index_t g) { return combination >> (2 * (groups - 1 - g)) & 3; };
      const double error = row_error(w, n, group, [&](index_t g) { return scale * static_cast<float>(1 << shift(g)); });
      if (error < best.error) {
        best = {scale, {}, error};
        for (index_t g = 0; g < groups; ++g) {
          best.shift.push_back(static_cast<std::uint8_t>(shift(g)));
        }
      }
    }
  }
  return best;
}

TEST_CASE("quantize_grouped_weights: scales and shifts have the least error [compared with all others]") {
  generator random(85);
  int shifts_used[4] = {0, 0, 0, 0};
  for (int i = 0; i < 40; ++i) {
    const index_t group = random.between(1, 4);
    const index_t columns = random.between(1, 3 * group);
    const tensor<float> w = random_weights(2, columns, random);
    const grouped_weights built = quantize_grouped_weights(w.view(), group);
    const index_t groups = groups_of(columns, group);
    CAPTURE(i, group, columns);
    REQUIRE(std::ssize(built.shift) == 2 * groups);
    REQUIRE(std::ssize(built.weights.codes) == 2 * columns);
    REQUIRE(built.weights.scale.size() == 2);
    for (index_t n = 0; n < 2; ++n) {
      const grouped_choice best = searched_row(w, n, group);
      CHECK(built.weights.scale[static_cast<std::size_t>(n)] == best.scale);
      const auto first = built.shift.begin() + n * groups;
      CHECK(std::vector<std::uint8_t>(first, first + groups) == best.shift);
      for (index_t k = 0; k < columns; ++k) {
        const float step = best.scale * static_cast<float>(1 << best.shift[static_cast<std::size_t>(k / group)]);
        CHECK(built.weights.view()(n, k) == quantize_code(w(n, k), {step, 0}, s4_codes));
      }
      for (const std::uint8_t shift : best.shift) {
        ++shifts_used[shift];
      }
    }
  }
  CHECK(*std::min_element(shifts_used, shifts_used + 4) > 5);
}

/// The squared errors of a row as built, in groups and plain, summed in the same order.
struct row_errors {
  double grouped;
  double plain;
};

row_errors errors_of_row(const tensor<float>& w, index_t n, index_t group) {
  const grouped_weights built = quantize_grouped_weights(w.view(), group);
  const quantized_weights plain = quantize_weights(w.view(), s4_codes);
  const index_t groups = groups_of(w.columns(), group);
  const auto grouped_step = [&](index_t g) {
    return built.weights.scale[static_cast<std::size_t>(n)] *
           static_cast<float>(1 << built.shift[static_cast<std::size_t>(n * groups + g)]);
  };
  const auto plain_step = [&](index_t) { return plain.scale[static_cast<std::size_t>(n)]; };
  return {row_error(w, n, group, grouped_step), row_error(w, n, group, plain_step)};
}

// The step of plain s4 codes is among those compared: the smallest scale with a shift of 3, the largest with one of 2.
// Only the guard against scales below 2^-23 takes it away, where all weights of a row are below 30 * 2^-23.
TEST_CASE("quantize_grouped_weights: no row has a larger error than with plain s4 codes") {
  generator random(86);
  int better = 0, rows = 0;
  for (const index_t group : {1, 2, 7, 32, 64, 100}) {
    const tensor<float> w = random_weights(12, 64, random);
    for (index_t n = 0; n < w.rows(); ++n) {
      const row_errors errors = errors_of_row(w, n, group);
      CAPTURE(group, n);
      CHECK(errors.grouped <= errors.plain);
      better += errors.grouped < errors.plain ? 1 : 0;
      ++rows;
    }
  }
  CHECK(rows == 72);
  CHECK(better > 60);
  tensor<float> smallest(1, 3);  // the largest weight is the least for which this holds
  smallest(0, 0) = 30 * smallest_scale;
  smallest(0, 1) = 7 * smallest_scale;
  smallest(0, 2) = -smallest_scale;
  const row_errors errors = errors_of_row(smallest, 0, 3);
  CHECK(errors.grouped <= errors.plain);
}

TEST_CASE("quantize_grouped_weights: reference::gemm multiplies the built weights") {
  generator random(87);
  const tensor<float> w = random_weights(6, 45, random);
  const grouped_weights built = quantize_grouped_weights(w.view(), 8);
  grouped_tensor packed(6, 45, 8);
  for (index_t n = 0; n < 6; ++n) {
    for (index_t k = 0; k < 45; ++k) {
      CHECK(built.weights.view()(n, k) >= s4::min);
      CHECK(built.weights.view()(n, k) <= s4::max);
      packed.codes.view().set(n, k, built.weights.view()(n, k));
    }
    for (index_t g = 0; g < 6; ++g) {
      packed.shifts(n, g) = built.shift[static_cast<std::size_t>(n * 6 + g)];
    }
  }
  tensor<std::uint8_t> a(2, 45);
  fill(a.view(), values::random, 0, 255, random);
  tensor<std::int8_t> bytes = packed.expanded();
  CHECK(first_difference(sums(a, packed.view()).view(), sums(a, bytes.view()).view()) == "");
}

TEST_CASE("quantize_grouped_weights: takes weights of zeros, of one value and of none") {
  tensor<float> zeros(2, 5);
  for (index_t k = 0; k < 5; ++k) {
    zeros(0, k) = 0;
    zeros(1, k) = -0.75F;
  }
  const grouped_weights built = quantize_grouped_weights(zeros.view(), 2);
  CHECK(built.weights.scale[0] == smallest_scale);
  CHECK(built.weights.codes[5] < 0);
  for (std::size_t k = 0; k < 5; ++k) {
    CHECK(int{built.weights.codes[k]} == 0);
    CHECK(built.weights.codes[5 + k] == built.weights.codes[5]);
  }
  CHECK(std::vector<std::uint8_t>(built.shift.begin(), built.shift.begin() + 3) == std::vector<std::uint8_t>(3, 0));
  CHECK(quantize_grouped_weights(tensor<float>(0, 5).view(), 2).weights.codes.empty());
  const grouped_weights narrow = quantize_grouped_weights(tensor<float>(2, 0).view(), 2);
  CHECK(narrow.shift.empty());
  CHECK(narrow.weights.scale.size() == 2);
}

TEST_CASE("quantize_grouped_weights: refuses weights that are not finite, and groups of 0 columns") {
  tensor<float> w(2, 3);
  for (index_t k = 0; k < 3; ++k) {
    w(0, k) = w(1, k) = 1;
  }
  CHECK_THROWS_WITH(quantize_grouped_weights(w.view(), 0),
                    "intact::quantize_grouped_weights: group is 0; it must be at least 1");
  w(1, 2) = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(
      quantize_grouped_weights(w.view(), 2, "fc1.weight"),
      "intact::quantize_grouped_weights: fc1.weight has the value inf at row 1, column 2; it must be finite");
  w(1, 2) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS(quantize_grouped_weights(w.view(), 2));
}

}  // namespace
}  // namespace intact_test::grouped_s4_test
