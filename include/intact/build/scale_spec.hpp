#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "intact/config/floating_point.hpp"
#include "intact/types/view.hpp"

// Real scales of the operations' accumulators, for the builder in scale.hpp. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// The accumulators that can occur, zero points not yet corrected.
struct accumulator_range {
  std::int64_t low = 0;   ///< the smallest
  std::int64_t high = 0;  ///< the largest
};

/// The function of an accumulator a that a scale approximates: y = factor * (a - correction) + addend.
struct scale_spec {
  double factor = 0;            ///< s_a * s_w / s_y, at least 0
  double addend = 0;            ///< bias / s_y + zero point of y
  std::int64_t correction = 0;  ///< zero point of a times the sum of the channel's weights; within the range
  accumulator_range range;      ///< of the sums of codes
};

/// One output channel of a layer: y = factor * sum((x - zero_point) * w) + addend.
struct linear_channel {
  std::span<const std::int8_t> weights;  ///< codes of the channel
  double factor = 0;                     ///< s_x * s_w / s_y
  double addend = 0;                     ///< bias / s_y + zero point of y
  int zero_point = 0;                    ///< of the inputs x
};

/// The target of one output channel of a layer on codes of a type, u8 or s8: range and correction follow from its
/// weights.
/// Errors: a zero point that is no code of the type.
template <class Activation>
scale_spec linear_spec(const linear_channel& channel) {
  static_assert(std::is_same_v<Activation, std::uint8_t> || std::is_same_v<Activation, std::int8_t>,
                "inputs of layers are u8 or s8 codes");
  constexpr std::int64_t lowest = std::numeric_limits<Activation>::min();
  constexpr std::int64_t highest = std::numeric_limits<Activation>::max();
  require_between("linear_spec", "zero_point", channel.zero_point, lowest, highest);
  scale_spec target{.factor = channel.factor, .addend = channel.addend, .range = {}};
  for (const std::int8_t w : channel.weights) {
    target.correction += std::int64_t{channel.zero_point} * w;
    target.range.low += (w < 0 ? highest : lowest) * w;
    target.range.high += (w < 0 ? lowest : highest) * w;
  }
  return target;
}

/// The target of q * k^T: factor is s_q * s_k / sqrt(head size) / s_logits.
inline scale_spec attention_logits_spec(double factor, int logits_zero_point, index_t head_size) {
  const std::int64_t extreme = std::int64_t{255} * 255 * head_size;
  return {.factor = factor, .addend = static_cast<double>(logits_zero_point), .range = {-extreme, extreme}};
}

/// The target of attention times V: factor is s_v / s_context. The sum of a row's 2^-code is below 2.25, plus 2^-15 for
/// every key when codes are clipped at 15.
inline scale_spec attention_context_spec(double factor, int context_zero_point, index_t keys) {
  const std::int64_t extreme = 255 * ((std::int64_t{9} << 13) + keys);
  return {.factor = std::ldexp(factor, -15),
          .addend = static_cast<double>(context_zero_point),
          .range = {-extreme, extreme}};
}

/// The target of the sum of so many u8 codes whose mean is wanted: factor is s_x / s_y.
inline scale_spec average_pool_spec(double factor, int zero_point, int output_zero_point, index_t tokens) {
  const index_t count = tokens < 1 ? 1 : tokens;
  return {.factor = factor / static_cast<double>(count),
          .addend = static_cast<double>(output_zero_point),
          .correction = std::int64_t{zero_point} * tokens,
          .range = {0, std::int64_t{255} * tokens}};
}

/// The same for s16 codes, whose mean has s16 codes, too: both zero points are 0.
inline scale_spec average_pool_s16_spec(double factor, index_t tokens) {
  const index_t count = tokens < 1 ? 1 : tokens;
  const std::int64_t extreme = std::int64_t{32768} * tokens;
  return {.factor = factor / static_cast<double>(count),
          .addend = 0,
          .range = {-extreme, extreme - (tokens > 0 ? tokens : 0)}};
}

/// The target of products of two tensors' codes, less their zero points: factor is s_a * s_b / s_y.
/// Errors: a zero point of a or b that is no code.
inline scale_spec multiply_spec(double factor, int a_zero_point, int b_zero_point, int output_zero_point) {
  require_between("multiply_spec", "a_zero_point", a_zero_point, 0, 255);
  require_between("multiply_spec", "b_zero_point", b_zero_point, 0, 255);
  const std::int64_t a_low = -a_zero_point, a_high = 255 - a_zero_point;
  const std::int64_t b_low = -b_zero_point, b_high = 255 - b_zero_point;
  return {.factor = factor,
          .addend = static_cast<double>(output_zero_point),
          .range = {std::min(a_low * b_high, a_high * b_low), std::max(a_low * b_low, a_high * b_high)}};
}

/// The target of u8 codes that become codes of another scale: factor is s_x / s_y.
inline scale_spec convert_codes_spec(double factor, int zero_point, int output_zero_point) {
  return {
      .factor = factor, .addend = static_cast<double>(output_zero_point), .correction = zero_point, .range = {0, 255}};
}

}  // namespace INTACT_UNIT
}  // namespace intact
