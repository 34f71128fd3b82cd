#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <type_traits>

#include "intact/kernel/log_softmax/row_loop.hpp"
#include "intact/types/executor.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Most keys of a row.
inline constexpr index_t log_softmax_max_keys = 1 << 28;

/// The largest value that a table of type T may hold at d = 0 for rows of `keys` logits: 2 * sum + e and 6 * e must
/// stay within T.
template <class T>
constexpr T exp_table_limit(index_t keys) {
  return std::numeric_limits<T>::max() / static_cast<T>(std::max<index_t>(2 * keys + 1, 6));
}

/// Checks an exponential table for rows of `keys` logits.
template <class T>
void require_exp_table(const char* operation, exp_table<T> table, index_t keys) {
  require_at_most(operation, "number of keys", keys, log_softmax_max_keys);
  require_equal(operation, "size of the exponential table", std::ssize(table), softmax_distances);
  const T limit = exp_table_limit<T>(keys);
  if (table[0] == 0 || table[0] > limit) [[unlikely]] {
    contract_failed("intact::%s: the exponential of 0 is %llu; for %td keys it must be in 1..%llu", operation,
                    static_cast<unsigned long long>(table[0]), keys, static_cast<unsigned long long>(limit));
  }
  for (std::size_t d = 1; d < table.size(); ++d) {
    if (table[d] > table[d - 1]) [[unlikely]] {
      contract_failed("intact::%s: the exponential of %zu is %llu, that of %zu is %llu; the table must not increase",
                      operation, d, static_cast<unsigned long long>(table[d]), d - 1,
                      static_cast<unsigned long long>(table[d - 1]));
    }
  }
}

/// Checks the arguments of log_softmax.
template <attention_code Format, class T>
void require_log_softmax(const matrix_view<const std::uint8_t>& logits, exp_table<T> table,
                         const typename attention_codes<Format>::view& codes) {
  static_assert(std::is_same_v<T, std::uint32_t> || std::is_same_v<T, std::uint64_t>,
                "exponential tables hold uint32_t or uint64_t");
  require_view("log_softmax", "logits", logits);
  require_shape("log_softmax", "codes", codes, logits.rows, logits.columns);
  require_exp_table("log_softmax", table, logits.columns);
}

/// Log-Int-Softmax: a softmax that yields log2 codes of the probabilities, without division or exponential.
///
/// Formula:   d[j] = max_j logit[j] - logit[j];  e[j] = table[d[j]];  S = sum_j e[j]
///            code[j] = the power of two nearest to S / e[j] as FQ-ViT rounds it (arith/log2_code.hpp); the format
///            decides the codes above 15 and for e[j] = 0. Optionally -log2(e[j] / S) rounded to nearest.
/// Shapes:    logits Tq x Tk, codes Tq x Tk (u8 for attention_code::u8_masked and attention_code::u8_full, packed u4
///            for attention_code::u4_clipped); row-major, any strides, any alignment; sizes may be 0.
/// Units:     the table carries the logits' scale; their zero point cancels.
/// Range:     the table is non-increasing with 1 <= table[0] and table[0] * max(2 * Tk + 1, 6) within T (uint32_t or
///            uint64_t); Tk <= 2^28.
/// Exactness: every bit, on every instruction set, with every executor; equal to FQ-ViT's
///            log_round(round(S / e)) for all integers.
/// Errors:    shapes that do not match, a table that is 0, too large or increasing: before anything is written.
/// Aliasing:  codes must not overlap the logits, except that u8 codes may be the logits exactly (in place).
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, section 3.3 (Log-Int-Softmax); I-BERT (arXiv 2101.01321) for the table; docs/numerics.md, 5.
template <class Isa = isa::native, attention_code Format = attention_code::u8_masked,
          log2_rounding Rounding = log2_rounding::round_ratio, class T, executor Executor = sequential>
void log_softmax(matrix_view<const std::uint8_t> logits, exp_table<T> table,
                 typename attention_codes<Format>::view codes, const Executor& run = {}) {
  require_log_softmax<Format>(logits, table, codes);
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  if (logits.columns != 0) {
    for_each_row_range(run, logits.rows, rows_per_task, [&](row_range rows) {
      kernel::log_softmax<Isa, Format, Rounding>(logits, table.data(), codes, rows);
    });
  }
}

/// Checks the arguments of log_softmax.
template <attention_code Format, class T>
void require_log_softmax(const matrix_view<const std::uint8_t>& logits, exp_table<T> table, const key_mask& mask,
                         const matrix_view<std::uint8_t>& codes) {
  static_assert(std::is_same_v<T, std::uint32_t> || std::is_same_v<T, std::uint64_t>,
                "exponential tables hold uint32_t or uint64_t");
  static_assert(Format != attention_code::u4_clipped,
                "masked keys need a code for weight 0: attention_code::u8_masked or attention_code::u8_full");
  require_view("log_softmax", "logits", logits);
  require_shape("log_softmax", "codes", codes, logits.rows, logits.columns);
  require_mask("log_softmax", mask, logits.rows, logits.columns);
  require_exp_table("log_softmax", table, logits.columns);
}

/// The same where keys may be masked, as in causal attention, shifted windows (Swin) and padded batches. A relative
/// position bias is added to the logits first (add.hpp).
///
/// Formula:   as above, maximum and sum over the visible keys; masked keys get the code of weight 0 (16, and 255 for
///            attention_code::u8_full), and so do all keys of a row without a visible one.
/// Shapes:    mask Tq x Tk or 1 x Tk; else as above. Only codes in u8: packed u4 has no code for weight 0.
/// Errors:    as above, and a mask of another shape.
/// Aliasing:  as above; codes must not overlap the mask.
/// Runs on:   as above.
template <class Isa = isa::native, attention_code Format = attention_code::u8_masked,
          log2_rounding Rounding = log2_rounding::round_ratio, class T, executor Executor = sequential>
void log_softmax(matrix_view<const std::uint8_t> logits, exp_table<T> table, const key_mask& mask,
                 matrix_view<std::uint8_t> codes, const Executor& run = {}) {
  require_log_softmax<Format>(logits, table, mask, codes);
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  if (logits.columns != 0) {
    for_each_row_range(run, logits.rows, rows_per_task, [&](row_range rows) {
      kernel::log_softmax<Isa, Format, Rounding>(logits, table.data(), mask, codes, rows);
    });
  }
}

}  // namespace INTACT_UNIT
}  // namespace intact
