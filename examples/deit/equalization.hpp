#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/observe.hpp"
#include "intact/reference/model/trace.hpp"
#include "preprocess.hpp"
#include "workers.hpp"

// The outputs of a LayerNorm share one scale, though their channels differ in range. They need not: a channel of gamma
// and beta can be divided by a number, and beta moved, if the layer that follows takes it back (RepQ-ViT, arXiv
// 2212.08254). Queries, keys and values share one scale, too: queries can be multiplied by a number that keys are
// divided by, and values by one that the projection takes back.

namespace intact_deit {

namespace detail {

/// Ranges of the channels of every block's LayerNorms, queries, keys and values.
struct channel_ranges {
  std::vector<intact::range_observer> norm1, norm2, qkv;

  explicit channel_ranges(index_t depth)
      : norm1(static_cast<std::size_t>(depth),
              intact::range_observer(intact::range_rule::minmax, intact::granularity::channel)),
        norm2(norm1),
        qkv(norm1) {}

  void observe(const intact::float_vit& model, const rgb_image& image) {
    intact::forward(model, image.view(), [&](const intact::trace_site& site, const intact::float_matrix& tensor) {
      if (site.name == "norm1" || site.name == "norm2" || site.name == "qkv") {
        auto& observers = site.name == "norm1" ? norm1 : site.name == "norm2" ? norm2 : qkv;
        observers[static_cast<std::size_t>(site.block)].update(intact::view_of(tensor));
      }
    });
  }
};

/// Gives every channel of a LayerNorm the range -1 to 1, and has the layer that follows compute the same as before.
inline void equalize(intact::float_layernorm& norm, intact::float_linear& next,
                     std::span<const intact::value_range> ranges) {
  for (index_t c = 0; c < norm.weight.size(); ++c) {
    const intact::value_range& range = ranges[static_cast<std::size_t>(c)];
    const float middle = range.low / 2 + range.high / 2;
    const float half = std::max(range.high / 2 - range.low / 2, 1e-3F);
    next.bias += (next.weight.col(c) * middle).transpose();
    next.weight.col(c) *= half;
    norm.bias[c] = (norm.bias[c] - middle) / half;
    norm.weight[c] /= half;
  }
}

/// The largest magnitude of some channels.
inline float largest_of(std::span<const intact::value_range> ranges) {
  float largest = 0;
  for (const intact::value_range& range : ranges) {
    largest = std::max({largest, -range.low, range.high});
  }
  return largest;
}

inline void multiply_rows(intact::float_linear& layer, index_t first, index_t count, float factor) {
  layer.weight.middleRows(first, count) *= factor;
  layer.bias.segment(first, count) *= factor;
}

/// Gives queries and keys of a head one range, and values that of the head whose queries have the largest.
inline void equalize_attention(intact::float_block& block, index_t heads, std::span<const intact::value_range> ranges) {
  const index_t width = block.proj.weight.rows(), size = width / heads;
  const auto largest = [&](index_t part, index_t head) {
    return largest_of(
        ranges.subspan(static_cast<std::size_t>(part * width + head * size), static_cast<std::size_t>(size)));
  };
  const auto limited = [](float factor) { return std::clamp(factor, 0x1p-20F, 0x1p20F); };
  float common = 0;
  for (index_t head = 0; head < heads; ++head) {
    const float q = largest(0, head), k = largest(1, head);
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

/// A model that computes the same numbers, but whose blocks' LayerNorms have channels of one range on the given images,
/// as have queries, keys and values.
inline intact::float_vit equalized(intact::float_vit model, std::span<const rgb_image> images) {
  detail::channel_ranges ranges(model.shape.depth);
  progress_bar progress("equalization", images.size());
  for (const rgb_image& image : images) {
    ranges.observe(model, image);
    progress.advance();
  }
  for (std::size_t position = 0; position < model.blocks.size(); ++position) {
    intact::float_block& block = model.blocks[position];
    detail::equalize(block.norm1, block.qkv, ranges.norm1[position].ranges());
    detail::equalize(block.norm2, block.fc1, ranges.norm2[position].ranges());
    detail::equalize_attention(block, model.shape.heads, ranges.qkv[position].ranges());
  }
  return model;
}

}  // namespace intact_deit
