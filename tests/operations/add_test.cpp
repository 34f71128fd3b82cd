#include "intact/add.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "intact/build/owned_parameters.hpp"
#include "tensor.hpp"

namespace intact_test::add_test {
namespace {

struct add_shape {
  index_t rows;
  index_t columns;
};

constexpr add_shape add_shapes[] = {
    {0, 5},   {5, 0},    {1, 1},            // nothing, and one channel of one token
    {1, 192}, {4097, 2},                    // one token, many tokens
    {2, 15},  {2, 16},   {3, 17}, {3, 31},  // around registers of 16 bytes,
    {2, 32},  {2, 33},   {2, 63}, {3, 65},  // of 32 and 64
};

owned_add scale_of(const std::vector<std::int32_t>& stream_multiplier,
                   const std::vector<std::int32_t>& branch_multiplier, const std::vector<std::int32_t>& offset,
                   const add_zero_points& zero_points, int shift) {
  owned_add scale;
  scale.stream_multiplier = stream_multiplier;
  scale.branch_multiplier = branch_multiplier;
  scale.offset = offset;
  scale.zero_points = zero_points;
  scale.shift = shift;
  return scale;
}

constexpr std::int64_t largest_sum = std::numeric_limits<std::int32_t>::max();

/// Random multipliers of up to 4 and offsets of whole outputs, limited to the contract's range.
owned_add random_scale(index_t channels, int shift, generator& random) {
  owned_add scale;
  scale.zero_points.stream = static_cast<int>(random.between(0, 255));
  scale.zero_points.branch = static_cast<int>(random.between(0, 255));
  scale.shift = shift;
  for (index_t c = 0; c < channels; ++c) {
    const std::int64_t limit = std::min(std::int64_t{4} << shift, largest_sum / 255 / 3);
    const std::int64_t ma = random.between(-limit, limit);
    const std::int64_t mb = random.between(-limit, limit);
    const std::int64_t left = largest_sum - 255 * (std::abs(ma) + std::abs(mb));
    scale.stream_multiplier.push_back(static_cast<std::int32_t>(ma));
    scale.branch_multiplier.push_back(static_cast<std::int32_t>(mb));
    scale.offset.push_back(static_cast<std::int32_t>(
        std::min(left, (random.between(0, 255) << shift) + (std::int64_t{1} << (shift - 1)))));
  }
  return scale;
}

std::uint8_t exact_code(int stream, int branch, const owned_add& s, index_t channel) {
  const auto c = static_cast<std::size_t>(channel);
  const int128 sum = int128{stream - s.zero_points.stream} * s.stream_multiplier[c] +
                     int128{branch - s.zero_points.branch} * s.branch_multiplier[c] + s.offset[c];
  return clamp_to<std::uint8_t>(floor_divide(sum, power_of_two(s.shift)));
}

tensor<std::uint8_t> exact_codes(const tensor<std::uint8_t>& stream, const tensor<std::uint8_t>& branch,
                                 const owned_add& scale) {
  tensor<std::uint8_t> y(stream.rows(), stream.columns());
  for (index_t i = 0; i < y.rows(); ++i) {
    for (index_t c = 0; c < y.columns(); ++c) {
      y(i, c) = exact_code(stream(i, c), branch(i, c), scale, c);
    }
  }
  return y;
}

void check_add(const add_shape& shape, const layout& where, values what, int shift) {
  generator random(13);
  const owned_add scale = random_scale(shape.columns, shift, random);
  tensor<std::uint8_t> stream(shape.rows, shape.columns, where);
  tensor<std::uint8_t> branch(shape.rows, shape.columns, where);
  fill(stream.view(), what, 0, 255, random);
  fill(branch.view(), what, 0, 255, random);
  tensor<std::uint8_t> y(shape.rows, shape.columns, where);
  const tensor<std::uint8_t> expected = exact_codes(stream, branch, scale);
  CAPTURE(shape.rows, shape.columns, where.gap, where.offset, int(what), shift);
  add(stream.view(), branch.view(), scale.view(), y.view());
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
}

TEST_CASE("add: is the exact sum rounded down, and clamped") {
  for (const add_shape& shape : add_shapes) {
    for (const layout& where : layouts) {
      check_add(shape, where, values::random, 20);
    }
    for (const values what : all_values) {
      check_add(shape, layouts[0], what, 20);
    }
    for (int shift = add_min_shift; shift <= add_max_shift; ++shift) {
      check_add(shape, layouts[0], values::random, shift);
    }
  }
}

/// All 65,536 pairs of codes at once: rows are stream codes; a channel per branch code would need a scale each, so
/// every channel has the same.
tensor<std::uint8_t> check_all_pairs(const owned_add& one) {
  owned_add all = one;
  all.stream_multiplier.assign(256, one.stream_multiplier[0]);
  all.branch_multiplier.assign(256, one.branch_multiplier[0]);
  all.offset.assign(256, one.offset[0]);
  tensor<std::uint8_t> stream(256, 256), branch(256, 256), y(256, 256);
  for (int r = 0; r < 256; ++r) {
    for (int b = 0; b < 256; ++b) {
      stream(r, b) = static_cast<std::uint8_t>(r);
      branch(r, b) = static_cast<std::uint8_t>(b);
    }
  }
  add(stream.view(), branch.view(), all.view(), y.view());
  CHECK(first_difference(y.view(), exact_codes(stream, branch, all).view()) == "");
  return y;
}

TEST_CASE("add: is exact [all pairs of codes]") {
  for (int shift = add_min_shift; shift <= add_max_shift; ++shift) {
    // An output, or for the largest shifts as much of one as the contract leaves room for.
    const std::int32_t one = std::int32_t{1} << std::min(shift, 20);
    // The sum itself, and a difference: both ends are passed by far.
    check_all_pairs(scale_of({one}, {one}, {one / 2}, {0, 0}, shift));
    check_all_pairs(scale_of({one}, {-one}, {one / 2}, {128, 3}, shift));
    // Ratios that the paper's models have: one above 1, one below.
    check_all_pairs(scale_of({one / 100 * 409}, {one / 1000 * 37}, {127 * (one / 2)}, {131, 120}, shift));
  }
}

TEST_CASE("add: is exact [the largest sums that the contract allows]") {
  constexpr std::int32_t half = 4210752;  // 255 * 2 * half + 127 = 2^31 - 1
  static_assert(std::int64_t{255} * 2 * half + 127 == largest_sum);
  for (const int shift : {add_min_shift, add_max_shift}) {
    for (const int zero_point : {0, 255}) {
      for (const std::int32_t sign : {-1, 1}) {
        check_all_pairs(scale_of({half}, {sign * half}, {127}, {zero_point, zero_point}, shift));
        check_all_pairs(scale_of({-half}, {sign * half}, {-127}, {zero_point, zero_point}, shift));
      }
      check_all_pairs(scale_of({0}, {0}, {std::numeric_limits<std::int32_t>::max()}, {zero_point, zero_point}, shift));
      check_all_pairs(scale_of({0}, {0}, {-std::numeric_limits<std::int32_t>::max()}, {zero_point, zero_point}, shift));
    }
  }
}

TEST_CASE("add: gives sums that are whole outputs unchanged") {
  // Multipliers and offset are whole outputs: the rounding down of every sum is the sum itself.
  for (const int shift : {17, 21}) {
    const owned_add scale =
        scale_of(std::vector<std::int32_t>(256, 1 << shift), std::vector<std::int32_t>(256, -(1 << shift)),
                 std::vector<std::int32_t>(256, 100 << shift), {120, 130}, shift);
    tensor<std::uint8_t> stream(256, 256), branch(256, 256), y(256, 256);
    for (index_t i = 0; i < 256; ++i) {
      for (index_t c = 0; c < 256; ++c) {
        stream(i, c) = static_cast<std::uint8_t>(i);
        branch(i, c) = static_cast<std::uint8_t>(c);
      }
    }
    add(stream.view(), branch.view(), scale.view(), y.view());
    index_t wrong = 0;
    for (index_t i = 0; i < 256; ++i) {
      for (index_t c = 0; c < 256; ++c) {
        wrong += y(i, c) != clamp_to<std::uint8_t>((i - 120) - (c - 130) + 100) ? 1 : 0;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("add: clamps at both ends and reaches every code between them") {
  const std::int32_t one = std::int32_t{1} << 20;
  const tensor<std::uint8_t> y = check_all_pairs(scale_of({one}, {one}, {one / 2}, {128, 0}, 20));
  CHECK(y(0, 0) == 0);        // -128
  CHECK(y(128, 0) == 0);      // 0
  CHECK(y(129, 0) == 1);      // 1
  CHECK(y(255, 128) == 255);  // 255
  CHECK(y(255, 129) == 255);  // 256
}

TEST_CASE("add: works in place on the stream and on the branch") {
  for (const layout& where : layouts) {
    generator random(14);
    const owned_add scale = random_scale(33, 21, random);
    tensor<std::uint8_t> stream(7, 33, where), branch(7, 33, where);
    fill(stream.view(), values::random, 0, 255, random);
    fill(branch.view(), values::random, 0, 255, random);
    const tensor<std::uint8_t> expected = exact_codes(stream, branch, scale);
    tensor<std::uint8_t> y = stream;
    add(y.view(), branch.view(), scale.view(), y.view());
    CHECK(first_difference(y.view(), expected.view()) == "");
    CHECK(y.surroundings_untouched());
    y = branch;
    add(stream.view(), y.view(), scale.view(), y.view());
    CHECK(first_difference(y.view(), expected.view()) == "");
    CHECK(y.surroundings_untouched());
  }
}

}  // namespace
}  // namespace intact_test::add_test
