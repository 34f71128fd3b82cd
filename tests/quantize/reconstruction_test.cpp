#include "intact/quantize/reconstruction.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "checkpoint_files.hpp"
#include "double_reference.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/preprocess.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/equalization.hpp"
#include "intact/quantize/measures.hpp"
#include "intact/quantize/part_errors.hpp"
#include "intact/quantize/simulation.hpp"
#include "made_image.hpp"
#include "refusal.hpp"
#include "reversed_executor.hpp"

// Post-training quantization of a whole model: equalization, reconstruction, simulation and the errors of parts.

namespace intact_test::reconstruction_test {
namespace {

/// Logits of the integer model, in the float model's units.
std::vector<float> integer_logits(const integer_vit& model, const image_view& image) {
  const index_t classes = model.shape().classes;
  std::vector<std::int32_t> logits(static_cast<std::size_t>(classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  std::vector<std::byte> memory(vit_workspace_bytes(model.shape()));
  vit({&image, 1}, packed_vit(model).parameters(), model.shape(),
      {matrix_view(logits.data(), 1, classes), matrix_view(logits_u8.data(), 1, classes)},
      workspace(memory.data(), memory.size()));
  std::vector<float> real;
  for (const std::int32_t code : logits) {
    real.push_back(static_cast<float>(model.real_logit(code)));
  }
  return real;
}

/// A model with other tokens and features.
vit_shape with_features(index_t class_tokens, index_t registers, vit_pooling pooling) {
  vit_shape shape = tiny_vit;
  shape.class_tokens = class_tokens;
  shape.registers = registers;
  shape.pooling = pooling;
  return shape;
}

/// A random model with the scales of two images.
struct calibrated_data {
  float_vit model = random_float_vit(tiny_vit);
  std::vector<rgb_image> images = {made_image(12, 12), rgb_image(12, 12)};
  std::vector<image_view> views = {images[0].view(), images[1].view()};
  vit_scales scales = calibrate(model, views);
};

}  // namespace

TEST_CASE("equalize: keeps the outputs, and gives channels of LayerNorms one range") {
  const float_vit model = random_float_vit(tiny_vit);
  const std::vector<rgb_image> images = {made_image(12, 12), rgb_image(12, 12)};
  const std::vector<image_view> views = {images[0].view(), images[1].view()};
  int done = 0;
  const float_vit equal = equalize(model, views, [&] { ++done; });
  CHECK(done == 2);
  CHECK(equal.blocks[1].norm2.weight != model.blocks[1].norm2.weight);
  const std::vector<float> expected = forward(model, images[0].view());
  const std::vector<float> found = forward(equal, images[0].view());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(std::fabs(found[i] - expected[i]) < 1e-4F);
  }
  detail::channel_ranges ranges(model.shape.depth);
  for (const image_view& view : views) {
    ranges.observe(equal, view);
  }
  for (const value_range& range : ranges.norm1[1].ranges()) {
    CHECK(std::fabs(range.low + 1) < 1e-3F);
    CHECK(std::fabs(range.high - 1) < 1e-3F);
  }
  CHECK(mentions(refusal([&] { equalize(model, {}); }), "intact::equalize: number of images is 0"));
  float_vit unbounded = model;
  unbounded.blocks[1].qkv.bias.head(unbounded.shape.width).array() += 1e38F;
  CHECK(mentions(refusal([&] { equalize(unbounded, views); }),
                 "intact::equalize: tensor attention_logits of block 1 has the value"));
}

TEST_CASE("simulated_vit: with all kinds rounded, is close to the integer model [all recipes]") {
  const std::vector<vit_shape> shapes = {tiny_vit,
                                         distilled_vit,
                                         with_features(1, 4, vit_pooling::class_tokens),
                                         with_features(0, 0, vit_pooling::mean),
                                         with_features(1, 2, vit_pooling::class_tokens_and_mean),
                                         with_features(1, 2, vit_pooling::normalized_mean)};
  const vit_shape& shape = shapes[GENERATE(range(std::size_t{0}, std::size_t{6}))];
  const float_vit model = random_float_vit(shape);
  std::vector<rgb_image> images = {made_image(12, 12), rgb_image(12, 12)};
  images.push_back(preprocess_image(made_image(40, 30), 12, 1));
  std::vector<image_view> views;
  for (const rgb_image& image : images) {
    views.push_back(image.view());
  }
  const vit_scales scales = calibrate(model, views);
  for (const named_recipe& named : named_recipes()) {
    for (const bool search : {false, true}) {
      CAPTURE(named.name, search);
      const calibrated_vit calibrated =
          search ? reconstruct(model, scales, views, named.recipe) : round_to_nearest(model, scales, named.recipe);
      const integer_vit integer = build_vit(calibrated.model, calibrated.scales, calibrated.weights, named.recipe);
      const simulated_vit simulated(model, calibrated, named.recipe, all_tensor_kinds(named.recipe));
      const double_reference reference(integer.tensors());
      closeness_meter meter;
      for (const image_view& view : views) {
        CHECK(compare_image(integer, view, reference.evaluate(view)).first_mismatch == "");
        const std::vector<float> expected = simulated(view), found = integer_logits(integer, view);
        meter.add(std::span(expected), std::span(found));
      }
      CHECK(meter.result().sqnr_db > 25);
    }
  }
}

TEST_CASE("reconstruct: the result does not depend on the executor") {
  const calibrated_data data;
  int done = 0;
  const reconstruction_options options{.block_done = [&] { ++done; }};
  const calibrated_vit one = reconstruct(data.model, data.scales, data.views, precise_recipe, options);
  CHECK(done == 2);
  const calibrated_vit other =
      reconstruct(data.model, data.scales, data.views, precise_recipe, options, reversed_executor());
  for (std::size_t layer = 0; layer < one.model.blocks.size(); ++layer) {
    CHECK(one.model.blocks[layer].fc2.weight == other.model.blocks[layer].fc2.weight);
    CHECK(one.model.blocks[layer].fc2.bias == other.model.blocks[layer].fc2.bias);
    CHECK(one.scales.blocks[layer].context.scale == other.scales.blocks[layer].context.scale);
  }
}

TEST_CASE("reconstruct: errors of tasks and of arguments reach the caller") {
  calibrated_data data;
  CHECK(mentions(refusal([&] { reconstruct(data.model, data.scales, {}, precise_recipe); }),
                 "intact::reconstruct: number of images is 0"));
  vit_scales shallow = data.scales;
  shallow.blocks.pop_back();
  CHECK(mentions(refusal([&] { reconstruct(data.model, shallow, data.views, precise_recipe); }),
                 "intact::reconstruct: blocks of scales is 1"));
  CHECK(mentions(refusal([&] {
                   reconstruct(data.model, data.scales, data.views,
                               {.weights = weight_kind::grouped_s4, .weight_group = 0});
                 }),
                 "weight_group"));
}

TEST_CASE("part_errors: gives every part of the model, and 100 dB where nothing is rounded differently") {
  const calibrated_data data;
  const calibrated_vit calibrated =
      fit_scales(round_to_nearest(data.model, data.scales, precise_recipe), precise_recipe);
  const std::vector<part_error> parts = part_errors(data.model, calibrated, precise_recipe, data.views);
  std::vector<std::string> names;
  for (const part_error& part : parts) {
    names.push_back(part.text());
    CAPTURE(part.text());
    CHECK(part.sqnr_db > 10);
    CHECK(part.sqnr_db < 100);
  }
  CHECK(names == std::vector<std::string>{"embedding", "attention of block 0", "mlp of block 0", "attention of block 1",
                                          "mlp of block 1", "head"});
  CHECK(outlier_parts(parts).empty());
  CHECK(median_sqnr_db(parts, "head") == parts.back().sqnr_db);
}

TEST_CASE("limited_sqnr_db: is the worst for noise that is not finite, and within 100 dB") {
  constexpr double infinite = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const auto limited = [](double signal, double noise) { return detail::limited_sqnr_db({signal, noise}); };
  CHECK(limited(1000, 1) == Approx(30));
  CHECK(limited(1, 1e-30) == 100);
  CHECK(limited(1e-30, 1) == -100);
  CHECK(limited(1, 0) == 100);
  for (const double signal : {0.0, 1.0, infinite, nan}) {
    CHECK(limited(signal, infinite) == -100);
    CHECK(limited(signal, nan) == -100);
  }
  for (const double signal : {0.0, infinite, nan}) {
    CHECK(limited(signal, 1) == 100);
  }
  CHECK(outlier_parts({{"head", -1, limited(1, nan)}}).size() == 1);
}

TEST_CASE("median_sqnr_db: is the mean of the middle two for an even number of parts") {
  const auto median = [](const std::vector<double>& values) {
    std::vector<part_error> parts = {{"mlp", 0, -50}, {"mlp", 1, 90}};
    for (const double value : values) {
      parts.push_back({"attention", std::ssize(parts), value});
    }
    return median_sqnr_db(parts, "attention");
  };
  CHECK(median({}) == 0);
  CHECK(median({7}) == 7);
  CHECK(median({30, 10}) == 20);
  CHECK(median({50, 10, 30}) == 30);
  CHECK(median({50, 10, 30, 20}) == 25);
}

TEST_CASE("outlier_parts: gives parts below 6 dB, or 10 dB below the median of the same parts") {
  const std::vector<part_error> parts = {
      {"mlp", 0, 30}, {"mlp", 1, 31}, {"mlp", 2, 19}, {"attention", 0, 5.9}, {"head", -1, 6.1}};
  const std::vector<part_error> found = outlier_parts(parts);
  REQUIRE(found.size() == 2);
  CHECK(found[0].text() == "mlp of block 2");
  CHECK(found[1].text() == "attention of block 0");
}

TEST_CASE("budget_cases: gives each kind of the recipe, then everything") {
  const std::vector<budget_case> paper = budget_cases(paper_recipe), precise = budget_cases(precise_recipe);
  CHECK(paper.size() == tensor_kind_count + 1);
  CHECK(precise.size() == tensor_kind_count + 1 - 3);  // no codes of pixels, embedding and branches
  CHECK(paper.back().name == "everything");
  CHECK(paper.back().kinds.count() == tensor_kind_count);
  CHECK(precise.front().kinds.count() == 1);
}

TEST_CASE("reconstruct: one query or key that is far larger than all other values [both recipes and roundings]") {
  const calibrated_data data;
  for (const index_t row : {index_t{3}, tiny_vit.width + 3}) {
    for (const float large : {1e24F, 1e30F}) {
      float_vit model = data.model;
      model.blocks.back().qkv.bias[row] = large;
      const vit_scales scales = calibrate(model, data.views);
      for (const quantization_recipe& recipe : {paper_recipe, precise_recipe}) {
        for (const weight_rounding rounding : {weight_rounding::nearest, weight_rounding::compensated}) {
          CAPTURE(row, large, rounding == weight_rounding::nearest);
          const calibrated_vit found = reconstruct(model, scales, data.views, recipe, {.rounding = rounding});
          const integer_vit integer = build_vit(found.model, found.scales, found.weights, recipe);
          const double_reference reference(integer.tensors());
          CHECK(compare_image(integer, data.views[0], reference.evaluate(data.views[0])).first_mismatch == "");
        }
      }
    }
  }
}

}  // namespace intact_test::reconstruction_test
