#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "intact/build/integer_vit.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/quantize/double_evaluation.hpp"
#include "intact/reference/model/trace.hpp"
#include "intact/reference/model/vit.hpp"
#include "tensor.hpp"

// Comparison of integer models with their evaluation in double precision.

namespace intact_test {

namespace real = intact::double_precision::real;

using intact::double_precision::block_evaluation;
using intact::double_precision::code_matrix;
using intact::double_precision::comparison;
using intact::double_precision::copy_weights;
using intact::double_precision::evaluate_add;
using intact::double_precision::evaluate_attention;
using intact::double_precision::evaluate_average;
using intact::double_precision::evaluate_linear;
using intact::double_precision::evaluate_linear_onto;
using intact::double_precision::evaluate_softmax;
using intact::double_precision::keep;
using intact::double_precision::tensor_name;
using intact::double_precision::tensors;
using intact::double_precision::trace_comparison;
using double_reference = intact::double_precision::vit_evaluation;

/// Runs the integer model and compares every tensor.
inline comparison compare_image(const integer_vit& model, const image_view& image, const tensors& expected) {
  const packed_vit packed(model);
  std::vector<std::int32_t> logits(static_cast<std::size_t>(model.shape().classes));
  std::vector<std::uint8_t> logits_u8(logits.size());
  std::vector<std::byte> memory(reference::vit_workspace_bytes(model.shape()));
  trace_comparison trace(expected);
  const workspace space(memory.data(), memory.size());
  if (model.shape().classes == 0) {
    tensor<std::uint8_t> features(1, model.shape().head_features());
    reference::vit_features(image, packed.parameters(), model.shape(), features.view(), space, trace);
    return trace.result();
  }
  reference::vit(
      image, packed.parameters(), model.shape(),
      {matrix_view(logits.data(), 1, model.shape().classes), matrix_view(logits_u8.data(), 1, model.shape().classes)},
      space, trace);
  return trace.result();
}

inline std::int64_t count_codes(const tensors& all) {
  std::int64_t count = 0;
  for (const auto& [name, codes] : all) {
    count += codes.rows * codes.columns;
  }
  return count;
}

/// Fails the test unless every code was compared and is equal; returns how many there are.
inline std::int64_t require_equal(const comparison& outcome, const tensors& expected) {
  INFO("first mismatch: " << outcome.first_mismatch);
  REQUIRE(outcome.mismatched == 0);
  REQUIRE(outcome.compared == count_codes(expected));
  return outcome.compared;
}

/// How often each code occurred in the tensors of a name.
using code_counts = std::map<std::string, std::map<std::int32_t, std::int64_t>>;

inline void count_occurrences(const tensors& all, code_counts& occurred) {
  for (const auto& [name, codes] : all) {
    for (const std::int32_t code : codes.values) {
      ++occurred[name.name][code];
    }
  }
}

/// The first of the tensors whose codes do not go from lowest to highest, or of which fewer than `least` occurred, in
/// words; empty if there is none. A comparison is worth something only if the codes spread over their ranges.
inline std::string find_narrow_tensor(const code_counts& occurred, std::initializer_list<const char*> names,
                                      std::size_t least, int lowest, int highest) {
  for (const char* const name : names) {
    const std::map<std::int32_t, std::int64_t>& codes = occurred.at(name);
    if (codes.size() < least || codes.begin()->first != lowest || codes.rbegin()->first != highest) {
      return std::string(name) + ": " + std::to_string(codes.size()) + " codes from " +
             std::to_string(codes.begin()->first) + " to " + std::to_string(codes.rbegin()->first);
    }
  }
  return "";
}

}  // namespace intact_test
