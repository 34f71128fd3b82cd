#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <span>
#include <type_traits>

#include "intact/config/floating_point.hpp"
#include "intact/types/view.hpp"

// Eigen matrices and matrix views of the same memory.

namespace intact {
inline namespace INTACT_UNIT {

/// A row-major matrix that owns its elements.
template <class T>
using row_major_matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A row-major matrix of float.
using float_matrix = row_major_matrix<float>;
/// A row of float.
using float_row = Eigen::RowVectorXf;

/// A view as an Eigen matrix.
template <class T>
auto map_of(const matrix_view<T>& view) {
  using matrix = row_major_matrix<std::remove_const_t<T>>;
  using map =
      Eigen::Map<std::conditional_t<std::is_const_v<T>, const matrix, matrix>, Eigen::Unaligned, Eigen::OuterStride<>>;
  return map(view.data, view.rows, view.columns, Eigen::OuterStride<>(view.stride));
}

namespace detail {

template <class Derived>
inline constexpr bool has_rows_in_memory =
    (Derived::Flags & Eigen::RowMajorBit) != 0 &&
    (Derived::Flags & Eigen::DirectAccessBit) != 0 && Derived::InnerStrideAtCompileTime == 1;

}  // namespace detail

/// The elements of a row-major Eigen matrix or of a block of one, which must outlive the view.
template <class Derived>
matrix_view<const typename Derived::Scalar> view_of(const Eigen::DenseBase<Derived>& matrix) {
  static_assert(detail::has_rows_in_memory<Derived>, "a view needs a row-major matrix in memory, or a block of one");
  return {matrix.derived().data(), matrix.rows(), matrix.cols(), matrix.derived().outerStride()};
}

/// A view of an Eigen matrix, which must outlive it.
template <class Derived>
matrix_view<typename Derived::Scalar> view_of(Eigen::DenseBase<Derived>& matrix) {
  static_assert(detail::has_rows_in_memory<Derived>, "a view needs a row-major matrix in memory, or a block of one");
  return {matrix.derived().data(), matrix.rows(), matrix.cols(), matrix.derived().outerStride()};
}

/// The elements of an Eigen matrix or vector, in the order of its memory.
template <class Derived>
std::span<const typename Derived::Scalar> span_of(const Eigen::PlainObjectBase<Derived>& matrix) {
  return {matrix.data(), static_cast<std::size_t>(matrix.size())};
}

}  // namespace INTACT_UNIT
}  // namespace intact
