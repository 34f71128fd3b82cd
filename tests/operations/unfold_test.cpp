#include "intact/unfold.hpp"

#include <cstdint>
#include <string>

#include "catch.hpp"
#include "intact/depthwise_conv.hpp"
#include "intact/gemm.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/unfold.hpp"
#include "refusal.hpp"
#include "reversed_executor.hpp"
#include "tensor.hpp"

namespace intact_test::unfold_test {
namespace {

struct unfold_shape {
  index_t height;
  index_t width;
  index_t channels;
  stencil around;
};

constexpr unfold_shape unfold_shapes[] = {
    {0, 4, 3, {3, 1}}, {4, 0, 3, {3, 2}}, {4, 4, 0, {3, 1}},  // no rows, no columns, no channels
    {1, 1, 1, {1, 1}}, {1, 1, 2, {5, 3}}, {2, 3, 1, {3, 1}},  // copies; one token; the smallest
    {5, 4, 3, {1, 1}}, {5, 4, 3, {1, 2}}, {5, 4, 3, {1, 7}},  // every token, every second, one
    {5, 7, 4, {3, 1}}, {5, 7, 4, {3, 2}}, {6, 8, 4, {3, 2}},  // odd and even sides
    {7, 5, 3, {5, 3}}, {2, 9, 2, {7, 4}}, {9, 9, 37, {3, 2}}  // wider than the grid; an odd number of channels
};

/// Goes through the tokens one by one and puts each where it belongs, on a ground of padding.
tensor<std::uint8_t> exact_stencils(const tensor<std::uint8_t>& x, const unfold_shape& s, int padding) {
  const auto [size, stride] = s.around;
  const index_t down = (s.height + stride - 1) / stride, across = (s.width + stride - 1) / stride;
  tensor<std::uint8_t> y(down * across, size * size * s.channels);
  generator random(0);
  fill(y.view(), values::smallest, padding, padding, random);
  for (index_t i = 0; i < s.height; ++i) {
    for (index_t j = 0; j < s.width; ++j) {
      for (index_t token = 0; token < down * across; ++token) {
        const index_t dy = i - token / across * stride + size / 2, dx = j - token % across * stride + size / 2;
        if (dy >= 0 && dy < size && dx >= 0 && dx < size) {
          for (index_t c = 0; c < s.channels; ++c) {
            y(token, (dy * size + dx) * s.channels + c) = x(i * s.width + j, c);
          }
        }
      }
    }
  }
  return y;
}

TEST_CASE("unfold: copies the stencil of every token", "[unfold]") {
  generator random(71);
  for (const unfold_shape& s : unfold_shapes) {
    for (const layout& where : layouts) {
      tensor<std::uint8_t> x(s.height * s.width, s.channels, where);
      fill(x.view(), values::random, 0, 255, random);
      const tensor<std::uint8_t> expected = exact_stencils(x, s, 201);
      tensor<std::uint8_t> y(expected.rows(), expected.columns(), where), z(expected.rows(), expected.columns()),
          specified(expected.rows(), expected.columns());
      unfold(x.view(), {s.height, s.width}, s.around, 201, y.view());
      unfold(x.view(), {s.height, s.width}, s.around, 201, z.view(), reversed_executor{});
      reference::unfold(x.view(), {s.height, s.width}, s.around, 201, specified.view());
      CAPTURE(s.height, s.width, s.channels, s.around.size, s.around.stride, where.gap);
      CHECK(first_difference(y.view(), expected.view()) == "");
      CHECK(first_difference(z.view(), expected.view()) == "");
      CHECK(first_difference(specified.view(), expected.view()) == "");
      CHECK(y.surroundings_untouched());
    }
  }
}

TEST_CASE("unfold: a product with the stencils is a convolution", "[unfold]") {
  // Weights that see one channel each: the depthwise convolution, written as a full one.
  generator random(72);
  constexpr index_t channels = 5, size = 3;
  tensor<std::uint8_t> x(6 * 7, channels), rows(6 * 7, size * size * channels);
  tensor<std::int8_t> taps(size * size, channels), w(channels, size * size * channels);
  fill(x.view(), values::random, 0, 255, random);
  fill(taps.view(), values::random, -128, 127, random);
  fill(w.view(), values::smallest, 0, 0, random);
  for (index_t tap = 0; tap < size * size; ++tap) {
    for (index_t c = 0; c < channels; ++c) {
      w(c, tap * channels + c) = taps(tap, c);
    }
  }
  tensor<std::int32_t> product(6 * 7, channels), direct(6 * 7, channels);
  unfold(x.view(), {6, 7}, {size, 1}, 99, rows.view());
  reference::gemm(rows.view(), matrix_view<const std::int8_t>(w.view()), raw_accumulator{}, product.view());
  depthwise_conv({x.view(), 99}, {6, 7}, {taps.view(), size}, raw_accumulator{}, direct.view());
  CHECK(first_difference(product.view(), direct.view()) == "");
}

TEST_CASE("unfold: refuses arguments before anything is written", "[unfold]") {
  tensor<std::uint8_t> x(12, 2), y(12, 18);
  const auto refused = [&](const token_grid& grid, const stencil& around, matrix_view<std::uint8_t> to) {
    return refusal([&] { unfold(x.view(), grid, around, 0, to); });
  };
  CHECK(refused({3, 5}, {3, 1}, y.view()) == "intact::unfold: x is 12 x 2; it must be 15 x 2");
  CHECK(refused({-3, -4}, {3, 1}, y.view()) == "intact::unfold: height of the grid is -3; it must be at least 0");
  CHECK(refused({3, 4}, {2, 1}, y.view()) ==
        "intact::unfold: size of the stencil modulo 2 is 0; it must be equal to 1");
  CHECK(refused({3, 4}, {257, 1}, y.view()) == "intact::unfold: size of the stencil is 257; it must be at most 255");
  CHECK(refused({3, 4}, {3, 0}, y.view()) == "intact::unfold: stride of the stencil is 0; it must be at least 1");
  CHECK(refused({3, 4}, {3, 2}, y.view()) == "intact::unfold: y is 12 x 18; it must be 4 x 18");
  CHECK(refused({3, 4}, {5, 1}, y.view()) == "intact::unfold: y is 12 x 18; it must be 12 x 50");
  CHECK(refusal([&] {
          unfold({x.view().data, 0, index_t{1} << 40}, {0, 0}, {255, 1}, 0, y.view());
        }) == "intact::unfold: columns of x is 1099511627776; it must be at most 2147483647");
  CHECK(y.memory() == tensor<std::uint8_t>(12, 18).memory());
}

}  // namespace
}  // namespace intact_test::unfold_test
