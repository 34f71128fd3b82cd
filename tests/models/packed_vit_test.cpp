#include "intact/build/packed_vit.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "heap_counter.hpp"
#include "quantized_model.hpp"

// The owner of packed weights: what it computes, and the memory that it takes.

namespace intact_test::packed_vit_test {
namespace {

classification classify(const packed_vit& model, const image_view& image) {
  const index_t classes = model.shape().classes;
  classification found{std::vector<std::int32_t>(static_cast<std::size_t>(classes)),
                       std::vector<std::uint8_t>(static_cast<std::size_t>(classes))};
  std::vector<std::byte> scratch(vit_workspace_bytes(model.shape()));
  const std::size_t before = live_bytes;
  most_live_bytes = before;
  vit({&image, 1}, model.parameters(), model.shape(),
      {matrix_view(found.logits.data(), 1, classes), matrix_view(found.logits_u8.data(), 1, classes)},
      workspace(scratch.data(), scratch.size()));
  CHECK(most_live_bytes == before);  // running a model allocates nothing
  return found;
}

TEST_CASE("packed_vit: models of every kind of weights compute the same, also after they are moved") {
  for (const vit_shape& shape : {smallest_vit, small_vit}) {
    const image_set images(shape, 2);
    for (const named_recipe& named : named_recipes()) {
      INFO(named.name);
      integer_vit model = quantized_vit(shape, named.recipe);
      const std::vector<classification> expected = classify_all(model, images);
      packed_vit first(std::move(model));
      packed_vit second(integer_vit(quantized_vit(smallest_vit, named.recipe)));
      second = std::move(first);
      const packed_vit packed(std::move(second));
      CHECK(packed.real_logit(256) > 0);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(classify(packed, images.views()[i]) == expected[i]);
      }
    }
  }
}

TEST_CASE("packed_vit: packs layer by layer, and does not hold the weights twice") {
  vit_shape shape = small_vit;
  shape.width = 192;
  shape.hidden = 768;
  shape.depth = 3;
  constexpr std::size_t largest_layer = 768 * 192, all_layers = 3 * 12 * 192 * 192;
  for (const weight_kind kind : {weight_kind::s8, weight_kind::s4, weight_kind::grouped_s4}) {
    quantization_recipe recipe = precise_recipe;
    recipe.weights = kind;
    const std::size_t share = kind == weight_kind::s8 ? 1 : 2;
    integer_vit model = quantized_vit(shape, recipe);
    const std::size_t before = live_bytes;
    CHECK(before > all_layers / share);
    most_live_bytes = before;
    const packed_vit packed(std::move(model));
    constexpr std::size_t sums_and_views = 150'000;  // s32 sums of rows, parameters of blocks
    CHECK(most_live_bytes < before + largest_layer / share + sums_and_views);
    CHECK(live_bytes < before + sums_and_views);
  }
}

}  // namespace
}  // namespace intact_test::packed_vit_test
