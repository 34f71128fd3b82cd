#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "intact/types/scale.hpp"
#include "intact/types/view.hpp"

// Operands without containers, and a hash of results. The unnamed namespace makes them each unit's own.

namespace intact {
inline namespace INTACT_UNIT {
namespace {

constexpr index_t tokens = 36, channels = 64, outputs = 40;

/// FNV-1a of everything that is written.
class hash {
 public:
  template <class T>
  void add(matrix_view<T> y) {
    for (index_t i = 0; i < y.rows; ++i) {
      for (index_t j = 0; j < y.columns; ++j) {
        value_ = (value_ ^ static_cast<std::uint64_t>(y(i, j))) * 1099511628211U;
      }
    }
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 14695981039346656037U;
};

template <class T>
struct matrix {
  index_t rows, columns;
  T data[static_cast<std::size_t>(4 * tokens * channels)] = {};

  matrix(index_t rows_, index_t columns_) : rows(rows_), columns(columns_) {}
  matrix_view<T> view() { return {data, rows, columns}; }
  matrix_view<const T> view() const { return {data, rows, columns}; }
  std::span<const T> span() const { return {data, static_cast<std::size_t>(rows * columns)}; }
};

template <class T>
matrix<T> random(index_t rows, index_t columns) {
  matrix<T> made(rows, columns);
  std::uint32_t state = 1;
  for (index_t i = 0; i < rows * columns; ++i) {
    state = state * 1664525U + 1013904223U;
    made.data[i] = static_cast<T>(state >> 24);
  }
  return made;
}

template <class T>
matrix<T> filled(index_t columns, T value) {
  matrix<T> made(1, columns);
  for (index_t i = 0; i < columns; ++i) {
    made.data[i] = value;
  }
  return made;
}

/// About 2^-9 of the sum, around code 128.
constexpr tensor_scale tensor = {1 << 29, std::int64_t{257} << 37, 6, 0};

}  // namespace
}  // namespace INTACT_UNIT
}  // namespace intact
