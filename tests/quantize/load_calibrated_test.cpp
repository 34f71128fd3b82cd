#include "intact/quantize/load_calibrated.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "calibrated_models.hpp"
#include "calibrated_tensors.hpp"
#include "catch.hpp"
#include "checkpoint_files.hpp"
#include "intact/io/model_file.hpp"
#include "intact/quantize/build_swin.hpp"
#include "intact/quantize/build_vit.hpp"
#include "quantized_model.hpp"
#include "random_swin.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"

namespace intact_test::load_calibrated_test {
namespace {

constexpr swin_shape tiny_swin{.channels = 3,
                               .height = 16,
                               .image_width = 16,
                               .patch = 2,
                               .stages = 2,
                               .stage = {{{8, 2, 12, 2, 4}, {12, 3, 20, 1, 4}}},
                               .classes = 5};

using expected_swin = expected_model<float_swin, swin_scales, swin_weights>;

expected_swin make_swin() {
  expected_swin made{{}, float_swin_builder(tiny_swin, 3).model()};
  float_swin& model = made.model;
  model.epsilon = 1e-6F;
  model.mean.assign(3, 0.4F);
  model.standard_deviation.assign(3, 0.3F);
  made.set_metadata(calibrated_swin_format);
  made.file.metadata["img_size"] = "16";
  checkpoint_tensors floats;
  floats.add("patch_embed.proj", model.patch);
  floats.all["patch_embed.proj.weight"].shape = {8, 3, 2, 2};
  floats.add("patch_embed.norm", model.patch_norm);
  floats.add("norm", model.norm);
  floats.add("head", model.head);
  scale_maker make;
  swin_scales& scales = made.scales;
  scales.input = made.file.set_affine("input", make.affine());
  scales.patch = made.file.set_affine("patch", make.affine());
  scales.tokens = made.file.set_affine("tokens", make.affine());
  made.weights.patch = made.set_weights("patch_embed.proj", model.patch.weight);
  for (std::size_t s = 0; s < 2; ++s) {
    const std::string stage = "layers." + std::to_string(s);
    const float_swin_stage& layers = model.stages[s];
    swin_stage_scales& own = scales.stages.emplace_back();
    swin_stage_weights& weights = made.weights.stages.emplace_back();
    for (std::size_t n = 0; n < layers.blocks.size(); ++n) {
      const std::string name = stage + ".blocks." + std::to_string(n);
      const float_block& block = layers.blocks[n].block;
      const float_matrix& table = layers.blocks[n].position_bias;
      floats.add(name + ".norm1", block.norm1);
      floats.add(name + ".attn.qkv", block.qkv);
      floats.add(name + ".attn.relative_position_bias_table", {table.rows(), table.cols()}, table.data());
      floats.add(name + ".attn.proj", block.proj);
      floats.add(name + ".norm2", block.norm2);
      floats.add(name + ".mlp.fc1", block.fc1);
      floats.add(name + ".mlp.fc2", block.fc2);
      own.blocks.push_back(
          {.block = set_block_scales(made.file, name, make, tiny_swin.of(static_cast<index_t>(s)).width),
           .position_bias = made.file.set_affine(name + ".position_bias", make.affine()),
           .biased_logits = made.file.set_affine(name + ".biased_logits", make.affine())});
      weights.blocks.push_back(made.set_block(name, block));
    }
    if (s == 0) {
      floats.add(stage + ".downsample.norm", layers.merge_norm);
      floats.add(stage + ".downsample.reduction.weight", {12, 32}, layers.reduction.data());
      own.merge_norm = made.file.set_affine(stage + ".merge_norm", make.affine());
      own.merge = made.file.set_ptf(stage + ".merge", make.ptf(12));
      weights.reduction = made.set_weights(stage + ".downsample.reduction", layers.reduction);
    }
  }
  scales.norm = made.file.set_affine("norm", make.affine());
  scales.pool = made.file.set_affine("pool", make.affine());
  scales.logits = made.file.set_affine("logits", make.affine());
  made.weights.head = made.set_weights("head", model.head.weight);
  made.set_floats(floats);
  return made;
}

/// The bytes of a model's file.
std::string bytes_of(const integer_vit& model) {
  const scratch_folder folder;
  save_integer_vit(model, folder / "model");
  return file_contents(folder / "model");
}
std::string bytes_of(const integer_swin& model) {
  const scratch_folder folder;
  save_integer_swin(model, folder / "model");
  return file_contents(folder / "model");
}

/// Whether two models have the same file; the bytes themselves would be no message.
template <class Model>
bool same_file(const Model& a, const Model& b) {
  return bytes_of(a) == bytes_of(b);
}

integer_vit loaded_vit(const calibrated_tensors& file) {
  const loaded_calibrated_vit loaded = load_calibrated_vit(file.file());
  CHECK(loaded.model.changes.empty());
  return build_vit(loaded.model.model, loaded.model.scales, loaded.model.weights, loaded.recipe);
}

std::string error_of(const calibrated_tensors& file) {
  try {
    load_calibrated_vit(file.file());
  } catch (const file_error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("load_calibrated_vit: gives the model that is built of the same scales and codes") {
  for (const int bits : {8, 4}) {
    const expected_vit expected = make_calibrated_vit(bits);
    quantization_recipe recipe = paper_recipe;
    recipe.weights = bits == 4 ? weight_kind::s4 : weight_kind::s8;
    const integer_vit built = build_vit(expected.model, expected.scales, expected.weights, recipe);
    CHECK(same_file(loaded_vit(expected.file), built));
  }
}

TEST_CASE("load_calibrated_vit: attention of 8 bits has codes of 8 bits") {
  expected_vit expected = make_calibrated_vit();
  expected.file.metadata["attention_bits"] = "8";
  const integer_vit built = build_vit(expected.model, expected.scales, expected.weights, paper_recipe_888);
  CHECK(same_file(loaded_vit(expected.file), built));
}

TEST_CASE("load_calibrated_vit: weights that are codes give the model of their real numbers") {
  for (const int bits : {8, 4}) {
    expected_vit expected = make_calibrated_vit(bits);
    const integer_vit real_weights = loaded_vit(expected.file);
    for (const std::string name : {"patch_embed.proj", "blocks.0.attn.qkv", "blocks.1.mlp.fc2", "head"}) {
      const std::string weight = name + ".weight";
      const std::vector<std::int64_t> shape = expected.file.all.at(weight).shape;
      const std::vector<float> real = expected.file.file().values<float>(weight);
      const layer_codes codes(map_of(matrix_view<const float>(real.data(), shape[0], std::ssize(real) / shape[0])),
                              bits);
      expected.file.set(weight, shape, codes.codes);
    }
    CHECK(same_file(loaded_vit(expected.file), real_weights));
  }
}

TEST_CASE("load_calibrated_vit: keys and values may have scales of their own, shifts may be left out") {
  expected_vit expected = make_calibrated_vit();
  block_scales& block = expected.scales.blocks[1];
  block.k = affine_scale{0.03F, 77};
  block.v = affine_scale{0.05F, 133};
  block.add1.shift.assign(block.add1.shift.size(), 0);
  expected.file.set_affine("blocks.1.k", *block.k);
  expected.file.set_affine("blocks.1.v", *block.v);
  expected.file.all.erase("activations.blocks.1.add1.shift");
  const integer_vit built = build_vit(expected.model, expected.scales, expected.weights, paper_recipe);
  CHECK(same_file(loaded_vit(expected.file), built));
}

TEST_CASE("load_calibrated_vit: names the scales that no integers compute") {
  calibrated_tensors file = make_calibrated_vit().file;
  file.set_affine("blocks.0.context", {1e-30F, 100});
  const loaded_calibrated_vit loaded = load_calibrated_vit(file.file());
  REQUIRE(!loaded.model.changes.empty());
  CHECK(loaded.model.changes[0].tensor == "context");
  CHECK(loaded.model.changes[0].block == 0);
}

TEST_CASE("load_calibrated_swin: gives the model that is built of the same scales and codes") {
  const expected_swin expected = make_swin();
  const loaded_calibrated_swin loaded = load_calibrated_swin(expected.file.file());
  CHECK(loaded.changes.empty());
  CHECK(same_file(build_swin(loaded.model, loaded.scales, loaded.weights, loaded.recipe),
                  build_swin(expected.model, expected.scales, expected.weights, paper_recipe)));
}

TEST_CASE("gelu_input_range: codes of GELU are constant beyond it") {
  for (const float scale : {1e-6F, 0.001F, 0.02F, 3.0F}) {
    for (const int zero_point : {0, 9, 255}) {
      const affine_scale y{scale, zero_point};
      const value_range range = intact::detail::gelu_input_range(y);
      const auto code = [&](double x) {
        return std::clamp(std::nearbyint(gelu(x) / static_cast<double>(scale)) + zero_point, 0.0, 255.0);
      };
      CAPTURE(scale, zero_point);
      CHECK(code(static_cast<double>(range.low)) == zero_point);
      CHECK(code(-1e3) == zero_point);
      CHECK(code(static_cast<double>(range.high)) == 255);
    }
  }
}

TEST_CASE("load_calibrated_vit: refuses what makes no model, naming file, tensor, value and limit") {
  static constexpr float infinite = std::numeric_limits<float>::infinity(),
                         none = std::numeric_limits<float>::quiet_NaN();
  const calibrated_tensors valid = make_calibrated_vit().file;
  REQUIRE(error_of(valid).empty());
  const std::string norm = "activations.blocks.1.norm1", tokens = "activations.tokens";
  struct hostile {
    std::string tensor;
    std::string words;
    std::function<void(calibrated_tensors&, const std::string&)> change;
  };
  const auto erase = [](calibrated_tensors& file, const std::string& name) { file.all.erase(name); };
  const auto scale = [](float value) {
    return [value](calibrated_tensors& file, const std::string& name) { file.set<float>(name, {}, {value}); };
  };
  const auto zero_point = [](std::int64_t value) {
    return [value](calibrated_tensors& file, const std::string& name) { file.set<std::int64_t>(name, {}, {value}); };
  };
  const auto weight_scale = [](float value) {
    return [value](calibrated_tensors& file, const std::string& name) {
      std::vector<float> scales = file.file().values<float>(name);
      scales[2] = value;
      file.set_row(name, scales);
    };
  };
  const std::vector<hostile> all = {
      {norm + ".scale", "is missing", erase},
      {norm + ".zero_point", "is missing", erase},
      {"activations.logits.scale", "is missing", erase},
      {"blocks.0.attn.qkv.weight", "is missing", erase},
      {"blocks.0.attn.qkv.weight_scale", "is missing", erase},
      {"blocks.1.norm2.bias", "is missing", erase},
      {"cls_token", "is missing", erase},
      {norm + ".scale", "has the value 0; it must be above 0 and finite", scale(0)},
      {norm + ".scale", "has the value -1; it must be above 0 and finite", scale(-1)},
      {norm + ".scale", "nan; it must be above 0 and finite", scale(none)},
      {norm + ".scale", "has the value inf; it must be above 0 and finite", scale(infinite)},
      {tokens + ".scale", "has the value 0; it must be above 0 and finite", scale(0)},
      {norm + ".scale", "has shape [1]; it must be []",
       [](calibrated_tensors& file, const std::string& name) { file.set<float>(name, {1}, {1.0F}); }},
      {norm + ".scale", "has dtype I64",
       [](calibrated_tensors& file, const std::string& name) { file.set<std::int64_t>(name, {}, {1}); }},
      {norm + ".zero_point", "has the value -1; it must be in 0..255", zero_point(-1)},
      {norm + ".zero_point", "has the value 256; it must be in 0..255", zero_point(256)},
      {norm + ".zero_point", "has dtype F32; it must be I64", scale(3)},
      {tokens + ".shift", "has the value 4 at 5; it must be in 0..3",
       [](calibrated_tensors& file, const std::string& name) {
         file.set_row(name, std::vector<std::uint8_t>{0, 1, 2, 3, 0, 4, 0, 0, 0, 0, 0, 0});
       }},
      {tokens + ".shift", "has shape [11]; it must be [12]",
       [](calibrated_tensors& file, const std::string& name) { file.set_row(name, std::vector<std::uint8_t>(11)); }},
      {"head.weight_scale", "has the value 0 at 2; it must be above 0 and finite", weight_scale(0)},
      {"head.weight_scale", "has the value -0.5 at 2; it must be above 0 and finite", weight_scale(-0.5F)},
      {"head.weight_scale", "nan at 2; it must be above 0 and finite", weight_scale(none)},
      {"head.weight_scale", "has shape [6]; it must be [7]",
       [](calibrated_tensors& file, const std::string& name) { file.set_row(name, std::vector<float>(6, 1.0F)); }},
      {"blocks.0.attn.proj.weight", "has shape [12, 11]",
       [](calibrated_tensors& file, const std::string& name) {
         file.set(name, {12, 11}, std::vector<float>(132));
       }},
      {"head.weight", "has shape [7, 13]",
       [](calibrated_tensors& file, const std::string& name) {
         file.set(name, {7, 13}, std::vector<std::int8_t>(91));
       }},
      {"head.weight", "has the value 8 at 1; it must be in -8..7, as weight_bits is 4",
       [](calibrated_tensors& file, const std::string& name) {
         file.metadata["weight_bits"] = "4";
         std::vector<std::int8_t> codes(84);
         codes[1] = 8;
         file.set(name, {7, 12}, codes);
       }},
      {"head.weight", "has shape []; it must have a row of codes per output channel",
       [](calibrated_tensors& file, const std::string& name) {
         file.set(name, {}, std::vector<std::int8_t>(1));
         file.set_row("head.weight_scale", std::vector<float>());
       }},
      {"head.weight", "has shape [7, 24]; it must be [7, 12]",
       [](calibrated_tensors& file, const std::string& name) {
         file.set(name, {7, 24}, std::vector<float>(168));
       }},
      {"activations.blocks.1.activation.scale", "has the value 3e+36; it must be at most ", scale(3e36F)},
      {"blocks.0.mlp.fc1.weight", "a calibrated model has no gates",
       [](calibrated_tensors& file, const std::string& name) {
         for (const std::string block : {"blocks.0", "blocks.1"}) {
           const std::int64_t hidden = file.all.at(block + ".mlp.fc2.weight").shape[1];
           file.set(block + ".mlp.fc1.weight", {2 * hidden, 12},
                    std::vector<float>(static_cast<std::size_t>(24 * hidden)));
           file.set_row(block + ".mlp.fc1.bias", std::vector<float>(static_cast<std::size_t>(2 * hidden)));
         }
         REQUIRE(name.ends_with("fc1.weight"));
       }},
      {"cls_token", "the model has no tensor",
       [](calibrated_tensors& file, const std::string& name) {
         file.all.erase(name);
         file.set("pos_embed", {1, 9, 12}, std::vector<float>(108));
       }},
      {"pos_embed", "has shape [1, 9, 12]; it must be [1, 10, 12]",
       [](calibrated_tensors& file, const std::string& name) {
         file.set(name, {1, 9, 12}, std::vector<float>(108));
       }},
      {"dist_token", "has no place in a calibrated model of this architecture",
       [](calibrated_tensors& file, const std::string& name) {
         file.set(name, {1, 1, 12}, std::vector<float>(12));
       }},
      {"blocks.0.ls1.gamma", "has no place in a calibrated model of this architecture",
       [](calibrated_tensors& file, const std::string& name) { file.set_row(name, std::vector<float>(12)); }},
      {"blocks.2.mlp.fc1.weight", "has no place in a calibrated model of this architecture",
       [](calibrated_tensors& file, const std::string& name) { file.set_row(name, std::vector<float>(12)); }},
      {"blocks.0.attn.qkv.bias", "it must be finite",
       [](calibrated_tensors& file, const std::string& name) { file.set_row(name, std::vector<float>(36, none)); }}};
  for (const hostile& one : all) {
    calibrated_tensors file = valid;
    one.change(file, one.tensor);
    const std::string error = error_of(file);
    CAPTURE(one.tensor, one.words, error);
    CHECK(error.starts_with("calibrated: "));
    CHECK(mentions(error, '"' + one.tensor + '"'));
    CHECK(mentions(error, one.words));
  }
}

TEST_CASE("load_calibrated_vit: refuses metadata that is missing or another format's") {
  const calibrated_tensors valid = make_calibrated_vit().file;
  for (const std::string key : {"format", "version", "weight_bits", "activation_bits", "attention_bits"}) {
    calibrated_tensors file = valid;
    file.metadata.erase(key);
    CHECK(mentions(error_of(file), "calibrated: metadata \"" + key + "\" is missing"));
    file.metadata[key] = "5";
    CHECK(mentions(error_of(file), "calibrated: metadata \"" + key + "\" is \"5\"; it must be \""));
  }
  calibrated_tensors file = valid;
  file.metadata["global_pool"] = "token";
  CHECK(error_of(file).empty());
  file.metadata["global_pool"] = "avg";
  CHECK(error_of(file) == "calibrated: metadata \"global_pool\" is \"avg\"; it must be \"token\"");
}

}  // namespace intact_test::load_calibrated_test
