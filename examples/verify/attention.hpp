#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "intact/build/owned_parameters.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/table.hpp"
#include "intact/gemm.hpp"
#include "intact/io/recorded_case.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/reference/shift_matmul.hpp"
#include "intact/shift_matmul.hpp"
#include "softmax.hpp"

// Attention: logits, Log-Int-Softmax and attention times V, each from the recorded codes of its inputs.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

/// 8-bit codes accumulate in 64 bits.
struct keep_wide_accumulator {
  using output = std::int64_t;

  output operator()(std::int64_t accumulator, index_t) const { return accumulator; }
  void require(const char*, index_t, index_t) const {}
};

/// Fraction bits of recorded accumulators of 8-bit codes; the library's have 44. Those of 4-bit codes have 15 in both.
inline constexpr int recorded_wide_fraction_bits = 31;

/// Whether log2 codes have 8 bits, not 4.
inline bool is_wide(const recorded_case& file) {
  const std::int64_t bits = file.whole_number("softmax_bits", 4, 8);
  if (bits != 4 && bits != 8) {
    file.fail("the parameter softmax_bits is " + std::to_string(bits) + "; it must be 4 or 8");
  }
  return bits == 8;
}

/// A recorded attention; names are the prefix of its tensors' names, such as "attn".
struct recorded_attention {
  const recorded_case& file;
  std::string name;
  bool wide = false;  ///< 8-bit log2 codes
  index_t images = 0, heads = 0, tokens = 0, head_size = 0;
  matrix<std::uint8_t> qkv{0, 0};
  double qkv_scale = 0;
  int qkv_zero_point = 0;
  double logits_factor = 0;  ///< the factor of q * k^T

  recorded_attention(const recorded_case& recorded, std::string attention)
      : file(recorded), name(std::move(attention)) {
    const std::string logits = name + "_qact_attn1__codes";
    wide = is_wide(file);
    images = file.size(logits, 0, 4);
    heads = file.size(logits, 1, 4);
    tokens = file.size(logits, 2, 4);
    if (heads == 0) {
      file.fail(logits + " of shape " + printable(file.shape(logits)) + " has no heads");
    }
    qkv = file.codes<std::uint8_t>(name + "_qact1__codes");
    head_size = qkv.columns / 3 / heads;
    if (file.size(logits, 3, 4) != tokens || qkv.rows != images * tokens || qkv.columns != 3 * heads * head_size) {
      file.fail(name + ": logits of shape " + printable(file.shape(logits)) + " do not fit qkv codes of shape " +
                printable(file.shape(name + "_qact1__codes")));
    }
    qkv_scale = file.tensor_scale(name + "_qact1");
    qkv_zero_point = file.quantizer_of(name + "_qact1").zero_point;
    const char* const parameter = file.has_parameter("attn_scale") ? "attn_scale" : "scale";
    logits_factor = file.has_parameter(parameter) ? file.number(parameter)
                                                  : 1 / std::sqrt(static_cast<double>(std::max<index_t>(head_size, 1)));
  }

  /// q (0), k (1) or v (2) of one head of one image.
  intact::quantized_matrix part(index_t image, index_t head, index_t which) const {
    return {qkv.view().row_block(image * tokens, tokens).column_block((which * heads + head) * head_size, head_size),
            qkv_zero_point};
  }
  /// The rows of one head of one image in a tensor of images, heads and tokens.
  index_t first_row(index_t image, index_t head) const { return (image * heads + head) * tokens; }

  template <class Body>
  void for_each_head(Body body) const {
    for (index_t image = 0; image < images; ++image) {
      for (index_t head = 0; head < heads; ++head) {
        body(image, head);
      }
    }
  }
};

/// Why float32 may give another code of logit `at`, in the order of images, heads, queries and keys.
inline std::string logits_reason(const recorded_attention& attention, const intact::code_scale& output, index_t at,
                                 std::int64_t found, std::int64_t expected) {
  const index_t j = at % attention.tokens, row = at / attention.tokens;
  const index_t i = row % attention.tokens, of_head = row / attention.tokens;
  const index_t image = of_head / attention.heads, head = of_head % attention.heads;
  const intact::quantized_matrix q = attention.part(image, head, 0), k = attention.part(image, head, 1);
  std::int64_t sum = 0, magnitudes = 0;
  for (index_t c = 0; c < attention.head_size; ++c) {
    const std::int64_t product = (q.codes(i, c) - q.zero_point) * (k.codes(j, c) - k.zero_point);
    sum += product;
    magnitudes += std::abs(product);
  }
  const long double unit = static_cast<long double>(attention.qkv_scale);
  const long double factor =
      unit * unit * static_cast<long double>(attention.logits_factor) / static_cast<long double>(output.scale);
  const long double exact = static_cast<long double>(sum) * factor + static_cast<long double>(output.zero_point);
  const long double roundings = static_cast<long double>(attention.head_size + 6) * float32_rounding;
  return near_tie(exact, found, expected,
                  roundings * static_cast<long double>(magnitudes) * factor + float32_rounding * std::fabs(exact));
}

inline void verify_logits(const recorded_attention& attention, case_report& report) {
  const recorded_case& file = attention.file;
  const std::string logits = attention.name + "_qact_attn1";
  const double scale = file.tensor_scale(logits);
  const int zero_point = file.quantizer_of(logits).zero_point;
  const intact::code_scale output{.scale = scale, .zero_point = static_cast<double>(zero_point)};
  const double factor = attention.qkv_scale * attention.qkv_scale * attention.logits_factor / scale;
  const intact::owned_tensor_scale built(intact::attention_logits_spec(factor, zero_point, attention.head_size));
  matrix<std::int32_t> sums(attention.images * attention.heads * attention.tokens, attention.tokens);
  matrix<std::uint8_t> codes(sums.rows, sums.columns);
  const intact::requantize<std::uint8_t, intact::tensor_scale> stage{built.scale};
  attention.for_each_head([&](index_t image, index_t head) {
    const index_t row = attention.first_row(image, head);
    const intact::quantized_matrix q = attention.part(image, head, 0), k = attention.part(image, head, 1);
    intact::reference::gemm(q, k, intact::raw_accumulator{}, sums.view().row_block(row, attention.tokens));
    intact::reference::gemm(q, k, stage, codes.view().row_block(row, attention.tokens));
  });
  if (file.has(attention.name + "_qk_acc")) {
    const std::string tensor = attention.name + "_qk_acc";
    tensor_comparison result = file.compare(tensor, "accumulators of q * k^T", claim::exact, sums.values.size());
    const std::vector<std::int64_t> recorded = file.integers(tensor);
    for (std::size_t at = 0; at < recorded.size(); ++at) {
      result.compare<std::int64_t>(at, sums.values[at], recorded[at]);
    }
    report.add(std::move(result));
  }
  tensor_comparison result =
      file.compare(logits + "__codes", "requantized codes of logits", claim::bounded, codes.values.size());
  const std::vector<std::int64_t> recorded = file.integers(logits + "__codes");
  for (std::size_t at = 0; at < recorded.size(); ++at) {
    result.compare<std::int64_t>(at, codes.values[at], recorded[at], [&] {
      return logits_reason(attention, output, static_cast<index_t>(at), codes.values[at], recorded[at]);
    });
  }
  report.add(std::move(result));
}

/// The original's codes may differ from the exact ones, each for a reason; the exact ones equal the division.
template <intact::attention_code Format>
void verify_attention_softmax(const recorded_attention& attention, case_report& report) {
  const recorded_case& file = attention.file;
  const std::string logits = attention.name + "_qact_attn1", tensor = attention.name + "_log_int_softmax__q";
  const float scale = static_cast<float>(file.tensor_scale(logits));
  const exact_softmax softmax(file.codes<std::uint8_t>(logits + "__codes"), scale);
  report.add(compare_with_division<Format>(file, tensor, softmax));
  const matrix<std::uint8_t> codes = log2_codes<Format>(softmax.logits, softmax.table);
  const std::vector<float> x = file.floats(attention.name + "_log_int_softmax__in", codes.values.size());
  tensor_comparison result =
      file.compare(tensor, "Log-Int-Softmax against the original's", claim::explained, codes.values.size());
  constexpr int zero = intact::attention_codes<Format>::last_code;
  compare_codes(result, codes, file.integers(tensor), zero, zero, [&](std::size_t at, std::int64_t expected) {
    const auto position = static_cast<index_t>(at);
    return softmax_reason(softmax, position / codes.columns, position % codes.columns, x, expected, zero);
  });
  report.add(std::move(result));
}

/// The recorded log2 codes, of which those from the zero level on are the zero level.
template <intact::attention_code Format>
matrix<std::uint8_t> recorded_log2_codes(const recorded_attention& attention) {
  constexpr int zero = intact::attention_codes<Format>::last_code;
  matrix<std::int64_t> recorded = attention.file.codes<std::int64_t>(attention.name + "_log_int_softmax__q");
  matrix<std::uint8_t> codes(recorded.rows, recorded.columns);
  attention.file.require_count(attention.name + "_log_int_softmax__q", recorded.values.size(),
                               static_cast<std::size_t>(attention.first_row(attention.images, 0) * attention.tokens));
  for (std::size_t at = 0; at < recorded.values.size(); ++at) {
    if (recorded.values[at] < 0) {
      attention.file.fail(attention.name + "_log_int_softmax__q has the code " + std::to_string(recorded.values[at]));
    }
    codes.values[at] = static_cast<std::uint8_t>(std::min<std::int64_t>(recorded.values[at], zero));
  }
  return codes;
}

/// Why float32 may give another code of the context at `at`, in the order of images, tokens, heads and channels.
template <intact::attention_code Format>
std::string context_reason(const recorded_attention& attention, const matrix<std::uint8_t>& codes,
                           const intact::code_scale& output, index_t at, std::int64_t found, std::int64_t expected) {
  const index_t c = at % attention.head_size, of_token = at / attention.head_size;
  const index_t head = of_token % attention.heads, token = of_token / attention.heads;
  const index_t i = token % attention.tokens, image = token / attention.tokens;
  const intact::quantized_matrix v = attention.part(image, head, 2);
  long double sum = 0, magnitudes = 0;
  for (index_t j = 0; j < attention.tokens; ++j) {
    const int code = codes(attention.first_row(image, head) + i, j);
    if (code != intact::attention_codes<Format>::last_code) {
      const long double product = std::ldexp(static_cast<long double>(v.codes(j, c) - v.zero_point), -code);
      sum += product;
      magnitudes += std::fabs(product);
    }
  }
  const long double factor = static_cast<long double>(attention.qkv_scale) / static_cast<long double>(output.scale);
  const long double exact = sum * factor + static_cast<long double>(output.zero_point);
  const long double roundings = static_cast<long double>(attention.tokens + 4) * float32_rounding;
  return near_tie(exact, found, expected, roundings * magnitudes * factor + float32_rounding * std::fabs(exact));
}

/// Accumulators of attention times V, in the library's units.
template <intact::attention_code Format>
tensor_comparison compare_context_sums(const recorded_attention& attention, const matrix<std::uint8_t>& codes) {
  constexpr bool is_wide = Format == intact::attention_code::u8_full;
  using stage = std::conditional_t<is_wide, keep_wide_accumulator, intact::raw_accumulator>;
  constexpr std::int64_t unit =
      is_wide ? std::int64_t{1} << (intact::attention_codes<Format>::fraction_bits - recorded_wide_fraction_bits) : 1;
  const std::string tensor = attention.name + "_av_acc";
  matrix<typename stage::output> sums(codes.rows, attention.head_size);
  attention.for_each_head([&](index_t image, index_t head) {
    const index_t row = attention.first_row(image, head);
    intact::reference::shift_matmul<Format>(codes.view().row_block(row, attention.tokens),
                                            attention.part(image, head, 2), stage{},
                                            sums.view().row_block(row, attention.tokens));
  });
  tensor_comparison result = attention.file.compare(
      tensor, is_wide ? "accumulators of attention times V, 8 bits" : "accumulators of attention times V, 4 bits",
      claim::exact, sums.values.size());
  const std::vector<std::int64_t> recorded = attention.file.integers(tensor);
  for (std::size_t at = 0; at < recorded.size(); ++at) {
    if (std::abs(recorded[at] / 2) > std::numeric_limits<std::int64_t>::max() / unit / 2) {
      attention.file.fail(tensor + " has the value " + std::to_string(recorded[at]) + ", beyond any sum");
    }
    result.compare<std::int64_t>(at, sums.values[at], recorded[at] * unit);
  }
  return result;
}

template <intact::attention_code Format>
void verify_context(const recorded_attention& attention, const std::string& output, case_report& report) {
  const recorded_case& file = attention.file;
  const matrix<std::uint8_t> codes = recorded_log2_codes<Format>(attention);
  if (file.has(attention.name + "_av_acc")) {
    report.add(compare_context_sums<Format>(attention, codes));
  }
  const double scale = file.tensor_scale(output);
  const int zero_point = file.quantizer_of(output).zero_point;
  const intact::code_scale context_scale{.scale = scale, .zero_point = static_cast<double>(zero_point)};
  const intact::owned_tensor_scale built(
      intact::attention_context_spec(attention.qkv_scale / scale, zero_point, attention.tokens));
  using stage = std::conditional_t<Format == intact::attention_code::u8_full, intact::requantize_s64<std::uint8_t>,
                                   intact::requantize<std::uint8_t, intact::tensor_scale>>;
  matrix<std::uint8_t> context(attention.images * attention.tokens, attention.heads * attention.head_size);
  tensor_comparison result =
      file.compare(output + "__codes", "requantized codes of attention times V", claim::bounded, context.values.size());
  const std::vector<std::int64_t> recorded = file.integers(output + "__codes");
  attention.for_each_head([&](index_t image, index_t head) {
    const auto rows = context.view().row_block(image * attention.tokens, attention.tokens);
    const auto y = rows.column_block(head * attention.head_size, attention.head_size);
    intact::reference::shift_matmul<Format>(codes.view().row_block(attention.first_row(image, head), attention.tokens),
                                            attention.part(image, head, 2), stage{built.scale}, y);
    for (index_t i = 0; i < y.rows; ++i) {
      for (index_t c = 0; c < y.columns; ++c) {
        const index_t position = (image * attention.tokens + i) * context.columns + head * attention.head_size + c;
        const auto at = static_cast<std::size_t>(position);
        result.compare<std::int64_t>(at, y(i, c), recorded[at], [&] {
          return context_reason<Format>(attention, codes, context_scale, position, y(i, c), recorded[at]);
        });
      }
    }
  });
  report.add(std::move(result));
}

inline void verify_attention(const recorded_case& file, const std::string& name, case_report& report) {
  const recorded_attention attention(file, name);
  const std::string context = name + "_qact2";
  verify_logits(attention, report);
  if (attention.wide) {
    verify_attention_softmax<intact::attention_code::u8_full>(attention, report);
    verify_context<intact::attention_code::u8_full>(attention, context, report);
  } else {
    verify_attention_softmax<intact::attention_code::u8_masked>(attention, report);
    verify_context<intact::attention_code::u8_masked>(attention, context, report);
  }
}

}  // namespace intact_verify
