#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "activation_tables.hpp"
#include "catch.hpp"
#include "guarded_memory.hpp"
#include "intact/activation.hpp"
#include "intact/add.hpp"
#include "intact/depthwise_conv.hpp"
#include "intact/kernel/epilogue.hpp"
#include "intact/kernel/log_softmax/threshold_octave.hpp"
#include "intact/layernorm.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/multiply.hpp"
#include "intact/reference/activation.hpp"
#include "intact/reference/add.hpp"
#include "intact/reference/depthwise_conv.hpp"
#include "intact/reference/layernorm.hpp"
#include "intact/reference/log_softmax.hpp"
#include "intact/reference/max_softmax.hpp"
#include "intact/reference/multiply.hpp"
#include "intact/reference/rmsnorm.hpp"
#include "intact/reference/rotate.hpp"
#include "intact/rmsnorm.hpp"
#include "intact/rotate.hpp"
#include "intact/stage/fused.hpp"
#include "layernorm_cases.hpp"
#include "reversed_executor.hpp"
#include "softmax_cases.hpp"
#include "tensor.hpp"

// The operations beside gemm on one instruction set, isa::INTACT_TEST_ISA, against the specification, bit by bit. This
// file is compiled once per instruction set.

namespace intact_test::operation_kernel_test {
namespace {

using test_isa = isa::INTACT_TEST_ISA;

struct shape {
  index_t rows;
  index_t columns;
};

constexpr shape shapes[] = {
    {0, 5},   {5, 0},   {0, 0},                                   // nothing
    {1, 1},   {3, 1},   {2, 2},    {4, 3},                        // the smallest
    {1, 197}, {4, 197}, {17, 192},                                // DeiT; a block of 16 rows and one more
    {2, 4},   {5, 8},   {2, 15},   {6, 16},   {3, 17},  {3, 31},  // around registers of 4, 8 and 16 lanes or bytes,
    {2, 32},  {2, 33},  {7, 63},   {3, 64},   {3, 65},            // of 32 and 64
    {2, 127}, {2, 129}, {3, 256},  {1, 4097}, {4097, 3}           // several registers; long rows; many rows
};

/// Calls f for tensors of every layout with random codes, and of every kind of values.
template <class T, class Function>
void for_each_input(const shape& s, std::int64_t low, std::int64_t high, const Function& f) {
  generator random(static_cast<std::uint64_t>(s.rows * 8191 + s.columns));
  for (const layout& where : layouts) {
    guarded_tensor<T> x(s.rows, s.columns, where);
    fill(x.view(), values::random, low, high, random);
    f(x, where);
  }
  for (const values what : all_values) {
    guarded_tensor<T> x(s.rows, s.columns);
    fill(x.view(), what, low, high, random);
    f(x, layout{});
  }
}

/// LayerNorm, and RMSNorm with the same parameters.
template <class Code>
void check_layernorm(const guarded_tensor<Code>& x, const guarded_layernorm& p, const layout& where) {
  CAPTURE(x.rows(), x.columns(), where.gap, p.output_shift);
  const auto check = [&](const auto& specified, const auto& computed) {
    guarded_tensor<std::uint8_t> expected(x.rows(), x.columns()), y(x.rows(), x.columns(), where),
        z(x.rows(), x.columns(), where);
    specified(expected.view());
    computed(y.view(), sequential{});
    computed(z.view(), reversed_executor{});
    CHECK(first_difference(y.view(), expected.view()) == "");
    CHECK(first_difference(z.view(), expected.view()) == "");
    CHECK(y.surroundings_untouched());
  };
  check([&](auto y) { reference::layernorm(x.view(), p.view(), y); },
        [&](auto y, const auto& run) { layernorm<test_isa>(x.view(), p.view(), y, run); });
  check([&](auto y) { reference::rmsnorm(x.view(), p.view(), y); },
        [&](auto y, const auto& run) { rmsnorm<test_isa>(x.view(), p.view(), y, run); });
}

template <class Code>
void check_layernorm_of_codes() {
  generator random(200);
  constexpr std::int64_t low = std::numeric_limits<Code>::min(), high = std::numeric_limits<Code>::max();
  for (const shape& s : shapes) {
    if (low < 0 && s.columns > layernorm_max_channels_s16) {
      continue;
    }
    for_each_input<Code>(s, low, high, [&](const guarded_tensor<Code>& x, const layout& where) {
      check_layernorm(x, random_layernorm(s.columns, low < 0, 48, random), where);
    });
  }
  for (const int output_shift : {1, 30, 31, 32, 33, 40, 47, 48}) {
    guarded_tensor<Code> x(5, 70);
    fill(x.view(), values::random, low, high, random);
    check_layernorm(x, random_layernorm(70, low < 0, output_shift, random), {});
  }
  for (const index_t channels : {index_t{4095}, index_t{4096}}) {
    for (const int zero_point : {0, 255}) {
      for (const values what : all_values) {
        guarded_tensor<Code> x(5, channels);
        fill(x.view(), what, low, high, random);
        guarded_layernorm p = random_layernorm(channels, low < 0, 48, random);
        p.zero_point = low < 0 ? 0 : zero_point;
        p.shift.assign(p.shift.size(), layernorm_max_shift);
        check_layernorm(x, p, {});
        p.shift.assign(p.shift.size(), 0);
        check_layernorm(x, p, {});
      }
    }
  }
}

/// Rows around the blocks of 16 and of the rows of one step, at widths around a register, without shifts.
template <class Code>
void check_layernorm_without_shifts() {
  generator random(211);
  for (const index_t rows : {1, 3, 7, 8, 9, 15, 16, 17, 33}) {
    for (const index_t channels : {1, 31, 32, 33, 96, 197}) {
      for_each_input<Code>({rows, channels}, std::numeric_limits<Code>::min(), std::numeric_limits<Code>::max(),
                           [&](const guarded_tensor<Code>& x, const layout& where) {
                             guarded_layernorm p = random_layernorm(channels, sizeof(Code) == 2, 48, random);
                             p.shift.assign(p.shift.size(), 0);
                             check_layernorm(x, p, where);
                             p.shift.back() = layernorm_max_shift;
                             p.epsilon = layernorm_max_epsilon;
                             check_layernorm(x, p, where);
                           });
    }
  }
}

TEST_CASE("layernorm, rmsnorm: equal the specification [no shifts]") {
  check_layernorm_without_shifts<std::uint8_t>();
  check_layernorm_without_shifts<std::int16_t>();
}

TEST_CASE("layernorm, rmsnorm: equal the specification [u8, s16]") {
  check_layernorm_of_codes<std::uint8_t>();
  check_layernorm_of_codes<std::int16_t>();
}

TEST_CASE("layernorm, rmsnorm: equal the specification [more than 4,096 channels]") {
  generator random(201);
  for (const index_t channels : {index_t{4097}, index_t{5000}, layernorm_max_channels}) {
    guarded_tensor<std::uint8_t> x(2, channels);
    fill(x.view(), values::random, 0, 255, random);
    x(0, channels / 2) = 255;
    check_layernorm(x, random_layernorm(channels, false, 48, random), {});
  }
}

TEST_CASE("layernorm: equals the specification [nearly constant rows, variances of every length]") {
  generator random(202);
  for (int bits = 0; bits <= 61; ++bits) {
    for (const int step : {-1, 0, 1}) {
      guarded_tensor<std::uint8_t> x(6, 33);
      fill(x.view(), values::random, 100, 101, random);
      guarded_layernorm p = random_layernorm(33, false, 48, random);
      p.epsilon = (std::uint64_t{1} << bits) + static_cast<std::uint64_t>(bits < 2 || bits == 61 ? 0 : step);
      check_layernorm(x, p, {});
    }
  }
}

TEST_CASE("layernorm: equals the specification [small and large variances in one block of rows]") {
  generator random(212);
  for (const index_t channels : {2, 3, 8, 33}) {
    for (int round = 0; round < 30; ++round) {
      guarded_tensor<std::uint8_t> x(19, channels);
      for (index_t i = 0; i < x.rows(); ++i) {
        const std::int64_t spread = random.between(0, 3) == 0 ? random.between(0, 128) : random.between(0, 2);
        const std::int64_t least = random.between(0, 127);
        for (index_t c = 0; c < channels; ++c) {
          x(i, c) = static_cast<std::uint8_t>(least + random.between(0, spread));
        }
      }
      guarded_layernorm p = random_layernorm(channels, false, round % 2 == 0 ? 48 : 31, random);
      p.epsilon = static_cast<std::uint64_t>(round % 3 == 0 ? (1 << 20) - random.between(1, 9) : random.between(1, 3));
      check_layernorm(x, p, {});
    }
  }
}

TEST_CASE("rmsnorm: equals the specification [small and large mean squares in one block of rows]") {
  generator random(213);
  for (const index_t channels : {1, 2, 3, 8, 33}) {
    for (int round = 0; round < 30; ++round) {
      guarded_tensor<std::uint8_t> x(19, channels);
      guarded_tensor<std::int16_t> words(19, channels);
      for (index_t i = 0; i < x.rows(); ++i) {
        const std::int64_t spread = random.between(0, 3) == 0 ? 99 : random.between(0, 2);
        for (index_t c = 0; c < channels; ++c) {
          words(i, c) = static_cast<std::int16_t>(random.between(-spread, spread));
          x(i, c) = static_cast<std::uint8_t>(100 + words(i, c));
        }
      }
      guarded_layernorm p = random_layernorm(channels, false, round % 2 == 0 ? 48 : 31, random);
      p.epsilon = static_cast<std::uint64_t>(round % 3 == 0 ? (1 << 20) - random.between(1, 9) : random.between(1, 3));
      p.zero_point = 100;
      check_layernorm(x, p, {});
      p.zero_point = 0;
      check_layernorm(words, p, {});
    }
  }
}

TEST_CASE("rmsnorm: equals the specification [roots that are powers of two]") {
  // As for deviations below: the reciprocal is 2^31 - 1 then.
  for (int exponent = 8; exponent <= 60; exponent += 2) {
    for (const std::int64_t number : {1, 2, 3, 5, 15, 255}) {
      const std::int64_t epsilon = (std::int64_t{1} << exponent) - number * number;
      for (const std::int64_t last_bit : {0, 1}) {
        if (epsilon >= 1) {
          guarded_tensor<std::uint8_t> x(1, 1);
          x(0, 0) = static_cast<std::uint8_t>(number);
          const int down = exponent / 2 - 24;
          const std::int64_t z = down <= 0 ? number * (std::int64_t{1} << -down) : number >> down;
          const std::int64_t bias = (std::int64_t{128} << 48) - (z + last_bit) * ((1 << 30) - 1);
          CAPTURE(exponent, number, last_bit);
          check_layernorm(x, {0, {0}, static_cast<std::uint64_t>(epsilon), {(1 << 30) - 1}, {bias}, 48}, {});
        }
      }
    }
  }
}

TEST_CASE("layernorm: equals the specification [deviations that are powers of two]") {
  // The reciprocal is 2^31 - 1 then, and no longer 2^31, with which values in the middle between two are rounded up.
  // The offset is such that the last bit of the normalized value is seen.
  for (int exponent = 8; exponent <= 60; exponent += 2) {
    for (const std::int64_t distance : {1, 2, 3, 5, 15, 255}) {
      const std::int64_t epsilon = (std::int64_t{1} << exponent) - distance * distance;
      if (epsilon < 1) {
        continue;
      }
      for (const std::int64_t last_bit : {0, 1}) {
        guarded_tensor<std::uint8_t> x(1, 2);
        x(0, 0) = static_cast<std::uint8_t>(distance);
        x(0, 1) = 0;
        guarded_layernorm p{0, {0, 0}, static_cast<std::uint64_t>(epsilon), {}, {}, 48};
        for (const std::int64_t centred : {distance, -distance}) {
          const int down = exponent / 2 - 24;
          const std::int64_t z = down <= 0 ? centred * (std::int64_t{1} << -down) : centred >> down;
          p.gain.push_back((1 << 30) - 1);
          p.bias.push_back((std::int64_t{128} << 48) - (z + last_bit) * p.gain.back());
        }
        CAPTURE(exponent, distance, last_bit);
        check_layernorm(x, p, {});
      }
    }
  }
}

template <attention_code Format, log2_rounding Rounding, class T>
void check_log_softmax(const guarded_tensor<std::uint8_t>& logits, const guarded_vector<T>& table,
                       const layout& where) {
  code_tensor<Format> expected(logits.rows(), logits.columns()), y(logits.rows(), logits.columns(), where),
      z(logits.rows(), logits.columns(), where);
  reference::log_softmax<Format, Rounding>(logits.view(), exp_table<T>(table), expected.view());
  log_softmax<test_isa, Format, Rounding>(logits.view(), exp_table<T>(table), y.view());
  log_softmax<test_isa, Format, Rounding>(logits.view(), exp_table<T>(table), z.view(), reversed_executor{});
  CAPTURE(int(Format), int(Rounding), sizeof(T), logits.rows(), logits.columns(), where.gap);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(first_difference(z.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
  if constexpr (Format == attention_code::u4_clipped) {
    CHECK(y.padding_is_zero());
  }
}

/// Masks with a row per query and with one for all: random ones, everything masked, nothing masked, causal, and only
/// the largest codes masked.
template <class Function>
void for_each_mask(const guarded_tensor<std::uint8_t>& x, generator& random, const Function& f) {
  for (const index_t rows : {x.rows(), index_t{1}}) {
    for (int kind = 0; kind < 5; ++kind) {
      guarded_tensor<std::uint8_t> mask(rows, x.columns(), kind == 0 ? layouts[1] : layouts[0]);
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < x.columns(); ++j) {
          const bool visible[] = {random.between(0, 2) != 0, false, true, j <= i, x.rows() != 0 && x(i, j) < 200};
          mask(i, j) = visible[kind] ? static_cast<std::uint8_t>(random.between(1, 255)) : std::uint8_t{0};
        }
      }
      f(key_mask{mask.view()});
    }
  }
}

template <attention_code Format, log2_rounding Rounding, class T>
void check_masked_log_softmax(const guarded_tensor<std::uint8_t>& logits, const guarded_vector<T>& table,
                              const key_mask& mask, const layout& where) {
  guarded_tensor<std::uint8_t> expected(logits.rows(), logits.columns()), y(logits.rows(), logits.columns(), where);
  reference::log_softmax<Format, Rounding>(logits.view(), exp_table<T>(table), mask, expected.view());
  log_softmax<test_isa, Format, Rounding>(logits.view(), exp_table<T>(table), mask, y.view(), reversed_executor{});
  CAPTURE(int(Format), int(Rounding), sizeof(T), logits.rows(), logits.columns(), where.gap, mask.visible.rows);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

template <log2_rounding Rounding, class T>
void check_log_softmax_of_tables() {
  for (const shape& s : shapes) {
    for (const guarded_vector<T>& table : exponential_tables<T>(s.columns)) {
      for_each_input<std::uint8_t>(s, 0, 255, [&](const guarded_tensor<std::uint8_t>& logits, const layout& where) {
        check_log_softmax<attention_code::u8_masked, Rounding>(logits, table, where);
        check_log_softmax<attention_code::u4_clipped, Rounding>(logits, table, where);
        check_log_softmax<attention_code::u8_full, Rounding>(logits, table, where);
      });
    }
  }
}

TEST_CASE("log_softmax: equals the specification [u8 and u4 codes]") {
  check_log_softmax_of_tables<log2_rounding::round_ratio, std::uint32_t>();
  check_log_softmax_of_tables<log2_rounding::round_ratio, std::uint64_t>();
  check_log_softmax_of_tables<log2_rounding::round_log, std::uint32_t>();
  check_log_softmax_of_tables<log2_rounding::round_log, std::uint64_t>();
}

/// The largest e up to a limit whose level, in a row of which the others add up to `others`, is at least `level`.
template <log2_rounding Rounding>
std::uint64_t largest_in_row(int level, std::uint64_t others, std::uint64_t limit) {
  std::uint64_t low = 0, high = limit + 1;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (reference::rounded_log2<Rounding>(middle, others + middle) >= level ? low : high) = middle;
  }
  return low;
}

/// How many codes are wrong in a row of `others`, the first of them the largest entry of `table`, and e.
template <attention_code Format, log2_rounding Rounding, class T>
int wrong_codes(std::vector<T> table, std::vector<T> others, T e) {
  table.insert(std::upper_bound(table.begin(), table.end(), e, std::greater<>()), e);
  others.push_back(e);
  const auto keys = static_cast<index_t>(others.size());
  tensor<std::uint8_t> logits(1, keys), y(1, keys), expected(1, keys);
  for (index_t j = 0; j < keys; ++j) {
    const auto place =
        std::lower_bound(table.begin(), table.end(), others[static_cast<std::size_t>(j)], std::greater<>());
    logits(0, j) = static_cast<std::uint8_t>(255 - (place - table.begin()));
  }
  reference::log_softmax<Format, Rounding>(logits.view(), exp_table<T>(table), expected.view());
  log_softmax<test_isa, Format, Rounding>(logits.view(), exp_table<T>(table), y.view());
  return first_difference(y.view(), expected.view()) == "" ? 0 : 1;
}

template <log2_rounding Rounding, class T>
void check_rows_beside_limits() {
  generator random(205);
  int wrong = 0;
  for (int round = 0; round < 80; ++round) {
    const index_t keys = std::array{2, 3, 49, 197, 2000}[static_cast<std::size_t>(round % 5)];
    const int octave = std::array{0, 1, 7, 20, 100, 0, 0}[static_cast<std::size_t>(round % 7)];
    const T limit = exp_table_limit<T>(keys);
    const std::vector<T> table = random_exponential_table<T>(limit >> random.between(0, 16), octave, random);
    std::vector<T> others{table[0]};
    while (others.size() + 1 < static_cast<std::size_t>(keys)) {
      others.push_back(table[static_cast<std::size_t>(random.between(0, 254))]);
    }
    const std::uint64_t sum = std::accumulate(others.begin(), others.end(), std::uint64_t{0});
    for (int level = 1; level <= 16; ++level) {
      const auto e = static_cast<std::int64_t>(largest_in_row<Rounding>(level, sum, limit));
      for (const std::int64_t beside : {e - 1, e, e + 1, e + 2, e - random.between(0, e >> 15)}) {
        if (beside >= 0 && static_cast<std::uint64_t>(beside) <= limit) {
          wrong += wrong_codes<attention_code::u8_masked, Rounding>(table, others, static_cast<T>(beside));
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("log_softmax: equals the specification [many short rows]") {
  // 32 rows are one step, few are left to others; a register has 64 keys; sums of 256 fit 32 bits.
  for (const shape& s : {shape{31, 64}, shape{32, 49}, shape{33, 65}, shape{57, 49}, shape{65, 256}, shape{66, 257}}) {
    const guarded_vector<guarded_vector<std::uint64_t>> tables = exponential_tables<std::uint64_t>(s.columns);
    generator random(static_cast<std::uint64_t>(211 + s.columns));
    for_each_input<std::uint8_t>(s, 0, 255, [&](const guarded_tensor<std::uint8_t>& x, const layout& where) {
      for (const std::size_t kind : {0u, 3u, 5u, 7u, 9u}) {
        check_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(x, tables[kind], where);
        check_log_softmax<attention_code::u4_clipped, log2_rounding::round_log>(x, tables[kind], where);
      }
      for_each_mask(x, random, [&](const key_mask& mask) {
        check_masked_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(x, tables[5], mask, where);
        // Of this table only the largest key counts: the least sum that is not that of a row without visible keys.
        check_masked_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(x, tables[2], mask, where);
      });
    });
  }
}

TEST_CASE("log_softmax: equals the specification [equal logits, lengths around the longest short row]") {
  // Sums of 256 numbers of 24 bits fit 32 bits, and those of 257 of the largest do not.
  guarded_vector<std::uint64_t> table(256, 0);
  table[0] = (std::uint64_t{1} << 50) - 1;
  for (const index_t keys : {255, 256, 257, 258, 512}) {
    for (const index_t rows : {16, 32}) {
      guarded_tensor<std::uint8_t> x(rows, keys), visible(rows, keys);
      generator random(213);
      fill(x.view(), values::constant_rows, 0, 255, random);
      fill(visible.view(), values::largest, 0, 255, random);
      check_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(x, table, {});
      check_log_softmax<attention_code::u4_clipped, log2_rounding::round_log>(x, table, {});
      check_masked_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(x, table,
                                                                                      key_mask{visible.view()}, {});
    }
  }
}

TEST_CASE("log_softmax: gives exact codes for quotients next to every limit") {
  check_rows_beside_limits<log2_rounding::round_ratio, std::uint32_t>();
  check_rows_beside_limits<log2_rounding::round_ratio, std::uint64_t>();
  check_rows_beside_limits<log2_rounding::round_log, std::uint32_t>();
  check_rows_beside_limits<log2_rounding::round_log, std::uint64_t>();
}

/// Of random rows, the thresholds of 16 levels that violate docs/numerics.md, section 5:
/// 0 <= 2^16 * w - Z < slack + 1, for the least and for the largest sum that the shifted exponentials may have.
template <class Isa, log2_rounding Rounding>
int thresholds_beyond_slack() {
  constexpr bool round_log = Rounding == log2_rounding::round_log;
  generator random(217);
  int wrong = 0;
  for (int round = 0; round < 20'000; ++round) {
    const auto sum = static_cast<std::uint64_t>(random.between(1, (std::int64_t{2} << random.between(0, 27)) - 1));
    const auto shift = static_cast<int>(random.between(0, 10));
    const index_t count = random.between(1, 256);
    const auto row =
        kernel::octave_levels<Isa>::template thresholds<attention_code::u8_masked, Rounding>(sum, shift, count);
    const simd::octave_thresholds& found = row.thresholds;
    if (found.slack == 0xffff) {
      continue;  // nothing is decided
    }
    const int128 factor = row.scaled_by_3 != 0 ? 3 : 1, least = static_cast<std::int64_t>(sum << shift);
    for (const int128& s : {least, least + count * (power_of_two(shift) - 1)}) {
      for (int level = 1; level <= 15; ++level) {
        const int128 y4 = found.y4 == nullptr ? 0 : found.y4[level];
        const int128 z = power_of_two(16) + found.fraction + found.y[level] + ((found.fraction * y4) >> 18);
        // scaled(x) <= threshold: x <= 2^16 * (1 + w). Of round_log the squares, times 4.
        const int128 divisor = level == 1 ? 3 : 3 * power_of_two(level - 1) - 1;
        const int128 threshold =
            round_log ? 4 * power_of_two(31) * factor * factor * s * s : power_of_two(16 + 1 + 20) * factor * s;
        const auto scaled = [&](const int128& x) {
          return round_log ? x * x * power_of_two(2 + 2 * found.octave)
                           : x * divisor * power_of_two(20 + found.octave + (level == 1 ? 0 : 1 - level));
        };
        wrong += scaled(z) > threshold || scaled(z + found.slack + 1) <= threshold ? 1 : 0;
      }
    }
  }
  return wrong;
}

TEST_CASE("log_softmax: thresholds of octaves are within their rounding slack") {
  if constexpr (simd::octave_search<test_isa>::exists) {
    CHECK(thresholds_beyond_slack<test_isa, log2_rounding::round_ratio>() == 0);
    CHECK(thresholds_beyond_slack<test_isa, log2_rounding::round_log>() == 0);
  }
}

TEST_CASE("log_softmax: equals the specification [rows so long that the maximum has the zero level]") {
  generator random(204);
  constexpr index_t keys = 200'001;
  for (const int spread : {0, 3, 255}) {
    guarded_tensor<std::uint8_t> logits(1, keys);
    fill(logits.view(), values::random, 255 - spread, 255, random);
    for (const guarded_vector<std::uint64_t>& table : exponential_tables<std::uint64_t>(keys)) {
      check_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(logits, table, {});
      check_log_softmax<attention_code::u4_clipped, log2_rounding::round_log>(logits, table, {});
    }
  }
}

TEST_CASE("log_softmax: equals the specification [long rows in which one key counts]") {
  generator random(209);
  constexpr index_t keys = 200'001;
  guarded_tensor<std::uint8_t> logits(1, keys);
  fill(logits.view(), values::random, 0, 120, random);
  logits(0, keys / 2) = 255;
  for (const guarded_vector<std::uint64_t>& table : exponential_tables<std::uint64_t>(keys)) {
    check_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(logits, table, {});
    check_log_softmax<attention_code::u4_clipped, log2_rounding::round_log>(logits, table, {});
  }
}

TEST_CASE("log_softmax, max_softmax: equal the specification [masked keys]") {
  generator random(208);
  guarded_vector<std::uint8_t> entries;
  for (int d = 0; d < 256; ++d) {
    entries.push_back(static_cast<std::uint8_t>(37 * d + 11));
  }
  for (const shape& s : shapes) {
    const guarded_vector<std::uint32_t> table = exponential_tables<std::uint32_t>(s.columns)[6];
    const guarded_vector<std::uint64_t> wide_table = exponential_tables<std::uint64_t>(s.columns)[4];
    for_each_input<std::uint8_t>(s, 0, 255, [&](const guarded_tensor<std::uint8_t>& x, const layout& where) {
      for_each_mask(x, random, [&](const key_mask& mask) {
        check_masked_log_softmax<attention_code::u8_masked, log2_rounding::round_ratio>(x, table, mask, where);
        check_masked_log_softmax<attention_code::u8_masked, log2_rounding::round_log>(x, wide_table, mask, where);
        check_masked_log_softmax<attention_code::u8_full, log2_rounding::round_ratio>(x, wide_table, mask, where);
        guarded_tensor<std::uint8_t> expected(s.rows, s.columns), y(s.rows, s.columns, where);
        reference::max_softmax(x.view(), entries, mask, 16, expected.view());
        max_softmax<test_isa>(x.view(), entries, mask, 16, y.view(), reversed_executor{});
        CHECK(first_difference(y.view(), expected.view()) == "");
        CHECK(y.surroundings_untouched());
      });
    });
  }
}

template <class Codes>
void check_max_softmax(const guarded_tensor<std::uint8_t>& logits, const guarded_vector<std::uint8_t>& table,
                       const layout& where) {
  Codes expected(logits.rows(), logits.columns()), y(logits.rows(), logits.columns(), where),
      z(logits.rows(), logits.columns(), where);
  reference::max_softmax(logits.view(), table, expected.view());
  max_softmax<test_isa>(logits.view(), table, y.view());
  max_softmax<test_isa>(logits.view(), table, z.view(), reversed_executor{});
  CAPTURE(logits.rows(), logits.columns(), where.gap);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(first_difference(z.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("max_softmax, activation: equal the specification") {
  generator random(205);
  guarded_vector<std::uint8_t> table, small_table, large_table;
  for (int i = 0; i < 4096; ++i) {
    large_table.push_back(static_cast<std::uint8_t>(random.between(0, 255)));
  }
  for (int d = 0; d < 256; ++d) {
    table.push_back(static_cast<std::uint8_t>(37 * d + 11));  // every byte once
    small_table.push_back(static_cast<std::uint8_t>(random.between(0, 15)));
  }
  for (const shape& s : shapes) {
    for_each_input<std::uint8_t>(s, 0, 255, [&](const guarded_tensor<std::uint8_t>& x, const layout& where) {
      check_max_softmax<guarded_tensor<std::uint8_t>>(x, table, where);
      check_max_softmax<guarded_packed_tensor<u4>>(x, small_table, where);
      guarded_tensor<std::uint8_t> expected(s.rows, s.columns), y(s.rows, s.columns, where);
      reference::activation(x.view(), table, expected.view());
      activation<test_isa>(x.view(), table, y.view(), reversed_executor{});
      CHECK(first_difference(y.view(), expected.view()) == "");
      CHECK(y.surroundings_untouched());
    });
    for_each_input<std::uint16_t>(s, 0, 4095, [&](const guarded_tensor<std::uint16_t>& x, const layout& where) {
      guarded_tensor<std::uint8_t> expected(s.rows, s.columns), y(s.rows, s.columns, where);
      reference::activation(x.view(), large_table, expected.view());
      activation<test_isa>(x.view(), large_table, y.view(), reversed_executor{});
      CHECK(first_difference(y.view(), expected.view()) == "");
      CHECK(y.surroundings_untouched());
    });
  }
}

TEST_CASE("activation: reads every entry of a table from every lane of a register") {
  for (const guarded_vector<std::uint8_t>& table : activation_tables()) {
    for (const index_t columns : {64, 255, 256, 257, 319, 320, 383, 4096}) {
      for (const layout& where : layouts) {
        // Row i begins with code i, so that in the longest rows each code is at each of 64 places.
        guarded_tensor<std::uint16_t> x(columns == 4096 ? 64 : 9, columns, where);
        for (index_t i = 0; i < x.rows(); ++i) {
          for (index_t j = 0; j < columns; ++j) {
            x(i, j) = static_cast<std::uint16_t>((i + j) % 4096);
          }
        }
        guarded_tensor<std::uint8_t> expected(x.rows(), columns), y(x.rows(), columns, where);
        const matrix_view<const std::uint16_t> codes = x.view();
        reference::activation(codes, table, expected.view());
        activation<test_isa>(codes, table, y.view());
        CAPTURE(columns, where.gap);
        CHECK(first_difference(y.view(), expected.view()) == "");
        CHECK(y.surroundings_untouched());
      }
    }
  }
}

/// A tile of Rows x N registers, of whose columns only `columns` exist.
template <unsigned Rows, unsigned N>
void check_activate(index_t columns, const guarded_vector<std::uint8_t>& table, generator& random) {
  constexpr auto width = static_cast<std::size_t>(N * simd::lanes<test_isa>);
  guarded_vector<std::int32_t> multiplier, accumulators(Rows * width);
  guarded_vector<std::int64_t> offset;
  for (index_t n = 0; n < columns + 1; ++n) {  // the tile begins at column 1
    multiplier.push_back(static_cast<std::int32_t>(random.between(0, std::numeric_limits<std::int32_t>::max())));
    offset.push_back(random.between(-(std::int64_t{1} << 40), std::int64_t{1} << 47));
  }
  for (std::int32_t& a : accumulators) {
    a = static_cast<std::int32_t>(random.between(-20'000, 20'000));
  }
  const requantize_lut stage{channel_scale{multiplier, offset, 2, 0}, table};
  simd::s32<test_isa> tile[Rows][N];
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < N; ++j) {
      tile[r][j] = simd::load<test_isa>(accumulators.data() + r * width + j * width / N);
    }
  }
  guarded_tensor<std::uint8_t> y(Rows + 2, columns + 1, layouts[1]), expected(Rows + 2, columns + 1);
  for (index_t r = 0; r < y.rows(); ++r) {
    for (index_t n = 0; n < y.columns(); ++n) {
      const bool is_inside = r >= 2 && n >= 1;
      y(r, n) = 77;
      expected(r, n) = 77;
      if (is_inside) {
        const std::size_t place = static_cast<std::size_t>(r - 2) * width + static_cast<std::size_t>(n - 1);
        expected(r, n) = apply_stage(stage, accumulators[place], r, n);
      }
    }
  }
  const auto run = [&]<class Prepared>(std::type_identity<Prepared>) {
    if constexpr (Prepared::exists) {
      kernel::epilogue<test_isa, Prepared>::run(Prepared(stage), tile, {2, 1, columns}, y.view());
    } else {
      kernel::epilogue<test_isa, requantize_lut>::run(stage, tile, {2, 1, columns}, y.view());
    }
  };
  run(std::type_identity<kernel::prepared_stage<test_isa, requantize_lut>>());
  CAPTURE(Rows, N, columns);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("requantize_lut: tiles in registers equal the specification") {
  generator random(212);
  constexpr index_t lanes = simd::lanes<test_isa>;
  for (const guarded_vector<std::uint8_t>& table : activation_tables()) {
    for (index_t columns = 1; columns <= 4 * lanes; ++columns) {
      check_activate<1, 4>(columns, table, random);
      check_activate<6, 4>(columns, table, random);
      if (columns <= 2 * lanes) {
        check_activate<3, 2>(columns, table, random);
      }
    }
  }
}

TEST_CASE("add: equals the specification") {
  generator random(206);
  for (const shape& s : shapes) {
    guarded_vector<std::int32_t> stream, branch, offset;
    for (index_t c = 0; c < s.columns; ++c) {
      stream.push_back(static_cast<std::int32_t>(random.between(-2'800'000, 2'800'000)));
      branch.push_back(static_cast<std::int32_t>(random.between(-2'800'000, 2'800'000)));
      offset.push_back(static_cast<std::int32_t>(random.between(-719'000'000, 719'000'000)));
    }
    for (int shift = add_min_shift; shift <= add_max_shift; ++shift) {
      for (std::size_t c = 0; c < stream.size(); c += 3) {  // sums that are whole outputs
        stream[c] = shift <= 20 ? 1 << shift : 0;
        branch[c] = -stream[c];
        offset[c] = 64 << shift;
      }
      const add_parameters scale{
          stream, branch, offset, static_cast<int>(random.between(0, 255)), static_cast<int>(random.between(0, 255)),
          shift};
      for_each_input<std::uint8_t>(s, 0, 255, [&](const guarded_tensor<std::uint8_t>& x, const layout& where) {
        guarded_tensor<std::uint8_t> other = x, expected(s.rows, s.columns), y(s.rows, s.columns, where);
        fill(other.view(), values::random, 0, 255, random);
        reference::add(x.view(), other.view(), scale, expected.view());
        add<test_isa>(x.view(), other.view(), scale, y.view(), reversed_executor{});
        CAPTURE(s.rows, s.columns, shift);
        CHECK(first_difference(y.view(), expected.view()) == "");
        CHECK(y.surroundings_untouched());
        add<test_isa>(x.view(), other.view(), scale, other.view());
        CHECK(first_difference(other.view(), expected.view()) == "");
      });
    }
  }
}

TEST_CASE("add: equals the specification [the largest sums that the contract allows]") {
  generator random(209);
  constexpr std::int32_t largest = 8'421'504, half = largest / 2;  // 255 * largest + 127 = 2^31 - 1
  constexpr std::int32_t corners[][3] = {{largest, 0, 127},    {0, largest, -127},  {-largest, 0, -127},
                                         {0, -largest, 127},   {half, half, 127},   {-half, half, -127},
                                         {-half, -half, -127}, {8'388'607, 0, 0},   {-8'388'608, 32'768, 1},
                                         {0, 0, 2147483647},   {0, 0, -2147483647}, {32'767, -32'769, 65'535}};
  // Pairs of rows, registers and blocks of channels, each with rests.
  for (const shape& s : {shape{5, 96}, shape{2, 32}, shape{1, 160}, shape{131, 32}, shape{9, 1024}, shape{5, 1056},
                         shape{3, 1100}, shape{4, 4096}}) {
    guarded_vector<std::int32_t> stream, branch, offset;
    for (index_t c = 0; c < s.columns; ++c) {
      const auto& [m, n, o] = corners[random.between(0, std::ssize(corners) - 1)];
      stream.push_back(m);
      branch.push_back(n);
      offset.push_back(o);
    }
    for (const int shift : {add_min_shift, 20, add_max_shift}) {
      for (const int zero_point : {0, 121, 255}) {
        const add_parameters scale{stream, branch, offset, zero_point, 255 - zero_point, shift};
        for_each_input<std::uint8_t>(s, 0, 255, [&](const guarded_tensor<std::uint8_t>& x, const layout& where) {
          guarded_tensor<std::uint8_t> other = x, expected(s.rows, s.columns), y(s.rows, s.columns, where);
          fill(other.view(), values::random, 0, 255, random);
          reference::add(x.view(), other.view(), scale, expected.view());
          add<test_isa>(x.view(), other.view(), scale, y.view());
          CAPTURE(s.rows, s.columns, shift, zero_point);
          CHECK(first_difference(y.view(), expected.view()) == "");
          CHECK(y.surroundings_untouched());
          guarded_tensor<std::uint8_t> in_place = x;
          add<test_isa>(in_place.view(), other.view(), scale, in_place.view(), reversed_executor{});
          CHECK(first_difference(in_place.view(), expected.view()) == "");
        });
      }
    }
  }
}

TEST_CASE("add: equals the specification [rows with gaps in any of the tensors]") {
  generator random(214);
  constexpr shape s{5, 96};  // pairs of rows without gaps fill whole registers
  guarded_vector<std::int32_t> stream, branch, offset;
  for (index_t c = 0; c < s.columns; ++c) {
    stream.push_back(static_cast<std::int32_t>(random.between(-1'000'000, 1'000'000)));
    branch.push_back(static_cast<std::int32_t>(random.between(-1'000'000, 1'000'000)));
    offset.push_back(static_cast<std::int32_t>(random.between(0, 256 << 20)));
  }
  const add_parameters scale{stream, branch, offset, 120, 130, 20};
  for (unsigned gaps = 0; gaps < 8; ++gaps) {
    guarded_tensor<std::uint8_t> x(s.rows, s.columns, layouts[gaps & 1]), z(s.rows, s.columns, layouts[gaps >> 1 & 1]),
        y(s.rows, s.columns, layouts[gaps >> 2]), expected(s.rows, s.columns);
    fill(x.view(), values::random, 0, 255, random);
    fill(z.view(), values::random, 0, 255, random);
    reference::add(x.view(), z.view(), scale, expected.view());
    add<test_isa>(x.view(), z.view(), scale, y.view());
    CAPTURE(gaps);
    CHECK(first_difference(y.view(), expected.view()) == "");
    CHECK(y.surroundings_untouched());
  }
}

TEST_CASE("layernorm, rmsnorm, log_softmax, max_softmax, activation: work in place") {
  generator random(207);
  for (const index_t columns : {index_t{1}, index_t{63}, index_t{64}, index_t{197}, index_t{300}}) {
    for (const layout& where : layouts) {
      guarded_tensor<std::uint8_t> x(19, columns, where);
      fill(x.view(), values::random, 0, 255, random);
      const guarded_layernorm p = random_layernorm(columns, false, 48, random);
      const guarded_vector<std::uint64_t> table = exponential_tables<std::uint64_t>(columns)[6];
      guarded_vector<std::uint8_t> bytes;
      for (int d = 0; d < 256; ++d) {
        bytes.push_back(static_cast<std::uint8_t>(random.between(0, 255)));
      }
      const auto check = [&](const auto& expected_of, const auto& in_place) {
        guarded_tensor<std::uint8_t> expected(19, columns), y = x;
        expected_of(expected.view());
        in_place(y.view());
        CAPTURE(columns, where.gap);
        CHECK(first_difference(y.view(), expected.view()) == "");
        CHECK(y.surroundings_untouched());
      };
      using codes = matrix_view<std::uint8_t>;
      const matrix_view<const std::uint8_t> from = x.view();
      check([&](codes y) { reference::layernorm(from, p.view(), y); },
            [&](codes y) { layernorm<test_isa>(y, p.view(), y); });
      check([&](codes y) { reference::rmsnorm(from, p.view(), y); },
            [&](codes y) { rmsnorm<test_isa>(y, p.view(), y); });
      check([&](codes y) { reference::log_softmax(from, exp_table<std::uint64_t>(table), y); },
            [&](codes y) { log_softmax<test_isa>(y, exp_table<std::uint64_t>(table), y); });
      check([&](codes y) { reference::max_softmax(from, bytes, y); },
            [&](codes y) { max_softmax<test_isa>(y, bytes, y); });
      check([&](codes y) { reference::activation(from, bytes, y); },
            [&](codes y) { activation<test_isa>(y, bytes, y); });
    }
  }
}

template <class Stage>
void check_multiply(const guarded_tensor<std::uint8_t>& a, const guarded_tensor<std::uint8_t>& b, const Stage& stage,
                    const layout& where) {
  guarded_tensor<typename Stage::output> expected(a.rows(), a.columns()), y(a.rows(), a.columns(), where),
      z(a.rows(), a.columns(), where);
  const quantized_matrix first{a.view(), 255}, second{b.view(), 100};
  reference::multiply(first, second, stage, expected.view());
  multiply<test_isa>(first, second, stage, y.view());
  multiply<test_isa>(first, second, stage, z.view(), reversed_executor{});
  CAPTURE(a.rows(), a.columns(), where.gap);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(first_difference(z.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("multiply: equals the specification") {
  generator random(222);
  for (const shape& s : shapes) {
    guarded_vector<std::int32_t> multiplier;
    guarded_vector<std::int64_t> offset;
    for (index_t c = 0; c < s.columns; ++c) {
      multiplier.push_back(static_cast<std::int32_t>(random.between(0, (std::int64_t{1} << 31) - 1)));
      offset.push_back(random.between(-(std::int64_t{1} << 47), std::int64_t{1} << 47));
    }
    for_each_input<std::uint8_t>(s, 0, 255, [&](const guarded_tensor<std::uint8_t>& a, const layout& where) {
      guarded_tensor<std::uint8_t> b(s.rows, s.columns, where);
      fill(b.view(), values::random, 0, 255, random);
      check_multiply(a, b, raw_accumulator{}, where);
      check_multiply(a, a, requantize<std::int16_t, tensor_scale>{{(1 << 30) + 1, 5, 0, 1}}, where);
      check_multiply(a, b, requantize<std::uint8_t, tensor_scale>{{1 << 30, std::int64_t{257} << 37, 6, 0}}, where);
      check_multiply(a, b, requantize<std::uint8_t>{{multiplier, offset, 7, 0}}, where);
    });
  }
}

TEST_CASE("multiply: works in place") {
  generator random(223);
  const requantize<std::uint8_t, tensor_scale> stage{{1 << 30, std::int64_t{257} << 37, 6, 0}};
  for (const layout& where : layouts) {
    guarded_tensor<std::uint8_t> a(6, 85, where), b(6, 85, where), expected(6, 85);
    fill(a.view(), values::random, 0, 255, random);
    fill(b.view(), values::random, 0, 255, random);
    reference::multiply({a.view(), 30}, {b.view(), 77}, stage, expected.view());
    guarded_tensor<std::uint8_t> y = a, z = b;
    multiply<test_isa>({y.view(), 30}, {b.view(), 77}, stage, y.view());
    multiply<test_isa>({a.view(), 30}, {z.view(), 77}, stage, z.view());
    CHECK(first_difference(y.view(), expected.view()) == "");
    CHECK(first_difference(z.view(), expected.view()) == "");
  }
}

/// Any numbers from low to high, half of them at the ends.
template <class T>
void fill_with_ends(const matrix_view<T>& view, generator& random) {
  constexpr std::int64_t low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
  for (index_t i = 0; i < view.rows; ++i) {
    for (index_t j = 0; j < view.columns; ++j) {
      const std::int64_t choices[] = {low, high, random.between(low, high), random.between(low, high)};
      view(i, j) = static_cast<T>(choices[random.between(0, 3)]);
    }
  }
}

TEST_CASE("rotate: equals the specification, and works in place") {
  generator random(224);
  for (const index_t rows : {1, 5, 33}) {
    for (const index_t half : {1, 3, 8, 16, 17, 31, 32, 64, 100}) {
      for (const layout& where : layouts) {
        const index_t columns = 2 * 2 * half;  // two heads
        guarded_tensor<std::uint8_t> x(rows, columns, where), y(rows, columns, where), z(rows, columns, where),
            expected(rows, columns);
        guarded_tensor<std::int16_t> cosine(rows, half, where), sine(rows, half, where);
        const rotation_parameters angles{cosine.view(), sine.view()};
        for (const int zero_point : {0, 77, 255}) {
          fill_with_ends(x.view(), random);
          fill_with_ends(cosine.view(), random);
          fill_with_ends(sine.view(), random);
          reference::rotate({x.view(), zero_point}, angles, expected.view());
          rotate<test_isa>({x.view(), zero_point}, angles, y.view());
          rotate<test_isa>({x.view(), zero_point}, angles, z.view(), reversed_executor{});
          CAPTURE(rows, half, where.gap, zero_point);
          CHECK(first_difference(y.view(), expected.view()) == "");
          CHECK(first_difference(z.view(), expected.view()) == "");
          CHECK(y.surroundings_untouched());
          rotate<test_isa>({x.view(), zero_point}, angles, x.view());
          CHECK(first_difference(x.view(), expected.view()) == "");
        }
      }
    }
  }
}

template <class Stage>
void check_depthwise_conv(const guarded_tensor<std::uint8_t>& x, const guarded_tensor<std::int8_t>& taps,
                          const token_grid& grid, index_t size, const Stage& stage, const layout& where) {
  guarded_tensor<typename Stage::output> expected(x.rows(), x.columns()), y(x.rows(), x.columns(), where),
      z(x.rows(), x.columns(), where);
  const quantized_matrix input{x.view(), 200};
  reference::depthwise_conv(input, grid, {taps.view(), size}, stage, expected.view());
  depthwise_conv<test_isa>(input, grid, {taps.view(), size}, stage, y.view());
  depthwise_conv<test_isa>(input, grid, {taps.view(), size}, stage, z.view(), reversed_executor{});
  CAPTURE(grid.height, grid.width, x.columns(), size, where.gap);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(first_difference(z.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("depthwise_conv: equals the specification") {
  generator random(220);
  for (const token_grid& grid : {token_grid{0, 3}, token_grid{1, 1}, token_grid{2, 9}, token_grid{5, 4}}) {
    for (const index_t channels : {0, 1, 15, 16, 17, 63, 64, 65, 197}) {
      for (const layout& where : layouts) {
        const index_t size = channels % 2 == 0 ? 5 : 3;
        guarded_tensor<std::uint8_t> x(grid.tokens(), channels, where);
        guarded_tensor<std::int8_t> taps(size * size, channels, where);
        fill(x.view(), values::random, 0, 255, random);
        fill(taps.view(), values::random, -128, 127, random);
        check_depthwise_conv(x, taps, grid, size, raw_accumulator{}, where);
        const tensor_scale scale{1 << 29, std::int64_t{128} << 42, 10, 0};
        check_depthwise_conv(x, taps, grid, size, requantize<std::uint8_t, tensor_scale>{scale}, where);
      }
    }
  }
}

}  // namespace
}  // namespace intact_test::operation_kernel_test
