#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/swin.hpp"

// Owners of what the parameters of model/swin.hpp only point to.

namespace intact {
inline namespace INTACT_UNIT {

/// A Swin transformer block.
struct owned_swin_block {
  owned_block block;
  int norm1_zero_point = 0;
  std::vector<std::uint8_t> position_bias;  ///< (heads * T) x T
  owned_add add_bias;                       ///< T keys

  swin_block_parameters view() const {
    const index_t tokens = std::ssize(add_bias.offset);
    const index_t rows = tokens == 0 ? 0 : std::ssize(position_bias) / tokens;
    return {block.view(), norm1_zero_point, {position_bias.data(), rows, tokens}, add_bias.view()};
  }
};

/// A stage. The merging's parameters are not used by the last one.
struct owned_swin_stage {
  std::vector<owned_swin_block> blocks;
  owned_layernorm merge_norm;
  owned_linear reduction;
};

/// What an integer Swin transformer consists of.
struct swin_tensors {
  swin_shape shape;
  std::vector<std::uint8_t> pixel_table;  ///< channels x 256; empty: pixels are codes
  owned_linear patch;
  owned_layernorm patch_norm;
  owned_tensor_scale tokens;  ///< s16 stream
  std::vector<owned_swin_stage> stages;
  owned_layernorm norm;
  owned_tensor_scale pool;
  owned_weights head;
  owned_channel_scale logits;
  owned_channel_scale logits_u8;
  double logits_scale = 1;  ///< a step of the int32 logits in units of the float model's logits

  /// Refers to the contents and to `stage_views`, which must be those of the stages.
  swin_parameters view(std::span<const swin_stage_parameters> stage_views) const {
    return {.pixel_table = {pixel_table.data(), pixel_table.empty() ? 0 : shape.channels, 256},
            .patch = patch.view(),
            .patch_norm = patch_norm.view(),
            .tokens = tokens.scale,
            .stages = stage_views,
            .norm = norm.view(),
            .pool = pool.scale,
            .head = head.view(),
            .logits = logits.view(),
            .logits_u8 = logits_u8.view()};
  }
};

/// A fully-integer Swin transformer that owns its parameters. Unchangeable; movable, not copyable, so that the
/// parameters it hands out stay valid while it lives.
class integer_swin {
 public:
  /// Errors: contents whose sizes do not match.
  explicit integer_swin(swin_tensors tensors) : tensors_(std::move(tensors)) {
    require_sizes();
    index_t position = 0;
    for (const owned_swin_stage& stage : tensors_.stages) {
      std::vector<swin_block_parameters>& blocks = blocks_.emplace_back();
      for (const owned_swin_block& block : stage.blocks) {
        blocks.push_back(block.view());
        const swin_block_shape sizes = shape().block(std::ssize(blocks_) - 1, std::ssize(blocks) - 1);
        detail::at_tensor({"", position++}, [&] {
          shape().stream == stream_codes::s16 ? require_swin_block<std::int16_t>(blocks.back(), sizes)
                                              : require_swin_block<std::uint8_t>(blocks.back(), sizes);
        });
      }
      stages_.push_back({blocks, {stage.merge_norm.view(), stage.reduction.view()}});
    }
    require_swin(parameters(), shape());
  }
  integer_swin(integer_swin&&) = default;
  integer_swin& operator=(integer_swin&&) = default;

  const swin_tensors& tensors() const { return tensors_; }
  const swin_shape& shape() const { return tensors_.shape; }

  /// The logit that an int32 code of the model stands for, in units of the float model's logits.
  double real_logit(std::int32_t code) const { return code * tensors_.logits_scale; }

  swin_parameters parameters() const { return tensors_.view(stages_); }

  /// The contents, for another owner.
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
    detail::at_tensor({"patch"}, [&] { c.patch.weights.require_sizes(); });
    detail::at_tensor({"logits"}, [&] { c.head.require_sizes(); });
    index_t position = 0;
    for (std::size_t s = 0; s < c.stages.size(); ++s) {
      const owned_swin_stage& stage = c.stages[s];
      detail::at_tensor({"merge", static_cast<index_t>(s)}, [&] { stage.reduction.weights.require_sizes(); });
      for (const owned_swin_block& block : stage.blocks) {
        const index_t tokens = std::ssize(block.add_bias.offset);
        const index_t rows = tokens == 0 ? 0 : std::ssize(block.position_bias) / tokens;
        detail::at_tensor({"", position}, [&] {
          require_equal("integer_swin", "size of position_bias", std::ssize(block.position_bias),
                        size_product(rows, tokens));
        });
        block.block.require_sizes(position++);
      }
    }
  }

  swin_tensors tensors_;
  std::vector<std::vector<swin_block_parameters>> blocks_;
  std::vector<swin_stage_parameters> stages_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
