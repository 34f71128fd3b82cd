#pragma once

#include <cstdint>
#include <iterator>
#include <limits>
#include <span>

#include "intact/arith/integer_math.hpp"
#include "intact/types/scale.hpp"

// Output stages that round as other runtimes do, for results that must equal theirs bit by bit. Each is chosen by its
// type. In all of them the accumulator of channel n is first corrected, a = accumulator + bias[n]: the bias in units of
// the accumulator, minus the input's zero point times the sum of the channel's weights, as those runtimes add it. They
// add in int32, and their results are defined as long as the sum fits. Here it is exact for every accumulator and bias.
//
// The output is u8, s8, u16, s16 or s32. The result is clamped to low..high: the fused activations of those runtimes,
// such as ReLU (low is the zero point) and ReLU6. The default is the whole range of the output.

namespace intact {
inline namespace INTACT_ABI {

/// The parameters that the stages of this file share. Spans are per output channel; nothing is owned.
struct compat_scale {
  std::span<const std::int32_t> bias;        ///< in units of the accumulator, with the input's zero point in it
  std::span<const std::int32_t> multiplier;  ///< 2^30..2^31 - 1, or 0: the factor's 31 leading bits
  std::span<const std::int32_t> exponent;    ///< -31..30: the factor is multiplier * 2^(exponent - 31)
  int zero_point = 0;                        ///< of the output

  /// 33 bits: its products with factors are -2^63 + 2^32 or more, and below 2^63.
  INTACT_INLINE constexpr std::int64_t corrected(std::int32_t accumulator, index_t n) const {
    return std::int64_t{accumulator} + bias[static_cast<std::size_t>(n)];
  }
  /// The multiplier of a channel.
  INTACT_INLINE constexpr std::int64_t factor(index_t n) const { return multiplier[static_cast<std::size_t>(n)]; }
  /// The exponent of a channel.
  INTACT_INLINE constexpr int power(index_t n) const { return exponent[static_cast<std::size_t>(n)]; }

  /// Refuses spans of other sizes and values out of range; messages name the operation.
  template <class Out>
  INTACT_INLINE void require(const char* operation, index_t channels) const {
    require_equal(operation, "size of bias", std::ssize(bias), channels);
    require_equal(operation, "size of multiplier", std::ssize(multiplier), channels);
    require_equal(operation, "size of exponent", std::ssize(exponent), channels);
    require_between(operation, "zero_point", zero_point, std::numeric_limits<Out>::min(),
                    std::numeric_limits<Out>::max());
    for (index_t n = 0; n < channels; ++n) {
      require_at_least(operation, "multiplier of a channel", factor(n), factor(n) <= 0 ? 0 : 1 << 30);
      require_between(operation, "exponent of a channel", power(n), -31, 30);
    }
  }
};

/// y = clamp(round(a * f) + zp), halves to even: PyTorch's and ONNX's QLinear operations, with a factor that is exact.
/// (They multiply by a float32 factor in float32 arithmetic; where that is exact, the codes are equal.)
template <class Out>
struct round_half_to_even {
  using output = Out;  ///< of y

  compat_scale scale;                          ///< of the accumulators
  Out low = std::numeric_limits<Out>::min();   ///< codes below it become it
  Out high = std::numeric_limits<Out>::max();  ///< codes above it become it

  /// The output of channel n.
  INTACT_INLINE constexpr Out operator()(std::int32_t accumulator, index_t n) const {
    const std::int64_t product = scale.corrected(accumulator, n) * scale.factor(n);
    const int shift = 31 - scale.power(n);
    const std::int64_t down = product >> shift;
    const std::int64_t twice_rest = 2 * (product - down * (std::int64_t{1} << shift));
    const std::int64_t one = std::int64_t{1} << shift;
    const bool up = twice_rest > one || (twice_rest == one && down % 2 != 0);
    return clamp_code(down + (up ? 1 : 0) + scale.zero_point, low, high);
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    scale.template require<Out>(operation, channels);
    require_at_least(operation, "high", high, low);
  }
};

/// y = clamp(((a * m + 2^(30 - e)) >> (31 - e)) + zp): TensorFlow Lite's single rounding, halves up. It is computed as
/// ((a * m >> (30 - e)) + 1) >> 1, which is equal and fits 64 bits.
template <class Out>
struct single_rounding {
  using output = Out;  ///< of y

  compat_scale scale;                          ///< of the accumulators
  Out low = std::numeric_limits<Out>::min();   ///< codes below it become it
  Out high = std::numeric_limits<Out>::max();  ///< codes above it become it

  /// The output of channel n.
  INTACT_INLINE constexpr Out operator()(std::int32_t accumulator, index_t n) const {
    const int shift = 31 - scale.power(n);
    const std::int64_t product = scale.corrected(accumulator, n) * scale.factor(n);
    return clamp_code((((product >> (shift - 1)) + 1) >> 1) + scale.zero_point, low, high);
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    scale.template require<Out>(operation, channels);
    require_at_least(operation, "high", high, low);
  }
};

/// y = clamp(divided(high(a << max(e, 0), m), max(-e, 0)) + zp): gemmlowp's and TensorFlow Lite's double rounding.
/// high(a, m) is a * m / 2^31 rounded, halves up, and saturated; divided(x, p) is x / 2^p rounded, halves away from 0.
/// Range: a << max(e, 0) fits int32. Beyond it, where TensorFlow Lite's result is undefined, this one saturates.
template <class Out>
struct double_rounding {
  using output = Out;  ///< of y

  compat_scale scale;                          ///< of the accumulators
  Out low = std::numeric_limits<Out>::min();   ///< codes below it become it
  Out high = std::numeric_limits<Out>::max();  ///< codes above it become it

  /// The output of channel n.
  INTACT_INLINE constexpr Out operator()(std::int32_t accumulator, index_t n) const {
    const int power = scale.power(n);
    const std::int64_t left = std::int64_t{1} << (power > 0 ? power : 0);
    const std::int32_t shifted = saturate<std::int32_t>(scale.corrected(accumulator, n) * left);
    const std::int32_t product = doubled_high(shifted, static_cast<std::int32_t>(scale.factor(n)));
    return clamp_code(std::int64_t{divided(product, power < 0 ? -power : 0)} + scale.zero_point, low, high);
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    scale.template require<Out>(operation, channels);
    require_at_least(operation, "high", high, low);
  }

 private:
  INTACT_INLINE static constexpr std::int32_t doubled_high(std::int32_t a, std::int32_t m) {
    const std::int64_t product = std::int64_t{a} * m;
    const std::int64_t half = product >= 0 ? std::int64_t{1} << 30 : 1 - (std::int64_t{1} << 30);
    return saturate<std::int32_t>((product + half) / (std::int64_t{1} << 31));
  }
  INTACT_INLINE static constexpr std::int32_t divided(std::int32_t x, int power) {
    const std::int64_t mask = (std::int64_t{1} << power) - 1;
    const std::int64_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return static_cast<std::int32_t>((std::int64_t{x} >> power) + ((x & mask) > threshold ? 1 : 0));
  }
};

/// y = clamp(((a + 2^(shift - 1)) >> shift) + zp): a factor of 2^-shift for all channels, halves up; shift 1..31.
template <class Out>
struct round_power_of_two {
  using output = Out;  ///< of y

  std::span<const std::int32_t> bias;          ///< in units of the accumulator
  int shift = 1;                               ///< 1..31
  int zero_point = 0;                          ///< of the output
  Out low = std::numeric_limits<Out>::min();   ///< codes below it become it
  Out high = std::numeric_limits<Out>::max();  ///< codes above it become it

  /// The output of channel n.
  INTACT_INLINE constexpr Out operator()(std::int32_t accumulator, index_t n) const {
    const std::int64_t corrected = std::int64_t{accumulator} + bias[static_cast<std::size_t>(n)];
    return clamp_code(((corrected + (std::int64_t{1} << (shift - 1))) >> shift) + zero_point, low, high);
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    require_equal(operation, "size of bias", std::ssize(bias), channels);
    require_between(operation, "shift", shift, 1, 31);
    require_between(operation, "zero_point", zero_point, std::numeric_limits<Out>::min(),
                    std::numeric_limits<Out>::max());
    require_at_least(operation, "high", high, low);
  }
};

}  // namespace INTACT_ABI
}  // namespace intact
