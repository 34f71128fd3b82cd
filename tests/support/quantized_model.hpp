#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "intact/build/packed_vit.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/reference/model/vit.hpp"
#include "scratch_folder.hpp"
#include "tensor.hpp"

// Integer vision transformers quantized from a random float one, with every recipe, and what runs them.

namespace intact_test {

struct named_recipe {
  std::string name;
  quantization_recipe recipe;
};

/// Every kind of weights, attention and stream that a model can have.
inline std::vector<named_recipe> named_recipes() {
  const auto with = [](quantization_recipe p, weight_kind weights, index_t group = 32) {
    p.weights = weights;
    p.weight_group = group;
    return p;
  };
  quantization_recipe clip_of_max = precise_recipe;
  clip_of_max.probabilities = attention_code::u4_clipped;
  quantization_recipe precise_u8_stream = precise_recipe;
  precise_u8_stream.stream = stream_codes::u8;
  return {{"paper", paper_recipe},
          {"888", paper_recipe_888},
          {"clip", {.probabilities = attention_code::u4_clipped}},
          {"exact exponential", {.exponential = exponential_kind::exact, .rounding = log2_rounding::round_log}},
          {"normalized rows", {.normalize_rows = true}},
          {"precise", precise_recipe},
          {"precise, clip", clip_of_max},
          {"precise, u8 stream", precise_u8_stream},
          {"precise 888", precise_recipe_888},
          {"precise, weight codes", precise_recipe_weight_codes},
          {"s4", with(paper_recipe, weight_kind::s4)},
          {"grouped s4", with(paper_recipe, weight_kind::grouped_s4, 4)},
          {"precise, grouped s4", with(precise_recipe_888, weight_kind::grouped_s4)}};
}

/// Sizes that all differ, so that no two can be mistaken for each other, and odd rows, so that s4 weights have padding.
inline constexpr vit_shape small_vit{.channels = 2,
                                     .height = 6,
                                     .image_width = 12,
                                     .patch = 3,
                                     .width = 15,
                                     .heads = 3,
                                     .hidden = 17,
                                     .depth = 2,
                                     .classes = 7};

inline constexpr vit_shape smallest_vit{
    .channels = 1, .height = 1, .image_width = 1, .width = 1, .heads = 1, .hidden = 1, .depth = 1, .classes = 1};

/// Fills in the parameters of a float model, around 0 or 1.
class random_parameters {
 public:
  explicit random_parameters(std::uint64_t seed) : random_(seed) {}

  float_matrix matrix(index_t rows, index_t columns, float middle = 0) {
    float_matrix made(rows, columns);
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < columns; ++j) {
        made(i, j) = middle + static_cast<float>(random_.between(-1000, 1000)) / 2000;
      }
    }
    return made;
  }
  float_linear linear(index_t outputs, index_t inputs) { return {matrix(outputs, inputs), matrix(1, outputs)}; }
  float_layernorm layernorm(index_t width) { return {matrix(1, width, 1), matrix(1, width)}; }

 private:
  generator random_;
};

inline float_vit random_float_vit(const vit_shape& shape) {
  random_parameters random(7);
  const index_t width = shape.width;
  float_vit model;
  model.shape = shape;
  model.mean.assign(static_cast<std::size_t>(shape.channels), 0.4F);
  model.standard_deviation.assign(static_cast<std::size_t>(shape.channels), 0.3F);
  model.patch = random.linear(width, shape.patch_values());
  model.class_token = random.matrix(shape.prefix_tokens(), width);
  model.positions = random.matrix(shape.tokens(), width);
  for (index_t position = 0; position < shape.depth; ++position) {
    float_block block;
    block.norm1 = random.layernorm(width);
    block.qkv = random.linear(3 * width, width);
    block.proj = random.linear(width, width);
    block.norm2 = random.layernorm(width);
    block.fc1 = random.linear(shape.hidden, width);
    block.fc2 = random.linear(width, shape.hidden);
    if (shape.gated) {
      block.up = random.linear(shape.hidden, width);
      block.activation = activation_function::silu;
    }
    if (shape.qk_norm) {
      block.q_norm = random.layernorm(width / shape.heads);
      block.k_norm = random.layernorm(width / shape.heads);
    }
    model.blocks.push_back(block);
  }
  model.norm = random.layernorm(width);
  model.head = random.linear(shape.classes, shape.head_features());
  return model;
}

/// Images that own their samples: black, white, and random ones.
class image_set {
 public:
  image_set(const vit_shape& shape, int random_images) : shape_(shape) {
    generator random(5);
    add([] { return 0; });
    add([] { return 255; });
    for (int i = 0; i < random_images; ++i) {
      add([&] { return random.between(0, 255); });
    }
  }

  std::vector<image_view> views() const {
    std::vector<image_view> views;
    for (const std::vector<std::uint8_t>& samples : samples_) {
      views.push_back(planar_image(samples.data(), shape_.channels, shape_.height, shape_.image_width));
    }
    return views;
  }

 private:
  template <class Sample>
  void add(Sample sample) {
    std::vector<std::uint8_t>& samples = samples_.emplace_back();
    for (index_t i = 0; i < shape_.channels * shape_.height * shape_.image_width; ++i) {
      samples.push_back(static_cast<std::uint8_t>(sample()));
    }
  }

  vit_shape shape_;
  std::vector<std::vector<std::uint8_t>> samples_;
};

/// The context is an average of values and takes their scale: its own would be no scale for the smallest model, whose
/// single channel never varies.
inline integer_vit quantized_vit(const vit_shape& shape, const quantization_recipe& recipe) {
  const float_vit model = random_float_vit(shape);
  const image_set images(shape, 4);
  vit_scales scales = calibrate(model, images.views());
  for (block_scales& block : scales.blocks) {
    block.context = block.qkv;
  }
  return build_vit(model, scales, recipe);
}

/// Both outputs of a model.
struct classification {
  std::vector<std::int32_t> logits;
  std::vector<std::uint8_t> logits_u8;

  friend bool operator==(const classification&, const classification&) = default;
};

/// By the specification.
inline classification specified_classes(const packed_vit& model, const image_view& image) {
  const index_t classes = model.shape().classes;
  classification found{std::vector<std::int32_t>(static_cast<std::size_t>(classes)),
                       std::vector<std::uint8_t>(static_cast<std::size_t>(classes))};
  std::vector<std::byte> scratch(reference::vit_workspace_bytes(model.shape()));
  reference::vit(image, model.parameters(), model.shape(),
                 {matrix_view(found.logits.data(), 1, classes), matrix_view(found.logits_u8.data(), 1, classes)},
                 workspace(scratch.data(), scratch.size()));
  return found;
}

inline std::vector<classification> classify_all(const integer_vit& model, const image_set& images) {
  const packed_vit packed(model);
  std::vector<classification> all;
  for (const image_view& image : images.views()) {
    all.push_back(specified_classes(packed, image));
  }
  return all;
}

}  // namespace intact_test
