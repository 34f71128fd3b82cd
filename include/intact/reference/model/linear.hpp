#pragma once

#include <cstdint>
#include <variant>

#include "intact/model/linear.hpp"
#include "intact/reference/gemm.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[m, n] = stage(x * W^T, m, n).
template <class Stage>
void linear(matrix_view<const std::uint8_t> x, const any_packed_weights& weights, const Stage& stage,
            matrix_view<typename Stage::output> y) {
  std::visit([&](const auto& weights_of_kind) { reference::gemm(x, weights_of_kind, stage, y); }, weights);
}

/// y = requantize(x * W^T), bias included.
template <class Out, int Bits = 8 * static_cast<int>(sizeof(Out))>
void linear(matrix_view<const std::uint8_t> x, const linear_parameters& p, matrix_view<Out> y) {
  reference::linear(x, p.weights, requantize<Out, channel_scale, Bits>{p.scale}, y);
}

/// The layer at the end of a residual branch: its u8 codes, which are added to the stream afterwards, or, straight from
/// the accumulators, their sum with an s16 stream, in place.
inline void linear_branch(matrix_view<const std::uint8_t> x, const linear_parameters& p, matrix_view<std::uint8_t> y) {
  reference::linear(x, p, y);
}
/// A branch that adds to the s16 stream.
inline void linear_branch(matrix_view<const std::uint8_t> x, const linear_parameters& p,
                          matrix_view<std::int16_t> stream) {
  reference::linear(x, p.weights, add_to_stream{p.scale, stream}, stream);
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
