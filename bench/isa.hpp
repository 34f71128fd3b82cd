#pragma once

#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "intact/simd/isa.hpp"

namespace intact_bench {

/// Calls f with the tag of that name; false if this program, compiled for this machine, has none.
template <class F>
bool with_isa(std::string_view name, const F& f) {
  const auto call_if_named = [&](auto tag) {
    if (tag.name != name) {
      return false;
    }
    f(tag);
    return true;
  };
  return std::apply([&](auto... tags) { return (call_if_named(tags) || ...); }, intact::isa::compiled());
}

/// The instruction sets of this program, from the least to the most capable.
inline std::vector<std::string> isa_names() {
  return std::apply([](auto... tags) { return std::vector<std::string>{std::string(tags.name)...}; },
                    intact::isa::compiled());
}

}  // namespace intact_bench
