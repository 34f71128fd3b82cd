#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/activation.hpp"
#include "intact/model/linear.hpp"
#include "intact/model/trace.hpp"
#include "intact/types/workspace.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Parameters of the two-layer perceptron of a block.
struct mlp_parameters {
  linear_parameters fc1;                ///< to 12-bit codes
  std::span<const std::uint8_t> table;  ///< 4096 entries: the activation function, to u8 codes
  linear_parameters fc2;                ///< to the branch's u8 scale or to the s16 stream's
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Buffers of one call, taken from a workspace.
struct mlp_buffers {
  matrix_view<std::uint16_t> hidden;
  matrix_view<std::uint8_t> activated;

  template <class Workspace>
  static constexpr mlp_buffers take(Workspace& memory, index_t tokens, index_t hidden_width) {
    return {memory.template matrix<std::uint16_t>(tokens, hidden_width),
            memory.template matrix<std::uint8_t>(tokens, hidden_width)};
  }
};

/// Checks the parameters of the perceptron against its sizes.
inline void require_mlp(const mlp_parameters& p, index_t width, index_t hidden) {
  require_linear("mlp: fc1", p.fc1, hidden, width);
  require_equal("mlp", "size of table", std::ssize(p.table), activation_table_size_12);
  require_linear("mlp: fc2", p.fc2, width, hidden);
}

/// fc1, the activation by table, fc2.
///
/// Shapes:    x tokens x width in u8 codes; y tokens x width: u8, the branch's codes, or s16, the residual stream that
/// the
///            branch is added to.
/// Errors:    sizes that do not match: before anything is written.
template <class Y, class Trace = no_trace>
void mlp(matrix_view<const std::uint8_t> x, const mlp_parameters& p, matrix_view<Y> y, workspace memory,
         index_t block = -1, Trace&& trace = {}) {
  require_mlp(p, x.columns, p.fc1.outputs());
  require_view("mlp", "x", x);
  require_shape("mlp", "y", y, x.rows, x.columns);
  const mlp_buffers buffer = mlp_buffers::take(memory, x.rows, p.fc1.outputs());

  linear<std::uint16_t, activation_bits>(x, p.fc1, buffer.hidden);
  trace({"fc1", block}, matrix_view<const std::uint16_t>(buffer.hidden));
  activation(buffer.hidden, p.table, buffer.activated);
  trace({"activation", block}, matrix_view<const std::uint8_t>(buffer.activated));
  linear_branch(buffer.activated, p.fc2, y);
  if constexpr (std::is_same_v<Y, std::uint8_t>) {
    trace({"fc2", block}, matrix_view<const std::uint8_t>(y));
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
