#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "intact/arith/log2_code.hpp"
#include "intact/build/weights.hpp"
#include "intact/io/recorded_case.hpp"
#include "intact/quantize/observe.hpp"

// Observers and quantizers, in float32 as the original's.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

inline intact::code_range codes_of_type(const recorded_case& file) {
  const std::string type = file.text("bit_type");
  if (type == "uint8") {
    return intact::u8_codes;
  }
  if (type == "uint4") {
    return intact::u4_codes;
  }
  if (type == "int8") {
    return intact::s8_codes;
  }
  if (type != "int4") {
    file.fail("the parameter bit_type is " + type + "; it must be uint8, int8, uint4 or int4");
  }
  return intact::s4_codes;
}

/// Channels are the last dimension of activations and the first of weights.
inline bool is_activation(const recorded_case& file) {
  return file.text("module_type") == "activation";
}

/// A recorded batch with the channels as columns.
inline matrix<float> recorded_batch(const recorded_case& file, const std::string& name) {
  const std::vector<float> values = file.floats(name);
  const std::vector<std::int64_t>& shape = file.shape(name);
  if (shape.empty() || values.empty()) {
    file.fail(name + " has no values");
  }
  const bool activation = is_activation(file);
  const index_t channels = activation ? shape.back() : shape.front();
  matrix<float> batch(std::ssize(values) / channels, channels);
  for (index_t i = 0; i < batch.rows; ++i) {
    for (index_t c = 0; c < channels; ++c) {
      batch(i, c) = values[static_cast<std::size_t>(activation ? i * channels + c : c * batch.rows + i)];
    }
  }
  return batch;
}

/// The result of an observer: ranges and scales, one or one per channel. No ranges: there is nothing to compare them
/// with.
struct observed {
  std::vector<float> low, high, scale;
  std::vector<std::int64_t> zero_point;
};

inline void compare_observed(const recorded_case& file, const observed& found, case_report& report) {
  const auto add = [&](const char* tensor, const auto& values, const auto& recorded) {
    tensor_comparison result = file.compare(tensor, "observers", claim::exact, values.size());
    for (std::size_t c = 0; c < values.size(); ++c) {
      result.compare(c, values[c], recorded[c]);
    }
    report.add(std::move(result));
  };
  if (!found.low.empty()) {
    add("min_val", found.low, file.floats("min_val"));
    add("max_val", found.high, file.floats("max_val"));
  }
  add("scale", found.scale, file.floats("scale"));
  add("zero_point", found.zero_point, file.integers("zero_point"));
}

inline intact::range_rule rule_of(const recorded_case& file) {
  const std::string& function = file.function();
  return function.starts_with("Ema")          ? intact::range_rule::ema
         : function.starts_with("Percentile") ? intact::range_rule::percentile
                                              : intact::range_rule::minmax;
}

inline void verify_observer(const recorded_case& file, case_report& report) {
  const intact::code_range codes = codes_of_type(file);
  const bool per_channel = file.text("calibration_mode") == "channel_wise";
  intact::range_observer observer(rule_of(file),
                                  per_channel ? intact::granularity::channel : intact::granularity::tensor);
  intact::range_observer whole(intact::range_rule::minmax);
  matrix<float> last(0, 0);
  for (int batch = 0; file.has("batch" + std::to_string(batch)); ++batch) {
    last = recorded_batch(file, "batch" + std::to_string(batch));
    observer.update(std::as_const(last).view());
    whole.update(std::as_const(last).view());
  }
  const intact::matrix_view<const float> view = last.view();
  observed found;
  for (const intact::value_range& range : observer.ranges()) {
    found.low.push_back(range.low);
    found.high.push_back(range.high);
  }
  if (file.function().starts_with("Omse")) {
    // The original leaves its range at the shrunken one that it chose; the library leaves the range as it was.
    const intact::affine_scale built = intact::build_omse_scale(observer.range(), codes, {&view, 1});
    found = {.low = {}, .high = {}, .scale = {built.scale}, .zero_point = {built.zero_point}};
  } else if (file.function().starts_with("Ptf")) {
    const intact::ptf_scale built = intact::build_ptf_scale(whole.range(), codes, {&view, 1});
    for (index_t c = 0; c < last.columns; ++c) {
      found.scale.push_back(built.channel(c).scale);
    }
    found.zero_point = {built.zero_point};
  } else {
    for (const intact::value_range& range : observer.ranges()) {
      const intact::affine_scale built = intact::build_affine_scale(range, codes);
      found.scale.push_back(built.scale);
      found.zero_point.push_back(built.zero_point);
    }
  }
  compare_observed(file, found, report);
}

/// The codes and values of a uniform quantizer, with one scale or one per channel.
inline void verify_uniform(const recorded_case& file, case_report& report) {
  const intact::code_range codes = codes_of_type(file);
  const std::vector<float> x = file.floats("x"), scale = file.floats("scale"),
                           values = file.floats("dequant", x.size());
  const std::vector<std::int64_t> zero_point = file.integers("zero_point"), recorded = file.integers("codes", x.size());
  if (scale.empty() || x.size() % scale.size() != 0 || (zero_point.size() != 1 && zero_point.size() != scale.size())) {
    file.fail("scale has " + std::to_string(scale.size()) + " values and zero_point " +
              std::to_string(zero_point.size()) + ", which do not fit x");
  }
  for (const std::int64_t zero : zero_point) {
    if (zero < codes.low || zero > codes.high) {
      file.fail("zero_point is " + std::to_string(zero) + "; it must be in " + std::to_string(codes.low) + ".." +
                std::to_string(codes.high));
    }
  }
  const std::size_t others = x.size() / scale.size();
  const bool activation = is_activation(file);
  tensor_comparison code = file.compare("codes", "codes of quantizers", claim::exact, x.size());
  tensor_comparison value = file.compare("dequant", "values of codes", claim::exact, x.size());
  for (std::size_t at = 0; at < x.size(); ++at) {
    const std::size_t c = activation ? at % scale.size() : at / std::max<std::size_t>(others, 1);
    const intact::affine_scale channel{scale[c], static_cast<int>(zero_point[zero_point.size() == 1 ? 0 : c])};
    std::int32_t found = 0;
    float back = 0;
    intact::quantize_codes(intact::matrix_view<const float>(&x[at], 1, 1), channel, intact::matrix_view(&found, 1, 1),
                           codes);
    intact::dequantize(intact::matrix_view<const std::int32_t>(&found, 1, 1), channel,
                       intact::matrix_view(&back, 1, 1));
    code.compare<std::int64_t>(at, found, recorded[at]);
    value.compare(at, back, values[at]);
  }
  report.add(std::move(code));
  report.add(std::move(value));
}

/// -log2(x) rounded to nearest: of x = m * 2^-p with 24 bits in m, exactly, in integers.
inline int negative_log2(float x) {
  int exponent = 0;
  const auto mantissa = static_cast<std::uint64_t>(std::ldexp(std::frexp(x, &exponent), 24));
  return intact::log2_code_round_log(mantissa, std::uint64_t{1} << 24) - exponent;
}

/// The quantizer that Log-Int-Softmax replaces; beyond the largest code, a mask makes the value 0.
inline void verify_log2(const recorded_case& file, case_report& report) {
  const int largest = codes_of_type(file).high;
  const std::vector<float> x = file.floats("x"), values = file.floats("dequant", x.size());
  const std::vector<std::int64_t> recorded = file.integers("codes", x.size());
  tensor_comparison code = file.compare("codes", "codes of quantizers", claim::exact, x.size());
  tensor_comparison value = file.compare("dequant", "values of codes", claim::exact, x.size());
  for (std::size_t at = 0; at < x.size(); ++at) {
    if (!(x[at] >= 0) || !std::isfinite(x[at])) {
      file.fail("x has the value " + std::to_string(x[at]) + "; a logarithm needs values of at least 0");
    }
    const int level = x[at] == 0 ? largest + 1 : std::max(negative_log2(x[at]), 0);
    code.compare<std::int64_t>(at, std::min(level, largest), recorded[at]);
    value.compare(at, level > largest ? 0.0F : std::ldexp(1.0F, -level), values[at]);
  }
  report.add(std::move(code));
  report.add(std::move(value));
}

}  // namespace intact_verify
