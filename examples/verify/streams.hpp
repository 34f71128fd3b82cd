#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "intact/add.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/weights.hpp"
#include "intact/io/recorded_case.hpp"

// The residual stream: additions, class token and patches, and quantizers of recorded float tensors.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

/// Two tensors of codes that are added, and their sum. The branch may have fewer rows, which then repeat.
struct recorded_add {
  matrix<std::uint8_t> stream, branch;
  quantizer stream_scale, branch_scale, sum_scale;

  recorded_add(const recorded_case& file, const std::string& stream_name, const std::string& branch_name,
               const matrix<std::uint8_t>& once, const std::string& sum_name)
      : stream(file.codes<std::uint8_t>(stream_name + "__codes")),
        branch(stream.rows, stream.columns),
        stream_scale(file.quantizer_of(stream_name)),
        branch_scale(file.quantizer_of(branch_name)),
        sum_scale(file.quantizer_of(sum_name)) {
    if (once.columns != stream.columns || once.rows == 0 || stream.rows % once.rows != 0) {
      file.fail(branch_name + "__codes of shape " + printable(file.shape(branch_name + "__codes")) +
                " cannot be added to " + stream_name + "__codes of shape " +
                printable(file.shape(stream_name + "__codes")));
    }
    for (index_t i = 0; i < branch.rows; ++i) {
      for (index_t c = 0; c < branch.columns; ++c) {
        branch(i, c) = once(i % once.rows, c);
      }
    }
  }

  double ratio(const quantizer& part, index_t c) const {
    return static_cast<double>(part.channel(c)) / static_cast<double>(sum_scale.channel(c));
  }
  intact::owned_add build() const {
    std::vector<intact::add_spec> specs;
    for (index_t c = 0; c < stream.columns; ++c) {
      specs.push_back({ratio(stream_scale, c), ratio(branch_scale, c)});
    }
    return intact::owned_add(
        specs, {.stream = stream_scale.zero_point, .branch = branch_scale.zero_point, .output = sum_scale.zero_point});
  }
  /// Float32 rounds both operands, their sum and the quotient; the library rounds both ratios to `shift` bits.
  std::string reason(int shift, index_t i, index_t c, std::int64_t found, std::int64_t expected) const {
    const auto r = static_cast<long double>(ratio(stream_scale, c)) * (stream(i, c) - stream_scale.zero_point);
    const auto b = static_cast<long double>(ratio(branch_scale, c)) * (branch(i, c) - branch_scale.zero_point);
    const long double exact = r + b + sum_scale.zero_point;
    return near_tie(
        exact, found, expected,
        4 * float32_rounding * (std::fabs(r) + std::fabs(b) + std::fabs(exact)) + std::ldexp(256.0L, -shift));
  }
};

/// `branch_codes`: the codes of the branch, in the order of the stream.
inline void verify_add(const recorded_case& file, const std::string& stream, const std::string& branch,
                       const matrix<std::uint8_t>& branch_codes, const std::string& sum, case_report& report) {
  const recorded_add recorded(file, stream, branch, branch_codes, sum);
  const intact::owned_add built = recorded.build();
  matrix<std::uint8_t> y(recorded.stream.rows, recorded.stream.columns);
  intact::add(recorded.stream.view(), recorded.branch.view(), built.view(), y.view());
  tensor_comparison result = file.compare(sum + "__codes", "residual additions", claim::bounded, y.values.size());
  const std::vector<std::int64_t> expected = file.integers(sum + "__codes");
  for (index_t i = 0; i < y.rows; ++i) {
    for (index_t c = 0; c < y.columns; ++c) {
      const auto at = static_cast<std::size_t>(i * y.columns + c);
      result.compare<std::int64_t>(at, y(i, c), expected[at],
                                   [&] { return recorded.reason(built.shift, i, c, y(i, c), expected[at]); });
    }
  }
  report.add(std::move(result));
}

inline void verify_add(const recorded_case& file, const std::string& stream, const std::string& branch,
                       const std::string& sum, case_report& report) {
  verify_add(file, stream, branch, file.codes<std::uint8_t>(branch + "__codes"), sum, report);
}

/// Class token and patches in one scale: the patches' codes rescaled, the class token quantized.
inline void verify_embedding(const recorded_case& file, case_report& report) {
  const quantizer patch = file.quantizer_of("patch_embed_qact"), embed = file.quantizer_of("qact_embed");
  const intact::affine_scale from{patch.channel(0), patch.zero_point}, to{embed.channel(0), embed.zero_point};
  const auto rescaled = [&](int code) {
    return intact::quantize_code<std::uint8_t>(intact::dequantize_code(code, from), to);
  };
  const matrix<std::uint8_t> patches = file.codes<std::uint8_t>("patch_embed_qact__codes");
  const index_t images = file.size("qact_embed__codes", 0, 3), tokens = file.size("qact_embed__codes", 1, 3);
  const index_t width = patches.columns;
  const std::vector<float> class_token = file.floats("cls_token", static_cast<std::size_t>(width));
  if (file.size("qact_embed__codes", 2, 3) != width || patches.rows != images * (tokens - 1)) {
    file.fail("qact_embed__codes of shape " + printable(file.shape("qact_embed__codes")) +
              " do not hold one token more per image than patch_embed_qact__codes");
  }
  tensor_comparison result = file.compare("qact_embed__codes", "class token and patches", claim::exact,
                                          static_cast<std::size_t>(images * tokens * width));
  const std::vector<std::int64_t> recorded = file.integers("qact_embed__codes");
  for (index_t row = 0; row < images * tokens; ++row) {
    const index_t token = row % tokens;
    for (index_t c = 0; c < width; ++c) {
      const auto at = static_cast<std::size_t>(row * width + c);
      const std::uint8_t found = token == 0
                                     ? intact::quantize_code<std::uint8_t>(class_token[static_cast<std::size_t>(c)], to)
                                     : rescaled(patches(row / tokens * (tokens - 1) + token - 1, c));
      result.compare<std::int64_t>(at, found, recorded[at]);
    }
  }
  report.add(std::move(result));
}

/// A float tensor that was recorded with a quantizer.
template <class Code>
tensor_comparison compare_quantizer(const recorded_case& file, const std::string& name) {
  const quantizer q = file.quantizer_of<Code>(name);
  const std::vector<std::int64_t> recorded = file.integers(name + "__codes");
  const std::vector<float> x = file.floats(name + "__in", recorded.size());
  tensor_comparison result = file.compare(name + "__codes", "quantizers inside", claim::exact, x.size());
  for (std::size_t at = 0; at < x.size(); ++at) {
    const float scale = q.scale[at % q.scale.size()];
    result.compare<std::int64_t>(at, intact::quantize_code<Code>(x[at], {scale, q.zero_point}), recorded[at]);
  }
  return result;
}

/// Every float tensor that was recorded with a quantizer.
inline void verify_quantizers(const recorded_case& file, case_report& report) {
  for (const std::string& name : file.names_ending("__in")) {
    if (!file.has(name + "__codes") || !file.has(name + "__scale")) {
      continue;
    }
    report.add(file.is_signed(name) ? compare_quantizer<std::int8_t>(file, name)
                                    : compare_quantizer<std::uint8_t>(file, name));
  }
}

}  // namespace intact_verify
