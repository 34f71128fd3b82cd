#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "intact/build/tensor_place.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/observe.hpp"
#include "intact/reference/model/trace.hpp"

// Ranges of channels that share one scale, made equal in the float model before it is calibrated. build/fold.hpp does
// the same for scales and zero points of codes that are known already.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Ranges of the channels of the LayerNorms, queries, keys and values of all blocks.
struct channel_ranges {
  std::vector<range_observer> norm1, norm2, qkv;

  explicit channel_ranges(index_t depth)
      : norm1(static_cast<std::size_t>(depth), range_observer(range_rule::minmax, granularity::channel)),
        norm2(norm1),
        qkv(norm1) {}

  void observe(const float_vit& model, const image_view& image) {
    forward(model, image, [&](const trace_site& site, const float_matrix& tensor) {
      require_finite("equalize", tensor_place{std::string(site.name), site.block}.text().c_str(), view_of(tensor));
      if (site.name == "norm1" || site.name == "norm2" || site.name == "qkv") {
        auto& observers = site.name == "norm1" ? norm1 : site.name == "norm2" ? norm2 : qkv;
        observers[static_cast<std::size_t>(site.block)].update(view_of(tensor));
      }
    });
  }
};

/// Gives every channel of a LayerNorm the range -1 to 1; the weights and biases of the next layers compensate this.
inline void equalize_norm(float_layernorm& norm, std::initializer_list<float_linear*> next,
                          std::span<const value_range> ranges) {
  for (index_t c = 0; c < norm.weight.size(); ++c) {
    const value_range& range = ranges[static_cast<std::size_t>(c)];
    const float middle = range.low / 2 + range.high / 2;
    const float half = std::max(range.high / 2 - range.low / 2, 1e-3F);
    for (float_linear* const layer : next) {
      layer->bias += (layer->weight.col(c) * middle).transpose();
      layer->weight.col(c) *= half;
    }
    norm.bias[c] = (norm.bias[c] - middle) / half;
    norm.weight[c] /= half;
  }
}

/// The largest magnitude of some channels.
inline float largest_of(std::span<const value_range> ranges) {
  float largest = 0;
  for (const value_range& range : ranges) {
    largest = std::max({largest, -range.low, range.high});
  }
  return largest;
}

inline void multiply_rows(float_linear& layer, index_t first, index_t count, float factor) {
  layer.weight.middleRows(first, count) *= factor;
  layer.bias.segment(first, count) *= factor;
}

/// Gives the queries and keys of a head one range, and the values of every head the largest range of the queries and
/// keys of any head. Queries and keys that are normalized remain as they are.
inline void equalize_attention(float_block& block, const attention_shape& shape, std::span<const value_range> ranges) {
  const index_t width = shape.width, heads = shape.heads, size = shape.head_size();
  const auto largest = [&](index_t part, index_t head) {
    return largest_of(
        ranges.subspan(static_cast<std::size_t>(part * width + head * size), static_cast<std::size_t>(size)));
  };
  const auto limited = [](float factor) { return std::clamp(factor, 0x1p-20F, 0x1p20F); };
  float common = 0;
  for (index_t head = 0; head < heads; ++head) {
    const float q = largest(0, head), k = largest(1, head);
    if (shape.qk_norm) {
      common = std::max({common, q, k});
      continue;
    }
    common = std::max(common, std::sqrt(q) * std::sqrt(k));
    if (q > 0 && k > 0) {
      const float factor = limited(std::sqrt(k / q));
      multiply_rows(block.qkv, head * size, size, factor);
      multiply_rows(block.qkv, width + head * size, size, 1 / factor);
    }
  }
  for (index_t head = 0; head < heads; ++head) {
    const float v = largest(2, head);
    if (common > 0 && v > 0) {
      const float factor = limited(common / v);
      multiply_rows(block.qkv, 2 * width + head * size, size, factor);
      block.proj.weight.middleCols(head * size, size) /= factor;
    }
  }
}

}  // namespace detail

/// A float model with the same outputs, in whose blocks tensors with one scale have channels of one range.
///
/// Formula:   LayerNorm, with m and h the middle and half the length of a channel's range on the images (h at least
///            1e-3): gamma' = gamma / h, beta' = (beta - m) / h; of the next layers w' = w * h, b' = b + sum w * m.
///            Attention, with the largest magnitudes |q|, |k|, |v| of a head: queries are multiplied and keys divided
///            by sqrt(|k| / |q|); values are multiplied by f = max over heads of sqrt(|q| |k|) / |v|, and the columns
///            of proj divided by f. Factors are clamped to [2^-20, 2^20]. Queries and keys that are normalized are not
///            scaled: f = max over heads of max(|q|, |k|) / |v|.
/// Exactness: outputs differ by float32 rounding only.
/// Arguments: image_done is called after every image.
/// Errors:    no images, images that the model does not take, tensors that are not finite.
/// Source:    RepQ-ViT (arXiv 2212.08254); docs/accuracy.md.
inline float_vit equalize(
    float_vit model, std::span<const image_view> images, const std::function<void()>& image_done = [] {}) {
  require_at_least("equalize", "number of images", std::ssize(images), 1);
  detail::channel_ranges ranges(model.shape.depth);
  for (const image_view& image : images) {
    ranges.observe(model, image);
    image_done();
  }
  for (std::size_t layer = 0; layer < model.blocks.size(); ++layer) {
    float_block& block = model.blocks[layer];
    detail::equalize_norm(block.norm1, {&block.qkv}, ranges.norm1[layer].ranges());
    if (model.shape.gated) {
      detail::equalize_norm(block.norm2, {&block.fc1, &block.up}, ranges.norm2[layer].ranges());
    } else {
      detail::equalize_norm(block.norm2, {&block.fc1}, ranges.norm2[layer].ranges());
    }
    detail::equalize_attention(block, model.shape.block().attention, ranges.qkv[layer].ranges());
  }
  return model;
}

}  // namespace INTACT_UNIT
}  // namespace intact
