#include "intact/max_softmax.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "intact/build/table.hpp"
#include "tensor.hpp"

namespace intact_test::max_softmax_test {
namespace {

using table_values = std::array<std::uint8_t, 256>;

// Of both kinds of rows: nearly flat, as trained models have them, and steep; the last two leave one level and none.
constexpr double scales[] = {1e-9, 0.001, 0.0123, 0.05, 0.0999, 0.17, 0.25, 0.5, 0.693, 0.7, 1.0, 2.5, 5.6, 11, 1e9};

template <attention_code Format>
std::int64_t wrong_code_entries(int above_largest) {
  static_assert(std::numeric_limits<long double>::digits >= 64, "this oracle needs more bits than double has");
  std::int64_t wrong = 0;
  for (const double scale : scales) {
    const table_values table = max_relative_code_table<Format>(scale);
    for (int d = 0; d < 256; ++d) {
      const long double level = std::rint(d * static_cast<long double>(scale) / std::log(2.0L));
      const int expected = level > 15 ? above_largest : static_cast<int>(level);
      wrong += table[static_cast<std::size_t>(d)] != expected ? 1 : 0;
    }
    wrong += table[0] != 0 || !std::is_sorted(table.begin(), table.end()) ? 1 : 0;
  }
  return wrong;
}

TEST_CASE("max_relative_code_table: entries are the logarithms, rounded to nearest") {
  CHECK(wrong_code_entries<attention_code::u8_masked>(16) == 0);
  CHECK(wrong_code_entries<attention_code::u4_clipped>(15) == 0);
}

TEST_CASE("attention_weight_table: entries are the exponentials, rounded to nearest") {
  std::int64_t wrong = 0;
  for (const double scale : scales) {
    const table_values table = attention_weight_table(scale);
    for (int d = 0; d < 256; ++d) {
      const long double weight = std::rint(255 * std::exp(-d * static_cast<long double>(scale)));
      wrong += table[static_cast<std::size_t>(d)] != static_cast<int>(weight) ? 1 : 0;
    }
    wrong += table[0] != 255 || !std::is_sorted(table.rbegin(), table.rend()) ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("weight_code_table: codes are those of the nearest weights") {
  const code_weight_values falling = {255, 200, 199, 100, 50, 49, 48, 31, 30, 20, 9, 8, 7, 3, 2, 0},
                           even = {255, 128, 64, 32, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 0};
  std::int64_t wrong = 0;
  for (const code_weight_values& weights : {geometric_code_weights, falling, even}) {
    for (const double scale : scales) {
      const table_values table = weight_code_table(scale, weights);
      for (int d = 0; d < 256; ++d) {
        const long double weight = 255 * std::exp(-d * static_cast<long double>(scale));
        int nearest = 0;
        for (int code = 1; code < 16; ++code) {
          const auto miss = [&](int of) { return std::fabs(weights[static_cast<std::size_t>(of)] - weight); };
          nearest = miss(code) < miss(nearest) ? code : nearest;
        }
        wrong += table[static_cast<std::size_t>(d)] != nearest ? 1 : 0;
      }
      wrong += table[0] != 0 || !std::is_sorted(table.begin(), table.end()) ? 1 : 0;
    }
  }
  CHECK(wrong == 0);
  CHECK(weight_code_table(1e9, falling)[1] == 15);
  const table_values by_octaves = weight_code_table(std::log(2.0), even);  // 127.5, 63.75, ...: 9 is nearer to 8
  const std::vector<std::uint8_t> expected{0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 15};
  CHECK(std::vector<std::uint8_t>(by_octaves.begin(), by_octaves.begin() + 11) == expected);
}

TEST_CASE("max_relative_code_table, attention_weight_table: give entries computed by hand [an octave per code]") {
  const double octave = std::log(2.0);
  const table_values zero = max_relative_code_table<attention_code::u8_masked>(octave);
  const table_values clip = max_relative_code_table<attention_code::u4_clipped>(octave);
  for (std::size_t d = 0; d < 256; ++d) {
    CHECK(int{zero[d]} == static_cast<int>(std::min<std::size_t>(d, 16)));
    CHECK(int{clip[d]} == static_cast<int>(std::min<std::size_t>(d, 15)));
  }
  const table_values weights = attention_weight_table(octave);
  const std::vector<std::uint8_t> expected{255, 128, 64, 32, 16, 8, 4, 2, 1, 0, 0};
  CHECK(std::vector<std::uint8_t>(weights.begin(), weights.begin() + 11) == expected);
}

TEST_CASE("max_relative_code_table, attention_weight_table: refuse scales that are not above 0 and finite") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const std::string rule = "; it must be above 0 and finite";
  const auto message = [&](const std::string& operation, const std::string& value) {
    return "intact::" + operation + ": scale is " + value + rule;
  };
  CHECK_THROWS_WITH(max_relative_code_table<attention_code::u8_masked>(0), message("max_relative_code_table", "0"));
  CHECK_THROWS_WITH(max_relative_code_table<attention_code::u4_clipped>(-0.5),
                    message("max_relative_code_table", "-0.5"));
  CHECK_THROWS_WITH(max_relative_code_table<attention_code::u8_masked>(infinity),
                    message("max_relative_code_table", "inf"));
  CHECK_THROWS_WITH(attention_weight_table(0), message("attention_weight_table", "0"));
  CHECK_THROWS_WITH(weight_code_table(0, geometric_code_weights), message("weight_code_table", "0"));
  code_weight_values without_zero = geometric_code_weights;
  without_zero.back() = 1;
  CHECK_THROWS_WITH(weight_code_table(0.1, without_zero),
                    "intact::weight_code_table: weight of code 15 is 1; it must be equal to 0");
  CHECK_THROWS_WITH(attention_weight_table(-0.5), message("attention_weight_table", "-0.5"));
  CHECK_THROWS_WITH(attention_weight_table(infinity), message("attention_weight_table", "inf"));
  CHECK_THROWS(max_relative_code_table<attention_code::u8_masked>(std::numeric_limits<double>::quiet_NaN()));
  CHECK_THROWS(attention_weight_table(std::numeric_limits<double>::quiet_NaN()));
}

/// Every entry different, in no order: the operation takes tables as they are.
table_values shuffled_table() {
  table_values table{};
  for (std::size_t d = 0; d < table.size(); ++d) {
    table[d] = static_cast<std::uint8_t>(d * 167 + 13);
  }
  return table;
}

template <class Codes>
table_values table_for() {
  table_values table = shuffled_table();
  if constexpr (std::is_same_v<Codes, packed_tensor<u4>>) {
    std::transform(table.begin(), table.end(), table.begin(), [](std::uint8_t x) { return x & 15; });
  }
  return table;
}

/// The entry at the distance from the row's largest logit, found by sorting.
tensor<std::uint8_t> exact_entries(const tensor<std::uint8_t>& logits, const table_values& table) {
  tensor<std::uint8_t> y(logits.rows(), logits.columns());
  for (index_t i = 0; i < logits.rows(); ++i) {
    std::vector<int> row;
    for (index_t j = 0; j < logits.columns(); ++j) {
      row.push_back(logits(i, j));
    }
    std::sort(row.begin(), row.end());
    for (index_t j = 0; j < logits.columns(); ++j) {
      y(i, j) = table.at(static_cast<std::size_t>(row.back() - logits(i, j)));
    }
  }
  return y;
}

template <class Codes>
void check_entries(const tensor<std::uint8_t>& logits, const layout& where) {
  const table_values table = table_for<Codes>();
  Codes y(logits.rows(), logits.columns(), where);
  max_softmax(logits.view(), table, y.view());
  CHECK(first_difference(y.view(), exact_entries(logits, table).view()) == "");
  CHECK(y.surroundings_untouched());
  if constexpr (std::is_same_v<Codes, packed_tensor<u4>>) {
    CHECK(y.padding_is_zero());
  }
}

struct attention_rows {
  index_t rows;
  index_t keys;
};

constexpr attention_rows row_shapes[] = {
    {0, 5},   {5, 0},   {0, 0},            // no rows, no keys
    {1, 1},   {3, 2},   {2, 3},            // one key: always at the maximum; half a byte of packed codes
    {1, 197}, {4, 197},                    // DeiT: an odd number of keys
    {2, 15},  {2, 16},  {3, 17}, {3, 31},  // around registers of 16 bytes,
    {2, 32},  {2, 33},  {2, 63}, {3, 65},  // of 32 and 64
    {2, 256}, {2, 4097}                    // all distances at once; long rows
};

TEMPLATE_TEST_CASE("max_softmax: looks up every distance from the row's maximum", "", tensor<std::uint8_t>,
                   packed_tensor<u4>) {
  generator random(62);
  for (const attention_rows& shape : row_shapes) {
    CAPTURE(shape.rows, shape.keys);
    for (const layout& where : layouts) {
      tensor<std::uint8_t> logits(shape.rows, shape.keys, where);
      fill(logits.view(), values::random, 0, 255, random);
      check_entries<TestType>(logits, where);
    }
    for (const values what : all_values) {
      tensor<std::uint8_t> logits(shape.rows, shape.keys);
      fill(logits.view(), what, 3, 250, random);
      check_entries<TestType>(logits, layouts[1]);
    }
  }
}

TEST_CASE("max_softmax: reads every entry of its table [maximum in any place]") {
  const table_values table = shuffled_table();
  for (const index_t place : {index_t{0}, index_t{100}, index_t{255}}) {
    tensor<std::uint8_t> logits(1, 256), y(1, 256);
    for (index_t j = 0; j < 256; ++j) {
      logits(0, (place + j) % 256) = static_cast<std::uint8_t>(255 - j);
    }
    max_softmax(logits.view(), table, y.view());
    for (index_t j = 0; j < 256; ++j) {
      CHECK(y(0, (place + j) % 256) == table[static_cast<std::size_t>(j)]);
    }
  }
}

TEST_CASE("max_softmax: constant rows have the entry of the maximum") {
  const table_values table = shuffled_table();
  for (const int logit : {0, 1, 128, 255}) {
    generator random(63);
    tensor<std::uint8_t> logits(3, 197), y(3, 197);
    fill(logits.view(), values::smallest, logit, logit, random);
    max_softmax(logits.view(), table, y.view());
    CHECK(y.memory() == std::vector<std::uint8_t>(3 * 197, table[0]));
  }
}

TEST_CASE("max_softmax: does not change if all logits change by the same number") {
  generator random(64);
  tensor<std::uint8_t> logits(3, 50), y(3, 50), moved(3, 50), of_moved(3, 50);
  fill(logits.view(), values::random, 20, 90, random);
  max_softmax(logits.view(), shuffled_table(), y.view());
  for (const int shift : {-20, 165}) {
    for (index_t i = 0; i < 3; ++i) {
      for (index_t j = 0; j < 50; ++j) {
        moved(i, j) = static_cast<std::uint8_t>(logits(i, j) + shift);
      }
    }
    max_softmax(moved.view(), shuffled_table(), of_moved.view());
    CHECK(of_moved.memory() == y.memory());
  }
}

TEST_CASE("max_softmax: works in place") {
  generator random(65);
  for (const layout& where : layouts) {
    for (const index_t keys : {index_t{1}, index_t{33}, index_t{4097}}) {
      tensor<std::uint8_t> logits(3, keys, where);
      fill(logits.view(), values::random, 0, 255, random);
      const tensor<std::uint8_t> expected = exact_entries(logits, shuffled_table());
      max_softmax(logits.view(), shuffled_table(), logits.view());
      CHECK(first_difference(logits.view(), expected.view()) == "");
      CHECK(logits.surroundings_untouched());
    }
  }
}

TEST_CASE("max_softmax: refuses tables and matrices that do not fit") {
  const table_values table = shuffled_table();
  const std::vector<std::uint8_t> longer(257);
  tensor<std::uint8_t> logits(2, 3), y(2, 3), wider(2, 4);
  packed_tensor<u4> packed(2, 3);
  generator random(66);
  fill(logits.view(), values::random, 0, 255, random);
  const matrix_view<const std::uint8_t> x = logits.view();
  CHECK_THROWS_WITH(max_softmax(x, std::span(table).first(255), y.view()),
                    "intact::max_softmax: size of the softmax table is 255; it must be equal to 256");
  CHECK_THROWS_WITH(max_softmax(x, longer, y.view()),
                    "intact::max_softmax: size of the softmax table is 257; it must be equal to 256");
  CHECK_THROWS_WITH(max_softmax(x, table, wider.view()), "intact::max_softmax: y is 2 x 4; it must be 2 x 3");
  CHECK_THROWS_WITH(max_softmax(x, table, y.view().prefix(1, 3)), "intact::max_softmax: y is 1 x 3; it must be 2 x 3");
  CHECK_THROWS_WITH(max_softmax({nullptr, 2, 3}, table, y.view()),
                    "intact::max_softmax: logits has 2 rows, 3 columns, stride 3 and no data; it must have sizes of at "
                    "least 0, a stride of at least its columns, and data");
  table_values codes{};
  codes[255] = 16;
  CHECK_THROWS_WITH(max_softmax(x, codes, packed.view()),
                    "intact::max_softmax: entry of the softmax table is 16; it must be at most 15");
  auto odd = packed.view();
  odd.stride = 5;
  codes[255] = 15;
  CHECK_THROWS_WITH(max_softmax(x, codes, odd),
                    "intact::max_softmax: y has stride 5; the stride of packed rows must be even");
  CHECK(y.memory() == tensor<std::uint8_t>(2, 3).memory());
  CHECK(packed.bytes().memory() == packed_tensor<u4>(2, 3).bytes().memory());
  CHECK_NOTHROW(max_softmax(x, codes, packed.view()));
}

}  // namespace
}  // namespace intact_test::max_softmax_test
