#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "intact/arith/scale.hpp"
#include "intact/stage/output_stage.hpp"

// Output stages that take in the operation behind the matrix product, so that its codes never visit memory. Each equals
// the product with `requantize`, followed by that operation.

namespace intact {
inline namespace INTACT_ABI {

/// y = table[code], the code being requantize_to_activation's: a layer with its activation, such as fc1 with GELU.
/// The table has 2^activation_bits entries (build/table.hpp builds it) and is not owned.
struct activate {
  using output = std::uint8_t;

  channel_scale scale;
  std::span<const std::uint8_t> table;

  INTACT_INLINE constexpr std::uint8_t operator()(std::int32_t accumulator, index n) const {
    return table[requantize_to_activation{scale}(accumulator, n)];
  }
  INTACT_INLINE void require(const char* operation, index channels) const {
    require_scale(operation, scale, channels);
    require_equal(operation, "size of table", std::ssize(table), index{1} << activation_bits);
  }
};

/// y[m, n] = the residual addition of stream[m, n] and the layer's u8 code. The stream may be y itself.
struct requantize_and_add {
  using output = std::uint8_t;

  channel_scale scale;
  add_scale addition;
  matrix_view<const std::uint8_t> stream;

  INTACT_INLINE constexpr std::uint8_t operator()(std::int32_t accumulator, index m, index n) const {
    return add_codes(addition, stream(m, n), requantize<std::uint8_t>{scale}(accumulator, n), n);
  }
  INTACT_INLINE void require(const char* operation, index channels) const {
    require_scale(operation, scale, channels);
    require_add_scale(operation, addition, channels);
  }
  INTACT_INLINE void require_rows(const char* operation, index rows) const {
    require_shape(operation, "stream of the stage", stream, rows, std::ssize(scale.multiplier));
  }
};

/// y[m, n] = clamp(((a << prescale[m]) * multiplier[m] + offset[m]) >> (32 + shift[m])): a scale per row, such as those
/// of attention times V, divided by the rows' sums of weights. Not owned.
template <class Out>
struct requantize_rows {
  using output = Out;

  std::span<const tensor_scale> rows;

  INTACT_INLINE constexpr Out operator()(std::int32_t accumulator, index m, index) const {
    return saturate<Out>(rescale(accumulator, rows[static_cast<std::size_t>(m)]));
  }
  INTACT_INLINE void require(const char*, index) const {}
  INTACT_INLINE void require_rows(const char* operation, index count) const {
    require_equal(operation, "size of rows", std::ssize(rows), count);
    for (const tensor_scale& scale : rows) {
      require_scale(operation, scale, 0);
    }
  }
};

}  // namespace INTACT_ABI
}  // namespace intact
