#include "intact/quantize/load_checkpoint.hpp"

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "checkpoint_files.hpp"
#include "made_image.hpp"
#include "refusal.hpp"

namespace intact_test::load_checkpoint_test {
namespace {

template <class Action>
std::string file_error_of(Action action) {
  try {
    action();
  } catch (const file_error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("interpolate_positions: equals torch") {
  // torch.nn.functional.interpolate(..., mode="bicubic", antialias=True) of a 3 x 3 plane.
  float_matrix positions(10, 1);
  positions(0, 0) = 99;  // the class token's
  for (index_t i = 0; i < 9; ++i) {
    const float x = static_cast<float>(i);
    positions(i + 1, 0) = x * x * 0.37F + std::sin(x) * 3;
  }
  const std::vector<float> two = {1.43402F, 3.63501F, 11.0452F, 17.99027F};
  const std::vector<float> five = {-0.5188F,  0.75725F,  2.83742F,  3.76083F,  4.13557F,  0.81267F,  1.37743F,
                                   2.42266F,  3.55244F,  4.18308F,  3.76119F,  3.59501F,  3.64959F,  5.41328F,
                                   6.57878F,  9.2279F,   11.02765F, 14.36452F, 17.99942F, 20.03138F, 12.52148F,
                                   15.71127F, 21.34257F, 26.14792F, 28.69415F};
  for (const auto& [side, expected] : {std::pair{2, two}, std::pair{5, five}}) {
    const float_matrix resized = intact::detail::interpolate_positions(positions, 3, side);
    REQUIRE(resized.rows() == 1 + side * side);
    CHECK(resized(0, 0) == 99);
    for (index_t i = 0; i < side * side; ++i) {
      CAPTURE(side, i);
      CHECK(std::fabs(resized(i + 1, 0) - expected[static_cast<std::size_t>(i)]) < 2e-5F);
    }
  }
}

TEST_CASE("load_checkpoint: names of timm and of Hugging Face give the same model") {
  for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
    const float_vit model = random_float_vit(shape);
    const safetensors_file timm = timm_checkpoint(model).in_memory();
    checkpoint_tensors renamed = hugging_face_checkpoint(model);
    const checkpoint_options options{.model = {.epsilon = 1e-6F}};
    const float_vit a = load_checkpoint(timm, options);
    const float_vit b = load_checkpoint(renamed.in_memory(), options);
    CHECK(a.shape.class_tokens == shape.class_tokens);
    CHECK(b.shape.class_tokens == shape.class_tokens);
    CHECK(a.head.weight == model.head.weight);
    CHECK(a.class_token == model.class_token);
    CHECK(b.epsilon == 1e-6F);
    CHECK(a.mean == std::vector<float>{0.485F, 0.456F, 0.406F});
    const rgb_image image = made_image(12, 12);
    CHECK(intact::forward(a, image.view()) == intact::forward(b, image.view()));
    CHECK(load_checkpoint(renamed.in_memory(), {}).epsilon == 1e-12F);
    CHECK(load_checkpoint(timm, {}).epsilon == 1e-6F);

    renamed.all.erase("vit.encoder.layer.1.attention.attention.key.bias");
    CHECK(mentions(file_error_of([&] { load_checkpoint(renamed.in_memory(), {}); }),
                   "tensor \"vit.encoder.layer.1.attention.attention.key.bias\" is missing"));
  }
}

TEST_CASE("load_checkpoint: interpolates positions for images of another size") {
  for (const vit_shape& shape : {tiny_vit, distilled_vit}) {
    const float_vit model = random_float_vit(shape);
    const float_vit larger = load_checkpoint(timm_checkpoint(model).in_memory(), {.image_size = 20});
    CHECK(larger.shape.height == 20);
    CHECK(larger.positions.rows() == 25 + shape.class_tokens);
    CHECK(larger.positions.topRows(shape.class_tokens) == model.positions.topRows(shape.class_tokens));
    CHECK(intact::forward(larger, made_image(20, 20).view()).size() == 7);
  }
  const safetensors_file file = timm_checkpoint(random_float_vit(tiny_vit)).in_memory();
  for (const index_t size : {0, 3, 18}) {
    CHECK(mentions(refusal([&] { load_checkpoint(file, {.image_size = size}); }),
                   "the image size is " + std::to_string(size) + "; it must be a multiple of the patch size, 4"));
  }
}

TEST_CASE("timm_name: gives names of layers, tokens and heads") {
  CHECK(timm_name("deit.encoder.layer.11.attention.output.dense.bias") == "blocks.11.attn.proj.bias");
  CHECK(timm_name("vit.encoder.layer.0.layernorm_before.weight") == "blocks.0.norm1.weight");
  CHECK(timm_name("vit.embeddings.cls_token") == "cls_token");
  CHECK(timm_name("deit.embeddings.distillation_token") == "dist_token");
  CHECK(timm_name("vit.layernorm.weight") == "norm.weight");
  CHECK(timm_name("distillation_classifier.bias") == "head_dist.bias");
  CHECK(timm_name("blocks.0.norm1.weight") == "blocks.0.norm1.weight");
  CHECK(timm_name("vit.unknown.weight") == "vit.unknown.weight");
  CHECK(timm_name("encoder.layer.") == "encoder.layer.");
}

TEST_CASE("with_timm_names: refuses two tensors of one name, another type and another shape") {
  const checkpoint_tensors good = hugging_face_checkpoint(random_float_vit(tiny_vit));
  const auto error = [&](auto change) {
    checkpoint_tensors changed = good;
    change(changed);
    return file_error_of([&] { with_timm_names(changed.in_memory()); });
  };
  CHECK(error([](checkpoint_tensors&) {}).empty());
  CHECK(mentions(error([](checkpoint_tensors& c) { c.all["cls_classifier.bias"] = c.all["classifier.bias"]; }),
                 "tensor \"head.bias\": the name is given twice"));
  const std::string key = "vit.encoder.layer.0.attention.attention.key.bias";
  CHECK(mentions(error([&](checkpoint_tensors& c) {
                   c.all[key] = {{1}, {0.5F}};
                 }),
                 "tensor \"" + key + "\" has shape [1]; it must be [12]"));
}

}  // namespace intact_test::load_checkpoint_test
