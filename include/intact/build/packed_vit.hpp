#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/build/owned_packed_weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/vit.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// An integer vision transformer that is ready to run: its weights are packed.
/// Unchangeable, and may be shared between threads; movable, not copyable, so that the parameters it hands out stay
/// valid while it lives.
class packed_vit {
 public:
  /// Layer after layer is packed and its former weights are freed: at no time are more than one layer's there twice.
  explicit packed_vit(integer_vit&& model) : tensors_(std::move(model).release()) {
    const auto pack = [&](owned_weights& weights) { return panels_.take(weights); };
    for (owned_block& block : tensors_.blocks) {
      blocks_.push_back(view_block(block, pack));
    }
    parameters_ = view_vit(tensors_, blocks_, pack);
  }
  /// Packs a copy of the model's tensors.
  explicit packed_vit(const integer_vit& model) : packed_vit(integer_vit(model)) {}
  /// Moves; the parameters' views stay valid.
  packed_vit(packed_vit&&) = default;
  /// Moves; the parameters' views stay valid.
  packed_vit& operator=(packed_vit&&) = default;

  /// The model's sizes.
  const vit_shape& shape() const { return tensors_.shape; }
  /// Views for intact::vit(), valid as long as this object lives.
  const vit_parameters& parameters() const { return parameters_; }

  /// The logit of an int32 code of the model, in units of the float model's logits.
  double real_logit(std::int32_t code) const { return code * tensors_.logits_scale; }

  /// The feature of a code of a model without a head.
  double real_feature(int code) const { return (code - tensors_.features_zero_point) * tensors_.features_scale; }

 private:
  vit_tensors tensors_;  ///< without weights
  owned_packed_weights panels_;
  std::vector<block_parameters> blocks_;
  vit_parameters parameters_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
