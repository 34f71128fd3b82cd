#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "intact/simd/isa.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/view.hpp"

// A program that prints a hash of each tensor that the operations and models make of fixed inputs. Every compiler,
// optimization level, target and instruction set gives the same lines; hashes.txt has them and hashes.py compares them.
//
// Inputs and parameters are integers from integers; only interop.cpp has floating point. The program is compiled once for each
// instruction set, INTACT_TEST_ISA, with its flags. It also compares each kernel with the specification, and ends with
// exit code 1 when they differ.

namespace hashes {

using namespace intact;
using intact::index_t;  // not the function of that name which POSIX declares
using tested_isa = isa::INTACT_TEST_ISA;

/// Uniform integers from a linear congruential generator.
class random_numbers {
 public:
  explicit random_numbers(std::uint64_t seed) : state_(seed) {}

  /// From low to high, both included, for high - low < 2^31.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return low + static_cast<std::int64_t>((state_ >> 33) % static_cast<std::uint64_t>(high - low + 1));
  }

 private:
  std::uint64_t state_;
};

/// A matrix that owns its memory. Its stride is odd or even whatever the columns are, and elements of neighbouring rows
/// are aligned differently.
template <class T>
class matrix {
 public:
  matrix(index_t rows, index_t columns)
      : memory_(static_cast<std::size_t>(rows * (columns + gap))), rows_(rows), columns_(columns) {}

  /// With random elements from low to high.
  matrix(index_t rows, index_t columns, std::int64_t low, std::int64_t high, random_numbers& random)
      : matrix(rows, columns) {
    for (T& element : memory_) {
      element = static_cast<T>(random.between(low, high));
    }
  }

  matrix_view<T> view() { return {memory_.data(), rows_, columns_, columns_ + gap}; }
  matrix_view<const T> view() const { return {memory_.data(), rows_, columns_, columns_ + gap}; }

 private:
  static constexpr index_t gap = 3;
  std::vector<T> memory_;
  index_t rows_;
  index_t columns_;
};

/// The same for elements of 4 bits.
template <class Element>
class nibble_matrix {
 public:
  nibble_matrix(index_t rows, index_t columns)
      : memory_(static_cast<std::size_t>(rows * (packed_bytes(columns) + 1))), rows_(rows), columns_(columns) {}

  nibble_matrix(index_t rows, index_t columns, random_numbers& random) : nibble_matrix(rows, columns) {
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < columns; ++j) {
        view().set(i, j, static_cast<int>(random.between(Element::min, Element::max)));
      }
    }
  }

  packed_view<Element, std::uint8_t> view() {
    return {memory_.data(), rows_, columns_, 2 * (packed_bytes(columns_) + 1)};
  }

 private:
  std::vector<std::uint8_t> memory_;
  index_t rows_;
  index_t columns_;
};

/// FNV-1a over the bytes of integers, the low one first.
class hash {
 public:
  void add(std::int64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      value_ = (value_ ^ (static_cast<std::uint64_t>(value) >> (8 * i) & 255)) * 1099511628211U;
    }
  }
  template <class View>
  void add_all(const View& view) {
    for (index_t i = 0; i < view.rows; ++i) {
      for (index_t j = 0; j < view.columns; ++j) {
        const auto element = view(i, j);
        add(static_cast<std::int64_t>(element), sizeof element);
      }
    }
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 14695981039346656037U;
};

/// Prints a line.
void print_line(const std::string& name, const hash& of_tensor);

/// Reports a kernel that differs from the specification; the program then ends with exit code 1.
void print_difference(const std::string& name);

/// Prints the line of a tensor.
template <class View>
void report(const std::string& name, const View& found) {
  hash all;
  all.add_all(found);
  print_line(name, all);
}

/// The same for a kernel's outputs, which must equal the specification's.
template <class View, class Expected>
void report(const std::string& name, const View& found, const Expected& expected) {
  report(name, found);
  hash of_found, of_expected;
  of_found.add_all(found);
  of_expected.add_all(expected);
  if (of_found.value() != of_expected.value()) {
    print_difference(name);
  }
}

void run_products();
void run_operations();
void run_attention();
void run_models();
void run_interop();

}  // namespace hashes
