#pragma once

#include <cstdint>
#include <type_traits>
#include <variant>

#include "intact/gemm.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Weights of any type, one row per output channel. Packed ones (pack.hpp) go through the fast kernels.
using weights_view = std::variant<matrix_view<const std::int8_t>, packed_view<s4, const std::uint8_t>, grouped_s4_view,
                                  packed_weights<std::int8_t>, packed_weights<s4>, packed_weights<grouped_s4>>;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

constexpr index_t output_channels(const weights_view& weights) {
  return std::visit([](const auto& view) { return view.rows; }, weights);
}

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// A fully connected layer: weights, and what its accumulators become.
struct linear_parameters {
  weights_view weights;
  channel_scale scale;

  INTACT_INLINE constexpr index_t outputs() const { return output_channels(weights); }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a layer's sizes.
inline void require_linear(const char* operation, const linear_parameters& p, index_t outputs, index_t inputs) {
  std::visit(
      [&](const auto& weights) {
        if constexpr (detail::is_packed<std::remove_cvref_t<decltype(weights)>>) {
          require_equal(operation, "rows of weights", weights.rows, outputs);
          require_equal(operation, "columns of weights", weights.columns, inputs);
        } else {
          require_shape(operation, "weights", weights, outputs, inputs);
        }
        require_at_most(operation, "columns of weights", inputs,
                        detail::gemm_depth_limit<std::uint8_t, std::remove_cvref_t<decltype(weights)>>());
      },
      p.weights);
  require_scale(operation, p.scale, outputs);
}

/// y[m, n] = stage(x * W^T, m, n) for weights of any type. The instruction set and the executor are for packed ones.
template <class Isa = isa::native, class Stage, executor Executor = sequential>
void linear(matrix_view<const std::uint8_t> x, const weights_view& weights, const Stage& stage,
            matrix_view<typename Stage::output> y, const Executor& run = {}) {
  std::visit(
      [&](const auto& view) {
        if constexpr (detail::is_packed<std::remove_cvref_t<decltype(view)>>) {
          gemm<Isa>(x, view, stage, y, run);
        } else {
          gemm(x, view, stage, y);
        }
      },
      weights);
}

/// y = requantize(x * W^T), bias included.
template <class Out, int Bits = 8 * static_cast<int>(sizeof(Out))>
void linear(matrix_view<const std::uint8_t> x, const linear_parameters& p, matrix_view<Out> y) {
  linear<isa::native>(x, p.weights, requantize<Out, channel_scale, Bits>{p.scale}, y);
}

/// The layer at the end of a residual branch: its u8 codes, which are added to the stream afterwards, or, straight from
/// the accumulators, their sum with an s16 stream, in place.
inline void linear_branch(matrix_view<const std::uint8_t> x, const linear_parameters& p, matrix_view<std::uint8_t> y) {
  linear(x, p, y);
}
inline void linear_branch(matrix_view<const std::uint8_t> x, const linear_parameters& p,
                          matrix_view<std::int16_t> stream) {
  linear(x, p.weights, add_to_stream{p.scale, stream}, stream);
}

}  // namespace INTACT_UNIT
}  // namespace intact
