#pragma once

#include <cstdint>
#include <cstdlib>

namespace intact_test {

/// The codes that a test compares for each stage: INTACT_STAGE_VOLUME of the environment, or 100,000.
inline std::int64_t stage_volume() {
  const char* const text = std::getenv("INTACT_STAGE_VOLUME");
  return text == nullptr ? 100'000 : std::strtoll(text, nullptr, 10);
}

/// The seed of a test's random layers, which are others for each INTACT_STAGE_SEED of the environment, 0 by default.
inline std::uint64_t stage_seed(std::uint64_t of_test) {
  const char* const text = std::getenv("INTACT_STAGE_SEED");
  return of_test + 1000 * (text == nullptr ? 0 : std::strtoull(text, nullptr, 10));
}

}  // namespace intact_test
