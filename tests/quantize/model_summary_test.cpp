#include "intact/quantize/model_summary.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "random_model.hpp"
#include "random_swin.hpp"

namespace intact_test::model_summary_test {

using namespace intact;

TEST_CASE("multiply_adds: counts the products of every matrix product of an image") {
  for (const vit_shape& shape : {vit_shape{.channels = 3,
                                .height = 224,
                                .image_width = 224,
                                .patch = 16,
                                .width = 192,
                                .heads = 3,
                                .hidden = 768,
                                .depth = 12,
                                .classes = 1000},
                                 vit_shape{.channels = 1,
                                 .height = 8,
                                 .image_width = 12,
                                 .patch = 4,
                                 .width = 6,
                                 .heads = 2,
                                 .hidden = 10,
                                 .depth = 3,
                                 .classes = 5,
                                 .class_tokens = 2,
                                 .gated = true}}) {
    const auto product = [](std::int64_t rows, std::int64_t inner, std::int64_t columns) {
      return rows * inner * columns;
    };
    const std::int64_t patches = (shape.height / shape.patch.height) * (shape.image_width / shape.patch.width);
    const std::int64_t tokens = patches + shape.class_tokens, head = shape.width / shape.heads;
    std::int64_t sum = product(patches, shape.channels * shape.patch.height * shape.patch.width, shape.width);
    for (std::int64_t block = 0; block < shape.depth; ++block) {
      sum += product(tokens, shape.width, 3 * shape.width);
      for (std::int64_t i = 0; i < shape.heads; ++i) {
        sum += product(tokens, head, tokens) + product(tokens, tokens, head);
      }
      sum += product(tokens, shape.width, shape.width);
      sum += product(tokens, shape.width, shape.hidden) + product(tokens, shape.hidden, shape.width);
      sum += shape.gated ? product(tokens, shape.width, shape.hidden) : 0;
    }
    sum += product(1, shape.class_tokens * shape.width, shape.classes);
    CHECK(multiply_adds(shape) == static_cast<double>(sum));
  }
}

TEST_CASE("multiply_adds: counts the products of a Swin transformer, padding of windows included") {
  const swin_shape shape{.channels = 3,
                         .height = 28,
                         .image_width = 40,
                         .patch = 4,
                         .stages = 2,
                         .stage = {{{6, 2, 10, 2, 3}, {8, 4, 12, 3, 2}}},
                         .classes = 5};
  std::int64_t sum = std::int64_t{7 * 10} * (3 * 4 * 4) * 6;
  struct stage_sizes {
    std::int64_t tokens, windows, window, width, heads, hidden, depth;
  };
  // 7 x 10 tokens in 3 x 4 windows of 3, then 4 x 5 tokens in 2 x 3 windows of 2.
  for (const stage_sizes& stage : {stage_sizes{70, 12, 9, 6, 2, 10, 2}, {20, 6, 4, 8, 4, 12, 3}}) {
    for (std::int64_t block = 0; block < stage.depth; ++block) {
      for (std::int64_t window = 0; window < stage.windows; ++window) {
        sum += stage.window * stage.width * 3 * stage.width + stage.window * stage.width * stage.width;
        for (std::int64_t head = 0; head < stage.heads; ++head) {
          sum += 2 * stage.window * stage.window * (stage.width / stage.heads);
        }
      }
      sum += 2 * stage.tokens * stage.width * stage.hidden;
    }
  }
  sum += 20 * (4 * 6) * 8 + 8 * 5;
  CHECK(multiply_adds(shape) == static_cast<double>(sum));
}

TEST_CASE("layer_summaries: lists the layers of a gated perceptron in the order in which they run") {
  const vit_shape shape{.channels = 1,
                        .height = 4,
                        .image_width = 4,
                        .patch = 2,
                        .width = 6,
                        .heads = 2,
                        .hidden = 10,
                        .depth = 1,
                        .classes = 3,
                        .gated = true};
  const integer_vit model(model_builder({.shape = shape, .parts = paper_recipe}, 4).model());
  const std::vector<layer_summary> found = layer_summaries(model);
  std::vector<std::string> names;
  for (const layer_summary& layer : found) {
    names.push_back(layer.name);
  }
  CHECK(names == std::vector<std::string>{"patch", "qkv", "proj", "fc1", "up", "fc2", "head"});
  CHECK(found[4].rows == 10);
  CHECK(found[4].columns == 6);
}

TEST_CASE("layer_summaries: lists the layers of a Swin transformer in the order in which they run") {
  const swin_shape shape{.channels = 3,
                         .height = 12,
                         .image_width = 12,
                         .patch = 3,
                         .stages = 2,
                         .stage = {{{8, 2, 20, 2, 2}, {12, 3, 28, 1, 2}}},
                         .classes = 5};
  struct expected_layer {
    const char* name;
    index_t block, rows, columns;
  };
  const std::vector<expected_layer> expected = {
      {"patch", -1, 8, 27}, {"qkv", 0, 24, 8},   {"proj", 0, 8, 8},  {"fc1", 0, 20, 8},  {"fc2", 0, 8, 20},
      {"qkv", 1, 24, 8},    {"proj", 1, 8, 8},   {"fc1", 1, 20, 8},  {"fc2", 1, 8, 20},  {"merge", -1, 12, 32},
      {"qkv", 2, 36, 12},   {"proj", 2, 12, 12}, {"fc1", 2, 28, 12}, {"fc2", 2, 12, 28}, {"head", -1, 5, 12}};
  const std::vector<layer_summary> found = layer_summaries(random_swin(shape, paper_recipe, 3));
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i].name == expected[i].name);
    CHECK(found[i].block == expected[i].block);
    CHECK(found[i].rows == expected[i].rows);
    CHECK(found[i].columns == expected[i].columns);
    CHECK(found[i].bits == 8);
    CHECK(found[i].bytes == static_cast<std::size_t>(found[i].rows * found[i].columns));
    CHECK(found[i].smallest_scale > 0);
    CHECK(found[i].largest_scale >= found[i].smallest_scale);
  }
}

}  // namespace intact_test::model_summary_test
