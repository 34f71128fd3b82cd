#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>
#include <variant>

#include "intact/activation.hpp"
#include "intact/add.hpp"
#include "intact/layernorm.hpp"
#include "intact/model/linear.hpp"
#include "intact/multiply.hpp"
#include "intact/stage/fused.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/workspace.hpp"

// The perceptron of a block without tensors between a product and the operation that follows, and the bands of rows
// that go through several steps at a time: intermediate codes stay in the caches, and hidden codes take memory for one
// band, however many rows there are.

namespace intact {
inline namespace INTACT_ABI {

/// Of a gated perceptron (SwiGLU, GeGLU) fc1 and the table are the gate. A second layer of the same inputs, `up`, is
/// multiplied by it, element by element; fc2 takes the products.
struct no_gate {};
/// Parameters of a gate's partner and of the products.
struct gate_parameters {
  linear_parameters up;           ///< to u8 codes
  int activation_zero_point = 0;  ///< of the table's codes
  int up_zero_point = 0;          ///< of up's codes
  tensor_scale product;           ///< s_activation * s_up / s_gated, to the u8 codes that fc2 takes
};
/// Whether a perceptron has a gate.
using mlp_gate = std::variant<no_gate, gate_parameters>;

/// Parameters of the perceptron of a block: of two layers, or of three with a gate.
struct mlp_parameters {
  linear_parameters fc1;                ///< to 12-bit codes
  std::span<const std::uint8_t> table;  ///< 4096 entries: the activation function, to u8 codes
  linear_parameters fc2;                ///< to the branch's u8 scale or to the s16 stream's
  mlp_gate gate = {};                   ///< if there is one
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks the parameters of the perceptron against its sizes, and whether it has a gate.
template <class Kinds = all_weight_kinds>
void require_mlp(const mlp_parameters& p, index_t width, index_t hidden, bool gated) {
  require_linear<Kinds>("mlp: fc1", p.fc1, hidden, width);
  require_equal("mlp", "size of table", std::ssize(p.table), activation_table_size_12);
  require_linear<Kinds>("mlp: fc2", p.fc2, width, hidden);
  const auto* const gate = std::get_if<gate_parameters>(&p.gate);
  if ((gate != nullptr) != gated) [[unlikely]] {
    contract_failed("intact::mlp: the perceptron has %s gate; the shape calls for %s", gated ? "no" : "a",
                    gated ? "one" : "none");
  }
  if (gate != nullptr) {
    require_linear<Kinds>("mlp: up", gate->up, hidden, width);
    require_between("mlp", "gate.activation_zero_point", gate->activation_zero_point, 0, 255);
    require_between("mlp", "gate.up_zero_point", gate->up_zero_point, 0, 255);
    require_scale("mlp: gate.product", gate->product, hidden);
  }
}

/// Bytes of a band's rows between the steps of a block, and the least rows that justify reading all weights.
inline constexpr index_t band_bytes = 4 << 20;
/// Rows of a band at least.
inline constexpr index_t band_least_rows = 192;

/// Rows of a band: of a stream, of a step's inputs and of the perceptron's hidden codes, `hidden` in a row. All have as
/// many but for the last; tiles of the products (5 or 6 rows) are whole in them.
constexpr index_t band_rows(index_t rows, index_t width, index_t hidden) {
  constexpr index_t multiple = 30;
  const index_t bytes = size_product(rows, size_sum(size_product(3, width), hidden));
  const index_t wanted = bytes / band_bytes + (bytes % band_bytes >= band_bytes / 2 ? 1 : 0);
  const index_t bands = std::clamp<index_t>(wanted, 1, std::max<index_t>(rows / band_least_rows, 1));
  const index_t each = group_count(rows, bands * multiple) * multiple;
  return std::min(each, rows);
}

namespace detail {

/// Calls band(first, count) for bands of `each` rows, the last of which may have fewer.
template <class Band>
void for_each_row_band(index_t rows, index_t each, const Band& band) {
  for (index_t first = 0; first < rows; first += each) {
    band(first, std::min(each, rows - first));
  }
}

/// The layer at the end of a branch, added to the stream in place.
template <class Isa, class Kinds, class Code, executor Executor>
void add_branch(matrix_view<const std::uint8_t> x, const linear_parameters& layer, const add_parameters& addition,
                matrix_view<Code> stream, const Executor& run) {
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    linear<Isa, Kinds>(x, layer.weights, requantize_add{layer.scale, addition, stream}, stream, run);
  } else {
    linear<Isa, Kinds>(x, layer.weights, add_to_stream{layer.scale, stream}, stream, run);
  }
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
