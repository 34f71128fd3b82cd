#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The weights of a depthwise convolution: row dy * size + dx holds those of all channels at offset (dy, dx) of a
/// square of size x size. Owns nothing.
struct depthwise_weights {
  matrix_view<const std::int8_t> taps;  ///< size^2 x C
  index_t size = 1;                     ///< odd
};

/// The largest square: 255^2 products of a u8 and an s8 code fit int32.
inline constexpr index_t depthwise_max_size = 255;
static_assert(std::int64_t{255} * 128 * depthwise_max_size * depthwise_max_size <= 0x7fffffff &&
              std::int64_t{255} * 128 * (depthwise_max_size + 2) * (depthwise_max_size + 2) > 0x7fffffff);

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks the weights against the number of channels.
inline void require_depthwise_weights(const char* operation, const depthwise_weights& w, index_t channels) {
  require_between(operation, "size of w", w.size, 1, depthwise_max_size);
  require_equal(operation, "size of w modulo 2", w.size % 2, 1);
  require_shape(operation, "taps of w", w.taps, w.size * w.size, channels);
}

}  // namespace INTACT_UNIT
}  // namespace intact
