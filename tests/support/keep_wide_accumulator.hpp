#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact_test {

/// A stage that the library does not know: the 64-bit accumulators of 8-bit codes themselves.
struct keep_wide_accumulator {
  using output = std::int64_t;

  output operator()(std::int64_t accumulator, intact::index_t) const { return accumulator; }
  void require(const char*, intact::index_t, intact::index_t) const {}
};

}  // namespace intact_test
