#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/scale.hpp"
#include "intact/io/recorded_case.hpp"
#include "intact/reference/max_softmax.hpp"
#include "intact/reference/weighted_matmul.hpp"
#include "layers.hpp"

// 4-bit codes of attention weights, relative to the maximum, and their product with V.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

/// A table of a case, of so many entries up to a limit.
inline std::vector<std::uint8_t> recorded_table(const recorded_case& file, const std::string& tensor, index_t size,
                                                int largest) {
  const std::vector<std::uint8_t> table = file.codes<std::uint8_t>(tensor).values;
  file.require_count(tensor, table.size(), static_cast<std::size_t>(size));
  if (const int most = *std::max_element(table.begin(), table.end()); most > largest) {
    file.fail(tensor + " has the value " + std::to_string(most) + "; it must be at most " + std::to_string(largest));
  }
  return table;
}

/// The weights of recorded codes.
inline matrix<std::uint8_t> recorded_weights(const recorded_case& file, index_t keys) {
  const std::vector<std::uint8_t> weights = recorded_table(file, "code_weights", intact::attention_code_weights, 255);
  matrix<std::uint8_t> codes = file.codes<std::uint8_t>("attention__codes");
  file.require_count("columns of attention__codes", static_cast<std::size_t>(codes.columns),
                     static_cast<std::size_t>(keys));
  for (std::uint8_t& code : codes.values) {
    if (code >= intact::attention_code_weights) {
      file.fail("attention__codes has the code " + std::to_string(code) + "; it must be in 0..15");
    }
    code = weights[code];
  }
  return codes;
}

inline void verify_weight_codes(const recorded_case& file, case_report& report) {
  const matrix<std::uint8_t> logits = file.codes<std::uint8_t>("logits__codes");
  matrix<std::uint8_t> found(logits.rows, logits.columns);
  intact::reference::max_softmax(
      logits.view(), recorded_table(file, "table", intact::softmax_distances, intact::u4::max), found.view());
  tensor_comparison codes =
      file.compare("attention__codes", "codes of attention weights", claim::exact, found.values.size());
  const std::vector<std::int64_t> recorded_codes = file.integers("attention__codes");
  for (std::size_t at = 0; at < recorded_codes.size(); ++at) {
    codes.compare<std::int64_t>(at, found.values[at], recorded_codes[at]);
  }
  report.add(std::move(codes));

  const matrix<std::uint8_t> v = file.codes<std::uint8_t>("v__codes");
  const matrix<std::uint8_t> weights = recorded_weights(file, v.rows);
  const int v_zero_point = file.quantizer_of("v").zero_point, zero_point = file.quantizer_of("context").zero_point;
  const double ratio = file.tensor_scale("v") / file.tensor_scale("context");
  tensor_comparison context = file.compare("context__codes", "requantized codes of weights times V", claim::bounded,
                                           static_cast<std::size_t>(intact::size_product(weights.rows, v.columns)));
  matrix<std::uint8_t> y(weights.rows, v.columns);
  intact::reference::weighted_matmul(weights.view(), {v.view(), v_zero_point},
                                     intact::build_row_divisor(ratio, zero_point), y.view());
  const std::vector<std::int64_t> recorded = file.integers("context__codes");
  for (std::size_t at = 0; at < recorded.size(); ++at) {
    context.compare<std::int64_t>(at, y.values[at], recorded[at], [&] {
      const index_t row = static_cast<index_t>(at) / y.columns, column = static_cast<index_t>(at) % y.columns;
      long double sum = 0, magnitudes = 0, total = 0;
      for (index_t j = 0; j < v.rows; ++j) {
        const long double product = static_cast<long double>(weights(row, j) * (v(j, column) - v_zero_point));
        sum += product;
        magnitudes += std::fabs(product);
        total += weights(row, j);
      }
      const long double factor = total == 0 ? 0 : static_cast<long double>(ratio) / total;
      const long double exact = sum * factor + zero_point;
      const long double roundings = static_cast<long double>(v.rows + 4) * float32_rounding;
      return near_tie(exact, y.values[at], recorded[at],
                      roundings * magnitudes * factor + float32_rounding * std::fabs(exact));
    });
  }
  report.add(std::move(context));
}

}  // namespace intact_verify
