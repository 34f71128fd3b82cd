#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "heap_watch.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/reference/model/swin.hpp"
#include "intact/reference/model/vit.hpp"
#include "intact/types/executor_ref.hpp"
#include "random_model.hpp"
#include "reversed_executor.hpp"
#include "same_bits.hpp"

// Whole models on kernels, on a batch of images, against the specification, image by image.

namespace intact_test {

/// The way a model runs.
struct model_run {
  index_t batch = 2;
  index_t threads = 2;
  std::size_t misaligned = 1;  ///< bytes between a boundary and the workspace
  values contents = values::random;
};

inline model_run some_run(fuzz_input& input) {
  return {.batch = input.between(0, 3),
          .threads = input.threads(),
          .misaligned = static_cast<std::size_t>(input.between(0, 63)),
          .contents = input.contents()};
}

/// Vision transformers of every recipe and of small sizes.
inline model_recipe some_recipe(fuzz_input& input) {
  static const std::vector<quantization_recipe> recipes = sensible_attention_recipes();
  constexpr vit_pooling poolings[] = {vit_pooling::class_tokens, vit_pooling::mean, vit_pooling::class_tokens_and_mean,
                                      vit_pooling::normalized_mean, vit_pooling::patch_tokens};
  model_recipe recipe{.shape = {}, .parts = input.one_of(recipes)};
  recipe.parts.stream = input.flag() ? stream_codes::s16 : stream_codes::u8;
  recipe.parts.pixel_codes = input.flag();
  recipe.parts.weights = static_cast<weight_kind>(input.between(0, 2));
  recipe.parts.weight_group = input.between(1, 70);
  recipe.weights = input.contents();
  recipe.norm_pre = input.flag();
  vit_shape& shape = recipe.shape;
  shape.patch = patch_size(input.between(1, 5), input.between(1, 5));
  shape.channels = input.between(1, 3);
  shape.height = input.between(1, 5) * shape.patch.height;
  shape.image_width = input.between(1, 5) * shape.patch.width;
  shape.heads = input.between(1, 3);
  shape.width = shape.heads * input.between(1, 24);
  shape.hidden = input.between(1, 70);
  shape.depth = input.between(0, 2);
  shape.classes = input.between(1, 20);
  shape.pooling = input.one_of(poolings);
  shape.class_tokens = input.between(shape.has_class_features() ? 1 : 0, 3);
  shape.registers = input.between(0, 3);
  constexpr normalization kinds[] = {normalization::layernorm, normalization::rmsnorm};
  shape.norm = input.one_of(kinds);
  shape.gated = input.flag();
  if (input.flag()) {
    shape.qk_norm = input.one_of(kinds);
  }
  return recipe;
}

/// Images that end in front of a page without access.
class image_batch {
 public:
  template <class Shape>
  image_batch(const Shape& shape, const model_run& how, generator& random)
      : pixels_(how.batch, shape.channels * shape.height * shape.image_width) {
    fill(pixels_.view(), how.contents, 0, 255, random);
    for (index_t i = 0; i < how.batch; ++i) {
      const std::uint8_t* const pixels = pixels_.view().data + i * pixels_.columns();
      views_.push_back(i % 2 == 0 ? planar_image(pixels, shape.channels, shape.height, shape.image_width)
                                  : interleaved_image(pixels, shape.channels, shape.height, shape.image_width));
    }
  }

  std::span<const image_view> views() const { return views_; }
  const image_view& operator[](index_t i) const { return views_[static_cast<std::size_t>(i)]; }

 private:
  guarded_tensor<std::uint8_t> pixels_;
  std::vector<image_view> views_;
};

/// Features, and logits if the model has classes.
inline void check_model(const packed_vit& model, const model_run& how, generator& random) {
  const vit_shape& shape = model.shape();
  const vit_parameters& p = model.parameters();
  const image_batch images(shape, how, random);
  guarded_tensor<std::int32_t> logits(how.batch, shape.classes), expected_logits = logits;
  guarded_tensor<std::uint8_t> logits_u8(how.batch, shape.classes),
      expected_u8 = logits_u8, features(how.batch, shape.head_features()), expected = features;
  exact_workspace specified(reference::vit_workspace_bytes(shape), how.misaligned);
  for (index_t i = 0; i < how.batch; ++i) {
    reference::vit_features(images[i], p, shape, expected.view().row_block(i, 1), specified.get());
    if (shape.classes != 0) {
      reference::vit(images[i], p, shape, {expected_logits.view().row_block(i, 1), expected_u8.view().row_block(i, 1)},
                     specified.get());
    }
  }
  const reversed_executor run{.at_a_time = how.threads};
  exact_workspace scratch(vit_workspace_bytes(shape, how.batch, how.threads), how.misaligned);
  const heap_watch no_heap(0);
  vit_features<tested_isa>(images.views(), p, shape, features.view(), scratch.get(), executor_ref(run));
  expect_equal("features:", features.view(), expected.view());
  if (shape.classes != 0) {
    vit<tested_isa>(images.views(), p, shape, {logits.view(), logits_u8.view()}, scratch.get(), executor_ref(run));
    expect_equal("logits:", logits.view(), expected_logits.view());
    expect_equal("logits_u8:", logits_u8.view(), expected_u8.view());
  }
}

/// The streams of all stages.
template <class Code>
struct stage_maps {
  std::vector<guarded_tensor<Code>> maps;

  stage_maps(const swin_shape& shape, index_t batch) {
    for (index_t s = 0; s < shape.stages; ++s) {
      maps.emplace_back(batch * shape.tokens_of(s), shape.of(s).width);
    }
  }

  /// Those of some of the images.
  std::vector<matrix_view<Code>> views(const swin_shape& shape, index_t first, index_t images) {
    std::vector<matrix_view<Code>> all;
    for (index_t s = 0; s < shape.stages; ++s) {
      const index_t tokens = shape.tokens_of(s);
      all.push_back(maps[static_cast<std::size_t>(s)].view().row_block(first * tokens, images * tokens));
    }
    return all;
  }
};

/// Logits, and the streams of all stages, of codes of type Code.
template <class Code>
void check_model(const swin_parameters& p, const swin_shape& shape, const model_run& how, generator& random) {
  const image_batch images(shape, how, random);
  guarded_tensor<std::int32_t> logits(how.batch, shape.classes), expected_logits = logits;
  guarded_tensor<std::uint8_t> logits_u8(how.batch, shape.classes), expected_u8 = logits_u8;
  stage_maps<Code> maps(shape, how.batch), expected_maps(shape, how.batch);
  exact_workspace specified(reference::swin_workspace_bytes(shape), how.misaligned);
  for (index_t i = 0; i < how.batch; ++i) {
    reference::swin(images[i], p, shape, {expected_logits.view().row_block(i, 1), expected_u8.view().row_block(i, 1)},
                    specified.get());
    const std::vector<matrix_view<Code>> streams = expected_maps.views(shape, i, 1);
    reference::swin_features<Code>(images[i], p, shape, streams, specified.get());
  }
  const reversed_executor run{.at_a_time = how.threads};
  const executor_ref threads(run);
  exact_workspace scratch(swin_workspace_bytes(shape, how.batch, how.threads), how.misaligned);
  exact_workspace for_maps(swin_features_workspace_bytes<Code>(shape, how.batch, how.threads), how.misaligned);
  const std::vector<matrix_view<Code>> found = maps.views(shape, 0, how.batch),
                                       expected = expected_maps.views(shape, 0, how.batch);
  const heap_watch no_heap(0);
  swin<tested_isa>(images.views(), p, shape, {logits.view(), logits_u8.view()}, scratch.get(), threads);
  swin_features<tested_isa>(images.views(), p, shape, std::span<const matrix_view<Code>>(found), for_maps.get(),
                            threads);
  expect_equal("logits:", logits.view(), expected_logits.view());
  expect_equal("logits_u8:", logits_u8.view(), expected_u8.view());
  for (std::size_t s = 0; s < found.size(); ++s) {
    expect_equal("stream of a stage:", found[s], expected[s]);
  }
}

}  // namespace intact_test
