#pragma once

#include <cstddef>
#include <span>
#include <variant>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/model/linear.hpp"
#include "intact/pack.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Memory of packed weights. Movable: views of the weights stay valid.
class owned_packed_weights {
 public:
  /// Packs weights, and frees them.
  any_packed_weights take(owned_weights& weights) {
    const any_packed_weights packed = std::visit([&](const auto& matrix) { return pack(matrix); }, weights.view());
    weights = owned_weights();
    return packed;
  }

 private:
  struct alignas(packed_weights_alignment) cache_line {
    std::byte bytes[packed_weights_alignment];
  };

  any_packed_weights pack(const grouped_s4_view& weights) {
    if (is_packable(weights)) {
      return pack_weights(weights, memory(packed_weights_bytes(weights)));
    }
    return pack_weights_as_s8(weights, memory(packed_weights_bytes<std::int8_t>(weights.rows, weights.columns)));
  }

  template <class Weights>
  any_packed_weights pack(const Weights& weights) {
    return pack_weights(weights, memory(packed_weights_bytes(weights)));
  }

  std::span<std::byte> memory(index_t bytes) {
    panels_.emplace_back((static_cast<std::size_t>(bytes) + sizeof(cache_line) - 1) / sizeof(cache_line));
    return std::as_writable_bytes(std::span(panels_.back()));
  }

  std::vector<std::vector<cache_line>> panels_;
};

}  // namespace INTACT_UNIT
}  // namespace intact
