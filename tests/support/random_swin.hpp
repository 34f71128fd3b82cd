#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "intact/quantize/build_swin.hpp"
#include "random_float_layers.hpp"
#include "random_model.hpp"

// Swin transformers of random parameters, and images for them.

namespace intact_test {

/// Draws the parameters of a float model.
class float_swin_builder : random_float_layers {
 public:
  float_swin_builder(const swin_shape& shape, std::uint64_t seed) : random_float_layers(seed), shape_(shape) {}

  float_swin model() {
    float_swin made;
    made.shape = shape_;
    made.mean.assign(static_cast<std::size_t>(shape_.channels), 0.45f);
    made.standard_deviation.assign(static_cast<std::size_t>(shape_.channels), 0.25f);
    made.patch = linear(shape_.of(0).width, shape_.patch_values());
    made.patch_norm = layernorm(shape_.of(0).width);
    for (index_t s = 0; s < shape_.stages; ++s) {
      float_swin_stage& stage = made.stages.emplace_back();
      for (index_t position = 0; position < shape_.of(s).depth; ++position) {
        stage.blocks.push_back(block(shape_.of(s)));
      }
      if (s + 1 < shape_.stages) {
        const index_t merged = 4 * shape_.of(s).width, next = shape_.of(s + 1).width;
        stage.merge_norm = layernorm(merged);
        stage.reduction = linear(next, merged).weight;
      }
    }
    made.norm = layernorm(shape_.of(shape_.stages - 1).width);
    made.head = linear(shape_.classes, shape_.of(shape_.stages - 1).width);
    return made;
  }

 private:
  /// Channels of the residual stream differ in their magnitude, so that they take powers of two.
  float_linear branch(index_t width, index_t inputs) {
    float_linear made = linear(width, inputs);
    for (index_t c = 0; c < width; c += 5) {
      made.weight.row(c) *= 6;
    }
    return made;
  }

  float_swin_block block(const swin_stage_shape& shape) {
    float_swin_block made{{.norm1 = layernorm(shape.width),
                           .qkv = linear(3 * shape.width, shape.width, 2),  // probabilities below 2^-16 too
                           .proj = branch(shape.width, shape.width),
                           .norm2 = layernorm(shape.width),
                           .fc1 = linear(shape.hidden, shape.width),
                           .fc2 = branch(shape.width, shape.hidden)},
                          {}};
    made.position_bias = matrix((2 * shape.window - 1) * (2 * shape.window - 1), shape.heads, 2);
    return made;
  }

  swin_shape shape_;
};

/// A black, a white and a few random images.
inline std::vector<owned_image> make_images(const swin_shape& shape, int random_images) {
  vit_shape same_image;
  same_image.channels = shape.channels;
  same_image.height = shape.height;
  same_image.image_width = shape.image_width;
  return make_images(same_image, random_images);
}

inline std::vector<image_view> views_of(const std::vector<owned_image>& images) {
  std::vector<image_view> views;
  for (const owned_image& image : images) {
    views.push_back(image.view);
  }
  return views;
}

/// A random model, calibrated on random images.
inline integer_swin random_swin(const swin_shape& shape, const quantization_recipe& parts, std::uint64_t seed) {
  const float_swin model = float_swin_builder(shape, seed).model();
  const std::vector<owned_image> images = make_images(shape, 2);
  const std::vector<image_view> views = views_of(images);
  return build_swin(model, calibrate(model, std::span(views).subspan(2)), parts);
}

}  // namespace intact_test
