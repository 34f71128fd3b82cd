#pragma once

#include <cstdint>
#include <utility>
#include <variant>

#include "intact/gemm.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Packed weights of one of the three kinds, one row per output channel.
using any_packed_weights = std::variant<packed_weights<std::int8_t>, packed_weights<s4>, packed_weights<grouped_s4>>;

/// The kinds of weights that a model's products are compiled for. A program whose models have one kind names it and
/// compiles a third of the products.
template <class... Elements>
struct weight_kinds {};
/// The kinds of weights of blocks and models that name none.
using all_weight_kinds = weight_kinds<std::int8_t, s4, grouped_s4>;

/// A fully connected layer: weights, and the scale of its accumulators.
struct linear_parameters {
  any_packed_weights weights;  ///< s8, s4 or grouped s4
  channel_scale scale;         ///< of the accumulators

  /// Output channels.
  INTACT_INLINE constexpr index_t outputs() const {
    return std::visit([](const auto& weights_of_kind) { return weights_of_kind.rows; }, weights);
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Calls visit(weights) with the weights of their kind. Returns whether Kinds has it.
template <class Visit, class... Elements>
constexpr bool visit_weights(weight_kinds<Elements...>, const any_packed_weights& weights, const Visit& visit) {
  const auto visit_kind = [&](const auto* weights_of_kind) {
    if (weights_of_kind != nullptr) {
      visit(*weights_of_kind);
    }
    return weights_of_kind != nullptr;
  };
  return (visit_kind(std::get_if<packed_weights<Elements>>(&weights)) || ...);
}

/// Checks a layer's sizes, and that its weights are of a kind that the caller is compiled for.
template <class Kinds = all_weight_kinds>
void require_linear(const char* operation, const linear_parameters& p, index_t outputs, index_t inputs) {
  const bool compiled = visit_weights(Kinds{}, p.weights, [&](const auto& weights) {
    require_equal(operation, "rows of weights", weights.rows, outputs);
    require_equal(operation, "columns of weights", weights.columns, inputs);
    require_at_most(operation, "columns of weights", inputs,
                    gemm_depth_limit<std::uint8_t, std::remove_cvref_t<decltype(weights)>>());
  });
  if (!compiled) [[unlikely]] {
    const bool s8 = std::holds_alternative<packed_weights<std::int8_t>>(p.weights);
    const bool s4_alone = std::holds_alternative<packed_weights<s4>>(p.weights);
    contract_failed("intact::%s: weights are %s; the call names other weight_kinds", operation,
                    s8         ? "s8"
                    : s4_alone ? "s4"
                               : "s4 with group factors");
  }
  require_scale(operation, p.scale, outputs);
}

/// y[m, n] = stage(x * W^T, m, n). The weights are of one of Kinds.
template <class Isa, class Kinds, class Stage, executor Executor>
void linear(matrix_view<const std::uint8_t> x, const any_packed_weights& weights, const Stage& stage,
            matrix_view<typename Stage::output> y, const Executor& run) {
  visit_weights(Kinds{}, weights, [&](const auto& weights_of_kind) { gemm<Isa>(x, weights_of_kind, stage, y, run); });
}

}  // namespace INTACT_UNIT
}  // namespace intact
