#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "intact/layernorm.hpp"
#include "intact/model/block.hpp"
#include "intact/model/linear.hpp"
#include "intact/stage/fused.hpp"
#include "intact/types/executor.hpp"

// The perceptron of a block without tensors between a product and the operation behind it, and the bands of rows that
// go through several steps together: so what lies between the steps stays in the caches, and hidden codes take memory
// for a band alone, however many rows there are.

namespace intact {
inline namespace INTACT_UNIT {

/// What the rows of a band may take between the steps of a block, and rows that are worth reading all weights for.
inline constexpr index_t fused_band_bytes = index_t{4} << 20;
inline constexpr index_t fused_band_least_rows = 192;

/// Rows of a band: of a stream, of a step's inputs and of the perceptron's hidden codes. All have as many but for the
/// last; tiles of the products (5 or 6 rows) are whole in them.
constexpr index_t fused_band_rows(index_t rows, index_t width, index_t hidden) {
  constexpr index_t together = 30;
  const index_t bytes = size_product(rows, size_sum(size_product(3, width), hidden));
  const index_t wanted = bytes / fused_band_bytes + (bytes % fused_band_bytes >= fused_band_bytes / 2 ? 1 : 0);
  const index_t bands = std::clamp<index_t>(wanted, 1, std::max<index_t>(rows / fused_band_least_rows, 1));
  const index_t each = group_count(rows, bands * together) * together;
  return std::min(each, rows);
}

namespace detail {

/// Calls band(first, count) for bands of `each` rows, the last of which may have fewer.
template <class Band>
void for_each_fused_band(index_t rows, index_t each, const Band& band) {
  for (index_t first = 0; first < rows; first += each) {
    band(first, std::min(each, rows - first));
  }
}

/// The layer at the end of a branch, added to the stream in place.
template <class Isa, class Code, executor Executor>
void add_branch(matrix_view<const std::uint8_t> x, const linear_parameters& layer, const add_parameters& addition,
                matrix_view<Code> stream, const Executor& run) {
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    linear<Isa>(x, layer.weights, requantize_add{layer.scale, addition, stream}, stream, run);
  } else {
    linear<Isa>(x, layer.weights, add_to_stream{layer.scale, stream}, stream, run);
  }
}

/// The second half of a block, in place on a band of the stream. `normalized` has the stream's shape, `hidden` has the
/// hidden codes.
template <class Isa, class Code, executor Executor>
void fused_mlp_half(matrix_view<Code> stream, const block_parameters& p, matrix_view<std::uint8_t> normalized,
                    matrix_view<std::uint8_t> hidden, const Executor& run) {
  layernorm<Isa>(stream, p.norm2, normalized, run);
  linear<Isa>(normalized, p.mlp.fc1.weights, requantize_lut{p.mlp.fc1.scale, p.mlp.table}, hidden, run);
  add_branch<Isa>(hidden, p.mlp.fc2, p.add2, stream, run);
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
