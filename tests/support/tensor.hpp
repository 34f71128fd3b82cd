#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "intact/types/int4.hpp"
#include "intact/types/view.hpp"
#include "wide_integer.hpp"

// Helpers shared by the tests of the operations: tensors that own their memory, values to fill them with, exact
// arithmetic.

namespace intact_test {

using namespace intact;
using intact::index_t;  // not the function of that name which POSIX declares

/// Random integers, the same on every machine.
class generator {
 public:
  explicit generator(std::uint64_t seed) : engine_(seed) {}

  /// From low to high, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    const std::uint64_t values = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1;
    const std::uint64_t steps = values == 0 ? engine_() : engine_() % values;
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + steps);
  }

 private:
  std::mt19937_64 engine_;
};

/// The layout of a tensor in its memory, in elements.
struct layout {
  index_t gap = 0;     ///< between the rows: the stride minus the columns
  index_t offset = 0;  ///< in front of the first element
  index_t behind = 0;  ///< after the last element
};

inline constexpr layout layouts[] = {
    {0, 0, 0},    // dense, the memory ends with the last element: AddressSanitizer sees every access beyond it
    {1, 1, 64},   // an odd stride from an odd address: no two rows are aligned alike
    {64, 32, 64}  // rows that all start 32 bytes off a boundary of 64, a whole register apart
};

/// A matrix that owns its memory. All of it is filled with a pattern first, so that it shows what was written.
template <class T, class Allocator = std::allocator<T>>
class tensor {
 public:
  static constexpr T pattern = static_cast<T>(0x5a5a5a5a5a5a5a5a);

  tensor(index_t rows, index_t columns, const layout& where = {})
      : rows_(rows),
        columns_(columns),
        stride_(columns + where.gap),
        offset_(where.offset),
        memory_(
            static_cast<std::size_t>(where.offset + (rows == 0 ? 0 : (rows - 1) * stride_ + columns) + where.behind),
            pattern) {}

  index_t rows() const { return rows_; }
  index_t columns() const { return columns_; }
  matrix_view<T> view() { return {memory_.data() + offset_, rows_, columns_, stride_}; }
  matrix_view<const T> view() const { return {memory_.data() + offset_, rows_, columns_, stride_}; }
  T& operator()(index_t i, index_t j) { return memory_[position(i, j)]; }
  const T& operator()(index_t i, index_t j) const { return memory_[position(i, j)]; }

  const std::vector<T, Allocator>& memory() const { return memory_; }

  /// Whether everything but the elements still has the pattern.
  bool surroundings_untouched() const {
    std::vector<T> rest(memory_.begin(), memory_.end());
    for (index_t i = 0; i < rows_; ++i) {
      std::fill_n(rest.begin() + offset_ + i * stride_, columns_, pattern);
    }
    return std::all_of(rest.begin(), rest.end(), [](T x) { return x == pattern; });
  }

 private:
  std::size_t position(index_t i, index_t j) const { return static_cast<std::size_t>(offset_ + i * stride_ + j); }

  index_t rows_;
  index_t columns_;
  index_t stride_;
  index_t offset_;
  std::vector<T, Allocator> memory_;
};

/// The same for packed 4-bit elements; the layout counts bytes.
template <class Element, class Allocator = std::allocator<std::uint8_t>>
class packed_tensor {
 public:
  packed_tensor(index_t rows, index_t columns, const layout& where = {})
      : bytes_(rows, packed_bytes(columns), where), columns_(columns) {}

  packed_view<Element, std::uint8_t> view() {
    const matrix_view<std::uint8_t> all = bytes_.view();
    return {all.data, all.rows, columns_, 2 * all.stride};
  }
  const tensor<std::uint8_t, Allocator>& bytes() const { return bytes_; }
  bool surroundings_untouched() const { return bytes_.surroundings_untouched(); }

  /// Whether the unused half of each row's last byte is 0.
  bool padding_is_zero() const {
    for (index_t i = 0; columns_ % 2 != 0 && i < bytes_.rows(); ++i) {
      if (bytes_(i, bytes_.columns() - 1) >> 4 != 0) {
        return false;
      }
    }
    return true;
  }

 private:
  tensor<std::uint8_t, Allocator> bytes_;
  index_t columns_;
};

/// The values to fill a tensor with.
enum class values { smallest, largest, alternating, constant_rows, random };
inline constexpr values all_values[] = {values::smallest, values::largest, values::alternating, values::constant_rows,
                                        values::random};

template <class T>
void store(const matrix_view<T>& view, index_t i, index_t j, std::int64_t value) {
  view(i, j) = static_cast<T>(value);
}
template <class Element>
void store(const packed_view<Element, std::uint8_t>& view, index_t i, index_t j, std::int64_t value) {
  view.set(i, j, static_cast<int>(value));
}

template <class View>
void fill(const View& view, values what, std::int64_t low, std::int64_t high, generator& random) {
  for (index_t i = 0; i < view.rows; ++i) {
    const std::int64_t of_row = random.between(low, high);
    for (index_t j = 0; j < view.columns; ++j) {
      const bool upper = what == values::largest || (what == values::alternating && (i + j) % 2 != 0);
      store(view, i, j,
            what == values::random          ? random.between(low, high)
            : what == values::constant_rows ? of_row
            : upper                         ? high
                                            : low);
    }
  }
}

/// Where two matrices differ first, in words; empty if they are equal.
template <class View, class Expected>
std::string first_difference(const View& view, const Expected& expected) {
  if (view.rows != expected.rows || view.columns != expected.columns) {
    return "the shapes differ";
  }
  for (index_t i = 0; i < view.rows; ++i) {
    for (index_t j = 0; j < view.columns; ++j) {
      if (view(i, j) != expected(i, j)) {
        return "(" + std::to_string(i) + ", " + std::to_string(j) + ") is " + std::to_string(view(i, j)) + ", not " +
               std::to_string(expected(i, j));
      }
    }
  }
  return "";
}

}  // namespace intact_test
