#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "softmax_cases.hpp"

// Masks and tables of exponentials of an input's choice.

namespace intact_test {

/// A mask with a row for each query or one for all, in which any part of the keys is visible.
inline guarded_tensor<std::uint8_t> some_mask(fuzz_input& input, index_t rows, index_t keys, generator& random) {
  guarded_tensor<std::uint8_t> mask(input.flag() ? rows : 1, keys, input.where());
  const std::int64_t hidden = input.between(0, 4);
  for (index_t i = 0; i < mask.rows(); ++i) {
    for (index_t j = 0; j < keys; ++j) {
      mask(i, j) = static_cast<std::uint8_t>(random.between(0, 3) < hidden ? 0 : random.between(1, 255));
    }
  }
  return mask;
}

/// A table that falls slowly or at once, one of whose entries is the input's choice. One in 32 is refused.
template <class T>
guarded_vector<T> some_table(fuzz_input& input, index_t keys, generator& random) {
  constexpr int octaves[] = {0, 1, 2, 4, 7, 20, 100};
  const T limit = exp_table_limit<T>(std::max<index_t>(keys, 1));
  const T largest = std::max<T>(limit >> input.between(0, 20), 1);
  const std::vector<T> falling = random_exponential_table<T>(largest, input.one_of(octaves), random);
  guarded_vector<T> table(falling.begin(), falling.end());
  const T one = falling.front() >> input.between(0, 8 * sizeof(T) - 1);
  table.insert(std::upper_bound(table.begin(), table.end(), one, std::greater<>()), one);
  if (input.between(0, 31) == 31) {
    table[0] = limit + 1;
  }
  return table;
}

}  // namespace intact_test
