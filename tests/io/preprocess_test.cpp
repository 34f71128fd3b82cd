#include "intact/io/preprocess.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "made_image.hpp"
#include "refusal.hpp"

namespace intact_test::preprocess_test {
namespace {

using namespace intact;

std::uint64_t fnv1a(const std::vector<std::uint8_t>& bytes) {
  std::uint64_t hash = 14695981039346656037U;
  for (const std::uint8_t byte : bytes) {
    hash = (hash ^ byte) * 1099511628211U;
  }
  return hash;
}

/// The whole image, resized.
rgb_image resized(const rgb_image& image, index_t height, index_t width, interpolation kind = interpolation::bicubic) {
  return resize_image(image, height, width, {{0, height}, {0, width}}, kind);
}

}  // namespace

TEST_CASE("resize_image: equals Pillow in every bit") {
  // Computed with Pillow 9.4: Image.resize(..., Image.BICUBIC).
  CHECK(resized(made_image(5, 7), 3, 4).samples ==
        std::vector<std::uint8_t>{86,  75,  159, 117, 97, 131, 90,  70,  92,  169, 47,  149,
                                  100, 114, 122, 118, 99, 121, 143, 102, 72,  123, 123, 86,
                                  69,  105, 169, 99,  77, 138, 62,  116, 132, 148, 119, 117});
  CHECK(resized(made_image(3, 2), 5, 3).samples ==
        std::vector<std::uint8_t>{0,   40, 114, 107, 56,  168, 238, 72,  222, 40,  78, 102, 93,  67,  124,
                                  154, 55, 146, 110, 137, 79,  76,  83,  62,  41,  29, 45,  93,  146, 61,
                                  104, 83, 92,  113, 21,  123, 73,  145, 51,  124, 82, 119, 174, 18,  187});
  CHECK(fnv1a(resized(made_image(300, 200), 384, 256).samples) == 0x25071581ff4c204c);
  CHECK(fnv1a(resized(made_image(91, 640), 256, 1800).samples) == 0x2d797f651b0dc3a);
  CHECK(fnv1a(resized(made_image(480, 333), 36, 25).samples) == 0xf8ecc02e3b64fd1d);
  CHECK(fnv1a(resized(made_image(33, 40), 33, 7).samples) == 0xb5c654c9cc8d8fc3);
  CHECK(fnv1a(resized(made_image(33, 40), 100, 40).samples) == 0xa2ccb667ec63a753);
  CHECK(resized(made_image(6, 9), 6, 9) == made_image(6, 9));
  CHECK(resized(made_image(1, 1), 3, 2).samples.size() == 18);
}

TEST_CASE("resize_image: equals Pillow in every bit [bilinear]") {
  // Computed with Pillow 9.4: Image.resize(..., Image.BILINEAR).
  const interpolation linear = interpolation::bilinear;
  CHECK(resized(made_image(5, 7), 3, 4, linear).samples ==
        std::vector<std::uint8_t>{85,  76,  152, 113, 95, 133, 95,  72,  100, 162, 50,  145,
                                  102, 109, 128, 117, 95, 118, 139, 106, 73,  126, 119, 88,
                                  68,  104, 170, 99,  82, 140, 69,  110, 129, 144, 116, 117});
  CHECK(fnv1a(resized(made_image(300, 200), 384, 256, linear).samples) == 0x47882ea85f18b84d);
  CHECK(fnv1a(resized(made_image(480, 333), 36, 25, linear).samples) == 0xc5d478cd77fad691);
  CHECK(fnv1a(resized(made_image(33, 40), 100, 40, linear).samples) == 0x9685759ce8feee87);
  CHECK(resized(made_image(6, 9), 6, 9, linear) == made_image(6, 9));
}

TEST_CASE("preprocess_image: squashes both sides to one length") {
  // Computed with Pillow 9.4: resize((256, 256)) and the middle of it; resize((224, 224)).
  CHECK(fnv1a(preprocess_image(made_image(300, 201),
                               {.size = 224, .crop = 0.875, .kind = interpolation::bilinear, .squash = true})
                  .samples) == 0x4a13c46c6e19c91);
  CHECK(fnv1a(preprocess_image(made_image(300, 201), {.size = 224, .crop = 1, .squash = true}).samples) ==
        0xc05fad1e790ce762);
}

TEST_CASE("preprocess_image: covers images that are no squares, and cuts out the centre") {
  // timm's ResizeKeepRatio for 96 x 224 pixels, crop 0.875: 109 x 256 is covered by 172 x 256, from row 38, column 16.
  const rgb_image image = made_image(201, 300);
  CHECK(preprocess_image(image, {.size = {96, 224}}) == resize_image(image, 172, 256, {{38, 96}, {16, 224}}));
  CHECK(preprocess_image(image, {.size = {96, 224}, .squash = true}) ==
        resize_image(image, 109, 256, {{6, 96}, {16, 224}}));
  CHECK(preprocess_image(image, {.size = {201, 300}, .crop = 1}) == image);
}

TEST_CASE("preprocess_image: resizes the shorter side to size / crop and cuts out the centre") {
  // Computed with Pillow 9.4 and the roundings of torchvision.
  CHECK(fnv1a(preprocess_image(made_image(300, 201), 224, 0.875).samples) == 0x21e224ebbebaf227);
  CHECK(fnv1a(preprocess_image(made_image(201, 300), 224, 0.875).samples) == 0x955540b34fe02b7f);
  CHECK(fnv1a(preprocess_image(made_image(224, 225), 224, 0.875).samples) == 0x75c1952d3872f961);
  CHECK(fnv1a(preprocess_image(made_image(100, 100), 224, 0.875).samples) == 0xf33eed12cf046999);
  CHECK(preprocess_image(made_image(224, 224), 224, 1) == made_image(224, 224));
  CHECK(preprocess_image(made_image(1, 1), 8, 1).samples.size() == 3 * 64);
  // The whole of this one, resized, would take 200 GB.
  CHECK(preprocess_image(rgb_image(1, 1 << 20), 224, 0.875) == rgb_image(224, 224));
}

TEST_CASE("resize_image: a window has the pixels of the whole resized image") {
  const rgb_image image = made_image(37, 29), whole = resized(image, 50, 21);
  const rgb_image part = resize_image(image, 50, 21, {{11, 13}, {4, 9}});
  REQUIRE(part.height == 13);
  REQUIRE(part.width == 9);
  for (index_t y = 0; y < part.height; ++y) {
    CHECK(std::vector(part.row(y), part.row(y) + 27) == std::vector(whole.row(11 + y) + 12, whole.row(11 + y) + 39));
  }
}

TEST_CASE("interpolation_taps: the weights of a sample add up to 1, and those of mirrored samples are mirrored") {
  const auto weight_at = [](const filter_taps& taps, index_t k) {
    const index_t i = k - taps.first;
    return i < 0 || i >= std::ssize(taps.weight) ? 0.0 : taps.weight[static_cast<std::size_t>(i)];
  };
  for (const interpolation kind : {interpolation::bicubic, interpolation::bilinear})
    for (const auto& [from, to] : {std::pair{7, 3}, {3, 7}, {224, 160}, {1, 4}}) {
      const std::vector<filter_taps> taps = interpolation_taps(kind, from, to, {0, to});
      REQUIRE(std::ssize(taps) == to);
      for (std::size_t i = 0; i < taps.size(); ++i) {
        CAPTURE(from, to, i);
        double sum = 0;
        for (index_t k = 0; k < from; ++k) {
          sum += weight_at(taps[i], k);
          CHECK(std::fabs(weight_at(taps[i], k) - weight_at(taps[taps.size() - 1 - i], from - 1 - k)) < 1e-12);
        }
        CHECK(std::fabs(sum - 1) < 1e-12);
      }
    }
}

TEST_CASE("resize_image, preprocess_image, interpolation_taps: refuse arguments, naming them") {
  const rgb_image image = made_image(4, 5);
  const auto resizes = [&](const rgb_image& from, std::int64_t height, const image_window& window) {
    return refusal([&] { resize_image(from, height, 6, window); });
  };
  CHECK(resizes(image, 7, {{0, 7}, {0, 6}}).empty());
  CHECK(mentions(resizes(rgb_image(0, 5), 7, {{0, 7}, {0, 6}}), "intact::resize_image: image height is 0"));
  CHECK(mentions(resizes(rgb_image(4, 0), 7, {{0, 7}, {0, 6}}), "intact::resize_image: image width is 0"));
  CHECK(mentions(resizes(image, 0, {{0, 7}, {0, 6}}), "intact::resize_image: height is 0"));
  CHECK(mentions(resizes(image, 7, {{0, 8}, {0, 6}}), "intact::resize_image: rows of the window is 8"));
  CHECK(mentions(resizes(image, 7, {{-1, 7}, {0, 6}}), "intact::resize_image: rows of the window is -1"));
  CHECK(mentions(resizes(image, 7, {{0, 7}, {6, 1}}), "intact::resize_image: columns of the window is 6"));
  CHECK(mentions(resizes(image, 7, {{0, 7}, {0, 0}}), "intact::resize_image: columns of the window is 0"));
  const auto preprocesses = [&](index_t size, double crop) {
    return refusal([&] { preprocess_image(image, size, crop); });
  };
  CHECK(mentions(preprocesses(0, 1), "intact::preprocess_image: size is 0"));
  for (const double crop : {0.0, 0.009, 1.01, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK(mentions(preprocesses(8, crop), "intact::preprocess_image: crop is"));
  }
  CHECK(mentions(refusal([&] { preprocess_image(rgb_image(), 8, 1); }), "intact::preprocess_image: image height is 0"));
  CHECK(mentions(refusal([&] {
                   interpolation_taps(interpolation::bicubic, 0, 4, {0, 4});
                 }),
                 "intact::interpolation_taps: from is 0"));
}

}  // namespace intact_test::preprocess_test
