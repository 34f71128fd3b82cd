#pragma once

#include <cstdint>
#include <limits>

#include "intact/arith/scale.hpp"

// Output stages: what becomes of an int32 accumulator of output channel n. A stage is a small struct with the member
// type `output`, the call operator, and `require`, which checks it against the number of channels.

namespace intact::inline INTACT_ABI {

/// y = a: the accumulators themselves.
struct keep_accumulator {
  using output = std::int32_t;

  constexpr output operator()(std::int32_t accumulator, index) const { return accumulator; }
  void require(const char*, index) const {}
};

/// y = clamp(((a << prescale) * multiplier[n] + offset[n]) >> (32 + shift)), clamped to Bits bits of Out.
/// Built by adapt/scale.hpp, it is the real number a * f' + B rounded to nearest, and no a is a tie.
template <class Out, class Scale = channel_scale, int Bits = 8 * sizeof(Out)>
struct requantize {
  static_assert(Bits == 8 * sizeof(Out) || std::is_unsigned_v<Out>, "codes narrower than their type are unsigned");
  using output = Out;

  Scale scale;

  constexpr Out operator()(std::int32_t accumulator, index n) const {
    constexpr std::int64_t high = std::numeric_limits<Out>::max() >> (8 * sizeof(Out) - Bits);
    const Out y = saturate<Out>(rescale(accumulator, scale.channel(n)));
    return y > high ? static_cast<Out>(high) : y;
  }
  void require(const char* operation, index channels) const { require_scale(operation, scale, channels); }
};

/// The 12-bit codes that activation tables are indexed by.
inline constexpr int activation_bits = 12;
using requantize_to_activation = requantize<std::uint16_t, channel_scale, activation_bits>;

/// y = clamp((a * multiplier + offset * 2^29) >> (61 + shift)) for the 64-bit accumulators of 8-bit attention codes,
/// which carry 29 more fraction bits than those of 4-bit codes: the same scale serves both. Halves round up. Computed
/// in 64 bits, exactly: with a = high * 2^29 + low, floor((a * m) / 2^29) = high * m + floor(low * m / 2^29). The scale
/// must have no prescale (its factor is below 1/2).
template <class Out>
struct requantize_wide {
  using output = Out;
  static constexpr int extra_fraction_bits = 29;

  tensor_scale scale;

  constexpr Out operator()(std::int64_t accumulator, index) const {
    const std::int64_t high = accumulator >> extra_fraction_bits;
    const std::int64_t low = accumulator - high * (std::int64_t{1} << extra_fraction_bits);
    const std::int64_t product = high * scale.multiplier + ((low * scale.multiplier) >> extra_fraction_bits);
    return saturate<Out>((product + scale.offset) >> (32 + scale.shift));
  }
  void require(const char* operation, index channels) const {
    require_scale(operation, scale, channels);
    require_equal(operation, "scale.prescale of 64-bit accumulators", scale.prescale, 0);
  }
};

}  // namespace intact::inline INTACT_ABI
