#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "intact/build/integer_swin.hpp"
#include "intact/build/owned_packed_weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/fused_swin.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// An integer Swin transformer whose weights lie in the order of the kernels, and no longer in that of integer_swin.
/// Unchangeable, and may be shared between threads; movable, not copyable, so that the parameters it hands out stay
/// valid while it lives.
class packed_swin {
 public:
  /// Layer after layer is packed and its former weights are freed: at no time are more than one layer's there twice.
  explicit packed_swin(integer_swin&& model) : tensors_(std::move(model).release()) {
    for (owned_swin_stage& stage : tensors_.stages) {
      std::vector<swin_block_parameters>& blocks = blocks_.emplace_back();
      for (owned_swin_block& block : stage.blocks) {
        blocks.push_back(block.view());
        block_parameters& views = blocks.back().block;
        panels_.take(block.block.qkv.weights, views.attention.qkv.weights);
        panels_.take(block.block.proj.weights, views.attention.proj.weights);
        panels_.take(block.block.fc1.weights, views.mlp.fc1.weights);
        panels_.take(block.block.fc2.weights, views.mlp.fc2.weights);
      }
      stages_.push_back({blocks, {stage.merge_norm.view(), stage.reduction.view()}});
      panels_.take(stage.reduction.weights, stages_.back().merging.reduction.weights);
    }
    parameters_ = tensors_.view(stages_);
    panels_.take(tensors_.patch.weights, parameters_.patch.weights);
    panels_.take(tensors_.head, parameters_.head);
  }
  packed_swin(packed_swin&&) = default;
  packed_swin& operator=(packed_swin&&) = default;

  const swin_shape& shape() const { return tensors_.shape; }
  const swin_parameters& parameters() const { return parameters_; }

  /// The logit that an int32 code of the model stands for, in units of the float model's logits.
  double real_logit(std::int32_t code) const { return code * tensors_.logits_scale; }

 private:
  swin_tensors tensors_;  ///< without weights
  owned_packed_weights panels_;
  std::vector<std::vector<swin_block_parameters>> blocks_;
  std::vector<swin_stage_parameters> stages_;
  swin_parameters parameters_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
