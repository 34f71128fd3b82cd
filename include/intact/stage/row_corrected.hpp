#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "intact/stage/output_stage.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// y[m, n] = stage(a + correction[m], m, n): each row's accumulators get a number before another stage takes them. It
/// serves weights that have a zero point zp in their products with codes a: sum_k a[m, k] * (w[n, k] - zp) is the
/// accumulator plus -zp * sum_k a[m, k], which row_sums.hpp computes.
/// Range: a + correction[m] fits int32; it wraps otherwise.
template <class Stage>
struct row_corrected {
  using output = typename Stage::output;  ///< of y

  Stage stage;                               ///< takes the corrected accumulators
  std::span<const std::int32_t> correction;  ///< one for each row; not owned

  /// The output of row m and channel n.
  INTACT_INLINE constexpr output operator()(std::int32_t accumulator, index_t m, index_t n) const {
    const auto sum =
        static_cast<std::uint32_t>(accumulator) + static_cast<std::uint32_t>(correction[static_cast<std::size_t>(m)]);
    return static_cast<output>(apply_stage(stage, static_cast<std::int32_t>(sum), m, n));
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t rows, index_t channels) const {
    require_equal(operation, "size of correction", std::ssize(correction), rows);
    stage.require(operation, rows, channels);
  }
};

}  // namespace INTACT_ABI
}  // namespace intact
