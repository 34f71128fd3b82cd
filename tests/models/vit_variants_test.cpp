// Variants of vision transformers from a float model to an integer one: every code equals the evaluation in double
// precision, kernels equal the specification, files give the same model, and logits are close to the float model's.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "double_reference.hpp"
#include "intact/executors/std_threads.hpp"
#include "intact/io/model_file.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/equalization.hpp"
#include "intact/quantize/fit_scales.hpp"
#include "intact/quantize/measures.hpp"
#include "intact/quantize/part_errors.hpp"
#include "intact/quantize/reconstruction.hpp"
#include "intact/quantize/simulation.hpp"
#include "intact/types/executor_ref.hpp"
#include "quantized_model.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"

namespace intact_test::vit_variants_test {
namespace {

using intact::activation_function;
using intact::calibrated_vit;
using intact::squared_error;

constexpr activation_function all_functions[] = {activation_function::gelu,       activation_function::gelu_tanh,
                                                 activation_function::quick_gelu, activation_function::silu,
                                                 activation_function::relu,       activation_function::hard_swish};

/// The features of an image, and its logits if the model has a head.
struct image_outputs {
  std::vector<std::uint8_t> features;
  classification classes;

  friend bool operator==(const image_outputs&, const image_outputs&) = default;
};

template <class T>
std::vector<T> row_of(const tensor<T>& x, index_t row) {
  std::vector<T> copied;
  for (index_t c = 0; c < x.columns(); ++c) {
    copied.push_back(x(row, c));
  }
  return copied;
}

/// The outputs of each image, by kernels.
std::vector<image_outputs> kernel_outputs(const packed_vit& model, const std::vector<image_view>& images,
                                          index_t threads) {
  const vit_shape& shape = model.shape();
  const index_t batch = std::ssize(images);
  tensor<std::int32_t> logits(batch, shape.classes);
  tensor<std::uint8_t> logits_u8(batch, shape.classes), features(batch, shape.head_features());
  std::vector<std::byte> memory(intact::vit_workspace_bytes(shape, batch, threads));
  const workspace space(memory.data(), memory.size());
  const std_thread_executor pool(static_cast<int>(threads));
  const executor_ref run(pool);
  intact::vit_features(images, model.parameters(), shape, features.view(), space, run);
  if (shape.classes != 0) {
    intact::vit(images, model.parameters(), shape, {logits.view(), logits_u8.view()}, space, run);
  }
  std::vector<image_outputs> all;
  for (index_t i = 0; i < batch; ++i) {
    all.push_back({row_of(features, i), {row_of(logits, i), row_of(logits_u8, i)}});
  }
  return all;
}

/// The outputs of each image, by the specification.
std::vector<image_outputs> specified_outputs(const packed_vit& model, const std::vector<image_view>& images) {
  std::vector<image_outputs> all;
  for (const image_view& image : images) {
    tensor<std::uint8_t> features(1, model.shape().head_features());
    std::vector<std::byte> memory(reference::vit_workspace_bytes(model.shape()));
    reference::vit_features(image, model.parameters(), model.shape(), features.view(),
                            workspace(memory.data(), memory.size()));
    all.push_back(
        {row_of(features, 0), model.shape().classes == 0 ? classification{} : specified_classes(model, image)});
  }
  return all;
}

/// The logits, or the features, of all images as real numbers.
using logit_rows = std::vector<std::vector<double>>;

double sqnr_db(const logit_rows& exact, const logit_rows& found) {
  squared_error error;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    for (std::size_t n = 0; n < exact[i].size(); ++n) {
      error.signal += exact[i][n] * exact[i][n];
      error.noise += (found[i][n] - exact[i][n]) * (found[i][n] - exact[i][n]);
    }
  }
  return error.sqnr_db();
}

/// Checks an integer model; returns its logits, or its features if it has no head.
logit_rows check_integer(const integer_vit& integer, const image_set& images) {
  const double_reference reference(integer.tensors());
  const packed_vit packed(integer);
  for (const image_view& image : images.views()) {
    const tensors expected = reference.evaluate(image);
    require_equal(compare_image(integer, image, expected), expected);
  }
  const std::vector<image_outputs> specified = specified_outputs(packed, images.views());
  CHECK(kernel_outputs(packed, images.views(), 1) == specified);
  CHECK(kernel_outputs(packed, images.views(), 3) == specified);

  const scratch_folder folder;
  save_integer_vit(integer, folder / "a.safetensors");
  const integer_vit loaded = intact::load_integer_vit(folder / "a.safetensors");
  save_integer_vit(loaded, folder / "b.safetensors");
  CHECK(loaded.tensors() == integer.tensors());
  CHECK(file_contents(folder / "a.safetensors") == file_contents(folder / "b.safetensors"));

  logit_rows real;
  for (const image_outputs& one : specified) {
    std::vector<double>& row = real.emplace_back();
    for (const std::int32_t logit : one.classes.logits) {
      row.push_back(packed.real_logit(logit));
    }
    for (std::size_t i = 0; integer.shape().classes == 0 && i < one.features.size(); ++i) {
      row.push_back(packed.real_feature(one.features[i]));
      CHECK(row.back() == integer.real_feature(one.features[i]));
    }
  }
  return real;
}

template <class Model>
logit_rows run(const Model& model, const image_set& images) {
  logit_rows all;
  for (const image_view& image : images.views()) {
    const std::vector<float> logits = model(image);
    all.emplace_back(logits.begin(), logits.end());
  }
  return all;
}

/// Calibrates, builds and checks a model with every recipe. The logits of the integer model are close to those of the
/// float model, and closer to those of the simulation.
void check_variant(const float_vit& model) {
  const image_set images(model.shape, 5);
  const vit_scales scales = calibrate(model, images.views());
  const logit_rows exact = run([&](const image_view& image) { return forward(model, image); }, images);
  for (const named_recipe& named : named_recipes()) {
    CAPTURE(named.name);
    const quantization_recipe& recipe = named.recipe;
    const bool s8 = recipe.weights == weight_kind::s8;
    const calibrated_vit nearest = fit_scales(round_to_nearest(model, scales, recipe), recipe);
    CHECK(nearest.changes.empty());
    const logit_rows found = check_integer(build_vit(model, nearest.scales, nearest.weights, recipe), images);
    CHECK(sqnr_db(exact, found) > (s8 ? 10 : 2));
    const simulated_vit simulated(model, nearest, recipe, all_tensor_kinds(recipe));
    CHECK(sqnr_db(found, run(simulated, images)) > 25);
    if (s8) {
      const calibrated_vit searched = fit_scales(reconstruct(model, scales, images.views(), recipe), recipe);
      const integer_vit integer = build_vit(searched.model, searched.scales, searched.weights, recipe);
      CHECK(sqnr_db(exact, check_integer(integer, images)) > 10);
    }
  }
}

/// Checks that an equalized model computes the same logits.
void check_equalized(const float_vit& model) {
  const image_set images(model.shape, 3);
  const float_vit equalized = intact::equalize(model, images.views());
  for (const image_view& image : images.views()) {
    const std::vector<float> expected = forward(model, image), found = forward(equalized, image);
    for (std::size_t n = 0; n < expected.size(); ++n) {
      CHECK(std::fabs(expected[n] - found[n]) < 1e-3F);
    }
  }
}

}  // namespace

TEST_CASE("build_vit: equals double precision on every tensor [every activation function]") {
  for (const activation_function function : all_functions) {
    CAPTURE(static_cast<int>(function));
    float_vit model = random_float_vit(small_vit);
    for (float_block& block : model.blocks) {
      block.activation = function;
    }
    check_variant(model);
    // Each entry of the table is the code of the function.
    const image_set images(small_vit, 5);
    const vit_scales scales = calibrate(model, images.views());
    const integer_vit integer = build_vit(model, scales, precise_recipe);
    const auto table = intact::build_activation_table(
        [=](double x) { return intact::activate(function, x); }, static_cast<double>(scales.blocks[1].fc1.low),
        static_cast<double>(scales.blocks[1].fc1.high), intact::to_code_scale(scales.blocks[1].activation));
    CHECK(std::equal(table.codes.begin(), table.codes.end(), integer.tensors().blocks[1].activation.begin()));
  }
}

TEST_CASE("build_vit: equals double precision on every tensor [a LayerNorm before the blocks]") {
  for (const vit_pooling pooling : {vit_pooling::class_tokens, vit_pooling::normalized_mean}) {
    for (const index_t depth : {0, 2}) {
      vit_shape shape = small_vit;
      shape.pooling = pooling;
      shape.depth = depth;
      shape.registers = depth;
      CAPTURE(static_cast<int>(pooling), depth);
      float_vit model = random_float_vit(shape);
      model.norm_pre = float_layernorm{model.norm.bias.array() + 1, model.norm.weight.array() - 1};
      model.norm_pre->weight[3] *= 6;  // a channel that is larger than the others
      model.norm_pre->bias[4] = -7;
      model.patch.bias.setZero();
      check_variant(model);
      const image_set images(shape, 5);
      CHECK(
          part_errors(model,
                      fit_scales(round_to_nearest(model, calibrate(model, images.views()), paper_recipe), paper_recipe),
                      paper_recipe, images.views())[1]
              .part == "norm_pre");
    }
  }
}

TEST_CASE("build_vit: equals double precision on every tensor [gated perceptrons]") {
  vit_shape shape = small_vit;
  shape.gated = true;
  float_vit model = random_float_vit(shape);
  check_variant(model);
  check_equalized(model);
}

TEST_CASE("build_vit: equals double precision on every tensor [norms of queries and keys]") {
  for (const normalization kind : {normalization::layernorm, normalization::rmsnorm}) {
    vit_shape shape = small_vit;
    shape.qk_norm = kind;
    const float_vit model = random_float_vit(shape);
    check_variant(model);
    check_equalized(model);
  }
}

TEST_CASE("build_vit: equals double precision on every tensor [RMSNorm, with a gate and without]") {
  vit_shape shape = small_vit;
  shape.norm = normalization::rmsnorm;
  check_variant(random_float_vit(shape));
  shape.gated = true;
  shape.pooling = vit_pooling::normalized_mean;
  float_vit model = random_float_vit(shape);
  model.norm_pre = model.norm;
  check_variant(model);
}

TEST_CASE(
    "vit_features: models without a head equal double precision and are close to the float model [every pooling]") {
  for (const vit_pooling pooling : {vit_pooling::class_tokens, vit_pooling::mean, vit_pooling::class_tokens_and_mean,
                                    vit_pooling::normalized_mean, vit_pooling::patch_tokens}) {
    for (const index_t depth : {0, 2}) {
      CAPTURE(static_cast<int>(pooling), depth);
      vit_shape shape = small_vit;
      shape.pooling = pooling;
      shape.classes = 0;
      shape.depth = depth;
      shape.class_tokens = pooling == vit_pooling::patch_tokens ? 0 : 2;
      shape.registers = 3;
      float_vit model = random_float_vit(shape);
      model.head = {};
      check_variant(model);
    }
  }
}

TEST_CASE("build_vit: equals double precision on every tensor [patches and images that are no squares]") {
  for (const patch_size& patch : {patch_size{3, 2}, patch_size{2, 4}, patch_size{6, 12}}) {
    CAPTURE(patch.height, patch.width);
    vit_shape shape = small_vit;
    shape.patch = patch;
    check_variant(random_float_vit(shape));
  }
}

TEST_CASE("vit_features: features are those that the head takes") {
  const packed_vit model(quantized_vit(small_vit, precise_recipe));
  const image_set images(small_vit, 2);
  const std::vector<image_outputs> outputs = specified_outputs(model, images.views());
  for (const image_outputs& one : outputs) {
    const quantized_matrix features{{one.features.data(), 1, std::ssize(one.features)}, 0};
    std::vector<std::int32_t> logits(one.classes.logits.size());
    reference::linear(features.codes, model.parameters().head, requantize<std::int32_t>{model.parameters().logits},
                      matrix_view(logits.data(), 1, std::ssize(logits)));
    CHECK(logits == one.classes.logits);
  }
}

TEST_CASE("vit_features, vit: refuse outputs of another size, and logits of a model without a head") {
  vit_shape shape = small_vit;
  shape.classes = 0;
  float_vit in_float = random_float_vit(shape);
  in_float.head = {};
  const image_set images(shape, 1);
  const packed_vit model(build_vit(in_float, calibrate(in_float, images.views()), paper_recipe));
  const std::vector<image_view> views = images.views();
  std::vector<std::byte> memory(intact::vit_workspace_bytes(shape, 3));
  const workspace space(memory.data(), memory.size());
  tensor<std::uint8_t> wrong(3, 14), features(3, 15), logits_u8(3, 0);
  tensor<std::int32_t> logits(3, 0);
  CHECK(refusal([&] { intact::vit_features(views, model.parameters(), shape, wrong.view(), space, sequential()); }) ==
        "intact::vit_features: y is 3 x 14; it must be 3 x 15");
  CHECK(refusal([&] {
          intact::vit(views, model.parameters(), shape, {logits.view(), logits_u8.view()}, space, sequential());
        }) == "intact::vit: classes is 0; it must be at least 1");
  CHECK(refusal([&] {
          reference::vit(views[0], model.parameters(), shape, {logits.view(), logits_u8.view()}, space);
        }) == "intact::vit: classes is 0; it must be at least 1");
}

}  // namespace intact_test::vit_variants_test
