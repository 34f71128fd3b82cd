#pragma once

#include <cstdint>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Activation codes with their zero point.
struct quantized_matrix {
  matrix_view<const std::uint8_t> codes;  ///< u8
  int zero_point = 0;                     ///< the code of 0
};

}  // namespace INTACT_ABI
}  // namespace intact
