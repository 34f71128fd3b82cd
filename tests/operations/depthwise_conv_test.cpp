#include "intact/depthwise_conv.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/add.hpp"
#include "intact/build/add.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/scale.hpp"
#include "intact/reference/depthwise_conv.hpp"
#include "refusal.hpp"
#include "reversed_executor.hpp"
#include "tensor.hpp"

namespace intact_test::depthwise_conv_test {
namespace {

struct conv_shape {
  index_t height;
  index_t width;
  index_t channels;
  index_t size;
};

constexpr conv_shape conv_shapes[] = {
    {0, 5, 4, 3},    {5, 0, 4, 3},  {3, 4, 0, 3},                  // no rows, no columns, no channels
    {1, 1, 1, 1},    {1, 1, 1, 3},  {1, 1, 3, 5},                  // one token: all but the middle is padding
    {1, 7, 5, 3},    {7, 1, 5, 3},  {2, 3, 4, 5},  {2, 2, 1, 7},   // grids narrower than the square
    {4, 6, 37, 1},   {5, 4, 37, 3}, {6, 7, 63, 5}, {3, 3, 65, 3},  // pruned, odd widths; around registers
    {14, 14, 192, 3}                                               // DeiT's tokens
};

/// Instead of asking which tokens a sum needs: adds every token's share to the sums that need it, zero points taken
/// off, then what the zero points make.
tensor<std::int64_t> exact_sums(const tensor<std::uint8_t>& x, int zero_point, const conv_shape& s,
                                const tensor<std::int8_t>& w) {
  const index_t reach = s.size / 2;
  tensor<std::int64_t> sums(x.rows(), s.channels);
  for (index_t c = 0; c < s.channels; ++c) {
    std::int64_t all_weights = 0;
    for (index_t tap = 0; tap < w.rows(); ++tap) {
      all_weights += w(tap, c);
    }
    for (index_t t = 0; t < x.rows(); ++t) {
      sums(t, c) = zero_point * all_weights;
    }
    for (index_t i = 0; i < s.height; ++i) {
      for (index_t j = 0; j < s.width; ++j) {
        for (index_t to_i = std::max<index_t>(0, i - reach); to_i <= std::min(s.height - 1, i + reach); ++to_i) {
          for (index_t to_j = std::max<index_t>(0, j - reach); to_j <= std::min(s.width - 1, j + reach); ++to_j) {
            const index_t tap = (i - to_i + reach) * s.size + j - to_j + reach;
            sums(to_i * s.width + to_j, c) += std::int64_t{w(tap, c)} * (x(i * s.width + j, c) - zero_point);
          }
        }
      }
    }
  }
  return sums;
}

void check_sums(const conv_shape& s, const layout& where, values x_values, values w_values, int zero_point) {
  generator random(41);
  tensor<std::uint8_t> x(s.height * s.width, s.channels, where);
  tensor<std::int8_t> w(s.size * s.size, s.channels, where);
  fill(x.view(), x_values, 0, 255, random);
  fill(w.view(), w_values, -128, 127, random);
  const tensor<std::int64_t> expected = exact_sums(x, zero_point, s, w);
  tensor<std::int32_t> y(x.rows(), s.channels, where), specified(x.rows(), s.channels);
  const quantized_matrix input{x.view(), zero_point};
  depthwise_conv(input, {s.height, s.width}, {w.view(), s.size}, raw_accumulator{}, y.view());
  reference::depthwise_conv(input, {s.height, s.width}, {w.view(), s.size}, raw_accumulator{}, specified.view());
  CAPTURE(s.height, s.width, s.channels, s.size, where.gap, int(x_values), int(w_values), zero_point);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(first_difference(specified.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("depthwise_conv: is the exact sum", "[depthwise_conv]") {
  for (const conv_shape& s : conv_shapes) {
    for (const layout& where : layouts) {
      check_sums(s, where, values::random, values::random, 121);
    }
    for (const values x_values : {values::smallest, values::largest, values::alternating}) {
      for (const values w_values : {values::smallest, values::largest, values::alternating}) {
        check_sums(s, layouts[0], x_values, w_values, 0);
        check_sums(s, layouts[0], x_values, w_values, 255);
      }
    }
  }
}

TEST_CASE("depthwise_conv: sums fit int32 [the largest stencil]", "[depthwise_conv]") {
  static_assert(depthwise_max_size == 255);
  check_sums({2, 1, 1, 255}, layouts[0], values::largest, values::smallest, 255);
  check_sums({2, 1, 1, 255}, layouts[0], values::largest, values::largest, 255);
}

/// A layer built as build/scale.hpp builds that of a matrix product, from weights in PyTorch's order.
struct depthwise_layer {
  tensor<std::int8_t> w;
  owned_channel_scale scale;

  depthwise_layer(index_t channels, index_t size, double factor, int zero_point, generator& random)
      : w(size * size, channels) {
    fill(w.view(), values::random, -128, 127, random);
    std::vector<scale_spec> specs;
    for (index_t c = 0; c < channels; ++c) {
      std::vector<std::int8_t> of_channel;
      for (index_t tap = 0; tap < size * size; ++tap) {
        of_channel.push_back(w(tap, c));
      }
      specs.push_back(linear_spec<std::uint8_t>(
          {.weights = of_channel, .factor = factor, .addend = 100, .zero_point = zero_point}));
    }
    scale = owned_channel_scale(specs);
  }
};

TEST_CASE("depthwise_conv: requantized sums are real numbers rounded, also at the borders", "[depthwise_conv]") {
  generator random(42);
  for (const conv_shape& s : {conv_shape{5, 7, 37, 3}, conv_shape{4, 3, 20, 5}}) {
    const int zero_point = static_cast<int>(random.between(0, 255));
    const depthwise_layer layer(s.channels, s.size, 0.004, zero_point, random);
    tensor<std::uint8_t> x(s.height * s.width, s.channels), y(x.rows(), s.channels), z(x.rows(), s.channels);
    fill(x.view(), values::random, 0, 255, random);
    const quantized_matrix input{x.view(), zero_point};
    const requantize<std::uint8_t> stage{layer.scale.view()};
    depthwise_conv(input, {s.height, s.width}, {layer.w.view(), s.size}, stage, y.view());
    depthwise_conv(input, {s.height, s.width}, {layer.w.view(), s.size}, stage, z.view(), reversed_executor{});
    const tensor<std::int64_t> sums = exact_sums(x, zero_point, s, layer.w);
    tensor<std::uint8_t> expected(x.rows(), s.channels);
    for (index_t t = 0; t < x.rows(); ++t) {
      for (index_t c = 0; c < s.channels; ++c) {
        const realized_scale& exact = layer.scale.exact[static_cast<std::size_t>(c)];
        const double code = std::rint(static_cast<double>(sums(t, c)) * exact.factor + exact.offset);
        expected(t, c) = static_cast<std::uint8_t>(std::clamp(code, 0.0, 255.0));
      }
    }
    CHECK(first_difference(y.view(), expected.view()) == "");
    CHECK(first_difference(z.view(), expected.view()) == "");
    const auto inner = std::count_if(y.memory().begin(), y.memory().end(), [](int code) { return code % 255 != 0; });
    CHECK(inner > x.rows() * s.channels / 4);  // not all clamped
  }
}

TEST_CASE("depthwise_conv: a grid of zero points gives the bias", "[depthwise_conv]") {
  generator random(43);
  for (const int zero_point : {0, 77, 255}) {
    const depthwise_layer layer(9, 3, 0.01, zero_point, random);
    const tensor<std::uint8_t> x = [&] {
      tensor<std::uint8_t> made(4 * 4, 9);
      fill(made.view(), values::smallest, zero_point, zero_point, random);
      return made;
    }();
    tensor<std::uint8_t> y(16, 9);
    depthwise_conv({x.view(), zero_point}, {4, 4}, {layer.w.view(), 3}, requantize<std::uint8_t>{layer.scale.view()},
                   y.view());
    CHECK(y.memory() == std::vector<std::uint8_t>(16 * 9, 100));
  }
}

TEST_CASE("depthwise_conv: adds to a stream in place", "[depthwise_conv]") {
  generator random(44);
  const depthwise_layer layer(21, 3, 0.01, 90, random);
  tensor<std::uint8_t> x(12, 21);
  tensor<std::int16_t> stream(12, 21), before(12, 21);
  fill(x.view(), values::random, 0, 255, random);
  fill(before.view(), values::random, -32768, 32767, random);
  stream = before;
  depthwise_conv({x.view(), 90}, {3, 4}, {layer.w.view(), 3}, add_to_stream{layer.scale.view(), stream.view()},
                 stream.view());
  const tensor<std::int64_t> sums = exact_sums(x, 90, {3, 4, 21, 3}, layer.w);
  for (index_t t = 0; t < 12; ++t) {
    for (index_t c = 0; c < 21; ++c) {
      const realized_scale& exact = layer.scale.exact[static_cast<std::size_t>(c)];
      const double branch = std::rint(static_cast<double>(sums(t, c)) * exact.factor + exact.offset);
      CHECK(stream(t, c) == std::clamp(before(t, c) + branch, -32768.0, 32767.0));
    }
  }
}

TEST_CASE("depthwise_conv, add: blend two branches", "[depthwise_conv]") {
  // Container's blend: a learned share of attention and another of a convolution, here channel by channel.
  generator random(45);
  const depthwise_layer layer(8, 3, 0.003, 131, random);
  tensor<std::uint8_t> tokens(20, 8), attention(20, 8), convolution(20, 8), y(20, 8);
  fill(tokens.view(), values::random, 0, 255, random);
  fill(attention.view(), values::random, 0, 255, random);
  depthwise_conv({tokens.view(), 131}, {4, 5}, {layer.w.view(), 3}, requantize<std::uint8_t>{layer.scale.view()},
                 convolution.view());
  std::vector<add_spec> specs;
  for (index_t c = 0; c < 8; ++c) {
    specs.push_back({0.1 * static_cast<double>(c), 0.8 - 0.1 * static_cast<double>(c)});
  }
  std::vector<std::int32_t> of_attention(8), of_convolution(8), offset(8);
  std::vector<realized_add> exact(8);
  const add_parameters scale = build_add(specs, {120, 100, 128}, of_attention, of_convolution, offset, exact);
  add(attention.view(), convolution.view(), scale, y.view());
  for (index_t t = 0; t < 20; ++t) {
    for (index_t c = 0; c < 8; ++c) {
      const realized_add& e = exact[static_cast<std::size_t>(c)];
      const double blended = e.stream * (attention(t, c) - 120) + e.branch * (convolution(t, c) - 100) + e.offset;
      CHECK(y(t, c) == std::clamp(std::rint(blended), 0.0, 255.0));
    }
  }
}

TEST_CASE("depthwise_conv: refuses arguments before anything is written", "[depthwise_conv]") {
  generator random(46);
  const depthwise_layer layer(3, 3, 0.01, 5, random);
  tensor<std::uint8_t> x(12, 3), y(12, 3);
  const requantize<std::uint8_t> stage{layer.scale.view()};
  const auto refused = [&](const quantized_matrix& input, const token_grid& grid, const depthwise_weights& w,
                           matrix_view<std::uint8_t> to) {
    return refusal([&] { depthwise_conv(input, grid, w, stage, to); });
  };
  const quantized_matrix input{x.view(), 5};
  const depthwise_weights w{layer.w.view(), 3};
  CHECK(refused(input, {3, 5}, w, y.view()) == "intact::depthwise_conv: x is 12 x 3; it must be 15 x 3");
  CHECK(refused(input, {-3, -4}, w, y.view()) ==
        "intact::depthwise_conv: height of the grid is -3; it must be at least 0");
  CHECK(refused(input, {3, std::numeric_limits<index_t>::max()}, w, y.view()) ==
        "intact::depthwise_conv: width of the grid is 9223372036854775807; it must be at most 2147483647");
  CHECK(refused({x.view(), 256}, {3, 4}, w, y.view()) ==
        "intact::depthwise_conv: zero point of x is 256; it must be at most 255");
  CHECK(refused({x.view(), -1}, {3, 4}, w, y.view()) ==
        "intact::depthwise_conv: zero point of x is -1; it must be at least 0");
  CHECK(refused(input, {3, 4}, {layer.w.view(), 2}, y.view()) ==
        "intact::depthwise_conv: size of w modulo 2 is 0; it must be equal to 1");
  CHECK(refused(input, {3, 4}, {layer.w.view(), 257}, y.view()) ==
        "intact::depthwise_conv: size of w is 257; it must be at most 255");
  CHECK(refused(input, {3, 4}, {layer.w.view(), -1}, y.view()) ==
        "intact::depthwise_conv: size of w is -1; it must be at least 1");
  CHECK(refused(input, {3, 4}, {layer.w.view(), 5}, y.view()) ==
        "intact::depthwise_conv: taps of w is 9 x 3; it must be 25 x 3");
  CHECK(refused({x.view().prefix(12, 2), 5}, {3, 4}, w, y.view()) ==
        "intact::depthwise_conv: taps of w is 9 x 3; it must be 9 x 2");
  CHECK(refused({x.view().prefix(12, 2), 5}, {3, 4}, {layer.w.view().prefix(9, 2), 3}, y.view()) ==
        "intact::depthwise_conv: size of scale.multiplier is 3; it must be equal to 2");
  CHECK(refused(input, {3, 4}, w, y.view().prefix(11, 3)) == "intact::depthwise_conv: y is 11 x 3; it must be 12 x 3");
  CHECK(y.memory() == tensor<std::uint8_t>(12, 3).memory());
}

}  // namespace
}  // namespace intact_test::depthwise_conv_test
