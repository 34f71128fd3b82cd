#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Angles of a rotation are known by their cosines and sines, in units of 2^-14.
inline constexpr int rotation_bits = 14;

/// The angles of pairs of channels, one row per token. A head has the channels of all pairs: first the one of every
/// pair, then the other. Built by build/rotation.hpp. Owns nothing.
struct rotation_parameters {
  matrix_view<const std::int16_t> cosine;  ///< tokens x (head size / 2)
  matrix_view<const std::int16_t> sine;    ///< of the same shape
};

}  // namespace INTACT_ABI
}  // namespace intact
