// Float models whose activations are finite always become integer models, in every recipe: with parts that are zero or
// pruned, channels that are 10^30 times as large or small as the others, constant LayerNorms, black images. The integer
// models that come out equal their evaluation in double precision, and model files take them.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "double_reference.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/model_file.hpp"
#include "intact/reference/model/swin.hpp"
#include "intact/reference/model/vit.hpp"
#include "quantized_model.hpp"
#include "random_swin.hpp"
#include "refusal.hpp"
#include "swin_reference.hpp"

namespace intact_test::extreme_models_test {
namespace {

constexpr vit_shape extreme_vit{.channels = 1,
                                .height = 6,
                                .image_width = 4,
                                .patch = 2,
                                .width = 8,
                                .heads = 2,
                                .hidden = 10,
                                .depth = 2,
                                .classes = 5};

/// Draws factors and channels, and changes parts of blocks.
class distortion {
 public:
  explicit distortion(std::uint64_t seed) : random_(seed) {}

  /// 0, or plus or minus 10^-30 to 10^30, most of them moderate.
  float factor() {
    const std::int64_t kind = random_.between(0, 5);
    const double widest = kind < 3 ? 3 : kind == 3 ? 12 : 30;
    const double exponent = widest * static_cast<double>(random_.between(-1000, 1000)) / 1000;
    const double sign = random_.between(0, 1) == 0 ? 1 : -1;
    return kind == 5 ? 0.0F : static_cast<float>(sign * std::pow(10.0, exponent));
  }

  /// Scales all of a matrix, a row or a column.
  void scale(float_matrix& matrix) {
    const index_t kind = random_.between(0, 2);
    if (kind == 0) {
      matrix *= factor();
    } else if (kind == 1) {
      matrix.row(random_.between(0, matrix.rows() - 1)) *= factor();
    } else {
      matrix.col(random_.between(0, matrix.cols() - 1)) *= factor();
    }
  }
  void scale(float_row& row) {
    if (random_.between(0, 1) == 0) {
      row *= factor();
    } else {
      row[random_.between(0, row.size() - 1)] *= factor();
    }
  }
  void scale(float_linear& layer) { random_.between(0, 2) == 0 ? scale(layer.bias) : scale(layer.weight); }
  void scale(float_layernorm& norm) { random_.between(0, 1) == 0 ? scale(norm.bias) : scale(norm.weight); }

  void change(float_block& block) {
    const index_t width = block.proj.weight.rows();
    const auto zero = [](float_linear& layer, index_t first, index_t count) {
      layer.weight.middleRows(first, count).setZero();
      layer.bias.segment(first, count).setZero();
    };
    switch (random_.between(0, 14)) {
      case 0:  // uniform attention
        return zero(block.qkv, 0, 2 * width);
      case 1:  // no values
        return zero(block.qkv, 2 * width, width);
      case 2:
        return zero(block.qkv, 0, 3 * width);
      case 3:  // a pruned head
        for (index_t part = 0; part < 3; ++part) {
          zero(block.qkv, part * width, width / 2);
        }
        return;
      case 4:
        return zero(block.proj, 0, width);
      case 5:
        return zero(block.fc2, 0, width);
      case 6:  // the same codes for every token
        return block.norm1.weight.setZero(), void();
      case 7:
        return scale(block.norm1);
      case 8:
        return scale(block.norm2);
      case 9:
        return scale(block.qkv);
      case 10:
        return scale(random_.between(0, 1) == 0 ? block.proj : block.fc2);
      case 11:  // large constant inputs, and biases that cancel them
        block.norm1.weight.setZero();
        block.norm1.bias *= 1e6F;
        block.qkv.bias -= block.norm1.bias * block.qkv.weight.transpose();
        return;
      case 12:  // GELU of a constant far from 0
        block.norm2.weight.setZero();
        block.fc1.bias.array() += std::fabs(factor());
        return;
      case 13:
        block.fc1.bias *= 1e20F;
        return;
      default:
        return scale(block.fc1);
    }
  }

  template <class Model>
  void change_outside(Model& model) {
    switch (random_.between(0, 5)) {
      case 0:
        return scale(model.patch);
      case 1:
        return scale(model.norm);
      case 2:
        return scale(model.head);
      case 3:
        model.epsilon = std::fabs(factor());
        return;
      case 4:
        model.standard_deviation[0] = std::max(std::fabs(factor()), 1e-30F);
        return;
      default:
        model.mean[0] = factor();
    }
  }

  /// Parts that only a vision transformer has.
  void change_stream(float_vit& model) {
    const float amount = std::fabs(factor());
    switch (random_.between(0, 2)) {
      case 0:  // a large stream that the first block brings back
        model.positions.array() += amount;
        model.blocks[0].proj.bias.array() -= amount;
        return;
      case 1:  // a stream far below epsilon
        model.patch.weight *= 1e-15F;
        model.patch.bias *= 1e-15F;
        model.class_token *= 1e-15F;
        model.positions *= 1e-15F;
        for (float_block& block : model.blocks) {
          block.proj.weight.setZero();
          block.proj.bias.setZero();
          block.fc2.weight.setZero();
          block.fc2.bias.setZero();
        }
        model.epsilon = 1e10F;
        return;
      default:
        return scale(random_.between(0, 1) == 0 ? model.class_token : model.positions);
    }
  }

  std::int64_t between(std::int64_t low, std::int64_t high) { return random_.between(low, high); }

 private:
  generator random_;
};

/// Whether calibration accepts the model: else a tensor or a range is not finite, and is named.
template <class Model>
auto calibrated(const Model& model, std::span<const image_view> images, observer recipe) {
  std::optional<decltype(calibrate(model, images))> scales;
  const std::string message = refusal([&] { scales = calibrate(model, images, {.observer = recipe, .batch = 2}); });
  if (!scales) {
    CAPTURE(message);
    CHECK(mentions(message, "intact::calibrate: tensor "));
    CHECK((mentions(message, "it must be finite") || mentions(message, "its length must be finite")));
  }
  return scales;
}

/// Compares every tensor of a model with its evaluation in double precision. run(image, outputs, trace) runs the model.
template <class Reference, class Run>
void check_model(const Reference& reference, index_t classes, std::span<const image_view> images, const Run& run) {
  std::vector<std::int32_t> logits(static_cast<std::size_t>(classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  const classifier_outputs outputs{{logits.data(), 1, classes}, {logits_u8.data(), 1, classes}};
  for (const image_view& image : images) {
    const tensors expected = reference.evaluate(image);
    trace_comparison trace(expected);
    run(image, outputs, trace);
    const comparison seen = trace.result();
    CAPTURE(seen.first_mismatch);
    CHECK(seen.mismatched == 0);
    CHECK(seen.compared > 0);
  }
}

void check_model(const integer_vit& model, std::span<const image_view> images) {
  const packed_vit packed(model);
  std::vector<std::byte> memory(reference::vit_workspace_bytes(model.shape()));
  const auto run = [&](const image_view& image, const classifier_outputs& outputs, trace_comparison& trace) {
    reference::vit(image, packed.parameters(), model.shape(), outputs, workspace(memory.data(), memory.size()), trace);
  };
  check_model(double_reference(model.tensors()), model.shape().classes, images, run);
}

void check_model(const integer_swin& model, std::span<const image_view> images) {
  const packed_swin packed(model);
  std::vector<std::byte> memory(reference::swin_workspace_bytes(model.shape()));
  const auto run = [&](const image_view& image, const classifier_outputs& outputs, trace_comparison& trace) {
    reference::swin(image, packed.parameters(), model.shape(), outputs, workspace(memory.data(), memory.size()), trace);
  };
  check_model(swin_reference(model.tensors()), model.shape().classes, images, run);
}

/// The images of a model in turn: black ones, white ones, noise, all.
std::vector<image_view> some_images(const std::vector<image_view>& all, std::int64_t which) {
  return which < 2    ? std::vector<image_view>{all[static_cast<std::size_t>(which)]}
         : which == 2 ? std::vector<image_view>{all.begin() + 2, all.end()}
                      : all;
}

constexpr observer observers[] = {observer::minmax, observer::ema, observer::percentile, observer::omse};

}  // namespace

TEST_CASE("build_vit: builds extreme models, which equal double precision [all recipes]", "[extreme_models]") {
  const image_set images(extreme_vit, 2);
  const std::vector<named_recipe> recipes = named_recipes();
  const scratch_folder folder;
  std::size_t built = 0, raised = 0;
  std::map<std::string, int> raised_tensors;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    CAPTURE(seed);
    distortion random(seed);
    float_vit model = random_float_vit(extreme_vit);
    for (std::int64_t changes = random.between(1, 3); changes > 0; --changes) {
      const std::int64_t part = random.between(0, 3);
      if (part == 0) {
        random.change_outside(model);
      } else if (part == 1 && seed % 2 == 0) {
        random.change_stream(model);
      } else {
        random.change(model.blocks[static_cast<std::size_t>(random.between(0, 1))]);
      }
    }
    const std::vector<image_view> views = some_images(images.views(), random.between(0, 3));
    const auto scales = calibrated(model, views, observers[seed % 4]);
    if (!scales) {
      continue;
    }
    ++built;
    for (std::size_t i = seed % 3; i < recipes.size(); i += 3) {
      CAPTURE(recipes[i].name);
      const vit_weights weights = quantize_weights(model, recipes[i].recipe);
      const fitted_scales<vit_scales> fitted = fit_scales(model, *scales, weights, recipes[i].recipe);
      raised += fitted.changes.empty() ? 0U : 1U;
      for (const scale_change& change : fitted.changes) {
        ++raised_tensors[change.tensor];
        CHECK(change.raised > change.observed);
      }
      CHECK(fit_scales(model, fitted.scales, weights, recipes[i].recipe).changes.empty());
      const integer_vit integer = build_vit(model, *scales, weights, recipes[i].recipe);
      check_model(integer, views);
      save_integer_vit(integer, folder / "model.safetensors");
    }
  }
  std::cout << built << " of 150 models have finite activations; scales were raised in " << raised << " builds:";
  for (const auto& [tensor, count] : raised_tensors) {
    std::cout << ' ' << tensor << ' ' << count;
  }
  std::cout << std::endl;
  CHECK(built > 75);
  CHECK(raised > 30);
  CHECK(raised_tensors.size() > 5);
}

TEST_CASE("build_vit: values that are far larger than queries and keys keep the scale [all recipes, 10^30 to 10^35]",
          "[extreme_models]") {
  const image_set images(extreme_vit, 2);
  const scratch_folder folder;
  index_t separate = 0;
  for (const float factor : {1e30F, 1e33F, 1e35F}) {
    float_vit model = random_float_vit(extreme_vit);
    const index_t width = extreme_vit.width;
    model.blocks[0].qkv.weight.bottomRows(width) *= factor;
    model.blocks[0].qkv.bias.tail(width) *= factor;
    model.blocks[0].proj.weight /= factor;
    const vit_scales scales = calibrate(model, images.views());
    for (const named_recipe& each : named_recipes()) {
      CAPTURE(factor, each.name);
      const integer_vit integer = build_vit(model, scales, each.recipe);
      separate += integer.tensors().blocks[0].k_zero_point.has_value() ? 1 : 0;
      CHECK(integer.tensors().blocks[0].zero_points().v == scales.blocks[0].qkv.zero_point);
      check_model(integer, images.views());
      save_integer_vit(integer, folder / "model.safetensors");
      check_model(load_integer_vit(folder / "model.safetensors"), images.views());
    }
  }
  CHECK(separate > 0);
}

TEST_CASE("build_vit: one query or key that is far larger than all other values [all recipes, 10^20 to 10^35]",
          "[extreme_models]") {
  const image_set images(extreme_vit, 2);
  const index_t width = extreme_vit.width;
  index_t separate = 0, finite = 0;
  for (const index_t row : {index_t{3}, width + 3, 2 * width + 3}) {
    for (const float large : {1e20F, 1e24F, -1e30F, 1e35F}) {
      for (const bool bias : {true, false}) {
        float_vit model = random_float_vit(extreme_vit);
        (bias ? model.blocks[1].qkv.bias[row] : model.blocks[1].qkv.weight(row, 5)) = large;
        const auto scales = calibrated(model, images.views(), observer::minmax);
        if (!scales) {
          continue;
        }
        ++finite;
        for (const named_recipe& each : named_recipes()) {
          CAPTURE(row, large, bias, each.name);
          const vit_weights weights = quantize_weights(model, each.recipe);
          const fitted_scales<vit_scales> fitted = fit_scales(model, *scales, weights, each.recipe);
          CHECK(fit_scales(model, fitted.scales, weights, each.recipe).changes.empty());
          const integer_vit integer = build_vit(model, *scales, weights, each.recipe);
          separate += integer.tensors().blocks[1].k_zero_point.has_value() ? 1 : 0;
          check_model(integer, images.views());
        }
      }
    }
  }
  CHECK(finite > 15);
  CHECK(separate > 0);
}

TEST_CASE("build_swin: builds extreme models, which equal double precision", "[extreme_models]") {
  swin_shape shape;
  shape.channels = 1;
  shape.height = 16;
  shape.image_width = 16;
  shape.patch = 2;
  shape.stages = 2;
  shape.classes = 3;
  shape.stage[0] = {.width = 6, .heads = 2, .hidden = 8, .depth = 2, .window = 4};
  shape.stage[1] = {.width = 8, .heads = 2, .hidden = 8, .depth = 1, .window = 4};
  const std::vector<owned_image> images = make_images(shape, 2);
  const std::vector<image_view> all = views_of(images);
  const quantization_recipe recipes[] = {paper_recipe, precise_recipe, precise_recipe_888, paper_recipe_888,
                                         precise_recipe_weight_codes};
  std::size_t built = 0, raised = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    distortion random(seed + 1000);
    float_swin model = float_swin_builder(shape, 5).model();
    for (std::int64_t changes = random.between(1, 3); changes > 0; --changes) {
      float_swin_stage& stage = model.stages[static_cast<std::size_t>(random.between(0, 1))];
      switch (random.between(0, 5)) {
        case 0:
          random.change_outside(model);
          break;
        case 1:
          random.scale(stage.blocks.front().position_bias);
          break;
        case 2:
          random.scale(model.stages.front().merge_norm);
          break;
        case 3:
          random.scale(model.stages.front().reduction);
          break;
        case 4:  // a large stream that the first block brings back
          model.patch_norm.bias.array() += 1e4F;
          model.stages.front().blocks.front().block.proj.bias.array() -= 1e4F;
          break;
        default:
          random.change(stage.blocks.back().block);
      }
    }
    const std::vector<image_view> views = some_images(all, random.between(0, 3));
    const auto scales = calibrated(model, views, observers[seed % 4]);
    if (!scales) {
      continue;
    }
    ++built;
    const quantization_recipe& recipe = recipes[seed % std::size(recipes)];
    const swin_weights weights = quantize_weights(model, recipe);
    const fitted_scales<swin_scales> fitted = fit_scales(model, *scales, weights, recipe);
    raised += fitted.changes.empty() ? 0U : 1U;
    CHECK(fit_scales(model, fitted.scales, weights, recipe).changes.empty());
    check_model(build_swin(model, *scales, weights, recipe), std::span(views).first(1));
  }
  CHECK(built > 20);
  CHECK(raised > 4);
}

}  // namespace intact_test::extreme_models_test
