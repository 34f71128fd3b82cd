#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/swin.hpp"

// An integer Swin transformer that owns its parameters.

namespace intact {
inline namespace INTACT_UNIT {

/// A Swin transformer block.
struct owned_swin_block {
  owned_block block;                        ///< attention and perceptron
  int norm1_zero_point = 0;                 ///< of norm1's codes: the code of padding tokens
  std::vector<std::uint8_t> position_bias;  ///< (heads * T) x T
  owned_add add_bias;                       ///< T keys

  friend bool operator==(const owned_swin_block&, const owned_swin_block&) = default;
};

/// Views of a block. pack: as of view_block.
template <class Block, class Pack>
swin_block_parameters view_swin_block(Block& block, const Pack& pack) {
  const index_t tokens = std::ssize(block.add_bias.offset);
  const index_t rows = tokens == 0 ? 0 : std::ssize(block.position_bias) / tokens;
  return {.block = view_block(block.block, pack),
          .norm1_zero_point = block.norm1_zero_point,
          .position_bias = {block.position_bias.data(), rows, tokens},
          .add_bias = block.add_bias.view()};
}

/// A Swin stage. The merging's parameters are not used by the last one.
struct owned_swin_stage {
  std::vector<owned_swin_block> blocks;  ///< from the first to the last
  owned_layernorm merge_norm;            ///< of 2 x 2 merged tokens
  owned_linear reduction;                ///< from 4 * width to 2 * width channels

  friend bool operator==(const owned_swin_stage&, const owned_swin_stage&) = default;
};

/// The tensors of an integer Swin transformer.
struct swin_tensors {
  swin_shape shape;                       ///< sizes
  std::vector<std::uint8_t> pixel_table;  ///< channels x 256; empty: pixels are codes
  owned_linear patch;                     ///< the patch embedding
  owned_layernorm patch_norm;             ///< after it
  owned_tensor_scale tokens;              ///< s16 stream
  std::vector<owned_swin_stage> stages;   ///< from the first to the last
  owned_layernorm norm;                   ///< the final LayerNorm
  owned_tensor_scale pool;                ///< of the mean over all tokens
  owned_weights head;                     ///< classes x width
  owned_channel_scale logits;             ///< int32 codes: 256 steps to one of logits_u8
  owned_channel_scale logits_u8;          ///< u8 codes
  double logits_scale = 1;                ///< a step of the int32 logits in units of the float model's logits

  friend bool operator==(const swin_tensors&, const swin_tensors&) = default;
};

/// Views of a model's Swin stages, and of their blocks, which are views already. pack: as of view_block.
template <class Tensors, class Pack>
std::vector<swin_stage_parameters> view_swin_stages(Tensors& model,
                                                    const std::vector<std::vector<swin_block_parameters>>& blocks,
                                                    const Pack& pack) {
  std::vector<swin_stage_parameters> stages;
  for (std::size_t s = 0; s < blocks.size(); ++s) {
    auto& stage = model.stages[s];
    stages.push_back(
        {blocks[s],
         {.norm = stage.merge_norm.view(), .reduction = stage.reduction.view(pack(stage.reduction.weights))}});
  }
  return stages;
}

/// Views of the blocks of each Swin stage. pack: as of view_block.
template <class Tensors, class Pack>
std::vector<std::vector<swin_block_parameters>> view_swin_blocks(Tensors& model, const Pack& pack) {
  std::vector<std::vector<swin_block_parameters>> blocks;
  for (auto& stage : model.stages) {
    blocks.emplace_back();
    for (auto& block : stage.blocks) {
      blocks.back().push_back(view_swin_block(block, pack));
    }
  }
  return blocks;
}

/// Views of a model. pack: as of view_block.
template <class Tensors, class Pack>
swin_parameters view_swin(Tensors& model, std::span<const swin_stage_parameters> stages, const Pack& pack) {
  return {.pixel_table = {model.pixel_table.data(), model.pixel_table.empty() ? 0 : model.shape.channels, 256},
          .patch = model.patch.view(pack(model.patch.weights)),
          .patch_norm = model.patch_norm.view(),
          .tokens = model.tokens.scale,
          .stages = stages,
          .norm = model.norm.view(),
          .pool = model.pool.scale,
          .head = pack(model.head),
          .logits = model.logits.view(),
          .logits_u8 = model.logits_u8.view()};
}

/// A fully-integer Swin transformer as it is stored. packed_swin (build/packed_swin.hpp) makes it ready to run.
class integer_swin {
 public:
  /// Errors: tensors whose sizes do not match.
  explicit integer_swin(swin_tensors tensors) : tensors_(std::move(tensors)) {
    require_sizes();
    const auto sizes = [](const owned_weights& weights) { return weights.sizes(); };
    const auto blocks = view_swin_blocks(tensors_, sizes);
    index_t position = 0;
    for (std::size_t s = 0; s < blocks.size(); ++s) {
      for (std::size_t b = 0; b < blocks[s].size(); ++b) {
        const swin_block_shape block_shape = shape().block(static_cast<index_t>(s), static_cast<index_t>(b));
        at_tensor({"", position++}, [&] {
          shape().stream == stream_codes::s16 ? require_swin_block<std::int16_t>(blocks[s][b], block_shape)
                                              : require_swin_block<std::uint8_t>(blocks[s][b], block_shape);
        });
      }
    }
    const auto stages = view_swin_stages(tensors_, blocks, sizes);
    require_swin(view_swin(tensors_, stages, sizes), shape());
  }

  /// The tensors, unpacked.
  const swin_tensors& tensors() const { return tensors_; }
  /// The model's sizes.
  const swin_shape& shape() const { return tensors_.shape; }

  /// The logit of an int32 code of the model, in units of the float model's logits.
  double real_logit(std::int32_t code) const { return code * tensors_.logits_scale; }

  /// The tensors, for another owner.
  swin_tensors release() && { return std::move(tensors_); }

 private:
  /// The sizes that views are made with and that require_swin therefore cannot see.
  void require_sizes() const {
    const swin_tensors& c = tensors_;
    require_swin_shape(c.shape);
    require_equal("integer_swin", "size of stages", std::ssize(c.stages), c.shape.stages);
    if (!c.pixel_table.empty()) {
      require_equal("integer_swin", "size of pixel_table", std::ssize(c.pixel_table),
                    size_product(256, c.shape.channels));
    }
    at_tensor({"patch"}, [&] { c.patch.weights.require_sizes(); });
    at_tensor({"logits"}, [&] { c.head.require_sizes(); });
    index_t position = 0;
    for (std::size_t s = 0; s < c.stages.size(); ++s) {
      const owned_swin_stage& stage = c.stages[s];
      at_tensor({"merge", static_cast<index_t>(s)}, [&] { stage.reduction.weights.require_sizes(); });
      for (const owned_swin_block& block : stage.blocks) {
        const index_t tokens = std::ssize(block.add_bias.offset);
        const index_t rows = tokens == 0 ? 0 : std::ssize(block.position_bias) / tokens;
        at_tensor({"", position}, [&] {
          require_equal("integer_swin", "size of position_bias", std::ssize(block.position_bias),
                        size_product(rows, tokens));
        });
        block.block.require_sizes(position++);
      }
    }
  }

  swin_tensors tensors_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
