#include "intact/activation.hpp"

#include <array>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "tensor.hpp"

namespace intact_test::activation_test {
namespace {

struct activation_shape {
  index_t rows;
  index_t columns;
};

constexpr activation_shape activation_shapes[] = {
    {0, 5},   {5, 0},    {1, 1},            // nothing, and one code
    {1, 768}, {4097, 3},                    // one token, many tokens
    {2, 15},  {2, 16},   {3, 17}, {3, 31},  // around registers of 16 bytes,
    {2, 32},  {2, 33},   {2, 63}, {3, 65},  // of 32 and 64
};

template <class Code>
constexpr int largest_code = sizeof(Code) == 1 ? 255 : 4095;

template <class Code>
std::vector<std::uint8_t> random_table(generator& random) {
  std::vector<std::uint8_t> table(largest_code<Code> + 1);
  for (std::uint8_t& entry : table) {
    entry = static_cast<std::uint8_t>(random.between(0, 255));
  }
  return table;
}

template <class Code>
void check_activation(const activation_shape& shape, const layout& where, values what) {
  generator random(11);
  const std::vector<std::uint8_t> table = random_table<Code>(random);
  tensor<Code> codes(shape.rows, shape.columns, where);
  fill(codes.view(), what, 0, largest_code<Code>, random);
  tensor<std::uint8_t> y(shape.rows, shape.columns, where);
  activation(codes.view(), table, y.view());
  index_t wrong = 0;
  for (index_t i = 0; i < shape.rows; ++i) {
    for (index_t j = 0; j < shape.columns; ++j) {
      wrong += y(i, j) != table.at(codes(i, j)) ? 1 : 0;
    }
  }
  CAPTURE(shape.rows, shape.columns, where.gap, where.offset, int(what));
  CHECK(wrong == 0);
  CHECK(y.surroundings_untouched());
}

TEMPLATE_TEST_CASE("activation: replaces every code by its entry", "", std::uint8_t, std::uint16_t) {
  for (const activation_shape& shape : activation_shapes) {
    for (const layout& where : layouts) {
      check_activation<TestType>(shape, where, values::random);
    }
    for (const values what : all_values) {
      check_activation<TestType>(shape, layouts[0], what);
    }
  }
}

TEST_CASE("activation: reads an entry of its own for every code [all 8-bit and 12-bit codes]") {
  tensor<std::uint8_t> bytes(1, 256), of_bytes(1, 256);
  tensor<std::uint16_t> words(2, 2048);
  tensor<std::uint8_t> of_words(2, 2048);
  std::array<std::uint8_t, 256> reversed{};
  std::array<std::uint8_t, 4096> low_bits{}, high_bits{};
  for (int k = 0; k < 256; ++k) {
    bytes(0, k) = static_cast<std::uint8_t>(k);
    reversed[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(255 - k);
  }
  for (int k = 0; k < 4096; ++k) {
    words(k / 2048, k % 2048) = static_cast<std::uint16_t>(k);
    low_bits[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(k & 255);
    high_bits[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(k >> 8);
  }
  activation(matrix_view<const std::uint8_t>(bytes.view()), reversed, of_bytes.view());
  for (int k = 0; k < 256; ++k) {
    CHECK(of_bytes(0, k) == 255 - k);
  }
  index_t wrong = 0;
  activation(matrix_view<const std::uint16_t>(words.view()), low_bits, of_words.view());
  for (int k = 0; k < 4096; ++k) {
    wrong += of_words(k / 2048, k % 2048) != k % 256 ? 1 : 0;
  }
  activation(matrix_view<const std::uint16_t>(words.view()), high_bits, of_words.view());
  for (int k = 0; k < 4096; ++k) {
    wrong += of_words(k / 2048, k % 2048) != k / 256 ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("activation: works in place [8-bit codes]") {
  for (const layout& where : layouts) {
    generator random(12);
    const std::vector<std::uint8_t> table = random_table<std::uint8_t>(random);
    tensor<std::uint8_t> codes(7, 33, where);
    fill(codes.view(), values::random, 0, 255, random);
    tensor<std::uint8_t> expected(7, 33);
    for (index_t i = 0; i < 7; ++i) {
      for (index_t j = 0; j < 33; ++j) {
        expected(i, j) = table.at(codes(i, j));
      }
    }
    activation(codes.view(), table, codes.view());
    CHECK(first_difference(codes.view(), expected.view()) == "");
    CHECK(codes.surroundings_untouched());
  }
}

}  // namespace
}  // namespace intact_test::activation_test
