#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "intact/build/table.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/block.hpp"

// Scales of the tensors of a vision transformer: observed by calibrate(), taken by build_vit().

namespace intact {
inline namespace INTACT_UNIT {

/// Scales of a block's tensors; fields are named like the tensors of model/trace.hpp.
struct block_scales {
  /// u8 tensors up to proj's codes.
  affine_scale norm1, qkv, attention_logits, context, proj;
  ptf_scale add1;      ///< the residual stream after attention
  affine_scale norm2;  ///< the second norm's output
  value_range fc1;     ///< before the activation function
  /// After the activation function, and the perceptron's output.
  affine_scale activation, fc2;
  ptf_scale add2;                       ///< the residual stream that leaves the block
  double fc1_step = least_table_scale;  ///< the codes of fc1 have no smaller scale
  std::optional<affine_scale> k = {};   ///< of keys, if it is not qkv, which is that of queries
  std::optional<affine_scale> v = {};   ///< of values, if it is not qkv
  code_weight_values attention_weights = geometric_code_weights;  ///< of attention_kind::weight_codes
  /// Of a block with a gate.
  affine_scale up = {}, gated = {};
  /// Of a block with norms of queries and keys.
  affine_scale q_norm = {}, k_norm = {};

  /// The scale of keys.
  affine_scale keys() const { return k.value_or(qkv); }
  /// The scale of values.
  affine_scale values() const { return v.value_or(qkv); }
};

/// Scales of a vision transformer's tensors.
struct vit_scales {
  /// Pixels, patches, patches with class and register tokens, and positions.
  affine_scale input, patch, embed, positions;
  ptf_scale tokens;                  ///< the residual stream that enters the first block
  std::vector<block_scales> blocks;  ///< from the first to the last
  /// The final LayerNorm, and the head.
  affine_scale norm, logits;
  float stream = 1;         ///< of an s16 residual stream
  affine_scale pool = {};   ///< of vit_pooling::mean, u8 codes; of normalized_mean, s16 codes
  ptf_scale norm_pre = {};  ///< of a LayerNorm before the blocks, u8 codes
  float s16_tokens = 1;     ///< of s16 codes before that LayerNorm
};

/// The same scale in double.
inline code_scale to_code_scale(const affine_scale& scale) {
  return {.scale = static_cast<double>(scale.scale), .zero_point = static_cast<double>(scale.zero_point)};
}

/// The scale of fc2's inputs.
inline const affine_scale& fc2_input(const block_scales& own, const block_shape& shape) {
  return shape.gated ? own.gated : own.activation;
}

/// The scale of the queries that attention takes.
inline affine_scale query_scale(const block_scales& own, const attention_shape& shape) {
  return shape.qk_norm ? own.q_norm : own.qkv;
}
/// The scale of the keys that attention takes.
inline affine_scale key_scale(const block_scales& own, const attention_shape& shape) {
  return shape.qk_norm ? own.k_norm : own.keys();
}

/// The scale of channel c of a tensor with powers of two, which is below the number of shifts.
inline double channel_step(const ptf_scale& scale, std::size_t c) {
  return std::ldexp(static_cast<double>(scale.scale), scale.shift[c]);
}

/// One scale for all channels of a stream: shifts of 0.
inline ptf_scale unshifted_scale(const affine_scale& scale, index_t channels) {
  return {.scale = scale.scale,
          .zero_point = scale.zero_point,
          .shift = std::vector<std::uint8_t>(static_cast<std::size_t>(channels))};
}

/// The least scale of a context whose rows are normalized, with room for rounding: below a quarter of the values' scale
/// there is no normalization.
inline float least_context_scale(const affine_scale& v) {
  return v.scale / 3.99F;
}

/// The table of a block's activation function, from the range of fc1 to the codes of the activation.
/// Errors: as of build_activation_table().
inline activation_table block_activation_table(activation_function function, const block_scales& scales) {
  return build_activation_table([=](double x) { return activate(function, x); }, static_cast<double>(scales.fc1.low),
                                static_cast<double>(scales.fc1.high), to_code_scale(scales.activation),
                                scales.fc1_step);
}

}  // namespace INTACT_UNIT
}  // namespace intact
