#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/reference/model/swin.hpp"
#include "random_swin.hpp"
#include "refusal.hpp"
#include "swin_reference.hpp"

// Swin transformers in integers against the evaluation of the same graph in real arithmetic, code by code.

namespace intact_test::swin_test {
namespace {

/// Two stages of the same kind, the second of twice the width.
constexpr swin_shape two_stages(index_t height, index_t width, index_t patch, index_t window, index_t depth) {
  return {.channels = 3,
          .height = height,
          .image_width = width,
          .patch = patch,
          .stages = 2,
          .stage = {{{8, 2, 20, depth, window}, {16, 4, 24, depth, window}}},
          .classes = 5};
}

constexpr swin_shape shapes[] = {
    two_stages(16, 16, 2, 4, 2),  // windows fill the grid; in the second stage one window is all of it
    two_stages(32, 24, 2, 3, 2),  // padding in every stage, odd windows shifted by 1
    two_stages(28, 20, 4, 4, 2),  // 7 x 5 tokens: padding, and a merging of an odd grid
    two_stages(12, 40, 4, 5, 2),  // one row of windows, all of it padding below the third token: no shift
    two_stages(10, 6, 2, 2, 3),   // 5 x 3 tokens, then 3 x 2; an odd number of blocks
    two_stages(4, 4, 2, 1, 2),    // windows of one token
    two_stages(3, 3, 3, 2, 1),    // one token in a window of four
    {.channels = 1,
     .height = 9,
     .image_width = 6,
     .patch = 1,
     .stages = 3,
     .stage = {{{5, 1, 7, 1, 3}, {7, 7, 3, 0, 1}, {6, 2, 9, 2, 2}}},  // odd widths, a stage without blocks
     .classes = 1},
};

/// Compares a model on several images; returns how many codes were compared.
std::int64_t check_model(const integer_swin& model, int random_images, code_counts& occurred) {
  const swin_reference reference(model.tensors());
  std::int64_t compared = 0;
  for (const owned_image& image : make_images(model.shape(), random_images)) {
    const tensors expected = reference.evaluate(image.view);
    compared += require_equal(compare_image(model, image.view, expected), expected);
    count_occurrences(expected, occurred);
  }
  REQUIRE(compared > 0);
  return compared;
}

bool shifts_windows(const swin_shape& shape) {
  bool shifts = false;
  for (index_t s = 0; s < shape.stages; ++s) {
    for (index_t position = 0; position < shape.of(s).depth; ++position) {
      shifts = shifts || shape.block(s, position).attention.grid.shift != 0;
    }
  }
  return shifts;
}

TEST_CASE("reference::swin: equals the evaluation in double precision on every tensor") {
  code_counts occurred;
  std::int64_t compared = 0;
  std::uint64_t seed = 1;
  for (const swin_shape& shape : shapes) {
    for (const quantization_recipe& parts :
         {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
      INFO("seed " << seed << ", recipe: " << recipe_text(parts));
      compared += check_model(random_swin(shape, parts, seed++), 2, occurred);
    }
  }
  std::cout << "[intact: compared] random Swin transformers: " << compared << " codes\n";
  CHECK(find_narrow_tensor(occurred,
                           {"input", "patch", "norm1", "qkv", "attention_logits", "biased_logits", "context", "proj",
                            "norm2", "fc2", "merge_norm", "norm", "pool", "logits_u8"},
                           200, 0, 255) == "");
  CHECK(find_narrow_tensor(occurred, {"fc1"}, 3000, 0, 4095) == "");
  for (int code = 0; code <= 20; ++code) {
    CHECK(occurred["attention"].contains(code));
  }
}

TEST_CASE("reference::swin: equals the evaluation in double precision [every kind of attention and of weights]") {
  code_counts occurred;
  std::int64_t compared = 0;
  int models = 0, refused = 0;
  for (const swin_shape& shape : {shapes[2], shapes[3]}) {
    for (const quantization_recipe& attention : sensible_attention_recipes()) {
      quantization_recipe parts = attention;
      parts.stream = models % 2 == 0 ? stream_codes::u8 : stream_codes::s16;
      parts.weights = models % 3 == 0 ? weight_kind::s8 : models % 3 == 1 ? weight_kind::s4 : weight_kind::grouped_s4;
      parts.weight_group = 5;
      INFO("model " << models << ", recipe: " << recipe_text(parts));
      const bool packed =
          parts.probabilities == attention_code::u4_clipped && parts.attention != attention_kind::weights;
      const auto seed = static_cast<std::uint64_t>(1000 + models++);
      if (packed && shifts_windows(shape)) {
        CHECK(mentions(refusal([&] { random_swin(shape, parts, seed); }),
                       "packed codes (attention_code::u4_clipped) have no weight 0"));
        ++refused;
      } else {
        compared += check_model(random_swin(shape, parts, seed), 1, occurred);
      }
    }
  }
  CHECK(refused > 0);
  CHECK(refused < models / 2);
  std::cout << "[intact: compared] " << models - refused << " recipes of Swin transformers: " << compared << " codes\n";
}

/// Swin-T with blocks per stage, of images of so many pixels.
constexpr swin_shape swin_tiny(index_t pixels, index_t third_stage) {
  return {.channels = 3,
          .height = pixels,
          .image_width = pixels,
          .patch = 4,
          .stages = 4,
          .stage = {{{96, 3, 384, 2, 7}, {192, 6, 768, 2, 7}, {384, 12, 1536, third_stage, 7}, {768, 24, 3072, 2, 7}}},
          .classes = 1000};
}
static_assert(swin_tiny(224, 6).tokens_of(3) == 49);
static_assert(swin_tiny(224, 6).block(0, 1).attention.grid.shift == 3);
static_assert(swin_tiny(224, 6).block(3, 1).attention.grid.shift == 0);

void check_swin_tiny(const swin_shape& shape) {
  code_counts occurred;
  std::int64_t compared = 0;
  for (const quantization_recipe& parts : {paper_recipe, precise_recipe}) {
    const integer_swin model = random_swin(shape, parts, 7);
    const swin_reference reference(model.tensors());
    generator random(8);
    const owned_image image({.channels = 3, .height = shape.height, .image_width = shape.image_width}, values::random,
                            true, random);
    const tensors expected = reference.evaluate(image.view);
    compared += require_equal(compare_image(model, image.view, expected), expected);
  }
  std::cout << "[intact: compared] Swin-T of " << shape.height << " x " << shape.image_width << " pixels: " << compared
            << " codes\n";
}

TEST_CASE("reference::swin: equals the evaluation in double precision [Swin-T, 64 x 64 pixels]") {
  check_swin_tiny(swin_tiny(64, 2));  // 16 x 16 tokens: shifted windows with padding
}

TEST_CASE("reference::swin: equals the evaluation in double precision [Swin-T, 224 x 224 pixels]", "[.]") {
  check_swin_tiny(swin_tiny(224, 6));
}

/// Each changes one parameter of a model, which the reference must notice.
struct mutation {
  const char* what;
  std::function<void(swin_tensors&)> change;
};

swin_tensors contents_of(const integer_swin& model) {
  return model.tensors();
}

TEST_CASE("evaluate: every changed parameter of a Swin transformer shows as a mismatch") {
  const integer_swin model = random_swin(shapes[2], paper_recipe, 77);
  const mutation mutations[] = {
      {"patch_norm", [](swin_tensors& c) { c.patch_norm.bias[1] += std::int64_t{1} << c.patch_norm.output_shift; }},
      {"padding", [](swin_tensors& c) { c.stages[0].blocks[0].norm1_zero_point ^= 64; }},
      {"position bias", [](swin_tensors& c) { c.stages[0].blocks[1].position_bias.back() ^= 128; }},
      {"addition of the bias", [](swin_tensors& c) { c.stages[1].blocks[0].add_bias.offset[3] += 1 << 20; }},
      {"window", [](swin_tensors& c) { c.stages[0].blocks[1].block.qkv.weights.codes[5] ^= 64; }},
      {"merging", [](swin_tensors& c) { c.stages[0].merge_norm.shift[9] ^= 1; }},
      {"padding of a merging", [](swin_tensors& c) { c.stages[0].merge_norm.zero_point ^= 8; }},
      {"reduction", [](swin_tensors& c) { c.stages[0].reduction.weights.codes[33] ^= 64; }},
      {"pooling", [](swin_tensors& c) { c.pool.scale.offset += std::int64_t{3} << (32 + c.pool.scale.shift); }},
      {"head", [](swin_tensors& c) { c.head.codes[0] ^= 64; }},
  };
  const std::vector<owned_image> images = make_images(model.shape(), 1);
  const tensors expected = swin_reference(model.tensors()).evaluate(images.back().view);
  for (const mutation& mutation : mutations) {
    INFO(mutation.what);
    swin_tensors changed = contents_of(model);
    mutation.change(changed);
    CHECK(compare_image(integer_swin(std::move(changed)), images.back().view, expected).mismatched > 0);
  }
}

/// The feature maps of a model, in memory of their own.
template <class Code>
void check_features(const quantization_recipe& parts) {
  const swin_shape shape = shapes[2];
  const integer_swin model = random_swin(shape, parts, 55);
  const owned_image image = std::move(make_images(shape, 1).back());
  const tensors expected = swin_reference(model.tensors()).evaluate(image.view);
  tensor<Code> first(7 * 5, 8, {3, 1, 4}), second(4 * 3, 16);
  const std::array<matrix_view<Code>, 2> maps = {first.view(), second.view()};
  std::vector<std::byte> memory(reference::swin_features_workspace_bytes<Code>(model.shape()));
  reference::swin_features<Code>(image.view, packed_swin(model).parameters(), model.shape(), maps,
                                 workspace(memory.data(), memory.size()));
  CHECK(first_difference(first.view(), expected.at({"add2", 1})) == "");
  CHECK(first_difference(second.view(), expected.at({"add2", 3})) == "");
  CHECK(first.surroundings_untouched());
}

TEST_CASE("swin: a batch on packed weights has the logits of the specification") {
  for (const quantization_recipe& parts : {paper_recipe, precise_recipe_888}) {
    for (const weight_kind weights : {weight_kind::s8, weight_kind::s4, weight_kind::grouped_s4}) {
      quantization_recipe recipe = parts;
      recipe.weights = weights;
      recipe.weight_group = 5;
      INFO(recipe_text(recipe));
      packed_swin first(random_swin(shapes[2], recipe, 91));
      const packed_swin model = std::move(first);
      const std::vector<owned_image> images = make_images(model.shape(), 2);
      const std::vector<image_view> views = views_of(images);
      const index_t batch = std::ssize(views), classes = model.shape().classes;
      tensor<std::int32_t> logits(batch, classes), batch_logits(batch, classes);
      tensor<std::uint8_t> logits_u8(batch, classes), batch_logits_u8(batch, classes);
      std::vector<std::byte> memory(reference::swin_workspace_bytes(model.shape()));
      for (index_t i = 0; i < batch; ++i) {
        reference::swin(views[static_cast<std::size_t>(i)], model.parameters(), model.shape(),
                        {logits.view().row_block(i, 1), logits_u8.view().row_block(i, 1)},
                        workspace(memory.data(), memory.size()));
      }
      std::vector<std::byte> batch_memory(swin_workspace_bytes(model.shape(), batch));
      swin(views, model.parameters(), model.shape(), {batch_logits.view(), batch_logits_u8.view()},
           workspace(batch_memory.data(), batch_memory.size()));
      CHECK(first_difference(batch_logits.view(), logits.view()) == "");
      CHECK(first_difference(batch_logits_u8.view(), logits_u8.view()) == "");
    }
  }
}

TEST_CASE("swin_features: feature maps are the residual streams after the stages") {
  check_features<std::uint8_t>(paper_recipe);
  check_features<std::int16_t>(precise_recipe);
}

struct swin_call {
  swin_shape shape = shapes[0];
  integer_swin model = random_swin(shape, paper_recipe, 3);
  owned_image image = std::move(make_images(shape, 1).back());
  std::vector<std::int32_t> logits = std::vector<std::int32_t>(5, 77);
  std::vector<std::uint8_t> logits_u8 = std::vector<std::uint8_t>(5, 77);
  std::vector<std::byte> memory = std::vector<std::byte>(reference::swin_workspace_bytes(shape));

  std::string refused(const swin_parameters& p, const swin_shape& sizes, const image_view& pixels,
                      std::size_t fewer_bytes = 0) {
    return refusal([&] {
      reference::swin(pixels, p, sizes, {matrix_view(logits.data(), 1, 5), matrix_view(logits_u8.data(), 1, 5)},
                      workspace(memory.data(), memory.size() - fewer_bytes));
    });
  }
};

TEST_CASE("swin: refuses parameters and sizes before anything is written") {
  swin_call call;
  const packed_swin packed(call.model);
  const swin_parameters good = packed.parameters();
  const image_view image = call.image.view;
  const auto with = [&](auto change) {
    swin_shape shape = call.shape;
    change(shape);
    return call.refused(good, shape, image);
  };
  CHECK(with([](swin_shape& s) { s.height = 17; }) == "intact::swin: height % patch is 1; it must be equal to 0");
  CHECK(with([](swin_shape& s) { s.patch = 0; }) == "intact::swin: patch is 0; it must be at least 1");
  CHECK(with([](swin_shape& s) { s.stages = 0; }) == "intact::swin: stages is 0; it must be at least 1");
  CHECK(with([](swin_shape& s) { s.stages = 9; }) == "intact::swin: stages is 9; it must be at most 8");
  CHECK(with([](swin_shape& s) { s.stages = 1; }) == "intact::swin: size of stages is 2; it must be equal to 1");
  CHECK(with([](swin_shape& s) { s.stage[1].depth = 3; }) ==
        "intact::swin: size of a stage's blocks is 2; it must be equal to 3");
  CHECK(mentions(with([](swin_shape& s) { s.stage[0].window = 3; }), "position_bias is 32 x 16; it must be 18 x 9"));
  CHECK(mentions(with([](swin_shape& s) { s.stage[0].window = 0; }), "window is 0; it must be at least 1"));
  CHECK(mentions(with([](swin_shape& s) { s.stage[0].heads = 3; }), "width % heads is 2"));
  CHECK(with([](swin_shape& s) { s.stage[1].width = 12; }) ==
        "intact::swin: merging.reduction: rows of weights is 16; it must be equal to 12");
  CHECK(mentions(with([](swin_shape& s) { s.classes = 6; }), "logits"));
  CHECK(mentions(with([](swin_shape& s) { s.stream = stream_codes::s16; }), "zero_point"));

  image_view other = image;
  other.height = 14;
  CHECK(call.refused(good, call.shape, other) == "intact::swin: image height is 14; it must be equal to 16");
  other = image;
  other.data = nullptr;
  CHECK(call.refused(good, call.shape, other) == "intact::swin: image has no data; it must have some");
  CHECK(mentions(call.refused(good, call.shape, image, 1), "the workspace has"));

  swin_call changed;
  swin_tensors contents = contents_of(changed.model);
  contents.stages[1].blocks[1].position_bias.pop_back();
  CHECK(mentions(refusal([&] { integer_swin(std::move(contents)); }), "size of position_bias"));
  contents = contents_of(changed.model);
  contents.stages[0].blocks[0].norm1_zero_point = 256;
  CHECK(mentions(refusal([&] { integer_swin(std::move(contents)); }), "norm1_zero_point is 256"));

  CHECK(call.logits == std::vector<std::int32_t>(5, 77));
  CHECK(call.logits_u8 == std::vector<std::uint8_t>(5, 77));
}

TEST_CASE("swin_features: refuses feature maps of another type or shape") {
  swin_call call;
  tensor<std::uint8_t> first(64, 8), second(16, 16);
  const auto refused = [&](std::span<const matrix_view<std::uint8_t>> maps) {
    return refusal([&] {
      reference::swin_features<std::uint8_t>(call.image.view, packed_swin(call.model).parameters(), call.shape, maps,
                                             workspace(call.memory.data(), call.memory.size()));
    });
  };
  const std::array<matrix_view<std::uint8_t>, 2> good = {first.view(), second.view()};
  CHECK(refused(good) == "");
  CHECK(mentions(refused(std::span(good).first(1)), "number of maps is 1"));
  const std::array<matrix_view<std::uint8_t>, 2> swapped = {second.view(), first.view()};
  CHECK(mentions(refused(swapped), "a map is 16 x 16; it must be 64 x 8"));
  swin_shape wide = call.shape;
  wide.stream = stream_codes::s16;
  CHECK(mentions(refusal([&] {
                   reference::swin_features<std::uint8_t>(call.image.view, packed_swin(call.model).parameters(), wide,
                                                          good, workspace(call.memory.data(), call.memory.size()));
                 }),
                 "s16 maps is 0; it must be equal to 1"));
}

}  // namespace
}  // namespace intact_test::swin_test
