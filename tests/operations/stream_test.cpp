#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/gemm.hpp"
#include "intact/reference/gemm.hpp"
#include "tensor.hpp"

// gemm with add_to_stream: a layer that adds its output to a residual stream in s16.

namespace intact_test::stream_test {
namespace {

/// Scales that take the accumulators of a layer of depth k to a few times the range of s16.
owned_channel_scale random_scale(index_t channels, index_t k, int left_shift, generator& random) {
  owned_channel_scale scale;
  scale.shift = static_cast<int>(random.between(0, 4));
  scale.left_shift = left_shift;
  const std::int64_t accumulators = 255 * 128 * std::max<std::int64_t>(k, 1);
  const std::int64_t unit = (std::int64_t{1} << (32 + scale.shift + 16 - left_shift)) / accumulators;
  const std::int64_t largest = std::min<std::int64_t>(4 * unit, std::numeric_limits<std::int32_t>::max());
  for (index_t n = 0; n < channels; ++n) {
    scale.multiplier.push_back(static_cast<std::int32_t>(random.between(largest / 4, largest)));
    scale.offset.push_back(random.between(-20000, 20000) * (std::int64_t{1} << (32 + scale.shift)) +
                           random.between(0, std::int64_t{1} << (31 + scale.shift)));
  }
  return scale;
}

/// The value of y if it receives addend + floor(((sum * 2^left_shift) * multiplier + offset) / 2^(32 + shift)).
template <class A, class Weights>
tensor<std::int16_t> exact_stream(const A& a, const Weights& w, const owned_channel_scale& scale,
                                  const matrix_view<const std::int16_t>& addend) {
  tensor<std::int16_t> y(a.rows, w.rows);
  for (index_t m = 0; m < a.rows; ++m) {
    for (index_t n = 0; n < w.rows; ++n) {
      const auto channel = static_cast<std::size_t>(n);
      int128 sum = 0;
      for (index_t k = 0; k < a.columns; ++k) {
        sum += int128{a(m, k)} * w(n, k);
      }
      const int128 scaled = sum * power_of_two(scale.left_shift) * scale.multiplier[channel] + scale.offset[channel];
      y(m, n) = clamp_to<std::int16_t>(addend(m, n) + floor_divide(scaled, power_of_two(32 + scale.shift)));
    }
  }
  return y;
}

struct stream_shape {
  index_t m;
  index_t n;
  index_t k;
};

constexpr stream_shape stream_shapes[] = {
    {0, 3, 4},     {3, 0, 4},   {3, 4, 0},    // no tokens, no channels, sums of nothing
    {1, 1, 1},     {2, 3, 5},   {5, 7, 15},   // the smallest
    {3, 16, 16},   {4, 17, 33}, {2, 65, 64},  // around registers
    {197, 192, 64}                            // a token of DeiT-Tiny, all of them
};

TEST_CASE("add_to_stream: adds to the stream and saturates at both ends") {
  generator random(60);
  int low = 0, high = 0, inside = 0;
  for (const stream_shape& shape : stream_shapes) {
    for (const layout& where : layouts) {
      for (const int left_shift : {0, 2}) {
        tensor<std::uint8_t> a(shape.m, shape.k, where);
        tensor<std::int8_t> w(shape.n, shape.k, where);
        tensor<std::int16_t> addend(shape.m, shape.n, where), y(shape.m, shape.n, where);
        fill(a.view(), values::random, 0, 255, random);
        fill(w.view(), values::random, -128, 127, random);
        fill(addend.view(), values::random, -32768, 32767, random);
        const owned_channel_scale scale = random_scale(shape.n, shape.k, left_shift, random);
        const tensor<std::int16_t> expected = exact_stream(a.view(), w.view(), scale, addend.view());
        reference::gemm(a.view(), w.view(), add_to_stream{scale.view(), addend.view()}, y.view());
        CAPTURE(shape.m, shape.n, shape.k, where.gap, left_shift);
        CHECK(first_difference(y.view(), expected.view()) == "");
        CHECK(y.surroundings_untouched());
        for (const std::int16_t code : expected.memory()) {
          ++(code == -32768 ? low : code == 32767 ? high : inside);
        }
        // In place: the addend is y, with its stride.
        reference::gemm(a.view(), w.view(), add_to_stream{scale.view(), addend.view()}, addend.view());
        CHECK(first_difference(addend.view(), expected.view()) == "");
        CHECK(addend.surroundings_untouched());
      }
    }
  }
  CHECK(low > 1000);
  CHECK(high > 1000);
  CHECK(inside > 10000);
}

TEST_CASE("add_to_stream: is exact at the ends of the ranges of the stream and the layer") {
  // One weight of 1 and a factor of 2^-1: code c adds floor(c / 2 + offset).
  tensor<std::uint8_t> a(1, 1);
  tensor<std::int8_t> w(1, 1);
  w(0, 0) = 1;
  tensor<std::int16_t> addend(1, 1), y(1, 1);
  owned_channel_scale scale;
  scale.multiplier = {1 << 30};
  scale.offset = {0};
  scale.left_shift = 1;
  const auto added = [&](int to, int code, std::int64_t halves) {
    addend(0, 0) = static_cast<std::int16_t>(to);
    a(0, 0) = static_cast<std::uint8_t>(code);
    scale.offset[0] = halves * (std::int64_t{1} << 31);
    reference::gemm(a.view(), w.view(), add_to_stream{scale.view(), addend.view()}, y.view());
    return int{y(0, 0)};
  };
  CHECK(added(32766, 2, 0) == 32767);
  CHECK(added(32766, 3, 0) == 32767);
  CHECK(added(32766, 4, 0) == 32767);
  CHECK(added(32767, 255, 0) == 32767);
  CHECK(added(-32767, 0, -2) == -32768);
  CHECK(added(-32767, 0, -3) == -32768);
  CHECK(added(-32768, 0, -1) == -32768);
  CHECK(added(-32768, 0, -1000000) == -32768);
  CHECK(added(-32768, 0, 2 * 65535) == 32767);
  CHECK(added(32767, 0, -2 * 65535) == -32768);
  CHECK(added(-32768, 0, 2 * 32768) == 0);
  CHECK(added(32767, 0, std::int64_t{1} << 30) == 32767);
  CHECK(added(-32768, 0, -(std::int64_t{1} << 30)) == -32768);
  CHECK(added(0, 1, 0) == 0);    // 0.5
  CHECK(added(0, 1, 1) == 1);    // 0.5 and the rounding half
  CHECK(added(0, 0, -1) == -1);  // -0.5
  CHECK(added(5, 3, -4) == 4);   // 5 + 1.5 - 2
}

TEST_CASE("add_to_stream: takes an addend of another stride than y, and every kind of weights") {
  generator random(61);
  tensor<std::int8_t> a(4, 11);
  packed_tensor<s4> w(6, 11);
  tensor<std::int16_t> addend(4, 6, layouts[2]), y(4, 6, layouts[1]);
  fill(a.view(), values::random, -128, 127, random);
  fill(w.view(), values::random, -8, 7, random);
  fill(addend.view(), values::random, -32768, 32767, random);
  const owned_channel_scale scale = random_scale(6, 11, 0, random);
  const tensor<std::int16_t> expected = exact_stream(a.view(), w.view(), scale, addend.view());
  reference::gemm(a.view(), w.view(), add_to_stream{scale.view(), addend.view()}, y.view());
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("add_to_stream: refuses a stream that does not fit") {
  tensor<std::uint8_t> a(2, 1);
  tensor<std::int8_t> w(3, 1);
  tensor<std::int16_t> addend(2, 3), y(2, 3);
  owned_channel_scale good;
  good.multiplier = {1, 1, 1};
  good.offset = {0, 0, 0};
  const auto call = [&](const channel_scale& scale, const matrix_view<const std::int16_t>& stream) {
    reference::gemm(a.view(), w.view(), add_to_stream{scale, stream}, y.view());
  };
  const matrix_view<const std::int16_t> all = addend.view();
  CHECK_THROWS_WITH(call(good.view(), all.prefix(1, 3)),
                    "intact::gemm: addend of the stage is 1 x 3; it must be 2 x 3");
  CHECK_THROWS_WITH(call(good.view(), all.prefix(2, 2)),
                    "intact::gemm: addend of the stage is 2 x 2; it must be 2 x 3");
  CHECK_THROWS_WITH(call(good.view(), {nullptr, 2, 3}),
                    "intact::gemm: addend of the stage has 2 rows, 3 columns, stride 3 and no data; it must have sizes "
                    "of at least 0, a stride of at least its columns, and data");
  CHECK_THROWS_WITH(call(good.view(), {addend.view().data, 2, 3, 2}),
                    "intact::gemm: addend of the stage has 2 rows, 3 columns, stride 2 and some data; it must have "
                    "sizes of at least 0, a stride of at least its columns, and data");
  tensor<std::uint8_t> keys(3, 1);
  const quantized_matrix x{a.view(), 0}, k{keys.view(), 0};
  CHECK_THROWS_WITH(reference::gemm(x, k, add_to_stream{good.view(), all.prefix(1, 3)}, y.view()),
                    "intact::gemm: addend of the stage is 1 x 3; it must be 2 x 3");
  channel_scale scale = good.view();
  scale.multiplier = scale.multiplier.first(2);
  CHECK_THROWS_WITH(call(scale, all), "intact::gemm: size of scale.multiplier is 2; it must be equal to 3");
  scale = good.view();
  scale.offset = scale.offset.first(2);
  CHECK_THROWS_WITH(call(scale, all), "intact::gemm: size of scale.offset is 2; it must be equal to 3");
  scale = good.view();
  scale.shift = 31;
  CHECK_THROWS_WITH(call(scale, all), "intact::gemm: scale.shift is 31; it must be at most 30");
  scale.shift = 0;
  scale.left_shift = -1;
  CHECK_THROWS_WITH(call(scale, all), "intact::gemm: scale.left_shift is -1; it must be at least 0");
  CHECK(y.memory() == tensor<std::int16_t>(2, 3).memory());
}

}  // namespace
}  // namespace intact_test::stream_test
