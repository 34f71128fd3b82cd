#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "guarded_memory.hpp"
#include "tensor.hpp"

namespace intact_test {

/// Tables of 4,096 entries: of random ones, and one that rises and falls slowly, as smooth functions do.
inline std::array<guarded_vector<std::uint8_t>, 2> activation_tables() {
  generator random(1);
  std::array<guarded_vector<std::uint8_t>, 2> tables;
  for (int i = 0; i < 4096; ++i) {
    tables[0].push_back(static_cast<std::uint8_t>(random.between(0, 255)));
    tables[1].push_back(static_cast<std::uint8_t>(std::min({i / 5, 255, (4095 - i) / 11})));
  }
  return tables;
}

}  // namespace intact_test
