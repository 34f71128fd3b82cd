#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "intact/max_softmax.hpp"
#include "intact/types/attention_codes.hpp"
#include "intact/types/key_mask.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// y[i, j] = table[max_k logits[i, k] - logits[i, j]], into u8 or packed u4.
template <class Codes>
void max_softmax(matrix_view<const std::uint8_t> logits, std::span<const std::uint8_t> table, Codes y) {
  require_max_softmax(logits, table, y);
  for (index_t i = 0; i < logits.rows; ++i) {
    int largest = 0;
    for (index_t j = 0; j < logits.columns; ++j) {
      largest = std::max<int>(largest, logits(i, j));
    }
    for (index_t j = 0; j < logits.columns; ++j) {
      store_code(y, i, j, table[static_cast<std::size_t>(largest - logits(i, j))]);
    }
  }
}

/// The same where keys may be masked: they are not looked at for the maximum, and become `masked`.
inline void max_softmax(matrix_view<const std::uint8_t> logits, std::span<const std::uint8_t> table,
                        const key_mask& mask, std::uint8_t masked, matrix_view<std::uint8_t> y) {
  require_max_softmax(logits, table, mask, y);
  for (index_t i = 0; i < logits.rows; ++i) {
    int largest = 0;
    for (index_t j = 0; j < logits.columns; ++j) {
      largest = mask(i, j) ? std::max<int>(largest, logits(i, j)) : largest;
    }
    for (index_t j = 0; j < logits.columns; ++j) {
      y(i, j) = mask(i, j) ? table[static_cast<std::size_t>(largest - logits(i, j))] : masked;
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
