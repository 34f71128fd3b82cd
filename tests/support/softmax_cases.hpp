#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "guarded_memory.hpp"
#include "intact/log_softmax.hpp"
#include "tensor.hpp"

// Tables of exponentials, and codes of attention. No array is followed by memory that may be read.

namespace intact_test {

template <class T>
guarded_vector<guarded_vector<T>> exponential_tables(index_t keys) {
  generator random(203);
  const T limit = exp_table_limit<T>(std::max<index_t>(keys, 1));
  guarded_vector<guarded_vector<T>> tables;
  tables.emplace_back(256, limit);  // all keys alike
  tables.emplace_back(256, T{1});
  guarded_vector<T> spike(256, 0);  // only the largest key counts
  spike[0] = 1;
  tables.push_back(spike);
  for (const int octave : {1, 2, 4, 9, 30, 200}) {
    guarded_vector<T> falling{limit};
    while (falling.size() < 256) {
      const T step = falling.back() / static_cast<T>(octave) / 2 * 3;
      const auto most = static_cast<std::int64_t>(std::min<T>(step, falling.back()));
      falling.push_back(falling.back() - static_cast<T>(random.between(0, most)));
    }
    tables.push_back(falling);
  }
  guarded_vector<T> steps;  // powers of two
  for (int d = 0; d < 256; ++d) {
    steps.push_back(limit >> std::min<int>(d / 4, 8 * sizeof(T) - 1));
  }
  tables.push_back(steps);
  guarded_vector<T> neighbours;  // many entries with the same leading bits
  for (int d = 0; d < 256; ++d) {
    neighbours.push_back(limit / 3 + static_cast<T>(255 - d));
  }
  if (neighbours[0] <= limit) {
    tables.push_back(neighbours);
  }
  return tables;
}

/// A table but for one entry, either falling by up to 1/octave from entry to entry or, if that is 0, with entries of
/// which next to nothing is left where only the leading bits are added up.
template <class T>
std::vector<T> random_exponential_table(T largest, int octave, generator& random) {
  std::vector<T> table{largest};
  while (table.size() < 255) {
    const T step = octave == 0 ? T{1} : table.back() / static_cast<T>(octave);
    const T next = octave == 0 && table.size() == 1 ? largest >> random.between(22, 26) : table.back();
    table.push_back(next - std::min(next, static_cast<T>(random.between(0, static_cast<std::int64_t>(step)))));
  }
  return table;
}

template <attention_code Format>
using code_tensor =
    std::conditional_t<Format == attention_code::u4_clipped, guarded_packed_tensor<u4>, guarded_tensor<std::uint8_t>>;

/// The codes to fill rows with.
enum class code_contents { random, small, boundaries, nothing, last, behind_last, first };
inline constexpr code_contents all_code_contents[] = {
    code_contents::random, code_contents::small,       code_contents::boundaries, code_contents::nothing,
    code_contents::last,   code_contents::behind_last, code_contents::first};

/// Codes up to `largest` whose 2^-code sum up to less than 257 in each row: few of them are below 5.
template <class View>
void fill_codes(const View& view, code_contents what, int largest, generator& random) {
  constexpr int boundaries[] = {5,  7,  8,  9,  15, 16, 17, 23, 24,  25,  31, 32,
                                39, 40, 43, 44, 45, 46, 47, 48, 127, 128, 255};
  const int least = largest < 5 ? 0 : 5;
  for (index_t i = 0; i < view.rows; ++i) {
    for (index_t j = 0; j < view.columns; ++j) {
      const bool may_be_first = j < 100;
      const std::int64_t code = what == code_contents::random        ? random.between(may_be_first ? 0 : least, largest)
                                : what == code_contents::small       ? random.between(may_be_first ? 0 : least, 23)
                                : what == code_contents::boundaries  ? boundaries[random.between(0, 22)]
                                : what == code_contents::nothing     ? largest
                                : what == code_contents::last        ? 44
                                : what == code_contents::behind_last ? 45
                                : may_be_first                       ? 0
                                                                     : largest;
      store(view, i, j, std::min<std::int64_t>(code, largest));
    }
  }
}

}  // namespace intact_test
