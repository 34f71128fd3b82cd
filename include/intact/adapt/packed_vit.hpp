#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "intact/adapt/integer_vit.hpp"
#include "intact/model/fused_vit.hpp"
#include "intact/pack.hpp"

namespace intact::inline INTACT_ABI {

/// An integer vision transformer whose weights lie in the order of the kernels, and no longer in that of integer_vit.
/// Unchangeable, and may be shared between threads; movable, not copyable, so that the parameters it hands out stay
/// valid while it lives.
class packed_vit {
 public:
  /// Layer after layer is packed and its former weights are freed: at no time are more than one layer's there twice.
  explicit packed_vit(integer_vit&& model) : contents_(std::move(model).release()) {
    for (owned_block& block : contents_.blocks) {
      block_parameters views = block.view();
      pack(block.qkv.weights, views.attention.qkv.weights);
      pack(block.proj.weights, views.attention.proj.weights);
      pack(block.fc1.weights, views.mlp.fc1.weights);
      pack(block.fc2.weights, views.mlp.fc2.weights);
      blocks_.push_back(views);
    }
    parameters_ = contents_.view(blocks_);
    pack(contents_.patch.weights, parameters_.patch.weights);
    pack(contents_.head, parameters_.head);
  }
  packed_vit(packed_vit&&) = default;
  packed_vit& operator=(packed_vit&&) = default;

  const vit_shape& shape() const { return contents_.shape; }
  const vit_parameters& parameters() const { return parameters_; }

  /// The logit that an int32 code of the model stands for, in units of the float model's logits.
  double real_logit(std::int32_t code) const { return code * contents_.logits_scale; }

 private:
  struct alignas(packed_weights_alignment) cache_line {
    std::byte bytes[packed_weights_alignment];
  };

  /// Makes `view` one of packed weights, and frees the ones that it was a view of.
  void pack(owned_weights& weights, weights_view& view) {
    view = std::visit([&](const auto& matrix) { return pack(matrix); }, view);
    weights = owned_weights();
  }

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

  vit_contents contents_;  ///< without weights
  std::vector<std::vector<cache_line>> panels_;
  std::vector<block_parameters> blocks_;
  vit_parameters parameters_;
};

}  // namespace intact::inline INTACT_ABI
