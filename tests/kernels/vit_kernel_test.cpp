// Whole models on one instruction set, isa::INTACT_TEST_ISA, against the specification, bit by bit.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/intact.hpp"
#include "intact/reference/model/vit.hpp"
#include "kernel_tests.hpp"
#include "random_model.hpp"
#include "refusal.hpp"

namespace intact_test::vit_kernel_test {
namespace {

/// Both outputs of a batch.
struct outputs {
  tensor<std::int32_t> logits;
  tensor<std::uint8_t> logits_u8;

  outputs(index_t batch, index_t classes) : logits(batch, classes, layouts[1]), logits_u8(batch, classes, layouts[1]) {}
};

/// The specification, image by image.
outputs run_specification(const packed_vit& model, std::span<const image_view> images) {
  outputs found(std::ssize(images), model.shape().classes);
  std::vector<std::byte> scratch(reference::vit_workspace_bytes(model.shape()));
  for (index_t i = 0; i < std::ssize(images); ++i) {
    reference::vit(images[static_cast<std::size_t>(i)], model.parameters(), model.shape(),
                   {found.logits.view().row_block(i, 1), found.logits_u8.view().row_block(i, 1)},
                   workspace(scratch.data(), scratch.size()));
  }
  return found;
}

/// The workspace has exactly the bytes asked for, from an address that is `misaligned` bytes off a boundary on.
outputs run_model(const vit_parameters& p, const vit_shape& shape, std::span<const image_view> images, index_t threads,
                  std::size_t misaligned) {
  outputs found(std::ssize(images), shape.classes);
  const std::size_t bytes = vit_workspace_bytes(shape, std::ssize(images), threads);
  std::vector<std::byte> scratch(bytes + misaligned, std::byte{0xa5});
  vit<tested_isa>(images, p, shape, {found.logits.view(), found.logits_u8.view()},
                  workspace(scratch.data() + misaligned, bytes), executor_ref(thread_pool{threads}));
  return found;
}

std::vector<image_view> views_of(std::span<const owned_image> images) {
  std::vector<image_view> views;
  for (const owned_image& image : images) {
    views.push_back(image.view);
  }
  return views;
}

struct run_options {
  index_t batch, threads;
  std::size_t misaligned;
};

/// Batches of the images, taken from the first on.
void check_model(const model_recipe& recipe, std::span<const run_options> runs) {
  const packed_vit model(integer_vit(model_builder(recipe, 5).model()));
  const std::vector<owned_image> images = make_images(recipe.shape, 2);
  const std::vector<image_view> views = views_of(images);
  const outputs expected = run_specification(model, views);
  CHECK(expected.logits.surroundings_untouched());
  CHECK(expected.logits_u8.surroundings_untouched());
  for (const run_options& run : runs) {
    CAPTURE(run.batch, run.threads, run.misaligned);
    for (index_t first = 0; first + run.batch <= std::ssize(views); first += run.batch) {
      const auto some = std::span(views).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(run.batch));
      const outputs found = run_model(model.parameters(), model.shape(), some, run.threads, run.misaligned);
      CHECK(found.logits.surroundings_untouched());
      CHECK(found.logits_u8.surroundings_untouched());
      CHECK(first_difference(found.logits.view(), expected.logits.view().row_block(first, run.batch)) == "");
      CHECK(first_difference(found.logits_u8.view(), expected.logits_u8.view().row_block(first, run.batch)) == "");
    }
  }
}

// No two sizes are equal; rows of 4-bit weights end in the middle of a byte.
constexpr vit_shape uneven_shape{.channels = 2,
                                 .height = 9,
                                 .image_width = 12,
                                 .patch = 3,
                                 .width = 21,
                                 .heads = 3,
                                 .hidden = 35,
                                 .depth = 2,
                                 .classes = 5};

TEST_CASE("vit: equals the specification [every recipe]", "[vit][long]") {
  constexpr run_options runs[] = {{1, 1, 0}, {3, 2, 1}, {2, 3, 63}};
  int models = 0;
  for (quantization_recipe parts : sensible_attention_recipes()) {
    for (const stream_codes stream : {stream_codes::u8, stream_codes::s16}) {
      for (const bool pixel_codes : {false, true}) {
        parts.stream = stream;
        parts.pixel_codes = pixel_codes;
        parts.weights = static_cast<weight_kind>(models % 3);  // each with each: 24 attentions, four times
        parts.weight_group = 4;
        INFO(recipe_text(parts));
        check_model({.shape = uneven_shape, .parts = parts}, runs);
        ++models;
      }
    }
  }
  CHECK(models == 24 * 4);
}

constexpr stream_codes u8 = stream_codes::u8;  // replaced by the recipe's
constexpr struct {
  vit_shape shape;
  const char* why;
} shapes[] = {
    {{1, 1, 1, 1, 1, 1, 1, 0, 1}, "nothing but a head"},
    {{1, 1, 1, 1, 1, 1, 1, 1, 1}, "all sizes 1"},
    {{3, 32, 32, 4, 64, 4, 130, 1, 3}, "65 tokens: one more than a register"},
    {{3, 8, 4, 4, 16, 2, 24, 2, 1000}, "two patches, many classes"},
    {{1, 28, 28, 2, 8, 1, 4, 1, 10}, "197 tokens"},
    {{3, 8, 8, 4, 24, 2, 40, 2, 9, 2}, "a class token and a distillation token"},
    {{1, 2, 2, 2, 5, 1, 7, 1, 3, 3}, "more class tokens than patches"},
    {{3, 8, 8, 4, 24, 2, 40, 2, 9, 1, u8, 4}, "registers"},
    {{3, 8, 8, 4, 24, 2, 40, 2, 9, 0, u8, 0, vit_pooling::mean}, "patches alone"},
    {{3, 12, 8, 4, 70, 2, 40, 2, 9, 1, u8, 2, vit_pooling::mean}, "a class token and registers that are no features"},
    {{3, 12, 8, 4, 70, 2, 40, 2, 9, 2, u8, 2, vit_pooling::class_tokens_and_mean}, "class tokens and a mean"},
    {{3, 12, 8, 4, 70, 2, 40, 2, 9, 0, u8, 0, vit_pooling::normalized_mean}, "the stream's mean"},
    {{1, 2, 2, 2, 5, 1, 7, 0, 3, 1, u8, 1, vit_pooling::normalized_mean}, "the stream's mean, no block"},
};

void check_shapes(std::span<const run_options> runs) {
  for (const auto& [shape, why] : shapes) {
    for (const quantization_recipe& parts :
         {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
      INFO(why << ", " << recipe_text(parts));
      check_model({.shape = shape, .parts = parts}, runs);
    }
  }
}

TEST_CASE("vit: equals the specification [any size]", "[vit]") {
  constexpr run_options runs[] = {{1, 1, 0}, {3, 2, 7}};
  check_shapes(runs);
}

TEST_CASE("vit: equals the specification [any batch and number of threads]", "[vit][long]") {
  constexpr run_options runs[] = {{1, 2, 3}, {1, 3, 0}, {3, 1, 0}, {3, 3, 32}, {4, 7, 0}};
  check_shapes(runs);
}

TEST_CASE("vit: equals the specification [a LayerNorm before the blocks]", "[vit]") {
  constexpr run_options runs[] = {{1, 1, 0}, {1, 3, 1}, {3, 2, 63}};
  for (const quantization_recipe& parts : {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888}) {
    for (const index_t depth : {0, 2}) {
      INFO(recipe_text(parts) << ", " << depth << " blocks");
      vit_shape shape = uneven_shape;
      shape.depth = depth;
      check_model({.shape = shape, .parts = parts, .norm_pre = true}, runs);
    }
  }
}

TEST_CASE(
    "vit: equals the specification [RMSNorm, gated perceptrons, norms of queries and keys, every pooling, with a norm "
    "before the blocks and without]",
    "[vit]") {
  constexpr run_options runs[] = {{1, 1, 0}, {3, 2, 1}};
  for (const quantization_recipe& parts : {paper_recipe, precise_recipe}) {
    for (const vit_pooling pooling : {vit_pooling::class_tokens, vit_pooling::mean, vit_pooling::class_tokens_and_mean,
                                      vit_pooling::normalized_mean, vit_pooling::patch_tokens}) {
      INFO(recipe_text(parts) << ", pooling " << static_cast<int>(pooling));
      vit_shape shape = uneven_shape;
      shape.norm = normalization::rmsnorm;
      shape.gated = true;
      shape.pooling = pooling;
      check_model({.shape = shape, .parts = parts, .norm_pre = pooling != vit_pooling::mean}, runs);
      shape.qk_norm = normalization::layernorm;
      check_model({.shape = shape, .parts = parts}, runs);
    }
  }
}

TEST_CASE("vit: writes nothing [no images]", "[vit]") {
  const packed_vit model(integer_vit(model_builder({.shape = uneven_shape, .parts = precise_recipe}, 5).model()));
  const outputs found = run_model(model.parameters(), model.shape(), {}, 2, 0);
  CHECK(found.logits.surroundings_untouched());
}

TEST_CASE("vit: refuses batches that do not fit before anything is written", "[vit]") {
  const packed_vit model(integer_vit(model_builder({.shape = uneven_shape, .parts = paper_recipe}, 5).model()));
  const vit_shape& shape = model.shape();
  const std::vector<owned_image> images = make_images(shape, 1);
  const std::vector<image_view> views = views_of(images);
  outputs found(3, shape.classes);
  std::vector<std::byte> scratch(vit_workspace_bytes(shape, 3));
  const auto refusal_of = [&](std::span<const image_view> of, matrix_view<std::int32_t> logits, std::size_t bytes) {
    return refusal([&] {
      vit<tested_isa>(of, model.parameters(), shape, {logits, found.logits_u8.view()},
                      workspace(scratch.data(), bytes));
    });
  };
  CHECK(mentions(refusal_of(views, found.logits.view(), scratch.size() - 1), "the workspace has"));
  CHECK(refusal_of(views, found.logits.view().row_block(0, 2), scratch.size()) ==
        "intact::vit: logits is 2 x 5; it must be 3 x 5");
  std::vector<image_view> wrong = views;
  wrong[2].height = 6;
  CHECK(refusal_of(wrong, found.logits.view(), scratch.size()) ==
        "intact::vit: image height is 6; it must be equal to 9");
  wrong[2].height = 9;
  wrong[2].data = nullptr;
  CHECK(mentions(refusal_of(wrong, found.logits.view(), scratch.size()), "image has no data"));
  CHECK(found.logits.surroundings_untouched());
}

}  // namespace
}  // namespace intact_test::vit_kernel_test
