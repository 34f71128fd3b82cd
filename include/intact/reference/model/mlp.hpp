#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "intact/model/mlp.hpp"
#include "intact/reference/activation.hpp"
#include "intact/reference/model/linear.hpp"
#include "intact/reference/model/trace.hpp"
#include "intact/reference/multiply.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Buffers of one call, taken from a workspace.
struct mlp_buffers {
  matrix_view<std::uint16_t> hidden;    ///< 12-bit codes, tokens x hidden
  matrix_view<std::uint8_t> activated;  ///< then its products with `up`, if there is a gate
  matrix_view<std::uint8_t> up;         ///< only if there is a gate

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr mlp_buffers take(Workspace& memory, index_t tokens, index_t hidden_width, bool gated) {
    return {.hidden = memory.template matrix<std::uint16_t>(tokens, hidden_width),
            .activated = memory.template matrix<std::uint8_t>(tokens, hidden_width),
            .up = memory.template matrix<std::uint8_t>(gated ? tokens : 0, hidden_width)};
  }
};

namespace detail {

/// The layer that a gate multiplies, and the products, in the place of the gate.
template <class Trace>
void multiply_by_gate(matrix_view<const std::uint8_t> x, const gate_parameters& p, const mlp_buffers& buffer,
                      Trace& trace) {
  reference::linear(x, p.up, buffer.up);
  trace(trace_site{"up"}, matrix_view<const std::uint8_t>(buffer.up));
  reference::multiply({buffer.activated, p.activation_zero_point}, {buffer.up, p.up_zero_point},
                      requantize<std::uint8_t, tensor_scale>{p.product}, buffer.activated);
  trace(trace_site{"gated"}, matrix_view<const std::uint8_t>(buffer.activated));
}

}  // namespace detail

/// fc1, the activation by table, with a gate the products with `up`, fc2.
///
/// Shapes:    x tokens x width in u8 codes; y tokens x width: u8, the branch's codes, or s16, the residual stream that
/// the
///            branch is added to.
/// Errors:    sizes that do not match: before anything is written.
template <class Y, class Trace = no_trace>
void mlp(matrix_view<const std::uint8_t> x, const mlp_parameters& p, matrix_view<Y> y, workspace memory,
         Trace&& trace = {}) {
  const auto* const gate = std::get_if<gate_parameters>(&p.gate);
  require_mlp(p, x.columns, p.fc1.outputs(), gate != nullptr);
  require_view("mlp", "x", x);
  require_shape("mlp", "y", y, x.rows, x.columns);
  const mlp_buffers buffer = mlp_buffers::take(memory, x.rows, p.fc1.outputs(), gate != nullptr);

  reference::linear<std::uint16_t, activation_bits>(x, p.fc1, buffer.hidden);
  trace(trace_site{"fc1"}, matrix_view<const std::uint16_t>(buffer.hidden));
  reference::activation(buffer.hidden, p.table, buffer.activated);
  trace(trace_site{"activation"}, matrix_view<const std::uint8_t>(buffer.activated));
  if (gate != nullptr) {
    detail::multiply_by_gate(x, *gate, buffer, trace);
  }
  reference::linear_branch(buffer.activated, p.fc2, y);
  if constexpr (std::is_same_v<Y, std::uint8_t>) {
    trace(trace_site{"fc2"}, matrix_view<const std::uint8_t>(y));
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
