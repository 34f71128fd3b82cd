#pragma once

#include <concepts>
#include <cstdint>
#include <limits>

#include "intact/arith/scale.hpp"

// Output stages: the function from an accumulator of row m and output channel n to an output. A stage is a small struct
// that satisfies the concept output_stage. Kernels have vector forms of the stages of this folder (kernel/epilogue.hpp,
// kernel/compat_epilogue.hpp); all others are called element by element.

namespace intact {
inline namespace INTACT_UNIT {

/// Calls a stage with the row if it wants it.
template <class Stage, class Accumulator>
constexpr auto apply_stage(const Stage& stage, Accumulator accumulator, index_t m, index_t n) {
  if constexpr (requires { stage(accumulator, m, n); }) {
    return stage(accumulator, m, n);
  } else {
    return stage(accumulator, n);
  }
}

/// Whether a stage takes 64-bit accumulators, with n or with m and n, without narrowing them.
template <class Stage, class... Indices>
concept takes_64_bits_with = requires(const Stage& stage, std::int64_t accumulator) {
  stage({accumulator}, Indices{}...);
};
template <class Stage>
concept takes_64_bits = takes_64_bits_with<Stage, index_t> || takes_64_bits_with<Stage, index_t, index_t>;

/// A stage has the member type `output`; `require(operation, rows, channels)`, which checks it against the shape of its
/// outputs; and a call operator that takes the accumulator and n, or the accumulator, m and n.
template <class Stage>
concept output_stage = requires(const Stage& stage, const char* operation, index_t n) {
  typename Stage::output;
  stage.require(operation, n, n);
  { apply_stage(stage, std::int32_t{}, n, n) } -> std::convertible_to<typename Stage::output>;
};

/// Checks a stage against the shape of its output.
template <class Stage>
void require_stage(const char* operation, const Stage& stage, index_t rows, index_t channels) {
  static_assert(output_stage<Stage>,
                "an output stage has output, require(operation, rows, channels) and a call operator");
  stage.require(operation, rows, channels);
}

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// y = a: the accumulators themselves.
struct raw_accumulator {
  using output = std::int32_t;  ///< of y

  /// The output of channel n.
  INTACT_INLINE constexpr output operator()(std::int32_t accumulator, index_t) const { return accumulator; }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char*, index_t, index_t) const {}
};

/// y = clamp(((a << left_shift) * multiplier[n] + offset[n]) >> (32 + shift)), clamped to Bits bits of Out.
/// Built by build/scale.hpp, it is the real number a * f' + B rounded to nearest, and no a is a tie.
template <class Out, class Scale = channel_scale, int Bits = 8 * static_cast<int>(sizeof(Out))>
struct requantize {
  static_assert(Bits == 8 * sizeof(Out) || std::is_unsigned_v<Out>, "codes narrower than their type are unsigned");
  using output = Out;  ///< of y

  Scale scale;  ///< of the accumulators

  /// The output of channel n.
  INTACT_INLINE constexpr Out operator()(std::int32_t accumulator, index_t n) const {
    constexpr std::int64_t high = std::numeric_limits<Out>::max() >> (8 * sizeof(Out) - Bits);
    const Out y = saturate<Out>(mul_shift(accumulator, scale.channel(n)));
    return y > high ? static_cast<Out>(high) : y;
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    require_scale(operation, scale, channels);
  }
};

/// The 12-bit codes that activation tables are indexed by.
inline constexpr int activation_bits = 12;
/// The stage in front of an activation table.
using requantize_u12 = requantize<std::uint16_t, channel_scale, activation_bits>;

/// y[m, n] = clamp(addend[m, n] + (((a << left_shift) * multiplier[n] + offset[n]) >> (32 + shift))), in s16: a layer
/// that adds to the residual stream. The addend may be y itself.
struct add_to_stream {
  using output = std::int16_t;  ///< of y

  channel_scale scale;                     ///< to steps of the stream
  matrix_view<const std::int16_t> addend;  ///< s16, M x N

  /// The output of row m and channel n.
  INTACT_INLINE constexpr std::int16_t operator()(std::int32_t accumulator, index_t m, index_t n) const {
    return saturate<std::int16_t>(addend(m, n) + mul_shift(accumulator, scale.channel(n)));
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t rows, index_t channels) const {
    require_scale(operation, scale, channels);
    require_shape(operation, "addend of the stage", addend, rows, std::ssize(scale.multiplier));
  }
};

/// y = clamp((a * multiplier + offset * 2^29) >> (61 + shift)) for the 64-bit accumulators of 8-bit attention codes,
/// which carry 29 more fraction bits than those of 4-bit codes: the same scale serves both. Halves round up. Computed
/// in 64 bits, exactly: with a = high * 2^29 + low, floor((a * m) / 2^29) = high * m + floor(low * m / 2^29). The scale
/// must have no left_shift (its factor is below 1/2).
template <class Out>
struct requantize_s64 {
  using output = Out;                             ///< of y
  static constexpr int extra_fraction_bits = 29;  ///< beyond those of the accumulators of 4-bit codes

  tensor_scale scale;  ///< of the accumulators

  /// The output of an accumulator.
  INTACT_INLINE constexpr Out operator()(std::int64_t accumulator, index_t) const {
    const std::int64_t high = accumulator >> extra_fraction_bits;
    const std::int64_t low = accumulator - high * (std::int64_t{1} << extra_fraction_bits);
    const std::int64_t product = high * scale.multiplier + ((low * scale.multiplier) >> extra_fraction_bits);
    return saturate<Out>((product + scale.offset) >> (32 + scale.shift));
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    require_scale(operation, scale, channels);
    require_equal(operation, "scale.left_shift of 64-bit accumulators", scale.left_shift, 0);
  }
};

}  // namespace INTACT_ABI
}  // namespace intact
