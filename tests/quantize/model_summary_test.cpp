#include "intact/quantize/model_summary.hpp"

#include <cstdint>

#include "catch.hpp"

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
                                 .class_tokens = 2}}) {
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
    }
    sum += product(1, shape.class_tokens * shape.width, shape.classes);
    CHECK(multiply_adds(shape) == static_cast<double>(sum));
  }
}

}  // namespace intact_test::model_summary_test
