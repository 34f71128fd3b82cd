#include "intact/im2col.hpp"

#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "intact/reference/im2col.hpp"
#include "tensor.hpp"

namespace intact_test::im2col_test {
namespace {

struct image_shape {
  index_t channels;
  index_t height;
  index_t width;
  patch_size patch;
};

constexpr image_shape image_shapes[] = {
    {0, 4, 4, 2},        {3, 0, 4, 2},      {3, 4, 0, 2},
    {3, 0, 0, 1},                                          // no channels, no rows, no columns of patches
    {1, 1, 1, 1},        {1, 5, 7, 1},      {3, 2, 3, 1},  // patches of one pixel: a transposition
    {3, 4, 4, 4},        {1, 5, 5, 5},                     // one patch: the image itself
    {3, 6, 9, 3},        {2, 9, 6, 3},      {3, 4, 8, 2},
    {5, 8, 4, 4},                                               // wide and high, with more channels than colours
    {1, 3, 4097, 1},                                            // many patches
    {3, 6, 8, {3, 2}},   {2, 8, 9, {2, 9}}, {1, 9, 8, {9, 1}},  // patches that are no squares
    {3, 4, 24, {4, 12}}, {3, 224, 224, 16}                      // the patch embedding of DeiT
};

std::vector<std::uint8_t> random_samples(index_t count, generator& random) {
  std::vector<std::uint8_t> samples(static_cast<std::size_t>(count));
  for (std::uint8_t& sample : samples) {
    sample = static_cast<std::uint8_t>(random.between(0, 255));
  }
  return samples;
}

/// Goes through the image sample by sample and says where each belongs.
template <class Sample>
tensor<std::uint8_t> exact_patches(const image_shape& shape, Sample sample) {
  const index_t p = shape.patch.height, q = shape.patch.width;
  tensor<std::uint8_t> y((shape.height / p) * (shape.width / q), shape.channels * p * q);
  for (index_t c = 0; c < shape.channels; ++c) {
    for (index_t row = 0; row < shape.height; ++row) {
      for (index_t column = 0; column < shape.width; ++column) {
        const index_t patch = row / p * (shape.width / q) + column / q;
        y(patch, c * p * q + row % p * q + column % q) = sample(c, row, column);
      }
    }
  }
  return y;
}

template <class Sample>
void check_im2col(const image_view& image, const image_shape& shape, const layout& where, Sample sample) {
  const tensor<std::uint8_t> expected = exact_patches(shape, sample);
  tensor<std::uint8_t> y(expected.rows(), expected.columns(), where);
  im2col(image, shape.patch, y.view());
  CAPTURE(shape.channels, shape.height, shape.width, shape.patch.height, shape.patch.width, where.gap);
  CHECK(first_difference(y.view(), expected.view()) == "");
  CHECK(y.surroundings_untouched());
  tensor<std::uint8_t> specified(expected.rows(), expected.columns());
  reference::im2col(image, shape.patch, specified.view());
  CHECK(first_difference(specified.view(), expected.view()) == "");
}

TEST_CASE("im2col: cuts planar and interleaved images into patches") {
  generator random(15);
  for (const image_shape& s : image_shapes) {
    const std::vector<std::uint8_t> samples = random_samples(s.channels * s.height * s.width, random);
    const auto at = [&](index_t i) { return samples.at(static_cast<std::size_t>(i)); };
    for (const layout& where : layouts) {
      check_im2col(planar_image(samples.data(), s.channels, s.height, s.width), s, where,
                   [&](index_t c, index_t y, index_t x) { return at((c * s.height + y) * s.width + x); });
      check_im2col(interleaved_image(samples.data(), s.channels, s.height, s.width), s, where,
                   [&](index_t c, index_t y, index_t x) { return at((y * s.width + x) * s.channels + c); });
    }
  }
}

TEST_CASE("im2col: reads images with any strides") {
  generator random(16);
  const image_shape s{3, 6, 4, 2};
  // Cut out of 11 x 9 pixels of 4 samples, from row 2, column 3 and sample 1 on.
  const std::vector<std::uint8_t> samples = random_samples(11 * 9 * 4, random);
  const index_t first = (2 * 9 + 3) * 4 + 1;
  const image_view cropped{samples.data() + first, s.channels, s.height, s.width, 1, 9 * 4, 4};
  check_im2col(cropped, s, layouts[1], [&](index_t c, index_t y, index_t x) {
    return samples.at(static_cast<std::size_t>(first + (y * 9 + x) * 4 + c));
  });
  // The same upside down, mirrored, and with the channels in reverse: all strides are negative.
  const index_t last = first + (5 * 9 + 3) * 4 + 2;
  const image_view reversed{samples.data() + last, s.channels, s.height, s.width, -1, -9 * 4, -4};
  check_im2col(reversed, s, layouts[1], [&](index_t c, index_t y, index_t x) {
    return samples.at(static_cast<std::size_t>(last - (y * 9 + x) * 4 - c));
  });
}

TEST_CASE("im2col: a patch has its channels in order, each row by row") {
  const std::uint8_t planes[2 * 2 * 4] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17};
  tensor<std::uint8_t> y(2, 8);
  im2col(planar_image(planes, 2, 2, 4), 2, y.view());
  const std::vector<std::uint8_t> expected = {0, 1, 4, 5, 10, 11, 14, 15, 2, 3, 6, 7, 12, 13, 16, 17};
  CHECK(y.memory() == expected);
}

TEST_CASE("im2col: needs no data for an image without pixels") {
  tensor<std::uint8_t> y(0, 12);
  im2col(image_view{nullptr, 3, 0, 4, 0, 0, 0}, 2, y.view());
  im2col(image_view{nullptr, 3, 4, 0, 0, 0, 0}, 2, y.view());
  tensor<std::uint8_t> without_channels(4, 0);
  im2col(image_view{nullptr, 0, 4, 4, 0, 0, 0}, 2, without_channels.view());
  CHECK(without_channels.memory().empty());
}

}  // namespace
}  // namespace intact_test::im2col_test
