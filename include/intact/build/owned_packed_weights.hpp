#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <variant>
#include <vector>

#include "intact/build/owned_parameters.hpp"
#include "intact/model/linear.hpp"
#include "intact/pack.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Bytes of packed weights of a kind. Groups that have no packed form are packed as s8.
constexpr index_t packed_weights_bytes(weight_kind kind, index_t rows, index_t columns, index_t group) {
  switch (kind) {
    case weight_kind::s4:
      return packed_weights_bytes<s4>(rows, columns);
    case weight_kind::grouped_s4:
      if (is_packable({{nullptr, rows, columns}, {}, group})) {
        return packed_weights_bytes<grouped_s4>(rows, columns, group);
      }
      [[fallthrough]];
    default:
      return packed_weights_bytes<std::int8_t>(rows, columns);
  }
}

/// Packs weights of any kind, in memory of that many bytes. Groups that have no packed form are packed as s8.
inline any_packed_weights pack_weights(const owned_weights& weights, std::span<std::byte> memory) {
  const auto pack = [&](const auto& view) -> any_packed_weights {
    if constexpr (std::is_same_v<decltype(view), const grouped_s4_view&>) {
      if (!is_packable(view)) {
        return pack_weights_as_s8(view, memory);
      }
    }
    return pack_weights(view, memory);
  };
  return std::visit(pack, weights.view());
}

/// Memory of packed weights. Movable: views of the weights stay valid.
class owned_packed_weights {
 public:
  /// Packs weights, and frees them.
  any_packed_weights take(owned_weights& weights) {
    const index_t bytes = packed_weights_bytes(weights.kind, weights.rows, weights.columns, weights.group);
    const any_packed_weights packed = pack_weights(weights, allocate(bytes));
    weights = owned_weights();
    return packed;
  }

 private:
  struct alignas(packed_weights_alignment) cache_line {
    std::byte bytes[packed_weights_alignment];
  };

  std::span<std::byte> allocate(index_t bytes) {
    panels_.emplace_back((static_cast<std::size_t>(bytes) + sizeof(cache_line) - 1) / sizeof(cache_line));
    return std::as_writable_bytes(std::span(panels_.back()));
  }

  std::vector<std::vector<cache_line>> panels_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
