#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"

// From the ranges of a block's tensors to their scales. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// The smallest and the largest value of each tensor of a float block, over inputs that are typical of those to come.
/// Fields are named like the tensors of block_scales.
struct block_ranges {
  std::vector<value_range> stream;  ///< the residual stream that enters the block: one range per channel
  /// Of u8 tensors between the operations.
  value_range norm1, qkv;
  /// Of a block with norms of queries and keys: their outputs.
  value_range q_norm = {}, k_norm = {};
  value_range attention_logits;  ///< q * k^T / sqrt(head size)
  /// Attention times V, and the layer after it.
  value_range context, proj;
  std::vector<value_range> add1;  ///< the residual stream after attention: one range per channel
  value_range norm2;              ///< the second norm's output
  value_range fc1;                ///< before the activation function
  value_range activation;         ///< after the activation function
  /// Of a block with a gate: the layer that it multiplies, and the products.
  value_range up = {}, gated = {};
  value_range fc2;                ///< the perceptron's output
  std::vector<value_range> add2;  ///< the residual stream that leaves the block: one range per channel
};

/// The scales of a block's tensors and of the residual stream that enters the block.
struct block_calibration {
  ptf_scale stream;      ///< of an s16 stream its one scale, zero point 0 and shifts of 0
  block_scales tensors;  ///< of all other tensors
};

/// The range, widened to contain 0: zero points are codes, and a range without 0 would have values beyond the codes.
inline value_range range_with_zero(const value_range& range) {
  return {std::min(range.low, 0.0F), std::max(range.high, 0.0F)};
}

namespace detail {

/// The range of all channels.
inline value_range range_of(std::span<const value_range> channels) {
  value_range all;
  for (const value_range& channel : channels) {
    all = {std::min(all.low, channel.low), std::max(all.high, channel.high)};
  }
  return all;
}

inline void require_ranges(const char* operation, const char* tensor, std::span<const value_range> ranges,
                           std::size_t channels) {
  require_equal(operation, (std::string("channels of ") + tensor).c_str(), std::ssize(ranges),
                static_cast<std::int64_t>(channels));
  const std::string place = std::string(operation) + ": tensor " + tensor;
  for (const value_range& range : ranges) {
    require_value_range(place.c_str(), range);
  }
  require_value_range(place.c_str(), range_of(ranges));
}

}  // namespace detail

/// A scale with a power of two per channel, from the channels' ranges.
///
/// Formula:   8 s = (high - low) / (codes.high - codes.low) of the range of all channels and 0, at least 2^-23, zero
///            point codes.low - rne(low / 8 s), clamped; each channel takes the smallest shift of 0..3 whose codes are
///            not clamped at either end of its range, or 3.
/// Exactness: float32, rounded after every operation.
/// Errors:    ranges that are not finite or have no finite length, codes.low >= codes.high.
/// Source:    FQ-ViT, section 3.2, which chooses shifts by squared error; docs/numerics.md, section 1.
inline ptf_scale build_ptf_scale(std::span<const value_range> channels, const code_range& codes) {
  detail::require_ranges("build_ptf_scale", "channels", channels, channels.size());
  require_at_least("build_ptf_scale", "codes.high", codes.high, std::int64_t{codes.low} + 1);
  const affine_scale coarse = detail::asymmetric_scale(detail::range_of(channels), codes);
  ptf_scale scale{.scale = coarse.scale / 8, .zero_point = coarse.zero_point, .shift = {}};
  for (const value_range& channel : channels) {
    const auto fits = [&](int shift) {
      const float step = scale.scale * static_cast<float>(1 << shift);
      const float zero_point = static_cast<float>(scale.zero_point);
      return std::nearbyint(channel.low / step) + zero_point >= static_cast<float>(codes.low) &&
             std::nearbyint(channel.high / step) + zero_point <= static_cast<float>(codes.high);
    };
    int shift = 0;
    while (shift < 3 && !fits(shift)) {
      ++shift;
    }
    scale.shift.push_back(static_cast<std::uint8_t>(shift));
  }
  return scale;
}

/// The scale of an s16 residual stream whose values are within the ranges, at least 2^-23: their largest magnitude is
/// the code 32767. One stream has one scale: the ranges are those of all blocks on it.
inline float build_s16_scale(std::span<const value_range> ranges) {
  const value_range all = detail::range_of(ranges);
  return std::max(std::max(-all.low, all.high) / 32767, smallest_scale);
}

/// The scales of a block whose tensors have the given ranges.
///
/// Formula:   build_affine_scale() to u8 codes, of ranges widened to contain 0. Residual streams of u8 codes:
///            build_ptf_scale(). A residual stream of s16 codes: build_s16_scale() of stream, add1 and add2; where
///            several blocks are on one stream, set `stream.scale` to the largest of theirs.
/// Errors:    ranges that are not finite or have no finite length, streams of different numbers of channels: each names
///            the tensor. A recipe whose parts exclude each other.
/// Source:    docs/numerics.md, section 1.
inline block_calibration calibrate_block(const block_ranges& ranges, const quantization_recipe& recipe) {
  require_recipe(recipe);
  const std::size_t width = ranges.stream.size();
  const auto affine = [](const char* tensor, const value_range& range) {
    detail::require_ranges("calibrate_block", tensor, {&range, 1}, 1);
    return build_affine_scale(range_with_zero(range), u8_codes);
  };
  const auto stream = [&](const char* tensor, std::span<const value_range> channels) {
    detail::require_ranges("calibrate_block", tensor, channels, width);
    return build_ptf_scale(channels, u8_codes);
  };
  detail::require_ranges("calibrate_block", "fc1", {&ranges.fc1, 1}, 1);

  block_calibration scales{.stream = stream("stream", ranges.stream),
                           .tensors = {.norm1 = affine("norm1", ranges.norm1),
                                       .qkv = affine("qkv", ranges.qkv),
                                       .attention_logits = affine("attention_logits", ranges.attention_logits),
                                       .context = affine("context", ranges.context),
                                       .proj = affine("proj", ranges.proj),
                                       .add1 = stream("add1", ranges.add1),
                                       .norm2 = affine("norm2", ranges.norm2),
                                       .fc1 = ranges.fc1,
                                       .activation = affine("activation", ranges.activation),
                                       .fc2 = affine("fc2", ranges.fc2),
                                       .add2 = stream("add2", ranges.add2),
                                       .up = affine("up", ranges.up),
                                       .gated = affine("gated", ranges.gated),
                                       .q_norm = affine("q_norm", ranges.q_norm),
                                       .k_norm = affine("k_norm", ranges.k_norm)}};
  if (recipe.stream == stream_codes::s16) {
    const value_range all[] = {detail::range_of(ranges.stream), detail::range_of(ranges.add1),
                               detail::range_of(ranges.add2)};
    scales.stream = unshifted_scale({build_s16_scale(all), 0}, std::ssize(ranges.stream));
  }
  return scales;
}

}  // namespace INTACT_UNIT
}  // namespace intact
