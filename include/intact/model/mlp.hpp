#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "intact/activation.hpp"
#include "intact/model/linear.hpp"
#include "intact/model/trace.hpp"
#include "intact/types/workspace.hpp"

namespace intact::inline INTACT_ABI {

/// Parameters of the two-layer perceptron of a block.
struct mlp_parameters {
  linear_parameters fc1;                ///< to 12-bit codes
  std::span<const std::uint8_t> table;  ///< 4096 entries: the activation function, to u8 codes
  linear_parameters fc2;
};

/// Buffers of one call, taken from a workspace.
struct mlp_buffers {
  matrix_view<std::uint16_t> hidden;
  matrix_view<std::uint8_t> activated;

  template <class Workspace>
  static constexpr mlp_buffers take(Workspace& memory, index tokens, index hidden_width) {
    return {memory.template matrix<std::uint16_t>(tokens, hidden_width),
            memory.template matrix<std::uint8_t>(tokens, hidden_width)};
  }
};

/// Checks the parameters of the perceptron against its sizes.
inline void require_mlp(const mlp_parameters& p, index width, index hidden) {
  require_linear("mlp: fc1", p.fc1, hidden, width);
  require_equal("mlp", "size of table", std::ssize(p.table), activation_table_size_12);
  require_linear("mlp: fc2", p.fc2, width, hidden);
}

/// fc1, the activation by table, fc2: codes in, codes of fc2's output scale out.
template <class Trace = no_trace>
void mlp(matrix_view<const std::uint8_t> x, const mlp_parameters& p, matrix_view<std::uint8_t> y, workspace memory,
         index block = -1, Trace&& trace = {}) {
  require_mlp(p, x.columns, p.fc1.outputs());
  require_view("mlp", "x", x);
  require_shape("mlp", "y", y, x.rows, x.columns);
  const mlp_buffers buffer = mlp_buffers::take(memory, x.rows, p.fc1.outputs());

  linear<std::uint16_t, activation_bits>(x, p.fc1, buffer.hidden);
  trace({"fc1", block}, matrix_view<const std::uint16_t>(buffer.hidden));
  activation(buffer.hidden, p.table, buffer.activated);
  trace({"activation", block}, matrix_view<const std::uint8_t>(buffer.activated));
  linear(matrix_view<const std::uint8_t>(buffer.activated), p.fc2, y);
  trace({"fc2", block}, matrix_view<const std::uint8_t>(y));
}

}  // namespace intact::inline INTACT_ABI
