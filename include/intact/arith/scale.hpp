#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/arith/integer_math.hpp"
#include "intact/types/scale.hpp"

namespace intact::inline INTACT_ABI {

/// ((a << prescale) * multiplier + offset) >> (32 + shift), unclamped; see tensor_scale for the range.
constexpr std::int64_t rescale(std::int32_t accumulator, const tensor_scale& scale) {
  const std::int64_t scaled = std::int64_t{accumulator} * (std::int64_t{1} << scale.prescale);
  return (scaled * scale.multiplier + scale.offset) >> (32 + scale.shift);
}

}  // namespace intact::inline INTACT_ABI
