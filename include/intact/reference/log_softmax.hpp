#pragma once

#include <algorithm>
#include <cstdint>

#include "intact/arith/log2_code.hpp"
#include "intact/log_softmax.hpp"
#include "intact/types/attention_codes.hpp"
#include "intact/types/key_mask.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// -log2(e / sum), rounded to an integer.
template <log2_rounding Rounding>
int rounded_log2(std::uint64_t e, std::uint64_t sum) {
  return Rounding == log2_rounding::round_log ? log2_code_round_log(e, sum) : log2_code(e, sum);
}

/// Sum of the table's values over row i; `largest` is the row's largest code.
template <class T>
std::uint64_t exp_sum(matrix_view<const std::uint8_t> logits, index_t i, int largest, exp_table<T> table) {
  std::uint64_t sum = 0;
  for (index_t j = 0; j < logits.columns; ++j) {
    sum += table[static_cast<std::size_t>(largest - logits(i, j))];
  }
  return sum;
}

template <attention_code Format = attention_code::u8_masked, log2_rounding Rounding = log2_rounding::round_ratio,
          class T>
/// The specification of intact::log_softmax().
void log_softmax(matrix_view<const std::uint8_t> logits, exp_table<T> table,
                 typename attention_codes<Format>::view codes) {
  require_log_softmax<Format>(logits, table, codes);
  using code = attention_codes<Format>;
  for (index_t i = 0; i < logits.rows; ++i) {
    int largest = 0;
    for (index_t j = 0; j < logits.columns; ++j) {
      largest = std::max<int>(largest, logits(i, j));
    }
    const std::uint64_t sum = exp_sum(logits, i, largest, table);
    for (index_t j = 0; j < logits.columns; ++j) {
      const std::uint64_t e = table[static_cast<std::size_t>(largest - logits(i, j))];
      const int level = e == 0 ? code::last_code : rounded_log2<Rounding>(e, sum);
      store_code(codes, i, j, e != 0 && level > code::largest ? code::below_largest : level);
    }
  }
}

/// The same where keys may be masked: a row's codes are those of its visible keys alone; the others have weight 0.
template <attention_code Format = attention_code::u8_masked, log2_rounding Rounding = log2_rounding::round_ratio,
          class T>
void log_softmax(matrix_view<const std::uint8_t> logits, exp_table<T> table, const key_mask& mask,
                 matrix_view<std::uint8_t> codes) {
  require_log_softmax<Format>(logits, table, mask, codes);
  using code = attention_codes<Format>;
  for (index_t i = 0; i < logits.rows; ++i) {
    int largest = 0;
    for (index_t j = 0; j < logits.columns; ++j) {
      largest = mask(i, j) ? std::max<int>(largest, logits(i, j)) : largest;
    }
    const auto exponential = [&](index_t j) -> std::uint64_t {
      return mask(i, j) ? table[static_cast<std::size_t>(largest - logits(i, j))] : 0;
    };
    std::uint64_t sum = 0;
    for (index_t j = 0; j < logits.columns; ++j) {
      sum += exponential(j);
    }
    for (index_t j = 0; j < logits.columns; ++j) {
      const std::uint64_t e = exponential(j);
      const int level = e == 0 ? code::last_code : rounded_log2<Rounding>(e, sum);
      store_code(codes, i, j, e != 0 && level > code::largest ? code::below_largest : level);
    }
  }
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
