#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "intact/arith/scale.hpp"
#include "intact/stage/output_stage.hpp"

// Output stages that apply the operation after the product directly to accumulators, so that its codes are not stored.
// Each equals the product with `requantize`, followed by that operation.

namespace intact {
inline namespace INTACT_ABI {

/// y = table[code], the code being requantize_u12's: a layer with its activation, such as fc1 with GELU.
/// The table has 2^activation_bits entries (build/table.hpp builds it) and is not owned.
struct requantize_lut {
  using output = std::uint8_t;  ///< of y

  channel_scale scale;                  ///< to 12-bit codes
  std::span<const std::uint8_t> table;  ///< 4096 u8 codes

  /// The output of channel n.
  INTACT_INLINE constexpr std::uint8_t operator()(std::int32_t accumulator, index_t n) const {
    return table[requantize_u12{scale}(accumulator, n)];
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    require_scale(operation, scale, channels);
    require_equal(operation, "size of table", std::ssize(table), index_t{1} << activation_bits);
  }
};

/// y[m, n] = the residual addition of stream[m, n] and the layer's u8 code. The stream may be y itself.
struct requantize_add {
  using output = std::uint8_t;  ///< of y

  channel_scale scale;                     ///< to the branch's u8 codes
  add_parameters addition;                 ///< of stream and branch
  matrix_view<const std::uint8_t> stream;  ///< u8, M x N

  /// The output of row m and channel n.
  INTACT_INLINE constexpr std::uint8_t operator()(std::int32_t accumulator, index_t m, index_t n) const {
    return add_codes(addition, stream(m, n), requantize<std::uint8_t>{scale}(accumulator, n), n);
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t rows, index_t channels) const {
    require_scale(operation, scale, channels);
    require_add_parameters(operation, addition, channels);
    require_shape(operation, "stream of the stage", stream, rows, std::ssize(scale.multiplier));
  }
};

/// y[m, n] = clamp(((a << left_shift[m]) * multiplier[m] + offset[m]) >> (32 + shift[m])): a scale per row, such as
/// those of attention times V, divided by the rows' sums of weights. Not owned.
template <class Out>
struct requantize_per_row {
  using output = Out;  ///< of y

  std::span<const tensor_scale> rows;  ///< one per row

  /// The output of row m and channel n.
  INTACT_INLINE constexpr Out operator()(std::int32_t accumulator, index_t m, index_t) const {
    return saturate<Out>(mul_shift(accumulator, rows[static_cast<std::size_t>(m)]));
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t count, index_t) const {
    require_equal(operation, "size of rows", std::ssize(rows), count);
    for (const tensor_scale& scale : rows) {
      require_scale(operation, scale, 0);
    }
  }
};

}  // namespace INTACT_ABI
}  // namespace intact
