#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "intact/build/integer_swin.hpp"
#include "intact/build/owned_packed_weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/swin.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// An integer Swin transformer that is ready to run: its weights are packed.
/// Unchangeable, and may be shared between threads; movable, not copyable, so that the parameters it hands out stay
/// valid while it lives.
class packed_swin {
 public:
  /// Layer after layer is packed and its former weights are freed: at no time are more than one layer's there twice.
  explicit packed_swin(integer_swin&& model) : tensors_(std::move(model).release()) {
    const auto pack = [&](owned_weights& weights) { return panels_.take(weights); };
    blocks_ = view_swin_blocks(tensors_, pack);
    stages_ = view_swin_stages(tensors_, blocks_, pack);
    parameters_ = view_swin(tensors_, stages_, pack);
  }
  /// Packs a copy of the model's tensors.
  explicit packed_swin(const integer_swin& model) : packed_swin(integer_swin(model)) {}
  /// Moves; the parameters' views stay valid.
  packed_swin(packed_swin&&) = default;
  /// Moves; the parameters' views stay valid.
  packed_swin& operator=(packed_swin&&) = default;

  /// The model's sizes.
  const swin_shape& shape() const { return tensors_.shape; }
  /// Views for intact::swin(), valid as long as this object lives.
  const swin_parameters& parameters() const { return parameters_; }

  /// The logit of an int32 code of the model, in units of the float model's logits.
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
