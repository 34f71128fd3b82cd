// From a float model and images to an integer model: calibration, and what build_vit refuses.

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/reference/model/vit.hpp"
#include "refusal.hpp"

namespace intact_test::build_test {
namespace {

using namespace intact;
using intact::index_t;

std::filesystem::path data_directory() {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "examples" / "data";
}

/// The digits' model and images.
struct digits {
  float_vit model = load_float_vit(safetensors_file::read(data_directory() / "digits_vit.safetensors"));
  std::vector<std::uint8_t> pixels =
      safetensors_file::read(data_directory() / "digits.safetensors").values<std::uint8_t>("images");
  std::vector<image_view> images;

  explicit digits(std::size_t count) {
    for (std::size_t n = 0; n < count; ++n) {
      images.push_back(planar_image(pixels.data() + 64 * n, 1, 8, 8));
    }
  }
};

TEST_CASE("calibrate: follows the observers on every tensor", "[build]") {
  const digits data(25);
  const vit_scales scales = calibrate(data.model, data.images);

  // The same by hand: ranges over all images, powers of two from the last batch, which has five images.
  range_observer qkv(range_rule::minmax), stream(range_rule::minmax);
  std::vector<float_matrix> last;
  for (std::size_t n = 0; n < data.images.size(); ++n) {
    forward(data.model, data.images[n], [&](const trace_site& site, const float_matrix& tensor) {
      if (site.name == "qkv" && site.block == 2) {
        qkv.update(view_of(tensor));
      }
      if (site.name == "add1" && site.block == 1) {
        stream.update(view_of(tensor));
        if (n >= 20) {
          last.push_back(tensor);
        }
      }
    });
  }
  std::vector<matrix_view<const float>> batch;
  for (const float_matrix& tensor : last) {
    batch.push_back(view_of(tensor));
  }
  const affine_scale expected = build_affine_scale(qkv.range(), u8_codes);
  CHECK(scales.blocks[2].qkv.scale == expected.scale);
  CHECK(scales.blocks[2].qkv.zero_point == expected.zero_point);
  const ptf_scale expected_stream = build_ptf_scale(stream.range(), u8_codes, batch);
  CHECK(scales.blocks[1].add1.scale == expected_stream.scale);
  CHECK(scales.blocks[1].add1.zero_point == expected_stream.zero_point);
  CHECK(scales.blocks[1].add1.shift == expected_stream.shift);
}

TEST_CASE("calibrate: the digits model agrees with its float model [every observer]", "[build]") {
  const digits data(60);
  for (const observer recipe : {observer::minmax, observer::ema, observer::percentile, observer::omse}) {
    CAPTURE(static_cast<int>(recipe));
    const vit_scales scales =
        calibrate(data.model, std::span(data.images).first(20), {.observer = recipe, .batch = 10});
    const packed_vit quantized(build_vit(data.model, scales));
    std::vector<std::byte> scratch(reference::vit_workspace_bytes(quantized.shape()));
    std::vector<std::int32_t> logits(10);
    std::vector<std::uint8_t> logits_u8(10);
    int agreed = 0;
    double largest_error = 0;
    for (const image_view& image : data.images) {
      reference::vit(image, quantized.parameters(), quantized.shape(),
                     {matrix_view(logits.data(), 1, 10), matrix_view(logits_u8.data(), 1, 10)},
                     workspace(scratch.data(), scratch.size()));
      const std::vector<float> expected = forward(data.model, image);
      for (std::size_t n = 0; n < logits.size(); ++n) {
        largest_error = std::max(largest_error, std::fabs(quantized.real_logit(logits[n]) - double{expected[n]}));
      }
      agreed += std::max_element(logits.begin(), logits.end()) - logits.begin() ==
                std::max_element(expected.begin(), expected.end()) - expected.begin();
    }
    CHECK(agreed >= 57);
    CHECK(largest_error < 3);  // logits reach 4.2: a wrong sign or twice the unit would be farther away
    CHECK(largest_error > 0);
  }
}

TEST_CASE("calibrate: refuses images and options that it cannot use", "[build]") {
  const digits data(2);
  CHECK(mentions(refusal([&] { calibrate(data.model, {}); }), "number of images is 0"));
  CHECK(mentions(refusal([&] { calibrate(data.model, data.images, {.batch = 0}); }), "batch is 0"));
  const std::vector<image_view> small = {planar_image(data.pixels.data(), 1, 4, 8)};
  CHECK(mentions(refusal([&] { calibrate(data.model, small); }), "image height is 4"));
}

TEST_CASE("build_vit: refuses scales of no model", "[build]") {
  const digits data(10);
  const vit_scales good = calibrate(data.model, data.images);
  const auto refuse = [&](auto change) {
    vit_scales scales = good;
    change(scales);
    return refusal([&] { build_vit(data.model, scales); });
  };
  CHECK(refuse([](vit_scales&) {}).empty());
  CHECK(mentions(refuse([](vit_scales& s) { s.blocks.pop_back(); }), "number of blocks of the scales is 3"));
  CHECK(mentions(refuse([](vit_scales& s) { s.tokens.shift.pop_back(); }), "number of shifts of the tokens is 63"));
}

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("build_vit: refusals of scales name the tensor and its block", "[build]") {
  const digits data(10);
  const vit_scales good = calibrate(data.model, data.images);
  const auto refuse = [&](const quantization_recipe& recipe, auto change) {
    vit_scales scales = good;
    change(scales);
    return refusal([&] { build_vit(data.model, scales, recipe); });
  };
  struct wrong_scale {
    const char* start;
    const char* words;
    void (*change)(vit_scales&);
  };
  const wrong_scale both[] = {
      {"tensor qkv of block 1: intact::build_scale: ", "factor inf", [](vit_scales& s) { s.blocks[1].qkv.scale = 0; }},
      {"tensor norm1 of block 1: intact::build_layernorm: ", "output_scale is 0",
       [](vit_scales& s) { s.blocks[1].norm1.scale = 0; }},
      {"tensor norm2 of block 3: intact::build_layernorm: ", "output_scale is nan",
       [](vit_scales& s) { s.blocks[3].norm2.scale = nan; }},
      {"tensor attention_logits of block 2: intact::build_scale: ", "factor inf",
       [](vit_scales& s) { s.blocks[2].attention_logits.scale = 0; }},
      {"tensor context of block 2: intact::build_", " nan", [](vit_scales& s) { s.blocks[2].context.scale = nan; }},
      {"tensor fc1 of block 3: intact::build_activation_table: ", "range is 9 to -9",
       [](vit_scales& s) {
         s.blocks[3].fc1 = {9, -9};
       }},
      {"tensor fc1 of block 0: intact::build_activation_table: ", "output scale is 0",
       [](vit_scales& s) { s.blocks[0].activation.scale = 0; }},
      {"tensor proj of block 2: intact::linear_spec: ", "zero_point is 256",
       [](vit_scales& s) { s.blocks[2].context.zero_point = 256; }},
      {"tensor logits: intact::build_scale: ", "factor inf", [](vit_scales& s) { s.logits.scale = 0; }},
      {"tensor norm: intact::build_layernorm: ", "output_scale is 0", [](vit_scales& s) { s.norm.scale = 0; }}};
  for (const quantization_recipe& recipe : {paper_recipe, precise_recipe}) {
    for (const wrong_scale& wrong : both) {
      const std::string message = refuse(recipe, wrong.change);
      INFO(message);
      CHECK(message.starts_with(wrong.start));
      CHECK(mentions(message, wrong.words));
    }
  }
  const wrong_scale of_u8_streams[] = {
      {"tensor proj of block 0: intact::build_scale: ", "factor nan",
       [](vit_scales& s) { s.blocks[0].proj.scale = nan; }},
      {"tensor add2 of block 3: intact::build_add: ", "ratio", [](vit_scales& s) { s.blocks[3].add2.scale = 0; }},
      {"tensor tokens: intact::build_add: ", "ratio", [](vit_scales& s) { s.tokens.scale = 0; }},
      {"tensor positions: intact::quantize_code: ", "scale is nan", [](vit_scales& s) { s.positions.scale = nan; }}};
  for (const wrong_scale& wrong : of_u8_streams) {
    const std::string message = refuse(paper_recipe, wrong.change);
    INFO(message);
    CHECK(message.starts_with(wrong.start));
    CHECK(mentions(message, wrong.words));
  }
}

TEST_CASE("build_vit: refusals of weights name the tensor and its block", "[build]") {
  const digits data(10);
  const vit_scales scales = calibrate(data.model, data.images);
  const vit_weights good = quantize_weights(data.model, paper_recipe);
  const auto refuse = [&](auto change) {
    vit_weights weights = good;
    change(weights);
    return refusal([&] { build_vit(data.model, scales, weights, paper_recipe); });
  };
  CHECK(refuse([](vit_weights&) {}).empty());
  CHECK(refuse([](vit_weights& w) {
          w.blocks[2].fc1 = w.blocks[2].fc2;
        }).starts_with("tensor fc1 of block 2: intact::fit_scales: rows of the weights is 64;"));
  CHECK(refuse([](vit_weights& w) {
          w.blocks[1].proj.scale.pop_back();
        }).starts_with("tensor proj of block 1: intact::fit_scales: scales of the weights is 63;"));
  CHECK(refuse([](vit_weights& w) {
          w.blocks[0].qkv.weights.codes.pop_back();
        }).starts_with("tensor qkv of block 0: intact::owned_weights: size of codes"));
  CHECK(refuse([](vit_weights& w) {
          w.head.scale[3] = -1;
        }).starts_with("tensor logits: intact::build_scale: channel 3 has the factor -"));

  float_vit model = data.model;
  model.blocks[3].fc2.weight(5, 6) = nan;
  for (const quantization_recipe& recipe : {paper_recipe, quantization_recipe{.weights = weight_kind::grouped_s4}}) {
    const std::string message = refusal([&] { quantize_weights(model, recipe); });
    CHECK(message.starts_with("tensor fc2 of block 3: intact::quantize_"));
    CHECK(mentions(message, "row 5, column 6"));
  }
}

/// The changes of fit_scales, and its context scale of block 1.
std::vector<scale_change> changes_of(const float_vit& model, vit_scales& scales, const quantization_recipe& recipe) {
  fitted_scales<vit_scales> fitted = fit_scales(model, scales, quantize_weights(model, recipe), recipe);
  scales = std::move(fitted.scales);
  return fitted.changes;
}

TEST_CASE("fit_scales: keeps scales that integers compute", "[build]") {
  const digits data(10);
  const vit_scales observed = calibrate(data.model, data.images);
  for (const quantization_recipe& recipe :
       {paper_recipe, paper_recipe_888, precise_recipe, precise_recipe_888, precise_recipe_weight_codes}) {
    vit_scales scales = observed;
    CHECK(changes_of(data.model, scales, recipe).empty());
  }
}

TEST_CASE("fit_scales: raises scales beyond the range of integers, and names them", "[build]") {
  const digits data(10);
  const vit_scales observed = calibrate(data.model, data.images);
  const auto change = [&](const quantization_recipe& recipe, auto distort) {
    vit_scales scales = observed;
    distort(scales);
    const std::vector<scale_change> changes = changes_of(data.model, scales, recipe);
    REQUIRE(changes.size() == 1);
    CHECK(changes[0].raised > changes[0].observed);
    return std::pair(changes[0], scales);
  };
  {
    const auto [context, scales] = change(precise_recipe, [](vit_scales& s) { s.blocks[1].context.scale = 1e-6F; });
    CHECK(context.tensor == "context");
    CHECK(context.block == 1);
    CHECK(context.observed == static_cast<double>(1e-6F));
    CHECK(context.raised == static_cast<double>(observed.blocks[1].qkv.scale / 3.99F));
    CHECK(scales.blocks[1].context.scale == observed.blocks[1].qkv.scale / 3.99F);
  }
  {
    // the coarsest power of two first, then the scale
    const auto [add, scales] = change(paper_recipe, [](vit_scales& s) { s.blocks[2].add2.scale = 1e-8F; });
    CHECK(add.tensor == "add2");
    CHECK(add.block == 2);
    for (std::size_t c = 0; c < scales.blocks[2].add2.shift.size(); ++c) {
      const double step = channel_step(scales.blocks[2].add2, c);
      const double before = channel_step(observed.blocks[2].add1, c);
      const double branch = static_cast<double>(observed.blocks[2].fc2.scale);
      CHECK(before / step + branch / step < 64);
    }
  }
  {
    // all logits are one number: their scale is that of a range of length 0
    const auto [logits, scales] =
        change(precise_recipe, [](vit_scales& s) { s.blocks[0].attention_logits.scale = 1e-15F; });
    CHECK(logits.tensor == "attention_logits");
    CHECK(std::log2(logits.raised / logits.observed) == std::rint(std::log2(logits.raised / logits.observed)));
    const affine_scale half{scales.blocks[0].attention_logits.scale / 2, scales.blocks[0].attention_logits.zero_point};
    const scale_spec target = detail::logits_spec(observed.blocks[0], half, data.model.shape.block().attention);
    CHECK_FALSE(has_scale({&target, 1}));  // it is the least
  }
  {
    // every token has the same inputs of GELU, far from 0
    const auto [fc1, scales] = change(precise_recipe, [](vit_scales& s) { s.blocks[1].fc1 = {1e6F, 1e6F}; });
    CHECK(fc1.tensor == "fc1");
    CHECK(fc1.block == 1);
    CHECK(fc1.observed == least_table_scale);
    CHECK(fc1.raised == scales.blocks[1].fc1_step);
  }
}

TEST_CASE("build_vit: true exponentials replace a polynomial that has no integers", "[build]") {
  const digits data(10);
  vit_scales scales = calibrate(data.model, data.images);
  scales.blocks[0].attention_logits.scale = 2;
  const integer_vit model = build_vit(data.model, scales);
  const auto expected = exact_exp_table(2, model.shape().tokens());
  const std::vector<std::uint64_t>& found = model.tensors().blocks[0].softmax.exponential;
  CHECK(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
}

TEST_CASE("calibrate: widens ranges to contain 0", "[build]") {
  const digits data(1);
  const std::vector<std::uint8_t> white(64, 255);  // every input is above 0
  const std::vector<image_view> images = {planar_image(white.data(), 1, 8, 8)};
  const float value = data.model.normalize(255, 0);
  REQUIRE(value > 0);
  for (const observer recipe : {observer::minmax, observer::percentile, observer::omse}) {
    const vit_scales scales = calibrate(data.model, images, {.observer = recipe});
    CHECK(std::fabs(dequantize_code(quantize_code<std::uint8_t>(value, scales.input), scales.input) - value) <
          value / 100);
  }
}

TEST_CASE("calibrate: refuses tensors and ranges that are not finite, naming tensor and block", "[build]") {
  const digits data(2);
  const auto refuse = [&](auto change) {
    float_vit model = data.model;
    change(model);
    return refusal([&] { calibrate(model, data.images); });
  };
  CHECK(refuse([](float_vit&) {}).empty());
  CHECK(mentions(refuse([](float_vit& m) { m.blocks[2].fc1.weight.setConstant(3e38F); }),
                 "intact::calibrate: tensor fc1 of block 2 has the value"));
  CHECK(mentions(refuse([](float_vit& m) { m.patch.weight.setConstant(3e38F); }),
                 "intact::calibrate: tensor patch has the value"));
  CHECK(mentions(refuse([](float_vit& m) {
                   m.head.bias[0] = 3e38F;
                   m.head.bias[1] = -3e38F;
                 }),
                 "intact::calibrate: tensor logits has the range -3e+38 to 3e+38"));
}

TEST_CASE("integer_vit: refuses contents whose sizes do not match", "[build]") {
  const digits data(10);
  const vit_scales scales = calibrate(data.model, data.images);
  const auto refuse = [&](auto change) {
    vit_tensors contents = build_vit(data.model, scales).tensors();
    change(contents);
    return refusal([&] { integer_vit model(std::move(contents)); });
  };
  CHECK(refuse([](vit_tensors&) {}).empty());
  CHECK(mentions(refuse([](vit_tensors& c) { c.pixel_table.pop_back(); }), "size of pixel_table is 255"));
  CHECK(mentions(refuse([](vit_tensors& c) { c.positions.pop_back(); }), "size of positions"));
  CHECK(mentions(refuse([](vit_tensors& c) { c.head.codes.pop_back(); }), "size of codes"));
  CHECK(mentions(refuse([](vit_tensors& c) { c.blocks[1].fc2.weights.rows = 63; }),
                 "tensor fc2 of block 1: intact::owned_weights: size of codes"));
  CHECK(mentions(refuse([](vit_tensors& c) { c.blocks[2].norm2.gain.pop_back(); }), "block 2: intact::block: norm2: "));
  CHECK(mentions(refuse([](vit_tensors& c) { c.blocks.pop_back(); }), "size of blocks is 3"));
}

}  // namespace
}  // namespace intact_test::build_test
