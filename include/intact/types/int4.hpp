#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Element tags of packed 4-bit matrices: s4 holds -8..7 (weights), u4 holds 0..15 (attention codes).
struct s4 {
  static constexpr int min = -8;  ///< the smallest code
  static constexpr int max = 7;   ///< the largest code
};
/// Codes of attention weights.
struct u4 {
  static constexpr int min = 0;   ///< the smallest code
  static constexpr int max = 15;  ///< the largest code
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Bytes of a packed row of `columns` 4-bit elements.
constexpr index_t packed_bytes(index_t columns) {
  return columns / 2 + columns % 2;
}

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// A row-major matrix of 4-bit elements, two per byte along a row, the low nibble first:
///
///     byte   0           1           2
///     low    (i, 0)      (i, 2)      (i, 4)
///     high   (i, 1)      (i, 3)      0 (odd row: padding)
///
/// The stride counts elements and is even, so that every row starts on a byte. Byte is std::uint8_t, or const of it
/// for a read-only view.
template <class Element, class Byte>
struct packed_view {
  static_assert(std::is_same_v<std::remove_const_t<Byte>, std::uint8_t>, "a packed matrix is stored in bytes");
  using element = Element;  ///< s4 or u4

  Byte* data = nullptr;  ///< the first row
  index_t rows = 0;      ///< number of rows
  index_t columns = 0;   ///< number of columns
  index_t stride = 0;    ///< in elements, even

  INTACT_INLINE constexpr packed_view() = default;
  /// Rows at a distance of `stride` elements, which is even.
  INTACT_INLINE constexpr packed_view(Byte* data_, index_t rows_, index_t columns_, index_t stride_)
      : data(data_), rows(rows_), columns(columns_), stride(stride_) {}
  /// Rows without gaps between their bytes.
  INTACT_INLINE constexpr packed_view(Byte* data_, index_t rows_, index_t columns_)
      : packed_view(data_, rows_, columns_, 2 * packed_bytes(columns_)) {}

  /// The same to be read.
  INTACT_INLINE constexpr operator packed_view<Element, const Byte>() const requires(!std::is_const_v<Byte>) {
    return {data, rows, columns, stride};
  }

  /// The first rows and columns, in place and read-only: storing the last of an odd number of columns would clear the
  /// element after it.
  INTACT_INLINE constexpr packed_view<Element, const Byte> prefix(index_t first_rows, index_t first_columns) const {
    return {data, first_rows, first_columns, stride};
  }

  /// Element (i, j).
  INTACT_INLINE constexpr int operator()(index_t i, index_t j) const {
    const int byte = data[(i * stride + j) / 2];
    const int nibble = j % 2 == 0 ? byte & 15 : byte >> 4;
    return nibble > Element::max ? nibble - 16 : nibble;
  }

  /// Stores a value of the element's range; the other nibble of the byte is kept, except that storing the last
  /// element of an odd row clears its padding.
  INTACT_INLINE constexpr void set(index_t i, index_t j, int value) const requires(!std::is_const_v<Byte>) {
    Byte& byte = data[(i * stride + j) / 2];
    const int nibble = value & 15;
    if (j % 2 != 0) {
      byte = static_cast<std::uint8_t>((byte & 0x0f) | (nibble << 4));
    } else if (j + 1 == columns) {
      byte = static_cast<std::uint8_t>(nibble);
    } else {
      byte = static_cast<std::uint8_t>((byte & 0xf0) | nibble);
    }
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a packed view's shape, and that its rows start on bytes.
template <class Element, class Byte>
void require_shape(const char* operation, const char* argument, const packed_view<Element, Byte>& view, index_t rows,
                   index_t columns) {
  require_shape<packed_view<Element, Byte>>(operation, argument, view, rows, columns);
  if (view.stride % 2 != 0) [[unlikely]] {
    contract_failed("intact::%s: %s has stride %td; the stride of packed rows must be even", operation, argument,
                    view.stride);
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
