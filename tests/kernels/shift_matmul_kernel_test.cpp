#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "guarded_memory.hpp"
#include "heap_counter.hpp"
#include "intact/log_softmax.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "intact/shift_matmul.hpp"
#include "intact/weighted_matmul.hpp"
#include "keep_wide_accumulator.hpp"
#include "refusal.hpp"
#include "reversed_executor.hpp"
#include "softmax_cases.hpp"
#include "tensor.hpp"

// Attention times V on one instruction set, isa::INTACT_TEST_ISA, against the specification, and its sums against an
// oracle in 128 bits. This file is compiled once per instruction set.

namespace intact_test::shift_matmul_kernel_test {
namespace {

using test_isa = isa::INTACT_TEST_ISA;

/// The same as keep_wide_accumulator, with the place that the stage is told.
struct keep_wide_accumulator_and_place {
  using output = std::int64_t;

  output operator()(std::int64_t accumulator, index_t m, index_t n) const { return accumulator + 1000 * m + n; }
  void require(const char*, index_t, index_t) const {}
};
static_assert(takes_64_bits<keep_wide_accumulator_and_place>);

template <attention_code Format>
using keep = std::conditional_t<Format == attention_code::u8_full, keep_wide_accumulator, raw_accumulator>;
template <attention_code Format>
using requantized = std::conditional_t<Format == attention_code::u8_full, requantize_s64<std::uint8_t>,
                                       requantize<std::uint8_t, tensor_scale>>;

template <attention_code Format>
constexpr int128 weight_of(int code) {
  constexpr int fraction_bits = Format == attention_code::u8_full ? 44 : 15;
  return code > fraction_bits ? int128{0} : power_of_two(fraction_bits) / power_of_two(code);
}

struct shape {
  index_t rows, keys, channels;
};

/// Every number of keys with every number of channels: nothing, one group of four and its neighbours, a register and
/// its neighbours, DeiT, the reference's long rows; and more rows than a band has, of two slices and of six.
template <class Check>
void for_each_shape(const Check& check) {
  int i = 0;
  for (const index_t keys : {0, 1, 3, 4, 5, 63, 64, 65, 197, 511, 512, 4097}) {
    for (const index_t channels : {1, 16, 63, 64, 65, 128}) {
      check(shape{std::array<index_t, 3>{1, 6, 7}[static_cast<std::size_t>((i + i / 6) % 3)], keys, channels});
      ++i;
    }
  }
  for (const shape& other : {shape{0, 4, 4}, shape{4, 4, 0}, shape{1, 4097, 1}, shape{7, 197, 64}, shape{53, 197, 20},
                             shape{67, 197, 2}, shape{100, 3, 5}, shape{31, 1000, 3}, shape{19, 4097, 2}}) {
    check(other);
  }
}

/// The operation with one thread and with three against the specification.
template <class Out, class Expect, class Run>
void check_equal(const shape& of, const layout& where, const Expect& expect, const Run& run) {
  guarded_tensor<Out> expected(of.rows, of.channels), y(of.rows, of.channels, where), z(of.rows, of.channels, where);
  expect(expected.view());
  const std::size_t misaligned = static_cast<std::size_t>(where.offset) % 64 + 1;
  exact_workspace one(shift_matmul_workspace_bytes(of.keys, of.channels), misaligned);
  exact_workspace three(shift_matmul_workspace_bytes(of.keys, of.channels, 3), misaligned);
  run(y.view(), one.get(), sequential{});
  run(z.view(), three.get(), reversed_executor{});
  CAPTURE(of.rows, of.keys, of.channels, where.gap);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(first_difference(z.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
  CHECK(z.surroundings_untouched());
}

/// The exact sums.
template <attention_code Format, class Codes, class Out>
void sum_exactly(const Codes& codes, const quantized_matrix& v, const matrix_view<Out>& y) {
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      int128 sum = 0;
      for (index_t j = 0; j < v.codes.rows; ++j) {
        sum += weight_of<Format>(codes(i, j)) * (v.codes(j, c) - v.zero_point);
      }
      y(i, c) = static_cast<Out>(sum);
    }
  }
}

template <attention_code Format>
void check_stages(const typename attention_codes<Format>::const_view& codes, const quantized_matrix& v, const shape& of,
                  const layout& where, generator& random) {
  const auto check = [&](const auto& stage, const auto& expect) {
    using stage_type = std::remove_cvref_t<decltype(stage)>;
    check_equal<typename stage_type::output>(of, where, expect, [&](const auto& y, workspace memory, const auto& run) {
      shift_matmul<test_isa, Format>(codes, v, stage, y, memory, run);
    });
  };
  const auto check_stage = [&](const auto& stage) {
    check(stage, [&](const auto& y) { reference::shift_matmul<Format>(codes, v, stage, y); });
  };
  check(keep<Format>{}, [&](const auto& y) { sum_exactly<Format>(codes, v, y); });
  const auto multiplier = static_cast<std::int32_t>(random.between(1 << 28, std::numeric_limits<std::int32_t>::max()));
  const tensor_scale scale{multiplier, (std::int64_t{100} << 45) + (std::int64_t{1} << 44), 13, 0};
  check_stage(requantized<Format>{scale});
  if constexpr (Format == attention_code::u8_full) {
    check_stage(requantize_s64<std::int8_t>{{multiplier, -123456789, 13, 0}});
    check_stage(requantize_s64<std::int32_t>{{std::numeric_limits<std::int32_t>::max(), (1ll << 62) - 1, 0, 0}});
  } else {
    std::vector<std::int32_t> multipliers(static_cast<std::size_t>(of.channels), multiplier);
    std::vector<std::int64_t> offsets(multipliers.size(), scale.offset);
    check_stage(requantize<std::uint8_t>{channel_scale{multipliers, offsets, 13, 0}});
  }
}

template <attention_code Format>
void check_normalized(const typename attention_codes<Format>::const_view& codes, const quantized_matrix& v,
                      const shape& of, const layout& where, generator& random) {
  const row_divisor n{static_cast<std::int32_t>(random.between(1 << 24, (1 << 30) - 1)),
                      static_cast<int>(random.between(0, 255))};
  check_equal<std::uint8_t>(
      of, where, [&](const auto& y) { reference::shift_matmul<Format>(codes, v, n, y); },
      [&](const auto& y, workspace memory, const auto& run) {
        shift_matmul<test_isa, Format>(codes, v, n, y, memory, run);
      });
}

template <attention_code Format>
void check_codes(const shape& of, const layout& where, code_contents what, values v_values, int zero_point,
                 generator& random) {
  code_tensor<Format> codes(of.rows, of.keys, where);
  guarded_tensor<std::uint8_t> v(of.keys, of.channels, where);
  fill_codes(codes.view(), what,
             Format == attention_code::u8_masked    ? 16
             : Format == attention_code::u4_clipped ? 15
                                                    : 255,
             random);
  fill(v.view(), v_values, 0, 255, random);
  CAPTURE(int(what), int(v_values), zero_point);
  check_stages<Format>(codes.view(), {v.view(), zero_point}, of, where, random);
  if constexpr (Format != attention_code::u8_full) {
    check_normalized<Format>(codes.view(), {v.view(), zero_point}, of, where, random);
  }
}

template <attention_code Format>
void check_all_codes() {
  generator random(30);
  int i = 0;
  for_each_shape([&](const shape& of) {
    const layout& where = layouts[i++ % 3];
    check_codes<Format>(of, where, code_contents::random, values::random, static_cast<int>(random.between(0, 255)),
                        random);
    check_codes<Format>(of, where, code_contents::small, values::random, 128, random);
  });
  for (const shape& of : {shape{7, 5, 17}, shape{6, 64, 64}, shape{14, 197, 65}, shape{2, 512, 5}}) {
    for (const code_contents what : all_code_contents) {
      for (const values v_values : {values::smallest, values::largest, values::alternating}) {
        check_codes<Format>(of, layouts[i++ % 3], what, v_values, 0, random);
        check_codes<Format>(of, layouts[i++ % 3], what, v_values, 255, random);
      }
    }
  }
}

TEST_CASE("shift_matmul: equals the specification [u8_masked]") {
  check_all_codes<attention_code::u8_masked>();
}
TEST_CASE("shift_matmul: equals the specification [u4_clipped]") {
  check_all_codes<attention_code::u4_clipped>();
}
TEST_CASE("shift_matmul: equals the specification [u8_full]") {
  check_all_codes<attention_code::u8_full>();
}

TEST_CASE("shift_matmul: every code has its own weight, alone and with other codes in its row") {
  guarded_tensor<std::uint8_t> codes(1, 2), v(2, 1);
  v(0, 0) = 129;
  v(1, 0) = 1;
  guarded_tensor<std::int64_t> y(1, 1);
  exact_workspace memory(shift_matmul_workspace_bytes(2, 1), 0);
  for (int code = 0; code < 256; ++code) {
    for (const int other : {0, 44, 255}) {
      codes(0, 0) = static_cast<std::uint8_t>(code);
      codes(0, 1) = static_cast<std::uint8_t>(other);
      shift_matmul<test_isa, attention_code::u8_full>(codes.view(), {v.view(), 128}, keep_wide_accumulator{}, y.view(),
                                                      memory.get());
      CAPTURE(code, other);
      CHECK(y(0, 0) == weight_of<attention_code::u8_full>(code) - 127 * weight_of<attention_code::u8_full>(other));
    }
  }
}

TEST_CASE("shift_matmul: a stage for 8-bit codes may take the row") {
  constexpr index_t rows = 67, keys = 50, channels = 37;
  generator random(35);
  guarded_tensor<std::uint8_t> codes(rows, keys), v(keys, channels);
  fill_codes(codes.view(), code_contents::random, 45, random);
  fill(v.view(), values::random, 0, 255, random);
  guarded_tensor<std::int64_t> expected(rows, channels), y(rows, channels);
  sum_exactly<attention_code::u8_full>(codes.view(), {v.view(), 9}, expected.view());
  for (index_t m = 0; m < rows; ++m) {
    for (index_t n = 0; n < channels; ++n) {
      expected(m, n) += 1000 * m + n;
    }
  }
  exact_workspace memory(shift_matmul_workspace_bytes(keys, channels), 0);
  shift_matmul<test_isa, attention_code::u8_full>(codes.view(), {v.view(), 9}, keep_wide_accumulator_and_place{},
                                                  y.view(), memory.get());
  CHECK(first_difference(y.view(), expected.view()) == "");
}

/// As many keys as the contract allows, all with a code of every slice but the first, and with codes that fill a row's
/// budget of 2^-code.
TEST_CASE("shift_matmul: sums of slices fit int32 [rows of 82,000 keys with 8-bit codes]", "[long]") {
  constexpr index_t keys = shift_matmul_max_keys;
  guarded_tensor<std::uint8_t> codes(1, keys), v(keys, 2);
  guarded_tensor<std::int64_t> expected(1, 2), y(1, 2);
  exact_workspace memory(shift_matmul_workspace_bytes(keys, 2), 1);
  for (const int code : {9, 16, 24, 32, 40, 44}) {
    for (const int zero_point : {0, 255}) {
      for (index_t j = 0; j < keys; ++j) {
        codes(0, j) = static_cast<std::uint8_t>(j < 96 ? 0 : code);
        v(j, 0) = 0;
        v(j, 1) = 255;
      }
      sum_exactly<attention_code::u8_full>(codes.view(), {v.view(), zero_point}, expected.view());
      shift_matmul<test_isa, attention_code::u8_full>(codes.view(), {v.view(), zero_point}, keep_wide_accumulator{},
                                                      y.view(), memory.get());
      CAPTURE(code, zero_point);
      CHECK(first_difference(y.view(), expected.view()) == "");
    }
  }
}

/// Rows of the largest sum of weights that there is, and of a sum of 1.
void check_extreme_rows(index_t keys, int zero_point, generator& random) {
  guarded_tensor<std::uint8_t> codes(2, keys), weights(2, keys), v(keys, 3);
  fill(v.view(), values::random, 0, 255, random);
  fill(codes.view(), values::smallest, 0, 0, random);
  fill(weights.view(), values::largest, 0, 255, random);
  for (index_t j = 0; j < keys; ++j) {
    codes(1, j) = j == 7 ? 15 : 16;
    weights(1, j) = j == 7 ? 1 : 0;
    v(j, 0) = 255;
    v(j, 1) = 0;
  }
  const row_divisor n{(1 << 30) - 1, 128};
  const quantized_matrix of_keys{v.view(), zero_point};
  CAPTURE(zero_point);
  check_equal<std::uint8_t>(
      {2, keys, 3}, layouts[1],
      [&](const auto& y) { reference::shift_matmul<attention_code::u8_masked>(codes.view(), of_keys, n, y); },
      [&](const auto& y, workspace memory, const auto& run) {
        shift_matmul<test_isa, attention_code::u8_masked>(codes.view(), of_keys, n, y, memory, run);
      });
  check_equal<std::uint8_t>(
      {2, keys, 3}, layouts[1], [&](const auto& y) { reference::weighted_matmul(weights.view(), of_keys, n, y); },
      [&](const auto& y, workspace memory, const auto& run) {
        weighted_matmul<test_isa>(weights.view(), of_keys, n, y, memory, run);
      });
}

TEST_CASE("shift_matmul, weighted_matmul: normalize extreme sums of weights [up to 65,535 keys]") {
  generator random(31);
  for (const index_t keys : {index_t{8}, index_t{257}, index_t{258}, index_t{512}, weighted_matmul_max_keys}) {
    for (const int zero_point : {0, 128, 255}) {
      check_extreme_rows(keys, zero_point, random);
    }
  }
}

TEST_CASE("weighted_matmul: equals the specification") {
  generator random(32);
  int i = 0;
  const auto check = [&](const shape& of, const layout& where, values weight_values, values v_values, int zero_point) {
    guarded_tensor<std::uint8_t> weights(of.rows, of.keys, where), v(of.keys, of.channels, where);
    fill(weights.view(), weight_values, 0, 255, random);
    fill(v.view(), v_values, 0, 255, random);
    const row_divisor n{static_cast<std::int32_t>(random.between(1 << 24, (1 << 30) - 1)),
                        static_cast<int>(random.between(0, 255))};
    CAPTURE(int(weight_values), int(v_values), zero_point);
    check_equal<std::uint8_t>(
        of, where,
        [&](const auto& y) {
          reference::weighted_matmul(weights.view(), {v.view(), zero_point}, n, y);
        },
        [&](const auto& y, workspace memory, const auto& run) {
          weighted_matmul<test_isa>(weights.view(), {v.view(), zero_point}, n, y, memory, run);
        });
  };
  for_each_shape([&](const shape& of) {
    check(of, layouts[i++ % 3], values::random, values::random, static_cast<int>(random.between(0, 255)));
  });
  for (const values weight_values : all_values) {
    for (const values v_values : all_values) {
      check({7, 197, 65}, layouts[i++ % 3], weight_values, v_values, 0);
      check({7, 197, 65}, layouts[i++ % 3], weight_values, v_values, 255);
    }
  }
}

TEST_CASE("shift_matmul, weighted_matmul: take no memory from the heap") {
  tensor<std::uint8_t> codes(50, 197), v(197, 64), y(50, 64);
  std::vector<std::byte> scratch(shift_matmul_workspace_bytes(197, 64));
  const workspace memory(scratch.data(), scratch.size());
  const std::size_t live = live_bytes;
  most_live_bytes = live;
  largest_block = 0;
  const row_divisor n{1 << 28, 0};
  shift_matmul<test_isa, attention_code::u8_full>(codes.view(), {v.view(), 1}, requantize_s64<std::uint8_t>{}, y.view(),
                                                  memory);
  shift_matmul<test_isa, attention_code::u8_masked>(codes.view(), {v.view(), 1}, n, y.view(), memory);
  weighted_matmul<test_isa>(codes.view(), {v.view(), 1}, n, y.view(), memory);
  const std::size_t most = most_live_bytes, largest = largest_block;
  CHECK(most == live);
  CHECK(largest == 0);
}

TEST_CASE("shift_matmul, weighted_matmul: refuse arguments before anything is written") {
  tensor<std::uint8_t> codes(2, 3), v(3, 4), y(2, 4);
  const tensor<std::uint8_t> untouched = y;
  packed_tensor<u4> packed(2, 3);
  std::vector<std::byte> scratch(shift_matmul_workspace_bytes(3, 4));
  CHECK(shift_matmul_workspace_bytes(3, 4) == weighted_matmul_workspace_bytes(3, 4));
  const row_divisor n{1 << 28, 0};
  const requantize<std::uint8_t, tensor_scale> stage{};
  const auto refused = [&](const quantized_matrix& values, const row_divisor& of, std::size_t bytes) {
    const workspace memory(scratch.data(), bytes);
    const std::string messages[] = {
        refusal(
            [&] { shift_matmul<test_isa, attention_code::u4_clipped>(packed.view(), values, of, y.view(), memory); }),
        refusal([&] { shift_matmul<test_isa, attention_code::u8_masked>(codes.view(), values, of, y.view(), memory); }),
        refusal([&] { weighted_matmul<test_isa>(codes.view(), values, of, y.view(), memory); })};
    CHECK(messages[0] == messages[1]);
    CHECK(messages[2].substr(std::min(messages[2].size(), std::size_t{24})) ==
          messages[0].substr(std::min(messages[0].size(), std::size_t{21})));
    return messages[0];
  };
  CHECK(mentions(refused({v.view(), 0}, n, scratch.size() - 1), "shift_matmul: the workspace has"));
  CHECK(mentions(refused({v.view(), 256}, n, scratch.size()), "zero point of v is 256"));
  CHECK(mentions(refused({v.view(), 0}, {0, 0}, scratch.size()), "normalization.factor is 0"));
  CHECK(mentions(refused({v.view().prefix(3, 3), 0}, n, scratch.size()), "y is 2 x 4; it must be 2 x 3"));
  const auto refused_stage = [&](const quantized_matrix& values, const auto& of) {
    const workspace memory(scratch.data(), scratch.size() - 1);
    return refusal(
        [&] { shift_matmul<test_isa, attention_code::u8_masked>(codes.view(), values, of, y.view(), memory); });
  };
  CHECK(mentions(refused_stage({v.view(), 0}, stage), "the workspace has"));
  CHECK(mentions(refused_stage({v.view(), -1}, stage), "zero point of v is -1"));
  CHECK(mentions(refused_stage({v.view(), 0}, requantize<std::uint8_t>{}), "size of scale.multiplier is 0"));
  CHECK(y.memory() == untouched.memory());
}

}  // namespace
}  // namespace intact_test::shift_matmul_kernel_test
