#pragma once

#include "intact/config/compiler.hpp"
#include "intact/config/unit.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// std::bit_cast, which the standard library of emscripten 3.1 lacks.
template <class To, class From>
INTACT_INLINE constexpr To bits_as(const From& x) noexcept {
  return __builtin_bit_cast(To, x);
}

}  // namespace INTACT_UNIT
}  // namespace intact
