#include "intact/log_softmax.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "intact/reference/log_softmax.hpp"
#include "tensor.hpp"

namespace intact_test::log_softmax_test {
namespace {

constexpr std::uint64_t largest_u64 = std::numeric_limits<std::uint64_t>::max();

/// FQ-ViT's definition: sum / e rounded to the nearest integer r, halves to even; then floor(log2(r)), one more if r
/// is at least half a power above. By division, in 128 bits.
int defined_code(std::uint64_t e, std::uint64_t sum) {
  const std::uint64_t remainder = sum % e;
  uint128 r = sum / e;
  const uint128 twice = uint128{remainder} * 2;
  if (twice > e || (twice == e && r % 2 != 0)) {
    ++r;
  }
  int exponent = 0;
  uint128 power = 1;
  while (2 * power <= r) {
    power *= 2;
    ++exponent;
  }
  return 2 * (r - power) >= power ? exponent + 1 : exponent;
}

/// The other definition: log2(sum / e) rounded to nearest. The level is the largest k with log2(sum / e) >= k - 1/2,
/// that is, sum^2 >= e^2 * 2^(2k - 1). Equal only for 0: sqrt(2) is irrational. 128 bits hold it for sums below 2^63.
int nearest_code(std::uint64_t e, std::uint64_t sum) {
  const uint128 square = uint128{sum} * sum;
  int level = 0;
  for (uint128 boundary = 2 * uint128{e} * e; boundary <= square; boundary *= 4) {
    ++level;
  }
  return level;
}

/// Whether the pair is within the range that log2_code states.
bool in_range(int128 e, int128 sum) {
  return e > 0 && e <= sum && 2 * sum + e <= largest_u64 && 6 * e <= largest_u64;
}

TEST_CASE("log2_code: its definition here begins levels at 1, 2, 3, 6, 12, after rounding to even") {
  CHECK(defined_code(1, 1) == 0);
  CHECK(defined_code(1, 2) == 1);
  CHECK(defined_code(2, 3) == 1);  // 1.5 -> 2
  CHECK(defined_code(1, 3) == 2);
  CHECK(defined_code(2, 5) == 1);  // 2.5 -> 2
  CHECK(defined_code(1, 5) == 2);
  CHECK(defined_code(1, 6) == 3);
  CHECK(defined_code(2, 11) == 3);  // 5.5 -> 6
  CHECK(defined_code(1, 11) == 3);
  CHECK(defined_code(1, 12) == 4);
}

TEST_CASE("log2_code: equals the rounding of FQ-ViT [all small pairs]") {
  std::int64_t pairs = 0;
  std::int64_t wrong = 0;
  for (std::uint64_t e = 1; e <= 200; ++e) {
    for (std::uint64_t sum = e; sum <= 4096; ++sum) {
      ++pairs;
      wrong += log2_code(e, sum) != defined_code(e, sum) ? 1 : 0;
    }
  }
  CHECK(pairs == 799300);
  CHECK(wrong == 0);
}

TEST_CASE("log2_code: equals the rounding of FQ-ViT next to every level's boundary [up to the largest numbers]") {
  generator random(17);
  std::vector<std::uint64_t> numerators = {1, 2, 3, 5, 7, 255, 256, 257, largest_u64 / 6};
  for (int bits = 2; bits <= 62; ++bits) {
    const std::int64_t power = std::int64_t{1} << bits;
    numerators.push_back(static_cast<std::uint64_t>(power - 1));
    numerators.push_back(static_cast<std::uint64_t>(power));
    numerators.push_back(static_cast<std::uint64_t>(power + 1));
    numerators.push_back(static_cast<std::uint64_t>(random.between(power / 2, power)));
  }
  std::int64_t pairs = 0;
  std::int64_t wrong = 0;
  for (const std::uint64_t e : numerators) {
    for (int exponent = 0; exponent <= 63; ++exponent) {
      // Quotients around 2^k and 1.5 * 2^k, and around the halves next to them, where r rounds to them.
      for (const int halves : {4, 6}) {
        const int128 twice_quotient = (int128{halves} << exponent) / 2;
        for (int half = -1; half <= 1; ++half) {
          const int128 middle = floor_divide((twice_quotient + half) * e, 2);
          for (int distance = -2; distance <= 2; ++distance) {
            const int128 sum = middle + distance;
            if (in_range(e, sum)) {
              ++pairs;
              const auto s = static_cast<std::uint64_t>(sum);
              wrong += log2_code(e, s) != defined_code(e, s) ? 1 : 0;
            }
          }
        }
      }
    }
  }
  CHECK(pairs > 100000);
  CHECK(wrong == 0);
}

TEST_CASE("log2_code: equals the rounding of FQ-ViT, and does not fall as e falls [random pairs]") {
  generator random(18);
  std::int64_t pairs = 0;
  std::int64_t wrong = 0;
  for (int i = 0; i < 200000; ++i) {
    const int sum_bits = static_cast<int>(random.between(1, 62));
    const auto sum = static_cast<std::uint64_t>(random.between(1, std::int64_t{1} << sum_bits));
    const auto e = static_cast<std::uint64_t>(
        random.between(1, static_cast<std::int64_t>(std::min(sum, std::uint64_t{1} << random.between(0, 61)))));
    if (in_range(e, sum)) {
      ++pairs;
      const int code = log2_code(e, sum);
      wrong += code != defined_code(e, sum) ? 1 : 0;
      wrong += e > 1 && log2_code(e - 1, sum) < code ? 1 : 0;
    }
  }
  CHECK(pairs > 150000);
  CHECK(wrong == 0);
}

TEST_CASE("log2_code: reaches its largest level at the largest sum") {
  constexpr std::uint64_t largest_sum = (largest_u64 - 1) / 2;
  STATIC_REQUIRE(log2_code(1, largest_sum) == 63);
  CHECK(defined_code(1, largest_sum) == 63);
  CHECK(log2_code(1, std::uint64_t{3} << 61) == 63);
  CHECK(log2_code(1, (std::uint64_t{3} << 61) - 1) == 62);
}

TEST_CASE("log2_code_round_log: its definition here begins levels at sqrt(2) times powers of two") {
  CHECK(nearest_code(1, 1) == 0);
  CHECK(nearest_code(5, 7) == 0);    // 1.4
  CHECK(nearest_code(2, 3) == 1);    // 1.5
  CHECK(nearest_code(70, 99) == 1);  // 99/70 is a little above sqrt(2),
  CHECK(nearest_code(29, 41) == 0);  // 41/29 a little below
  CHECK(nearest_code(5, 14) == 1);   // 2.8
  CHECK(nearest_code(1, 3) == 2);
  CHECK(nearest_code(1, 5) == 2);
  CHECK(nearest_code(1, 6) == 3);    // 5.66 is the boundary
  CHECK(nearest_code(1, 181) == 7);  // 181.02
  CHECK(nearest_code(1, 182) == 8);
}

TEST_CASE("log2_code_round_log: rounds the logarithm [all small pairs]") {
  std::int64_t pairs = 0, wrong = 0, unlike_log2_code = 0;
  for (std::uint64_t e = 1; e <= 200; ++e) {
    for (std::uint64_t sum = e; sum <= 4096; ++sum) {
      ++pairs;
      wrong += log2_code_round_log(e, sum) != nearest_code(e, sum) ? 1 : 0;
      unlike_log2_code += nearest_code(e, sum) != defined_code(e, sum) ? 1 : 0;
    }
  }
  CHECK(pairs == 799300);
  CHECK(wrong == 0);
  CHECK(unlike_log2_code > 40000);
}

/// floor(sqrt(x)) by bisection.
uint128 exact_sqrt(uint128 x) {
  uint128 low = 0, high = uint128{1} << 64;
  while (high - low > 1) {
    const uint128 middle = (low + high) / 2;
    (middle * middle <= x ? low : high) = middle;
  }
  return low;
}

TEST_CASE("log2_code_round_log: rounds the logarithm next to every boundary [up to the largest sums]") {
  constexpr std::uint64_t largest_sum = (std::uint64_t{1} << 63) - 1;
  generator random(90);
  std::vector<std::uint64_t> numerators = {1, 2, 3, 5, 7, 29, 70, 169, 255, 256, 257};
  for (int bits = 2; bits <= 62; ++bits) {
    const std::int64_t power = std::int64_t{1} << bits;
    for (const std::int64_t e : {power - 1, power, power + 1, random.between(power / 2, power)}) {
      numerators.push_back(static_cast<std::uint64_t>(e));
    }
  }
  std::int64_t pairs = 0, wrong = 0;
  for (const std::uint64_t e : numerators) {
    for (int k = 0; k <= 62; ++k) {
      // Sums around e * 2^k, and around e * 2^k * sqrt(2).
      const uint128 power = uint128{e} << k;
      for (const uint128 middle : {power, power >> 63 != 0 ? power : exact_sqrt(2 * power * power)}) {
        for (int distance = -2; distance <= 2; ++distance) {
          const int128 sum = static_cast<int128>(middle) + distance;
          if (sum >= e && sum <= largest_sum) {
            ++pairs;
            const auto s = static_cast<std::uint64_t>(sum);
            wrong += log2_code_round_log(e, s) != nearest_code(e, s) ? 1 : 0;
          }
        }
      }
    }
  }
  CHECK(pairs > 70000);
  CHECK(wrong == 0);
  STATIC_REQUIRE(log2_code_round_log(1, largest_sum) == 63);
  CHECK(nearest_code(1, largest_sum) == 63);
  CHECK(log2_code_round_log(largest_sum, largest_sum) == 0);
}

TEST_CASE("log2_code_round_log: rounds the logarithm, and does not fall as e falls [random pairs]") {
  generator random(91);
  std::int64_t wrong = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::int64_t sum = random.between(1, (std::int64_t{1} << random.between(1, 62)));
    const std::int64_t e = random.between(1, std::min(sum, std::int64_t{1} << random.between(0, 62)));
    const auto s = static_cast<std::uint64_t>(sum), n = static_cast<std::uint64_t>(e);
    const int code = log2_code_round_log(n, s);
    wrong += code != nearest_code(n, s) ? 1 : 0;
    wrong += e > 1 && log2_code_round_log(n - 1, s) < code ? 1 : 0;
  }
  CHECK(wrong == 0);
}

/// Whether 2 a^2 < b^2 in 128 bits, by the difference of the squares: their double may need 129.
bool squares_decide(std::uint64_t a, std::uint64_t b) {
  const uint128 a2 = uint128{a} * a, b2 = uint128{b} * b;
  return a2 < b2 && a2 < b2 - a2;
}

TEST_CASE("below_square_root_of_half: is exact [64-bit numbers]") {
  generator random(92);
  constexpr std::uint64_t all_bits = largest_u64;
  std::vector<std::uint64_t> numbers = {0, 1, 2, 3, 0xffffffff, 0x100000000, 0x100000001, all_bits - 1, all_bits};
  for (int bits = 1; bits <= 63; ++bits) {
    const std::uint64_t power = std::uint64_t{1} << bits;
    numbers.insert(numbers.end(), {power - 1, power, power + 1});
    numbers.push_back(static_cast<std::uint64_t>(random.between(0, -1)) >> (63 - bits));
  }
  std::int64_t wrong = 0, below = 0;
  const auto check = [&](std::uint64_t a, std::uint64_t b) {
    wrong += below_square_root_of_half(a, b) != squares_decide(a, b) ? 1 : 0;
    below += squares_decide(a, b) ? 1 : 0;
  };
  for (const std::uint64_t b : numbers) {
    for (const std::uint64_t a : numbers) {
      check(a, b);
    }
    const auto root = static_cast<std::uint64_t>(exact_sqrt(uint128{b} * b / 2));
    for (int distance = -2; distance <= 2; ++distance) {
      check(root + static_cast<std::uint64_t>(distance), b);  // next to the boundary
    }
  }
  CHECK(wrong == 0);
  CHECK(below > 20000);
  STATIC_REQUIRE(below_square_root_of_half(0, 1));
  STATIC_REQUIRE(!below_square_root_of_half(0, 0));
  STATIC_REQUIRE(!below_square_root_of_half(all_bits, all_bits));
}

template <class T>
using table_values = std::array<T, 256>;

/// Halves every `octave` steps from `first`, with random steps in between.
template <class T>
table_values<T> falling_table(T first, int octave, generator& random) {
  table_values<T> table{};
  table[0] = first;
  for (std::size_t d = 1; d < table.size(); ++d) {
    const T step = table[d - 1] / static_cast<T>(octave);
    table[d] = table[d - 1] - static_cast<T>(random.between(0, static_cast<std::int64_t>(step)));
  }
  return table;
}

/// Tables of every kind, for rows of `keys` logits.
template <class T>
std::vector<table_values<T>> tables(index_t keys) {
  generator random(19);
  const T limit = exp_table_limit<T>(keys);
  std::vector<table_values<T>> all;
  all.push_back(falling_table<T>(limit, 9, random));      // as large as allowed
  all.push_back(falling_table<T>(limit / 3, 2, random));  // steep: many levels, and a long tail of zeros
  all.push_back(falling_table<T>(limit, 120, random));    // flat: few levels
  table_values<T> steps{};                                // powers of two: all quotients of two keys are levels
  for (std::size_t d = 0; d < steps.size(); ++d) {
    steps[d] = limit >> std::min<std::size_t>(d / 4, 8 * sizeof(T) - 1);
  }
  all.push_back(steps);
  table_values<T> equal{};  // all keys alike
  equal.fill(limit);
  all.push_back(equal);
  table_values<T> spike{};  // only the largest key counts
  spike[0] = 1;
  all.push_back(spike);
  return all;
}

/// A row's codes by the definition, with the tail policy.
template <attention_code Format, log2_rounding Rounding>
int exact_code(std::uint64_t e, std::uint64_t sum) {
  if (e == 0) {
    return Format == attention_code::u8_masked ? 16 : Format == attention_code::u4_clipped ? 15 : 255;
  }
  const int level = Rounding == log2_rounding::round_ratio ? defined_code(e, sum) : nearest_code(e, sum);
  return Format == attention_code::u8_full     ? level
         : level <= 15                         ? level
         : Format == attention_code::u8_masked ? 16
                                               : 15;
}

template <attention_code Format, log2_rounding Rounding = log2_rounding::round_ratio, class T>
tensor<std::uint8_t> exact_codes(const tensor<std::uint8_t>& logits, const table_values<T>& table) {
  tensor<std::uint8_t> codes(logits.rows(), logits.columns());
  for (index_t i = 0; i < logits.rows(); ++i) {
    int largest = 0;
    for (index_t j = 0; j < logits.columns(); ++j) {
      largest = std::max<int>(largest, logits(i, j));
    }
    const auto e = [&](index_t j) { return std::uint64_t{table.at(static_cast<std::size_t>(largest - logits(i, j)))}; };
    uint128 sum = 0;
    for (index_t j = 0; j < logits.columns(); ++j) {
      sum += e(j);
    }
    REQUIRE(sum <= largest_u64);
    for (index_t j = 0; j < logits.columns(); ++j) {
      codes(i, j) = static_cast<std::uint8_t>(exact_code<Format, Rounding>(e(j), static_cast<std::uint64_t>(sum)));
    }
  }
  return codes;
}

template <attention_code Format>
using code_tensor = std::conditional_t<Format == attention_code::u4_clipped, packed_tensor<u4>, tensor<std::uint8_t>>;

template <attention_code Format, log2_rounding Rounding, class T>
void check_codes(const tensor<std::uint8_t>& logits, const table_values<T>& table, const layout& where) {
  code_tensor<Format> codes(logits.rows(), logits.columns(), where);
  log_softmax<isa::native, Format, Rounding>(logits.view(), exp_table<T>(table), codes.view());
  CHECK(first_difference(codes.view(), exact_codes<Format, Rounding>(logits, table).view()) == "");
  CHECK(codes.surroundings_untouched());
  if constexpr (Format == attention_code::u4_clipped) {
    CHECK(codes.padding_is_zero());
  }
}

template <log2_rounding Rounding, class T>
void check_all_tails(const tensor<std::uint8_t>& logits, const table_values<T>& table, const layout& where) {
  check_codes<attention_code::u8_masked, Rounding>(logits, table, where);
  check_codes<attention_code::u4_clipped, Rounding>(logits, table, where);
  check_codes<attention_code::u8_full, Rounding>(logits, table, where);
}

struct attention_rows {
  index_t rows;
  index_t keys;
};

constexpr attention_rows row_shapes[] = {
    {0, 5},   {5, 0},   {0, 0},            // no rows, no keys
    {1, 1},   {3, 2},   {2, 3},            // one key: always code 0; half a byte of packed codes
    {1, 197}, {4, 197},                    // DeiT: an odd number of keys
    {2, 15},  {2, 16},  {3, 17}, {3, 31},  // around registers of 16 bytes,
    {2, 32},  {2, 33},  {2, 63}, {3, 65},  // of 32 and 64
    {2, 256}, {2, 4097}                    // all distances at once; long rows
};

template <log2_rounding Rounding, class T>
void check_all_rows() {
  generator random(20);
  for (const attention_rows& shape : row_shapes) {
    CAPTURE(shape.rows, shape.keys);
    for (const table_values<T>& table : tables<T>(shape.keys)) {
      for (const values what : all_values) {
        tensor<std::uint8_t> logits(shape.rows, shape.keys);
        fill(logits.view(), what, 0, 255, random);
        check_all_tails<Rounding>(logits, table, layouts[0]);
      }
      for (const layout& where : layouts) {
        tensor<std::uint8_t> logits(shape.rows, shape.keys, where);
        fill(logits.view(), values::random, 100, 180, random);
        check_all_tails<Rounding>(logits, table, where);
      }
    }
  }
}

TEMPLATE_TEST_CASE("log_softmax: codes of every row are those of the definition", "", std::uint32_t, std::uint64_t) {
  check_all_rows<log2_rounding::round_ratio, TestType>();
}

TEMPLATE_TEST_CASE("log_softmax: codes of every row are those of the definition [round_log]", "", std::uint32_t,
                   std::uint64_t) {
  check_all_rows<log2_rounding::round_log, TestType>();
}

template <log2_rounding Rounding>
void check_equal_logits() {
  table_values<std::uint64_t> table{};
  table[0] = (std::uint64_t{1} << 50) - 1;
  generator random(23);
  for (const index_t keys : {255, 256, 257, 258, 512}) {
    CAPTURE(keys);
    tensor<std::uint8_t> logits(33, keys), codes(33, keys);
    fill(logits.view(), values::constant_rows, 0, 255, random);
    check_all_tails<Rounding>(logits, table, layouts[0]);
    reference::log_softmax<attention_code::u8_masked, Rounding>(logits.view(), exp_table<std::uint64_t>(table),
                                                                codes.view());
    const auto is_8 = [](std::uint8_t code) { return code == 8; };  // the sum is 255 to 258 times each number
    CHECK(std::all_of(codes.memory().begin(), codes.memory().end(), is_8) == (keys < 512));
    CHECK(first_difference(codes.view(), exact_codes<attention_code::u8_masked, Rounding>(logits, table).view()) == "");
  }
}

TEST_CASE("log_softmax: equal logits have codes of exact sums [64-bit table, 257 and 258 of the largest 24 bits]") {
  check_equal_logits<log2_rounding::round_ratio>();
  check_equal_logits<log2_rounding::round_log>();
}

TEST_CASE("log_softmax: does not change if all logits change by the same number") {
  generator random(21);
  const table_values<std::uint64_t> table = tables<std::uint64_t>(50)[0];
  tensor<std::uint8_t> logits(3, 50), codes(3, 50), shifted(3, 50);
  fill(logits.view(), values::random, 20, 90, random);
  log_softmax<isa::native, attention_code::u8_full>(logits.view(), exp_table<std::uint64_t>(table), codes.view());
  for (const int shift : {-20, 165}) {
    tensor<std::uint8_t> moved(3, 50);
    for (index_t i = 0; i < 3; ++i) {
      for (index_t j = 0; j < 50; ++j) {
        moved(i, j) = static_cast<std::uint8_t>(logits(i, j) + shift);
      }
    }
    log_softmax<isa::native, attention_code::u8_full>(moved.view(), exp_table<std::uint64_t>(table), shifted.view());
    CHECK(shifted.memory() == codes.memory());
  }
}

TEST_CASE("log_softmax: codes do not fall as logits fall") {
  tensor<std::uint8_t> logits(1, 256), codes(1, 256);
  for (index_t j = 0; j < 256; ++j) {
    logits(0, j) = static_cast<std::uint8_t>(255 - j);
  }
  for (const table_values<std::uint64_t>& table : tables<std::uint64_t>(256)) {
    log_softmax<isa::native, attention_code::u8_full>(logits.view(), exp_table<std::uint64_t>(table), codes.view());
    CHECK(std::is_sorted(codes.memory().begin(), codes.memory().end()));
    log_softmax<isa::native, attention_code::u8_masked>(logits.view(), exp_table<std::uint64_t>(table), codes.view());
    CHECK(std::is_sorted(codes.memory().begin(), codes.memory().end()));
  }
}

TEST_CASE("log_softmax: formats differ only above level 15 and for an exponential of 0") {
  table_values<std::uint64_t> table{};
  table[0] = std::uint64_t{1} << 20;
  table[1] = 1 << 5;  // level 15
  table[2] = 1 << 4;  // level 16
  table[3] = 1;       // level 20
  tensor<std::uint8_t> logits(1, 5);
  for (index_t j = 0; j < 5; ++j) {
    logits(0, j) = static_cast<std::uint8_t>(9 - j);
  }
  tensor<std::uint8_t> bytes(1, 5);
  log_softmax<isa::native, attention_code::u8_masked>(logits.view(), exp_table<std::uint64_t>(table), bytes.view());
  CHECK(bytes.memory() == std::vector<std::uint8_t>{0, 15, 16, 16, 16});
  log_softmax<isa::native, attention_code::u8_full>(logits.view(), exp_table<std::uint64_t>(table), bytes.view());
  CHECK(bytes.memory() == std::vector<std::uint8_t>{0, 15, 16, 20, 255});
  packed_tensor<u4> packed(1, 5);
  log_softmax<isa::native, attention_code::u4_clipped>(logits.view(), exp_table<std::uint64_t>(table), packed.view());
  CHECK(packed.bytes().memory() == std::vector<std::uint8_t>{0xf0, 0xff, 0x0f});
}

TEST_CASE("log_softmax: works in place [u8 codes]") {
  generator random(22);
  for (const layout& where : layouts) {
    const table_values<std::uint32_t> table = tables<std::uint32_t>(33)[0];
    tensor<std::uint8_t> logits(7, 33, where);
    fill(logits.view(), values::random, 100, 255, random);
    const tensor<std::uint8_t> zero = exact_codes<attention_code::u8_masked>(logits, table);
    const tensor<std::uint8_t> wide = exact_codes<attention_code::u8_full>(logits, table);
    tensor<std::uint8_t> codes = logits;
    log_softmax<isa::native, attention_code::u8_masked>(codes.view(), exp_table<std::uint32_t>(table), codes.view());
    CHECK(first_difference(codes.view(), zero.view()) == "");
    CHECK(codes.surroundings_untouched());
    codes = logits;
    log_softmax<isa::native, attention_code::u8_full>(codes.view(), exp_table<std::uint32_t>(table), codes.view());
    CHECK(first_difference(codes.view(), wide.view()) == "");
    CHECK(codes.surroundings_untouched());
  }
}

TEST_CASE("log_softmax: the probabilities of a row add up to less than 2.25, as shift_matmul needs") {
  generator random(23);
  for (const index_t keys : {index_t{1}, index_t{2}, index_t{3}, index_t{197}, index_t{4097}}) {
    for (const table_values<std::uint64_t>& table : tables<std::uint64_t>(keys)) {
      tensor<std::uint8_t> logits(4, keys), codes(4, keys);
      fill(logits.view(), values::random, 0, 255, random);
      log_softmax<isa::native, attention_code::u8_full>(logits.view(), exp_table<std::uint64_t>(table), codes.view());
      for (index_t i = 0; i < 4; ++i) {
        int128 sum = 0;  // in units of 2^-63
        for (index_t j = 0; j < keys; ++j) {
          sum += codes(i, j) == 255 ? 0 : power_of_two(63 - codes(i, j));
        }
        CHECK(4 * sum < 9 * power_of_two(63));
      }
    }
  }
}

TEST_CASE("log_softmax: the probabilities of a row add up to at most sqrt(2) [round_log]") {
  generator random(93);
  for (const index_t keys : {index_t{1}, index_t{2}, index_t{3}, index_t{197}, index_t{4097}}) {
    for (const table_values<std::uint64_t>& table : tables<std::uint64_t>(keys)) {
      tensor<std::uint8_t> logits(4, keys), codes(4, keys);
      fill(logits.view(), values::random, 0, 255, random);
      log_softmax<isa::native, attention_code::u8_full, log2_rounding::round_log>(
          logits.view(), exp_table<std::uint64_t>(table), codes.view());
      for (index_t i = 0; i < 4; ++i) {
        uint128 sum = 0;  // in units of 2^-63
        for (index_t j = 0; j < keys; ++j) {
          sum += codes(i, j) == 255 ? 0 : uint128{1} << (63 - codes(i, j));
        }
        CHECK(sum * sum <= uint128{1} << 127);  // 2^-level is at most sqrt(2) times the probability
      }
    }
  }
}

/// The visible keys of row i as a matrix of their own.
tensor<std::uint8_t> visible_keys(const tensor<std::uint8_t>& logits, index_t i, const key_mask& mask) {
  std::vector<std::uint8_t> kept;
  for (index_t j = 0; j < logits.columns(); ++j) {
    if (mask(i, j)) {
      kept.push_back(logits(i, j));
    }
  }
  tensor<std::uint8_t> row(1, static_cast<index_t>(kept.size()));
  std::copy(kept.begin(), kept.end(), row.view().data);
  return row;
}

template <attention_code Format, log2_rounding Rounding>
void check_masked(const tensor<std::uint8_t>& logits, const table_values<std::uint64_t>& table, const key_mask& mask) {
  const exp_table<std::uint64_t> exponentials(table);
  tensor<std::uint8_t> codes(logits.rows(), logits.columns()), fast(logits.rows(), logits.columns());
  reference::log_softmax<Format, Rounding>(logits.view(), exponentials, mask, codes.view());
  log_softmax<isa::native, Format, Rounding>(logits.view(), exponentials, mask, fast.view());
  CHECK(first_difference(fast.view(), codes.view()) == "");
  index_t wrong = 0;
  for (index_t i = 0; i < logits.rows(); ++i) {
    const tensor<std::uint8_t> expected = exact_codes<Format, Rounding>(visible_keys(logits, i, mask), table);
    index_t next = 0;
    for (index_t j = 0; j < logits.columns(); ++j) {
      const int code = mask(i, j) ? expected(0, next++) : Format == attention_code::u8_masked ? 16 : 255;
      wrong += codes(i, j) != code ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("log_softmax: a row with masked keys is the row of its visible keys, the others of weight 0") {
  generator random(93);
  for (const attention_rows& shape : row_shapes) {
    tensor<std::uint8_t> logits(shape.rows, shape.keys);
    fill(logits.view(), values::random, 0, 255, random);
    for (const index_t mask_rows : {shape.rows, index_t{1}}) {
      for (const std::int64_t of : {1, 2, 5, 1000}) {  // one key of so many is masked
        tensor<std::uint8_t> visible(mask_rows, shape.keys);
        for (index_t i = 0; i < mask_rows; ++i) {
          for (index_t j = 0; j < shape.keys; ++j) {
            visible(i, j) = random.between(1, of) == 1 ? std::uint8_t{0} : std::uint8_t{1};
          }
        }
        const key_mask mask{visible.view()};
        for (const table_values<std::uint64_t>& table : tables<std::uint64_t>(shape.keys)) {
          check_masked<attention_code::u8_masked, log2_rounding::round_ratio>(logits, table, mask);
          check_masked<attention_code::u8_masked, log2_rounding::round_log>(logits, table, mask);
          check_masked<attention_code::u8_full, log2_rounding::round_ratio>(logits, table, mask);
        }
      }
    }
  }
}

TEST_CASE("log_softmax: refuses masks of another shape") {
  table_values<std::uint64_t> table{};
  table.fill(1);
  tensor<std::uint8_t> logits(3, 4), codes(3, 4), mask(2, 4), narrow(3, 3);
  const exp_table<std::uint64_t> e(table);
  CHECK_THROWS_WITH(
      (log_softmax<isa::native, attention_code::u8_masked>(logits.view(), e, key_mask{mask.view()}, codes.view())),
      "intact::log_softmax: mask is 2 x 4; it must be 3 x 4");
  CHECK_THROWS_WITH(
      (log_softmax<isa::native, attention_code::u8_masked>(logits.view(), e, key_mask{narrow.view()}, codes.view())),
      "intact::log_softmax: mask is 3 x 3; it must be 3 x 4");
  CHECK(codes.memory() == tensor<std::uint8_t>(3, 4).memory());
}

TEST_CASE("largest_at_level, times_sqrt_2: give the largest exponential of a level of log2_code") {
  generator random(94);
  std::int64_t wrong = 0;
  const auto check = [&](std::uint64_t sum) {
    const std::uint64_t scaled = times_sqrt_2(sum);
    const uint128 square = uint128{sum} * sum;  // scaled = floor(sqrt(2 * square)), by differences below 2^127
    wrong += uint128{scaled} * scaled - square <= square ? 0 : 1;
    wrong += (uint128{scaled} + 1) * (uint128{scaled} + 1) - square > square ? 0 : 1;
    for (int level = 1; level <= 16; ++level) {
      const std::uint64_t first = largest_at_level(level, sum), second = scaled >> level;
      wrong += first >= 1 && log2_code(first, sum) < level ? 1 : 0;
      wrong += first + 1 <= sum && log2_code(first + 1, sum) >= level ? 1 : 0;
      wrong += second >= 1 && log2_code_round_log(second, sum) < level ? 1 : 0;
      wrong += second + 1 <= sum && log2_code_round_log(second + 1, sum) >= level ? 1 : 0;
    }
  };
  for (std::uint64_t sum = 1; sum <= 100'000; ++sum) {
    check(sum);
  }
  for (int i = 0; i < 100'000; ++i) {
    check(static_cast<std::uint64_t>(random.between(1, (std::int64_t{1} << random.between(1, 61)))));
  }
  check((std::uint64_t{1} << 62) - 1);
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace intact_test::log_softmax_test
