#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "intact/arith/fused_stage.hpp"

namespace intact::inline INTACT_ABI {

/// y[m, n] = requantize_rows of 256 * high[m, n] + a: attention times V in two byte planes, whose second one this is.
/// Range: that sum fits int32. Not owned.
template <class Out>
struct requantize_planes {
  using output = Out;

  std::span<const tensor_scale> rows;
  matrix_view<const std::int32_t> high;

  constexpr Out operator()(std::int32_t accumulator, index m, index n) const {
    return requantize_rows<Out>{rows}(256 * high(m, n) + accumulator, m, n);
  }
  void require(const char* operation, index channels) const {
    require_equal(operation, "columns of high", high.columns, channels);
  }
  void require_rows(const char* operation, index count) const {
    requantize_rows<Out>{rows}.require_rows(operation, count);
    require_shape(operation, "high", high, count, high.columns);
  }
};

}  // namespace intact::inline INTACT_ABI
