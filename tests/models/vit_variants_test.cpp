// Variants of vision transformers from a float model to an integer one: every code equals the evaluation in double
// precision, kernels equal the specification, files give the same model, and logits are close to the float model's.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "double_reference.hpp"
#include "intact/io/model_file.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/fit_scales.hpp"
#include "intact/quantize/measures.hpp"
#include "intact/quantize/part_errors.hpp"
#include "intact/quantize/reconstruction.hpp"
#include "intact/quantize/simulation.hpp"
#include "quantized_model.hpp"
#include "scratch_folder.hpp"

namespace intact_test::vit_variants_test {
namespace {

using intact::activation_function;
using intact::calibrated_vit;
using intact::squared_error;

constexpr activation_function all_functions[] = {activation_function::gelu,       activation_function::gelu_tanh,
                                                 activation_function::quick_gelu, activation_function::silu,
                                                 activation_function::relu,       activation_function::hard_swish};

/// Both outputs of each image, by kernels.
std::vector<classification> kernel_classes(const packed_vit& model, const std::vector<image_view>& images) {
  const index_t batch = std::ssize(images), classes = model.shape().classes;
  tensor<std::int32_t> logits(batch, classes);
  tensor<std::uint8_t> logits_u8(batch, classes);
  std::vector<std::byte> memory(intact::vit_workspace_bytes(model.shape(), batch));
  intact::vit(images, model.parameters(), model.shape(), {logits.view(), logits_u8.view()},
              workspace(memory.data(), memory.size()));
  std::vector<classification> all(images.size());
  for (index_t i = 0; i < batch; ++i) {
    for (index_t n = 0; n < classes; ++n) {
      all[static_cast<std::size_t>(i)].logits.push_back(logits(i, n));
      all[static_cast<std::size_t>(i)].logits_u8.push_back(logits_u8(i, n));
    }
  }
  return all;
}

/// The logits of all images, as real numbers.
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

/// Checks an integer model; returns its logits.
logit_rows check_integer(const integer_vit& integer, const image_set& images) {
  const double_reference reference(integer.tensors());
  const packed_vit packed(integer);
  std::vector<classification> specified;
  logit_rows real;
  for (const image_view& image : images.views()) {
    const tensors expected = reference.evaluate(image);
    const comparison outcome = compare_image(integer, image, expected);
    INFO(outcome.first_mismatch);
    REQUIRE(outcome.mismatched == 0);
    REQUIRE(outcome.compared == count_codes(expected));
    specified.push_back(specified_classes(packed, image));
    real.emplace_back();
    for (const std::int32_t logit : specified.back().logits) {
      real.back().push_back(integer.real_logit(logit));
    }
  }
  CHECK(kernel_classes(packed, images.views()) == specified);

  const scratch_folder folder;
  save_integer_vit(integer, folder / "a.safetensors");
  const integer_vit loaded = intact::load_integer_vit(folder / "a.safetensors");
  save_integer_vit(loaded, folder / "b.safetensors");
  CHECK(file_contents(folder / "a.safetensors") == file_contents(folder / "b.safetensors"));
  CHECK(classify_all(loaded, images) == specified);
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
  for (const named_profile& profile : all_profiles()) {
    CAPTURE(profile.name);
    const quantization_recipe& recipe = profile.recipe;
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
        static_cast<double>(scales.blocks[1].fc1.high), intact::detail::to_code_scale(scales.blocks[1].activation));
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

}  // namespace intact_test::vit_variants_test
