#pragma once

#include <cmath>

#include "intact/config/compiler.hpp"
#include "intact/config/floating_point.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// fl(a * b): a compiler cannot contract the product and a following addition to a fused multiply-add.
template <class Real>
Real rounded_product(Real a, Real b) {
  return std::fma(a, b, Real{0});
}

}  // namespace INTACT_UNIT
}  // namespace intact
