#include "intact/quantize/float_swin.hpp"
#include "intact/build/packed_swin.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "intact/io/safetensors_write.hpp"
#include "intact/quantize/build_swin.hpp"
#include "intact/reference/model/swin.hpp"
#include "random_swin.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "swin_checkpoint.hpp"

namespace intact_test::float_swin_test {
namespace {

// Sizes that differ, so that no two can be mistaken for each other: 7 x 5 tokens, windows of 4 and of 3.
constexpr swin_shape small{.channels = 2,
                           .height = 21,
                           .image_width = 15,
                           .patch = 3,
                           .stages = 2,
                           .stage = {{{8, 2, 20, 2, 4}, {12, 3, 28, 1, 3}}},
                           .classes = 5};

/// A float model as tensors under timm's names.
class stored_swin {
 public:
  std::map<std::string, std::string> metadata = {{"mean", "0.45"}, {"std", "0.25"}, {"img_size", "21"}};

  explicit stored_swin(const float_swin& model, bool new_names = false)
      : floats_(timm_checkpoint(model, new_names).all) {}

  void add(const std::string& name, const float_matrix& matrix) { add(name, {matrix.rows(), matrix.cols()}, matrix); }
  template <class Matrix>
  void add(const std::string& name, const std::vector<std::int64_t>& shape, const Matrix& matrix) {
    floats_[name] = {shape, {matrix.data(), matrix.data() + matrix.size()}};
  }
  void add_positions(const std::string& name, index_t window, std::int64_t change = 0) {
    const index_t tokens = window * window;
    std::vector<std::int64_t>& values = integers_[name];
    for (index_t i = 0; i < tokens; ++i) {
      for (index_t j = 0; j < tokens; ++j) {
        values.push_back((i / window - j / window + window - 1) * (2 * window - 1) + i % window - j % window + window -
                         1);
      }
    }
    values.back() += change;
    shapes_[name] = {tokens, tokens};
  }
  void remove(const std::string& name) { floats_.erase(name); }
  /// The same tensors under other names.
  template <class Rename>
  stored_swin renamed(const Rename& rename) const {
    stored_swin other = *this;
    const auto move_all = [&](const auto& from, auto& to) {
      to.clear();
      for (const auto& [name, value] : from) {
        to[rename(name)] = value;
      }
    };
    move_all(floats_, other.floats_);
    move_all(integers_, other.integers_);
    move_all(shapes_, other.shapes_);
    return other;
  }
  std::vector<float>& values(const std::string& name) { return floats_.at(name).values; }
  /// Of a tensor of whole numbers.
  std::vector<std::int64_t>& shape(const std::string& name) { return shapes_.at(name); }

  safetensors_file file() const {
    std::vector<tensor_to_write> tensors;
    for (const auto& [name, tensor] : floats_) {
      tensors.push_back(tensor_from(name, tensor.shape, tensor.values));
    }
    for (const auto& [name, values] : integers_) {
      tensors.push_back(tensor_from(name, shapes_.at(name), values));
    }
    const scratch_folder folder;
    write_safetensors(folder / "model", tensors, metadata);
    return safetensors_file::read(folder / "model");
  }
  float_swin load(const float_swin_options& options = {.image_width = 15}) const {
    return load_float_swin(file(), options);
  }

 private:
  std::map<std::string, checkpoint_tensors::tensor> floats_;
  std::map<std::string, std::vector<std::int64_t>> integers_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
};

float_swin small_model() {
  return float_swin_builder(small, 21).model();
}

owned_image small_image() {
  return std::move(make_images(small, 1).back());
}

/// Every tensor of a forward pass, one after the other.
std::vector<float> all_values(const float_swin& model, const image_view& image) {
  std::vector<float> values;
  forward(model, image, [&](const trace_site&, const float_matrix& tensor) {
    values.insert(values.end(), tensor.data(), tensor.data() + tensor.size());
  });
  return values;
}

TEST_CASE("load_float_swin: gives the model that was stored under timm's names [old and new names]", "[float_swin]") {
  const float_swin model = small_model();
  const owned_image image = small_image();
  const std::vector<float> expected = all_values(model, image.view);
  REQUIRE(expected.size() > 10000);
  for (const bool new_names : {false, true}) {
    const float_swin loaded = stored_swin(model, new_names).load();
    CHECK(loaded.shape.of(1).window == 3);
    CHECK(loaded.shape.of(1).heads == 3);
    CHECK(loaded.epsilon == 1e-5f);
    CHECK(all_values(loaded, image.view) == expected);
  }
}

float_matrix zeros(index_t rows, index_t columns) {
  return float_matrix::Zero(rows, columns);
}

TEST_CASE("load_float_swin: accepts tables of positions and masks", "[float_swin]") {
  stored_swin stored(small_model());
  stored.add_positions("layers.0.blocks.1.attn.relative_position_index", 4);
  stored.add_positions("layers.1.blocks.0.attn.relative_position_index", 3);
  stored.add("layers.0.blocks.1.attn_mask", zeros(3, 3));
  CHECK(all_values(stored.load(), small_image().view) == all_values(small_model(), small_image().view));
}

/// The message of the refusal that loading a changed file ends with.
std::string load_error(const std::function<void(stored_swin&)>& change,
                       const float_swin_options& options = {.image_width = 15}) {
  stored_swin stored(small_model());
  change(stored);
  try {
    stored.load(options);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("load_float_swin: refuses files of no Swin transformer", "[float_swin]") {
  CHECK(mentions(
      load_error([](stored_swin& s) { s.add_positions("layers.0.blocks.0.attn.relative_position_index", 4, -1); }),
      "\"layers.0.blocks.0.attn.relative_position_index\" has the value 23 at row 15, column 15; it must be "
      "24"));
  CHECK(load_error([](stored_swin&) {}) == "");
  CHECK(mentions(load_error([](stored_swin& s) { s.remove("layers.0.blocks.1.mlp.fc2.bias"); }),
                 "layers.0.blocks.1.mlp.fc2.bias"));
  CHECK(mentions(load_error([](stored_swin& s) { s.remove("layers.0.downsample.norm.weight"); }),
                 "layers.0.downsample.norm.weight"));
  CHECK(mentions(load_error([](stored_swin& s) { s.remove("layers.0.downsample.reduction.weight"); }),
                 "layers.1.downsample"));
  CHECK(mentions(load_error([](stored_swin& s) { s.remove("layers.0.blocks.0.norm1.weight"); }),
                 "tensor \"layers.0.blocks.0.norm1.weight\" is missing"));
  CHECK(mentions(load_error([](stored_swin& s) { s.add("absolute_pos_embed", zeros(2, 2)); }),
                 "tensor \"absolute_pos_embed\" has no place"));
  CHECK(mentions(load_error([](stored_swin& s) { s.values("norm.bias")[3] = INFINITY; }),
                 "tensor \"norm.bias\" has the value inf at row 0, column 3"));
  CHECK(mentions(
      load_error([](stored_swin& s) { s.add("layers.1.blocks.0.attn.relative_position_bias_table", zeros(24, 3)); }),
      "has 24 rows; it must have (2 window - 1)^2"));
  CHECK(mentions(
      load_error([](stored_swin& s) { s.add("layers.1.blocks.0.attn.relative_position_bias_table", zeros(16, 3)); }),
      "has 16 rows; it must have (2 window - 1)^2"));
  CHECK(mentions(
      load_error([](stored_swin& s) { s.add("layers.1.blocks.0.attn.relative_position_bias_table", zeros(25, 5)); }),
      "has 5 columns, the heads; their number must divide the width, 12"));
  CHECK(mentions(
      load_error([](stored_swin& s) { s.add("layers.0.blocks.1.attn.relative_position_bias_table", zeros(25, 2)); }),
      "layers.0.blocks.1.attn.relative_position_bias_table"));  // another window than the first block's
  CHECK(mentions(load_error([](stored_swin& s) { s.metadata["img_size"] = "0"; }), "img_size is 0"));
  CHECK(mentions(load_error([](stored_swin& s) { s.metadata["img_size"] = "22.5"; }), "img_size is 22.5"));
  CHECK(mentions(load_error([](stored_swin&) {}, {.image_width = 16}), "image_width % patch is 1"));
  CHECK(mentions(load_error([](stored_swin& s) { s.metadata.erase("mean"); }), "\"mean\" is missing"));
  CHECK(mentions(load_error([](stored_swin& s) { s.metadata["std"] = "0.5,0"; }), "std is 0"));
}

TEST_CASE("load_float_swin: the activation function is the option's, the metadata's, or GELU", "[float_swin]") {
  stored_swin stored(small_model());
  const auto of = [](const float_swin& model) { return model.stages[1].blocks[0].block.activation; };
  CHECK(of(stored.load()) == activation_function::gelu);
  stored.metadata["activation"] = "relu";
  CHECK(of(stored.load()) == activation_function::relu);
  CHECK(of(stored.load({.image_width = 15, .activation = activation_function::silu})) == activation_function::silu);
  CHECK(mentions(load_error([](stored_swin& s) { s.metadata["activation"] = "mish"; }),
                 "metadata \"activation\" is \"mish\"; it must be gelu, "));
}

TEST_CASE("load_float_swin: refuses windows and images of more tokens than integer models take", "[float_swin]") {
  // (2 * 287 - 1)^2 relative positions; windows of 286 have 81796 tokens.
  const auto table = [](index_t window) {
    return load_error([&](stored_swin& s) {
      s.add("layers.1.blocks.0.attn.relative_position_bias_table", zeros((2 * window - 1) * (2 * window - 1), 3));
    });
  };
  CHECK(mentions(table(287),
                 "\"layers.1.blocks.0.attn.relative_position_bias_table\" has 328329 rows, those of windows of 82369 "
                 "tokens; they must have at most 82000"));
  CHECK(table(286) == "");
  CHECK(mentions(load_error([](stored_swin&) {}, {.height = 3 * 4096, .image_width = 3 * 4097}),
                 "images of 12288 x 12291 pixels make 16781312 tokens, and 4196352 of the last stage; they must be at "
                 "most 16777216 and 8421504"));
  CHECK(load_error([](stored_swin&) {}, {.height = 3 * 4096, .image_width = 3 * 4096}) == "");
}

TEST_CASE("load_float_swin: options replace metadata", "[float_swin]") {
  const float_swin loaded = stored_swin(small_model())
                                .load({.height = 9,
                                       .image_width = 12,
                                       .epsilon = 0.5f,
                                       .pixel_max = 16,
                                       .mean = {0.25f},
                                       .standard_deviation = {2, 3}});
  CHECK(loaded.shape.tokens_of(0) == 12);
  CHECK(loaded.epsilon == 0.5f);
  CHECK(loaded.pixel_max == 16);
  CHECK(loaded.mean == std::vector<float>{0.25f, 0.25f});
  CHECK(loaded.standard_deviation == std::vector<float>{2, 3});
}

TEST_CASE("forward: takes images of the model's size only [Swin transformer]", "[float_swin]") {
  const float_swin model = small_model();
  image_view image = small_image().view;
  image.width = 16;
  CHECK(refusal([&] { forward(model, image); }) == "intact::swin: image width is 16; it must be equal to 15");
}

TEST_CASE("build_swin: integer logits follow those of the float model [with and without padding]", "[float_swin]") {
  for (const auto& [height, width] : {std::pair<index_t, index_t>{21, 15}, {24, 24}, {12, 33}}) {
    swin_shape shape = small;
    shape.height = height;
    shape.image_width = width;
    INFO(height << " x " << width);
    const float_swin model = float_swin_builder(shape, 22).model();
    const std::vector<owned_image> images = make_images(shape, 6);
    const std::vector<image_view> views = views_of(images);
    const packed_swin integer(build_swin(model, calibrate(model, views), precise_recipe_888));
    std::vector<std::byte> memory(reference::swin_workspace_bytes(integer.shape()));
    double noise = 0, signal = 0;
    for (const image_view& image : views) {
      std::vector<std::int32_t> logits(5);
      std::vector<std::uint8_t> logits_u8(5);
      reference::swin(image, integer.parameters(), integer.shape(),
                      {matrix_view(logits.data(), 1, 5), matrix_view(logits_u8.data(), 1, 5)},
                      workspace(memory.data(), memory.size()));
      const std::vector<float> expected = forward(model, image);
      for (std::size_t i = 0; i < 5; ++i) {
        const double value = static_cast<double>(expected[i]);
        noise += std::pow(integer.real_logit(logits[i]) - value, 2);
        signal += value * value;
      }
    }
    CHECK(10 * std::log10(signal / noise) > 12);
  }
}

/// The message of the refusal of changed scales, weights or parts.
std::string build_error(const std::function<void(swin_scales&, swin_weights&, quantization_recipe&)>& change) {
  const float_swin model = small_model();
  const owned_image image = small_image();
  swin_scales scales = calibrate(model, {&image.view, 1});
  quantization_recipe parts = paper_recipe;
  swin_weights weights = quantize_weights(model, parts);
  change(scales, weights, parts);
  return refusal([&] { build_swin(model, scales, weights, parts); });
}

TEST_CASE("build_swin: refuses scales and weights of another model", "[float_swin]") {
  CHECK(build_error([](swin_scales&, swin_weights&, quantization_recipe&) {}) == "");
  CHECK(mentions(build_error([](swin_scales& s, swin_weights&, quantization_recipe&) { s.stages.pop_back(); }),
                 "number of stages of the scales is 1; it must be equal to 2"));
  CHECK(
      mentions(build_error([](swin_scales& s, swin_weights&, quantization_recipe&) { s.stages[0].blocks.pop_back(); }),
               "number of blocks of stage 0 of the scales is 1; it must be equal to 2"));
  CHECK(mentions(
      build_error([](swin_scales& s, swin_weights&, quantization_recipe&) { s.stages[0].merge.shift.pop_back(); }),
      "tensor merge of stage 0: intact::fit_scales: number of shifts is 11; it must be equal to 12"));
  CHECK(mentions(build_error([](swin_scales&, swin_weights& w, quantization_recipe&) { w.stages.pop_back(); }),
                 "number of stages of the weights is 1"));
  CHECK(
      mentions(build_error([](swin_scales&, swin_weights& w, quantization_recipe&) { w.stages[1].blocks.pop_back(); }),
               "number of blocks of stage 1 of the weights is 0"));
  CHECK(
      mentions(build_error([](swin_scales&, swin_weights& w, quantization_recipe&) { w.stages[0].reduction = w.head; }),
               "tensor merge of stage 0: intact::fit_scales: rows of the weights is 5; it must be equal to 12"));
  CHECK(mentions(build_error([](swin_scales&, swin_weights&, quantization_recipe& p) {
                   p.probabilities = attention_code::u4_clipped;
                 }),
                 "packed codes (attention_code::u4_clipped) have no weight 0"));
  CHECK(mentions(build_error([](swin_scales&, swin_weights&, quantization_recipe& p) {
                   p.weight_group = 0;
                   p.weights = weight_kind::grouped_s4;
                 }),
                 "weight_group is "));
  CHECK(mentions(build_error([](swin_scales& s, swin_weights&, quantization_recipe&) {
                   s.stages[0].blocks[0].biased_logits = {0, 0};
                 }),
                 "tensor attention of block 0: intact::exact_exp_table: scale is 0"));
  CHECK(mentions(build_error([](swin_scales& s, swin_weights&, quantization_recipe&) {
                   s.stages[1].blocks[0].block.fc2.scale = 0;
                 }),
                 "tensor fc2 of block 2: intact::build_scale: "));
  CHECK(mentions(
      build_error([](swin_scales& s, swin_weights&, quantization_recipe&) { s.stages[0].merge_norm.scale = 0; }),
      "tensor merge_norm of stage 0: intact::build_layernorm: "));
  CHECK(mentions(build_error([](swin_scales& s, swin_weights&, quantization_recipe&) { s.pool.scale = 0; }),
                 "tensor pool: intact::build_scale: "));
}

TEST_CASE("calibrate: refuses an empty list of images [Swin transformer]", "[float_swin]") {
  const float_swin model = small_model();
  CHECK(mentions(refusal([&] { calibrate(model, std::span<const image_view>()); }), "number of images is 0"));
}

}  // namespace
TEST_CASE("load_float_swin: takes the names of torchvision") {
  const float_swin model = small_model();
  stored_swin timm(model);
  timm.add_positions("layers.0.blocks.1.attn.relative_position_index", 4);
  timm.shape("layers.0.blocks.1.attn.relative_position_index") = {256};
  const stored_swin torchvision = timm.renamed(torchvision_name);
  const safetensors_file file = torchvision.file();
  const float_swin loaded = load_float_swin(intact::with_timm_names(file), {.image_width = 15});
  CHECK(loaded.stages[0].reduction == model.stages[0].reduction);
  CHECK(loaded.stages[1].blocks[0].block.fc2.weight == model.stages[1].blocks[0].block.fc2.weight);
  CHECK(loaded.stages[0].blocks[1].position_bias == model.stages[0].blocks[1].position_bias);
  CHECK(loaded.head.weight == model.head.weight);
}

}  // namespace intact_test::float_swin_test
