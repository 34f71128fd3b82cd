#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "intact/adapt/float_vit.hpp"
#include "intact/adapt/observe.hpp"
#include "preprocess.hpp"
#include "workers.hpp"

// The outputs of a LayerNorm share one scale, though their channels differ in range. They need not: a channel of gamma and
// beta can be divided by a number, and beta moved, if the layer that follows takes it back (RepQ-ViT, arXiv 2212.08254).

namespace intact_deit {

namespace detail {

/// Ranges of the channels of the two LayerNorms of every block.
struct norm_ranges {
  std::vector<intact::range_observer> norm1, norm2;

  explicit norm_ranges(index depth)
      : norm1(static_cast<std::size_t>(depth),
              intact::range_observer(intact::range_rule::minmax, intact::granularity::channel)),
        norm2(norm1) {}

  void observe(const intact::float_vit& model, const rgb_image& image) {
    intact::forward(model, image.view(), [&](const intact::trace_site& site, const intact::float_matrix& tensor) {
      if (site.name == "norm1" || site.name == "norm2") {
        auto& observers = site.name == "norm1" ? norm1 : norm2;
        observers[static_cast<std::size_t>(site.block)].update(intact::view_of(tensor));
      }
    });
  }
};

/// Gives every channel of a LayerNorm the range -1 to 1, and has the layer that follows compute the same as before.
inline void equalize(intact::float_layernorm& norm, intact::float_linear& next,
                     std::span<const intact::value_range> ranges) {
  for (index c = 0; c < norm.weight.size(); ++c) {
    const intact::value_range& range = ranges[static_cast<std::size_t>(c)];
    const float middle = (range.low + range.high) / 2;
    const float half = std::max((range.high - range.low) / 2, 1e-3F);
    next.bias += (next.weight.col(c) * middle).transpose();
    next.weight.col(c) *= half;
    norm.bias[c] = (norm.bias[c] - middle) / half;
    norm.weight[c] /= half;
  }
}

}  // namespace detail

/// A model that computes the same numbers, but whose blocks' LayerNorms have channels of one range on the given images.
inline intact::float_vit equalized(intact::float_vit model, std::span<const rgb_image> images) {
  detail::norm_ranges ranges(model.shape.depth);
  progress_bar progress("equalization", images.size());
  for (const rgb_image& image : images) {
    ranges.observe(model, image);
    progress.advance();
  }
  for (std::size_t position = 0; position < model.blocks.size(); ++position) {
    intact::float_block& block = model.blocks[position];
    detail::equalize(block.norm1, block.qkv, ranges.norm1[position].ranges());
    detail::equalize(block.norm2, block.fc1, ranges.norm2[position].ranges());
  }
  return model;
}

}  // namespace intact_deit
