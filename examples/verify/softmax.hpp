#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "intact/build/table.hpp"
#include "intact/io/recorded_case.hpp"
#include "intact/log_softmax.hpp"
#include "intact/reference/log_softmax.hpp"

// Log-Int-Softmax, alone and inside attention.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

/// The codes of a tail policy as the original records them: the zero level is one more than the largest code.
template <intact::attention_code Format>
matrix<std::uint8_t> log2_codes(const matrix<std::uint8_t>& logits, const intact::exp_values<std::uint64_t>& table) {
  matrix<std::uint8_t> codes(logits.rows, logits.columns);
  intact::log_softmax<intact::isa::native, Format>(logits.view(), intact::exp_table<std::uint64_t>(table),
                                                   codes.view());
  return codes;
}

template <>
inline matrix<std::uint8_t> log2_codes<intact::attention_code::u4_clipped>(
    const matrix<std::uint8_t>& logits, const intact::exp_values<std::uint64_t>& table) {
  matrix<std::uint8_t> packed(logits.rows, intact::packed_bytes(logits.columns));
  const intact::packed_view<intact::u4, std::uint8_t> view(packed.values.data(), logits.rows, logits.columns);
  intact::log_softmax<intact::isa::native, intact::attention_code::u4_clipped>(
      logits.view(), intact::exp_table<std::uint64_t>(table), view);
  matrix<std::uint8_t> codes(logits.rows, logits.columns);
  for (index_t i = 0; i < codes.rows; ++i) {
    for (index_t j = 0; j < codes.columns; ++j) {
      codes(i, j) = static_cast<std::uint8_t>(view(i, j));
    }
  }
  return codes;
}

/// The original's formula, by division: S / e rounded, halves to even, then to a power of two, up from 1.5 times on.
inline int log2_code_by_division(std::uint64_t e, std::uint64_t sum) {
  const std::uint64_t quotient = sum / e, rest = sum % e;
  const bool up = rest > e - rest || (rest == e - rest && quotient % 2 != 0);
  const std::uint64_t ratio = quotient + (up ? 1 : 0);
  const int floor_log2 = intact::bit_length(ratio) - 1;
  const bool next = floor_log2 > 0 && ratio - (std::uint64_t{1} << floor_log2) >= std::uint64_t{1} << (floor_log2 - 1);
  return floor_log2 + (next ? 1 : 0);
}

/// One Log-Int-Softmax with its exact integers.
struct exact_softmax {
  matrix<std::uint8_t> logits;
  float scale = 0;  ///< of the logits
  intact::exp_values<std::uint64_t> table;
  std::vector<std::uint64_t> sums;
  std::vector<int> largest;

  exact_softmax(matrix<std::uint8_t> codes, float logits_scale)
      : logits(std::move(codes)), scale(logits_scale), table(intact::i_exp_table(scale, logits.columns)) {
    for (index_t i = 0; i < logits.rows; ++i) {
      const auto row = logits.view().row_block(i, 1);
      largest.push_back(logits.columns == 0 ? 0 : *std::max_element(row.data, row.data + row.columns));
      sums.push_back(
          intact::reference::exp_sum(logits.view(), i, largest.back(), intact::exp_table<std::uint64_t>(table)));
    }
  }

  std::uint64_t e(index_t i, index_t j) const {
    return table[static_cast<std::size_t>(largest[static_cast<std::size_t>(i)] - logits(i, j))];
  }
  std::uint64_t sum(index_t i) const { return sums[static_cast<std::size_t>(i)]; }
  /// The code by division; `zero` from there on, and where the exponential is 0.
  int by_division(index_t i, index_t j, int zero) const {
    return e(i, j) == 0 ? zero : std::min(log2_code_by_division(e(i, j), sum(i)), zero);
  }
};

/// The original's computation from float32 logits x: it takes fl(x / s) for the codes, which may miss the whole
/// numbers, and follows the same polynomial in float32. `zero` from that code on. Sums are rounded once, so that those
/// of the original, in an order of its own, may differ in their last bits.
inline int float32_code(const float* x, index_t keys, index_t j, float scale, int zero) {
  const intact::i_exp_constants constants(scale);
  const auto octave = static_cast<float>(constants.octave), b = static_cast<float>(constants.b),
             c = static_cast<float>(constants.c);
  const float largest = *std::max_element(x, x + keys) / scale;
  const auto exponential = [&](index_t k) {
    const float distance = std::min(largest - x[k] / scale, 30 * octave);
    if (!(distance >= 0)) {  // float32 does not hold the quotients
      return std::numeric_limits<float>::quiet_NaN();
    }
    const float halvings = std::floor(distance / octave);
    const float r = -(distance - octave * halvings);
    const auto square = static_cast<float>(static_cast<double>(r) * static_cast<double>(r + b));
    return std::max(std::floor(std::ldexp(square + c, 30 - static_cast<int>(halvings))), 0.0F);
  };
  double sum = 0;
  for (index_t k = 0; k < keys; ++k) {
    sum += static_cast<double>(exponential(k));
  }
  const float ratio = std::rint(static_cast<float>(sum) / exponential(j));
  if (!std::isfinite(ratio) || ratio < 1) {
    return zero;
  }
  const int floor_log2 = std::ilogb(ratio);
  return std::min(floor_log2 + (ratio - std::ldexp(1.0F, floor_log2) >= std::ldexp(0.5F, floor_log2) ? 1 : 0), zero);
}

/// Why the original's code differs from the exact one: its float32 quotients x / s of this row are not all whole codes,
/// and with them its formula gives the recorded code; or the ratio S / e lies within float32 rounding of where codes
/// change.
inline std::string softmax_reason(const exact_softmax& softmax, index_t i, index_t j, const std::vector<float>& x,
                                  std::int64_t recorded, int zero) {
  const index_t keys = softmax.logits.columns;
  const float scale = softmax.scale;
  const float* const row = x.data() + i * keys;
  const float* const missed =
      std::find_if(row, row + keys, [&](float value) { return value / scale != std::rint(value / scale); });
  if (missed != row + keys && float32_code(row, keys, j, scale, zero) == recorded) {
    char text[160];
    std::snprintf(text, sizeof text, "in float32 x / s is %.9g for key %td, no whole code; so computed, the code is %d",
                  static_cast<double>(*missed / scale), missed - row, static_cast<int>(recorded));
    return text;
  }
  const long double tolerance = static_cast<long double>(keys + 4) * float32_rounding;
  if (tolerance >= 0.5L) {  // float32 does not tell such sums apart
    return "";
  }
  for (const long double factor : {1 - tolerance, 1 + tolerance}) {
    const auto moved = static_cast<std::uint64_t>(static_cast<long double>(softmax.sum(i)) * factor);
    if (softmax.e(i, j) != 0 && std::min(log2_code_by_division(softmax.e(i, j), moved), zero) == recorded) {
      return "the ratio of the row's sum and the exponential is within float32 rounding of the recorded code's";
    }
  }
  return "";
}

/// Compares codes with a recorded tensor whose codes from `zero` on are the zero level.
template <class Reason>
void compare_codes(tensor_comparison& result, const matrix<std::uint8_t>& codes,
                   const std::vector<std::int64_t>& recorded, int from_recorded, int zero, Reason reason) {
  for (std::size_t at = 0; at < recorded.size(); ++at) {
    const std::int64_t expected = recorded[at] >= from_recorded ? zero : recorded[at];
    result.compare<std::int64_t>(at, codes.values[at], expected, [&] { return reason(at, expected); });
  }
}

inline std::string no_reason(std::size_t, std::int64_t) {
  return "";
}

/// Codes against the same formula by division: whatever is recorded, they must be equal.
template <intact::attention_code Format>
tensor_comparison compare_with_division(const recorded_case& file, const std::string& tensor,
                                        const exact_softmax& softmax) {
  constexpr int zero = intact::attention_codes<Format>::last_code;
  const matrix<std::uint8_t> codes = log2_codes<Format>(softmax.logits, softmax.table);
  tensor_comparison result =
      file.compare(tensor, "Log-Int-Softmax against its division", claim::exact, codes.values.size());
  for (index_t i = 0; i < codes.rows; ++i) {
    for (index_t j = 0; j < codes.columns; ++j) {
      result.compare<std::int64_t>(static_cast<std::size_t>(i * codes.columns + j), codes(i, j),
                                   softmax.by_division(i, j, zero));
    }
  }
  return result;
}

/// The exact integers of a recorded Log-Int-Softmax.
inline void verify_exact_softmax(const recorded_case& file, const exact_softmax& softmax, case_report& report) {
  const std::size_t count = softmax.logits.values.size();
  if (file.has("e_exact")) {
    tensor_comparison result = file.compare("e_exact", "exponentials", claim::exact, count);
    const std::vector<std::int64_t> recorded = file.integers("e_exact");
    for (std::size_t at = 0; at < count; ++at) {
      const auto position = static_cast<index_t>(at);
      const std::uint64_t e = softmax.e(position / softmax.logits.columns, position % softmax.logits.columns);
      result.compare(at, static_cast<std::int64_t>(e), recorded[at]);
    }
    report.add(std::move(result));
  }
  if (file.has("S_exact")) {
    tensor_comparison result = file.compare("S_exact", "sums of rows", claim::exact, softmax.sums.size());
    const std::vector<std::int64_t> recorded = file.integers("S_exact");
    for (std::size_t i = 0; i < recorded.size(); ++i) {
      result.compare(i, static_cast<std::int64_t>(softmax.sums[i]), recorded[i]);
    }
    report.add(std::move(result));
  }
  if (file.has("q_exact")) {
    std::vector<std::int64_t> recorded = file.integers("q_exact", count);
    for (std::size_t at = 0; at < count; ++at) {  // without an exponential there is no code
      const auto position = static_cast<index_t>(at);
      const bool nothing = softmax.e(position / softmax.logits.columns, position % softmax.logits.columns) == 0;
      recorded[at] = nothing ? 256 : recorded[at];
    }
    const auto add = [&](const char* operation, const matrix<std::uint8_t>& codes, int from, int zero) {
      tensor_comparison result = file.compare("q_exact", operation, claim::exact, count);
      compare_codes(result, codes, recorded, from, zero, no_reason);
      report.add(std::move(result));
    };
    add("4-bit codes, attention_code::u8_masked",
        log2_codes<intact::attention_code::u8_masked>(softmax.logits, softmax.table), 16, 16);
    add("4-bit codes, attention_code::u4_clipped",
        log2_codes<intact::attention_code::u4_clipped>(softmax.logits, softmax.table), 16, 15);
    add("8-bit codes, attention_code::u8_full",
        log2_codes<intact::attention_code::u8_full>(softmax.logits, softmax.table), 255, 255);
  }
}

/// A row whose masked keys are left out, as masks are treated here: of weight 0, in neither maximum nor sum. The
/// original adds -100 to them.
inline void verify_masked_softmax(const recorded_case& file, const matrix<std::uint8_t>& logits, float scale,
                                  case_report& report) {
  const std::size_t count = logits.values.size();
  const std::vector<float> mask = file.floats("mask", count), x = file.floats("x", count);
  const std::vector<std::int64_t> recorded = file.integers("q4", count);
  tensor_comparison kept = file.compare("q4", "4-bit codes of keys that are not masked", claim::explained, count);
  tensor_comparison masked = file.compare("q4", "zero level of masked keys", claim::exact, count);
  for (index_t i = 0; i < logits.rows; ++i) {
    std::vector<index_t> keys;
    for (index_t j = 0; j < logits.columns; ++j) {
      const auto at = static_cast<std::size_t>(i * logits.columns + j);
      if (mask[at] == 0) {
        keys.push_back(j);
      } else {
        masked.compare<std::int64_t>(at, intact::attention_codes<intact::attention_code::u8_masked>::last_code,
                                     recorded[at]);
      }
    }
    matrix<std::uint8_t> row(1, std::ssize(keys));
    std::vector<float> row_x;
    for (index_t k = 0; k < row.columns; ++k) {
      row(0, k) = logits(i, keys[static_cast<std::size_t>(k)]);
      row_x.push_back(x[static_cast<std::size_t>(i * logits.columns + keys[static_cast<std::size_t>(k)])]);
    }
    const exact_softmax softmax(row, scale);
    const matrix<std::uint8_t> codes = log2_codes<intact::attention_code::u8_masked>(row, softmax.table);
    for (index_t k = 0; k < row.columns; ++k) {
      const auto at = static_cast<std::size_t>(i * logits.columns + keys[static_cast<std::size_t>(k)]);
      kept.compare<std::int64_t>(at, codes(0, k), recorded[at], [&] {
        return softmax_reason(softmax, 0, k, row_x, recorded[at],
                              intact::attention_codes<intact::attention_code::u8_masked>::last_code);
      });
    }
  }
  report.add(std::move(kept));
  report.add(std::move(masked));
}

/// A scale for which the original computes no numbers: all of its codes are recorded as -1.
inline bool is_without_numbers(const recorded_case& file) {
  const std::vector<std::int64_t> recorded = file.has("q4") ? file.integers("q4") : std::vector<std::int64_t>();
  return !recorded.empty() && std::all_of(recorded.begin(), recorded.end(), [](std::int64_t q) { return q == -1; });
}

inline void verify_refusal(const recorded_case& file, const matrix<std::uint8_t>& logits, float scale,
                           case_report& report) {
  std::int64_t found = 0;
  try {
    intact::i_exp_table(scale, logits.columns);
  } catch (const std::invalid_argument&) {
    found = -1;
  }
  tensor_comparison result =
      file.compare("q4", "refusal where the original has no numbers", claim::exact, logits.values.size());
  for (std::size_t at = 0; at < logits.values.size(); ++at) {
    result.compare<std::int64_t>(at, found, -1);
  }
  report.add(std::move(result));
}

inline void verify_softmax(const recorded_case& file, case_report& report) {
  const matrix<std::uint8_t> logits = file.codes<std::uint8_t>("codes");
  const float scale = file.floats("scale", 1)[0];
  if (is_without_numbers(file)) {
    return verify_refusal(file, logits, scale, report);
  }
  if (file.has("mask")) {
    return verify_masked_softmax(file, logits, scale, report);
  }
  const exact_softmax softmax(logits, scale);
  verify_exact_softmax(file, softmax, report);
  const std::vector<float> x = file.has("x") ? file.floats("x", logits.values.size()) : std::vector<float>();
  const auto add = [&](const char* tensor, const char* operation, const matrix<std::uint8_t>& codes, int zero) {
    if (file.has(tensor) && !x.empty()) {
      tensor_comparison result = file.compare(tensor, operation, claim::explained, codes.values.size());
      compare_codes(result, codes, file.integers(tensor), zero, zero, [&](std::size_t at, std::int64_t expected) {
        const auto position = static_cast<index_t>(at);
        return softmax_reason(softmax, position / logits.columns, position % logits.columns, x, expected, zero);
      });
      report.add(std::move(result));
    }
  };
  add("q4", "4-bit codes against the original's", log2_codes<intact::attention_code::u8_masked>(logits, softmax.table),
      16);
  add("q8", "8-bit codes against the original's", log2_codes<intact::attention_code::u8_full>(logits, softmax.table),
      255);
}

}  // namespace intact_verify
