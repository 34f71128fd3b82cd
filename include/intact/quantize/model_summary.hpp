#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/integer_swin.hpp"
#include "intact/build/integer_vit.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"

// Sizes, multiply-adds and layers of vision transformers and Swin transformers, for people.

namespace intact {
inline namespace INTACT_UNIT {

/// Multiplications, each with an addition, of all matrix products for one image. Double: sizes of files may be large.
///
/// Formula:   with P patches of S values, T tokens, C channels, H hidden channels, D blocks, N classes and F features:
///            P S C + D (4 T C^2 + 2 T^2 C + 2 T C H) + F N. A gate makes 2 T C H to 3 T C H.
inline double multiply_adds(const vit_shape& shape) {
  const double tokens = static_cast<double>(shape.tokens()), width = static_cast<double>(shape.width),
               hidden = static_cast<double>(shape.hidden);
  const double layers = shape.gated ? 3 : 2;
  const double block = 4 * tokens * width * width + 2 * tokens * tokens * width + layers * tokens * width * hidden;
  return static_cast<double>(shape.patches()) * static_cast<double>(shape.patch_values()) * width +
         static_cast<double>(shape.depth) * block +
         static_cast<double>(shape.head_features()) * static_cast<double>(shape.classes);
}

/// The same of a Swin transformer.
///
/// Formula:   with P patches of S values; in Swin stage s T tokens, T' with the padding of windows, W in a window, C
///            channels, H hidden channels, D blocks; N classes: P S C of Swin stage 0, + sum over Swin stages of
///            D (4 T' C^2 + 2 T' W C + 2 T C H), + sum over mergings of T C' 4 C'', C'' channels of the Swin stage
///            before, T and C' of the one after, + C N of the last Swin stage.
inline double multiply_adds(const swin_shape& shape) {
  const auto width = [&](index_t s) { return static_cast<double>(shape.of(s).width); };
  const auto tokens = [&](index_t s) { return static_cast<double>(shape.tokens_of(s)); };
  double sum = tokens(0) * static_cast<double>(shape.patch_values()) * width(0);
  for (index_t s = 0; s < shape.stages; ++s) {
    const window_grid grid = shape.block(s, 0).attention.grid;
    const double padded = static_cast<double>(grid.padded_tokens());
    const double window = static_cast<double>(grid.tokens_per_window());
    const double block = 4 * padded * width(s) * width(s) + 2 * padded * window * width(s) +
                         2 * tokens(s) * width(s) * static_cast<double>(shape.of(s).hidden);
    sum += static_cast<double>(shape.of(s).depth) * block;
    if (s + 1 < shape.stages) {
      sum += tokens(s + 1) * 4 * width(s) * width(s + 1);
    }
  }
  return sum + width(shape.stages - 1) * static_cast<double>(shape.classes);
}

/// Weights and scales of a layer of an integer model.
struct layer_summary {
  std::string name;       ///< of the layer
  index_t block = -1;     ///< -1: outside the blocks; those of a Swin transformer are numbered through all Swin stages
  index_t rows = 0;       ///< output channels
  index_t columns = 0;    ///< the inner dimension
  int bits = 8;           ///< of a weight
  std::size_t bytes = 0;  ///< of the stored weights
  double smallest_scale = 0;  ///< output codes per unit of the sums, over all channels
  double largest_scale = 0;   ///< over all channels
};

namespace detail {

inline layer_summary summarize_layer(std::string name, index_t block, const owned_weights& weights,
                                     const owned_channel_scale& scale) {
  layer_summary summary{.name = std::move(name),
                        .block = block,
                        .rows = weights.rows,
                        .columns = weights.columns,
                        .bits = weights.kind == weight_kind::s8 ? 8 : 4,
                        .bytes = weights.codes.size() + weights.packed.size() + weights.shifts.size()};
  if (!scale.exact.empty()) {
    const auto [smallest, largest] =
        std::minmax_element(scale.exact.begin(), scale.exact.end(),
                            [](const realized_scale& a, const realized_scale& b) { return a.factor < b.factor; });
    summary.smallest_scale = smallest->factor;
    summary.largest_scale = largest->factor;
  }
  return summary;
}

inline void add_block(index_t position, const owned_block& block, std::vector<layer_summary>& all) {
  const auto add = [&](const char* name, const owned_linear& layer) {
    all.push_back(summarize_layer(name, position, layer.weights, layer.scale));
  };
  add("qkv", block.qkv);
  add("proj", block.proj);
  add("fc1", block.fc1);
  if (block.gate) {
    add("up", block.gate->up);
  }
  add("fc2", block.fc2);
}

}  // namespace detail

/// The layers of an integer model, in the order in which they run.
inline std::vector<layer_summary> layer_summaries(const integer_vit& model) {
  const vit_tensors& tensors = model.tensors();
  std::vector<layer_summary> all = {detail::summarize_layer("patch", -1, tensors.patch.weights, tensors.patch.scale)};
  for (index_t position = 0; position < std::ssize(tensors.blocks); ++position) {
    detail::add_block(position, tensors.blocks[static_cast<std::size_t>(position)], all);
  }
  if (model.shape().classes != 0) {
    all.push_back(detail::summarize_layer("head", -1, tensors.head, tensors.logits));
  }
  return all;
}
/// The same of a Swin transformer.
inline std::vector<layer_summary> layer_summaries(const integer_swin& model) {
  const swin_tensors& tensors = model.tensors();
  std::vector<layer_summary> all = {detail::summarize_layer("patch", -1, tensors.patch.weights, tensors.patch.scale)};
  index_t position = 0;
  for (std::size_t s = 0; s < tensors.stages.size(); ++s) {
    for (const owned_swin_block& block : tensors.stages[s].blocks) {
      detail::add_block(position++, block.block, all);
    }
    if (s + 1 < tensors.stages.size()) {
      const owned_linear& reduction = tensors.stages[s].reduction;
      all.push_back(detail::summarize_layer("merge", -1, reduction.weights, reduction.scale));
    }
  }
  all.push_back(detail::summarize_layer("head", -1, tensors.head, tensors.logits));
  return all;
}

}  // namespace INTACT_UNIT
}  // namespace intact
