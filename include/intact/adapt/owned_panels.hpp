#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "intact/adapt/integer_vit.hpp"
#include "intact/model/linear.hpp"
#include "intact/pack.hpp"

namespace intact::inline INTACT_ABI {

/// Memory of packed weights. Movable: views of the weights stay valid.
class owned_panels {
 public:
  /// Packs the weights that `view` is a view of, which becomes one of the packed weights, and frees the former.
  void take(owned_weights& weights, weights_view& view) {
    view = std::visit([&](const auto& matrix) { return pack(matrix); }, view);
    weights = owned_weights();
  }

 private:
  struct alignas(packed_weights_alignment) cache_line {
    std::byte bytes[packed_weights_alignment];
  };

  template <class Weights>
  weights_view pack(const Weights& weights) {
    if constexpr (detail::is_packed<Weights>) {
      return weights;
    } else {
      using element = typename decltype(pack_weights(weights, {}))::element;
      const auto bytes = static_cast<std::size_t>(packed_weights_bytes<element>(weights.rows, weights.columns));
      panels_.emplace_back((bytes + sizeof(cache_line) - 1) / sizeof(cache_line));
      return pack_weights(weights, std::as_writable_bytes(std::span(panels_.back())));
    }
  }

  std::vector<std::vector<cache_line>> panels_;
};

}  // namespace intact::inline INTACT_ABI
