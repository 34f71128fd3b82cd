#pragma once

#include <cstdint>

#include "intact/types/quantized_matrix.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Matrices of one shape at equal distances, such as the heads of attention. Owns nothing.
template <class T>
struct matrix_batch {
  matrix_view<T> first;  ///< the first matrix
  index_t count = 1;     ///< number of matrices
  index_t distance = 0;  ///< elements from the beginning of a matrix to that of the next

  /// Matrix i.
  INTACT_INLINE constexpr matrix_view<T> operator[](index_t i) const {
    return {first.data == nullptr ? nullptr : first.data + i * distance, first.rows, first.columns, first.stride};
  }
};

/// The same of activation codes, with their zero point.
struct quantized_batch {
  matrix_batch<const std::uint8_t> codes;  ///< u8
  int zero_point = 0;                      ///< the code of 0

  /// Matrix i.
  INTACT_INLINE constexpr quantized_matrix operator[](index_t i) const { return {codes[i], zero_point}; }
};

}  // namespace INTACT_ABI
}  // namespace intact
