#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "attention.hpp"
#include "intact/io/recorded_case.hpp"
#include "layers.hpp"
#include "norms.hpp"
#include "observers.hpp"
#include "softmax.hpp"
#include "streams.hpp"
#include "swin.hpp"
#include "weight_codes.hpp"

// Which comparisons belong to which recorded function.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

/// A layer with the quantizers before and after it.
inline void verify_linear(const recorded_case& file, case_report& report) {
  for (const std::string& layer : file.names_ending("__wcodes")) {
    verify_layer(file, layer, report);
  }
  verify_quantizers(file, report);
}

/// Attention: its layers too.
inline void verify_attention_module(const recorded_case& file, case_report& report) {
  verify_linear(file, report);
  for (const std::string& attention : file.names_ending("_qact_attn1__codes")) {
    verify_attention(file, attention, report);
  }
}

/// The quantizer whose codes enter a block: the output of the block before.
inline std::string stream_into(const recorded_case& file, const std::string& block) {
  constexpr std::string_view numbered = "blocks_";
  if (!block.starts_with(numbered)) {
    return "qin";
  }
  constexpr std::uint32_t largest = 999'999;
  std::uint32_t number = 0;  // unsigned: from_chars takes digits alone
  const char* const end = block.data() + block.size();
  const auto [rest, error] = std::from_chars(block.data() + numbered.size(), end, number);
  if (error != std::errc() || std::string(rest, end) != "_" || number > largest) {
    file.fail("tensor " + block + "norm1__weight must have a number of a block, 0.." + std::to_string(largest) +
              ", between \"blocks_\" and \"_norm1\"");
  }
  return number == 0 ? "qact1" : "blocks_" + std::to_string(number - 1) + "_qact4";
}

/// Blocks of any prefix: "blk_", or "blocks_0_" and so on.
inline void verify_block(const recorded_case& file, case_report& report) {
  verify_attention_module(file, report);
  for (const std::string& block : file.names_ending("norm1__weight")) {
    const std::string stream = stream_into(file, block);
    verify_norm(file, block + "norm1", stream, block + "qact1", report);
    verify_add(file, stream, block + "attn_qact3", block + "qact2", report);
    verify_norm(file, block + "norm2", block + "qact2", block + "qact3", report);
    verify_add(file, block + "qact2", block + "mlp_qact2", block + "qact4", report);
  }
}

inline void verify_vit(const recorded_case& file, case_report& report) {
  verify_block(file, report);
  verify_embedding(file, report);
  verify_add(file, "qact_embed", "qact_pos", "qact1", report);
  const std::string last = "blocks_" + std::to_string(file.whole_number("depth", 1, 1'000'000) - 1) + "_qact4";
  verify_norm(file, "norm", last, "qact2", report);
}

/// A recorded function, known by the first part of its name in the metadata.
struct known_function {
  std::string_view name;
  std::string_view group;
  void (*verify)(const recorded_case&, case_report&);
};

inline constexpr std::array<known_function, 15> known_functions = {
    {{"QIntSoftmax", "QIntSoftmax", verify_softmax},
     {"QAct -> QLinear -> QAct", "QLinear", verify_linear},
     {"QIntLayerNorm", "QIntLayerNorm", verify_norm},
     {"Attention.forward", "Attention", verify_attention_module},
     {"attention by weight codes", "weight codes", verify_weight_codes},
     {"Block.forward", "Block", verify_block},
     {"VisionTransformer.forward", "VisionTransformer", verify_vit},
     {"SwinTransformer.forward", "SwinTransformer", verify_swin},
     {"UniformQuantizer", "quantizers", verify_uniform},
     {"Log2Quantizer", "quantizers", verify_log2},
     {"MinmaxObserver.update", "observers", verify_observer},
     {"EmaObserver.update", "observers", verify_observer},
     {"PercentileObserver.update", "observers", verify_observer},
     {"OmseObserver.update", "observers", verify_observer},
     {"PtfObserver.update", "observers", verify_observer}}};

inline const known_function* find_function(const std::string& function) {
  const auto* const found = std::find_if(known_functions.begin(), known_functions.end(),
                                         [&](const known_function& known) { return function.starts_with(known.name); });
  return found == known_functions.end() ? nullptr : found;
}

/// Reads and verifies one file. Whatever is wrong with it becomes part of the report.
inline case_report verify_file(const std::filesystem::path& path) {
  case_report report;
  report.name = path.stem().string();
  try {
    const recorded_case file(intact::safetensors_file::read(path));
    report.function = file.function();
    const known_function* const known = find_function(report.function);
    if (known == nullptr) {
      report.result = case_report::outcome::unsupported;
      report.problem = "the function " + report.function + " is not known";
      return report;
    }
    report.group = known->group;
    known->verify(file, report);
    if (!report.has_values()) {
      report.result = case_report::outcome::unsupported;
      report.problem = "it records no values that could be compared";
    }
  } catch (const std::exception& error) {
    const std::string problem = error.what(), name = path.string() + ": ";
    report.result = case_report::outcome::unreadable;
    report.problem = problem.starts_with(name) ? problem : name + problem;
    report.tensors.clear();
  }
  return report;
}

}  // namespace intact_verify
