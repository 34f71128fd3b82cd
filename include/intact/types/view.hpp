#pragma once

#include <cstddef>
#include <limits>
#include <type_traits>

#include "intact/config/contract.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Sizes, positions and strides. Signed, so that a difference of two is one too.
using index_t = std::ptrdiff_t;

/// The largest size. No memory has as many bytes.
inline constexpr index_t max_size = std::numeric_limits<index_t>::max();

/// a * b and a + b of sizes; max_size if they are larger, so that no memory can have the size, and -1 if one of them is
/// below 0.
INTACT_INLINE constexpr index_t size_product(index_t a, index_t b) {
  if (a < 0 || b < 0) {
    return -1;
  }
  return a != 0 && b > max_size / a ? max_size : a * b;
}
/// a + b, or the largest size if that is less. Not for negative sizes.
INTACT_INLINE constexpr index_t size_sum(index_t a, index_t b) {
  if (a < 0 || b < 0) {
    return -1;
  }
  return b > max_size - a ? max_size : a + b;
}

/// Groups of at most `group` elements that make up `size`.
INTACT_INLINE constexpr index_t group_count(index_t size, index_t group) {
  return size / group + (size % group != 0 ? 1 : 0);
}

/// A non-owning row-major matrix. Element (i, j) is at data[i * stride + j]; the stride
/// counts elements. No alignment is asked for beyond that of T; data may be null when the matrix has no elements.
template <class T>
struct matrix_view {
  using element = T;  ///< of the elements

  T* data = nullptr;    ///< element (0, 0)
  index_t rows = 0;     ///< number of rows
  index_t columns = 0;  ///< number of columns
  index_t stride = 0;   ///< elements from the beginning of a row to that of the next

  INTACT_INLINE constexpr matrix_view() = default;
  /// Rows at a distance of `stride` elements.
  INTACT_INLINE constexpr matrix_view(T* data_, index_t rows_, index_t columns_, index_t stride_)
      : data(data_), rows(rows_), columns(columns_), stride(stride_) {}
  /// Rows without gaps.
  INTACT_INLINE constexpr matrix_view(T* data_, index_t rows_, index_t columns_)
      : matrix_view(data_, rows_, columns_, columns_) {}

  /// The same to be read.
  INTACT_INLINE constexpr operator matrix_view<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, columns, stride};
  }

  /// Element (i, j).
  INTACT_INLINE constexpr T& operator()(index_t i, index_t j) const { return data[i * stride + j]; }

  /// The first rows and columns, in place.
  INTACT_INLINE constexpr matrix_view prefix(index_t first_rows, index_t first_columns) const {
    return {data, first_rows, first_columns, stride};
  }

  /// Rows [first, first + count).
  INTACT_INLINE constexpr matrix_view row_block(index_t first, index_t count) const {
    return {count == 0 || columns == 0 ? data : data + first * stride, count, columns, stride};
  }

  /// Columns [first, first + count), for example one head's share of the qkv codes.
  INTACT_INLINE constexpr matrix_view column_block(index_t first, index_t count) const {
    return {rows == 0 || count == 0 ? data : data + first, rows, count, stride};
  }
};

/// Of a pointer and sizes.
template <class T>
matrix_view(T*, index_t, index_t) -> matrix_view<T>;
/// Of a pointer, sizes and a stride.
template <class T>
matrix_view(T*, index_t, index_t, index_t) -> matrix_view<T>;

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks that a view describes memory: sizes of at least 0, rows that do not overlap, data unless it is empty, and a
/// last element that an address can reach.
template <class View>
void require_view(const char* operation, const char* argument, const View& view) {
  if (view.rows < 0 || view.columns < 0 || view.stride < view.columns ||
      (view.data == nullptr && view.rows != 0 && view.columns != 0)) [[unlikely]] {
    contract_failed(
        "intact::%s: %s has %td rows, %td columns, stride %td and %s data; it must have sizes of at least 0, a stride "
        "of at least its columns, and data",
        operation, argument, view.rows, view.columns, view.stride, view.data == nullptr ? "no" : "some");
  }
  constexpr index_t most = max_size / static_cast<index_t>(sizeof(*view.data));
  if (view.columns != 0 && view.rows != 0 &&
      (view.columns > most || (view.rows > 1 && view.stride > (most - view.columns) / (view.rows - 1)))) [[unlikely]] {
    contract_failed(
        "intact::%s: %s has %td rows of %td columns at stride %td; its last element must be among the first %td",
        operation, argument, view.rows, view.columns, view.stride, most);
  }
}

/// Checks a view as above, and its shape.
template <class View>
void require_shape(const char* operation, const char* argument, const View& view, index_t rows, index_t columns) {
  require_view(operation, argument, view);
  if (view.rows != rows || view.columns != columns) [[unlikely]] {
    contract_failed("intact::%s: %s is %td x %td; it must be %td x %td", operation, argument, view.rows, view.columns,
                    rows, columns);
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
