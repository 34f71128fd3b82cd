#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "intact/pack.hpp"

namespace intact_test {

/// Owns the arrays that parameters refer to.
class parameter_memory {
 public:
  /// An array with element(i) at i.
  template <class T, class Element>
  std::span<T> array(intact::index_t count, const Element& element) {
    const auto values = std::make_shared<std::vector<T>>();
    for (intact::index_t i = 0; i < count; ++i) {
      values->push_back(static_cast<T>(element(i)));
    }
    keep(values);
    return *values;
  }

  /// Random elements from low to high, both included.
  template <class T, class Random>
  intact::matrix_view<const T> matrix(intact::index_t rows, intact::index_t columns, std::int64_t low,
                                      std::int64_t high, Random& random) {
    const auto element = [&](intact::index_t) { return random.between(low, high); };
    return {array<T>(rows * columns, element).data(), rows, columns};
  }

  /// Memory for packed weights.
  std::span<std::byte> lines(intact::index_t bytes) {
    const auto made = std::make_shared<std::vector<line>>(static_cast<std::size_t>(bytes) / sizeof(line) + 1);
    keep(made);
    return std::as_writable_bytes(std::span(*made));
  }

  /// Weights in packed form.
  template <class Weights>
  auto packed(const Weights& weights) {
    return intact::pack_weights(weights, lines(intact::packed_weights_bytes(weights)));
  }

 protected:
  void keep(const std::shared_ptr<void>& made) { kept_.push_back(made); }

 private:
  struct alignas(intact::packed_weights_alignment) line {
    std::byte bytes[intact::packed_weights_alignment];
  };
  std::vector<std::shared_ptr<void>> kept_;
};

}  // namespace intact_test
