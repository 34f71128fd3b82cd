#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "cases.hpp"
#include "catch.hpp"
#include "double_reference.hpp"
#include "intact/build/packed_swin.hpp"
#include "intact/quantize/build_swin.hpp"
#include "intact/reference/model/swin.hpp"

// A whole Swin transformer with the weights and scales of the recorded one, run freely. Its LayerNorm is not the
// original's, so that codes differ here and there and more so from block to block; but wherever windows, shifts, masks,
// biases or mergings were others, nothing at all would agree. intact-verify compares module by module.

namespace intact_test::swin_golden_test {
namespace {

/// The recorded model.
class recorded_swin {
 public:
  recorded_swin() : file_(safetensors_file::read(cases_directory() / "swin_884.safetensors")) {}

  swin_shape shape() const {
    return {.channels = 3,
            .height = 16,
            .image_width = 16,
            .patch = 2,
            .stages = 2,
            .stage = {{{32, 2, 128, 2, 4}, {64, 4, 256, 2, 4}}},
            .classes = 10};
  }

  /// Weights are the real numbers of the recorded codes.
  float_swin model() const {
    float_swin made;
    made.shape = shape();
    made.pixel_max = 1;
    made.mean.assign(3, 0);
    made.standard_deviation.assign(3, 1);
    made.patch = linear("patch_embed_proj");
    made.patch_norm = norm("patch_embed_norm");
    for (index_t s = 0; s < 2; ++s) {
      float_swin_stage& stage = made.stages.emplace_back();
      for (index_t position = 0; position < 2; ++position) {
        stage.blocks.push_back(block(block_name(s, position), made.shape.of(s)));
      }
    }
    made.stages[0].merge_norm = norm("layers_0_downsample_norm");
    made.stages[0].reduction = weight("layers_0_downsample_reduction");
    made.norm = norm("norm");
    made.head = linear("head");
    return made;
  }

  swin_scales scales() const {
    swin_scales made;
    made.input = affine("qact_input");
    made.patch = affine("patch_embed_qact_before_norm");
    made.tokens = affine("patch_embed_qact");
    for (index_t s = 0; s < 2; ++s) {
      swin_stage_scales& stage = made.stages.emplace_back();
      for (index_t position = 0; position < 2; ++position) {
        stage.blocks.push_back(block_scales_of(block_name(s, position)));
      }
    }
    made.stages[0].merge_norm = affine("layers_0_downsample_qact1");
    made.stages[0].merge = ptf("layers_0_downsample_qact2");
    made.norm = affine("qact2");
    made.pool = affine("qact3");
    made.logits = affine("act_out");
    return made;
  }

  swin_weights weights() const {
    swin_weights made;
    made.patch = codes("patch_embed_proj");
    for (index_t s = 0; s < 2; ++s) {
      swin_stage_weights& stage = made.stages.emplace_back();
      for (index_t position = 0; position < 2; ++position) {
        const std::string name = block_name(s, position);
        stage.blocks.push_back(
            {codes(name + "attn_qkv"), codes(name + "attn_proj"), codes(name + "mlp_fc1"), codes(name + "mlp_fc2")});
      }
    }
    made.stages[0].reduction = codes("layers_0_downsample_reduction");
    made.head = codes("head");
    return made;
  }

  std::vector<std::int32_t> integers(const std::string& name) const { return file_.values<std::int32_t>(name); }
  std::vector<float> floats(const std::string& name) const { return file_.values<float>(name); }
  bool has(const std::string& name) const { return file_.contains(name); }

  static std::string block_name(index_t stage, index_t position) {
    return "layers_" + std::to_string(stage) + "_blocks_" + std::to_string(position) + "_";
  }

 private:
  float_matrix matrix(const std::string& name, index_t rows) const {
    const std::vector<float> values = floats(name);
    return map_of(matrix_view<const float>(values.data(), rows, std::ssize(values) / rows));
  }

  scaled_weights codes(const std::string& name) const {
    const std::vector<std::int32_t> recorded = integers(name + "__wcodes");
    std::vector<float> scale = floats(name + "__wscale");
    const index_t rows = std::ssize(scale), columns = std::ssize(recorded) / rows;
    return {owned_weights({recorded.begin(), recorded.end()}, rows, columns), std::move(scale)};
  }

  float_matrix weight(const std::string& name) const {
    const scaled_weights quantized = codes(name);
    float_matrix made(quantized.weights.rows, quantized.weights.columns);
    for (index_t n = 0; n < made.rows(); ++n) {
      const std::vector<std::int8_t> row = quantized.weights.row(n);
      for (index_t k = 0; k < made.cols(); ++k) {
        made(n, k) =
            static_cast<float>(row[static_cast<std::size_t>(k)]) * quantized.scale[static_cast<std::size_t>(n)];
      }
    }
    return made;
  }

  float_linear linear(const std::string& name) const { return {weight(name), matrix(name + "__bias", 1)}; }
  float_layernorm norm(const std::string& name) const {
    return {matrix(name + "__weight", 1), matrix(name + "__bias", 1)};
  }

  float_swin_block block(const std::string& name, const swin_stage_shape& shape) const {
    const index_t positions = (2 * shape.window - 1) * (2 * shape.window - 1);
    return {{norm(name + "norm1"), linear(name + "attn_qkv"), linear(name + "attn_proj"), norm(name + "norm2"),
             linear(name + "mlp_fc1"), linear(name + "mlp_fc2")},
            matrix(name + "attn_relative_position_bias_table", positions)};
  }

  affine_scale affine(const std::string& name) const {
    return {floats(name + "__scale").at(0), integers(name + "__zp").at(0)};
  }

  ptf_scale ptf(const std::string& name) const {
    const std::vector<float> scales = floats(name + "__scale");
    ptf_scale made{*std::min_element(scales.begin(), scales.end()), integers(name + "__zp").at(0), {}};
    for (const float scale : scales) {
      made.shift.push_back(static_cast<std::uint8_t>(std::ilogb(scale / made.scale)));
    }
    return made;
  }

  swin_block_scales block_scales_of(const std::string& name) const {
    swin_block_scales made;
    made.block = {affine(name + "qact1"),
                  affine(name + "attn_qact1"),
                  affine(name + "attn_qact_attn1"),
                  affine(name + "attn_qact3"),
                  affine(name + "attn_qact4"),
                  ptf(name + "qact2"),
                  affine(name + "qact3"),
                  {},
                  affine(name + "mlp_qact1"),
                  affine(name + "mlp_qact2"),
                  ptf(name + "qact4")};
    const std::vector<float> fc1 = floats(name + "mlp_act__in");
    made.block.fc1 = {*std::min_element(fc1.begin(), fc1.end()), *std::max_element(fc1.begin(), fc1.end())};
    made.position_bias = affine(name + "attn_qact_table");
    made.biased_logits = affine(name + "attn_qact2");
    return made;
  }

  safetensors_file file_;
};

/// Differences of codes from recorded ones.
struct code_differences {
  std::int64_t compared = 0, differ = 0, sum = 0;

  void compare(std::int64_t found, std::int64_t expected) {
    ++compared;
    differ += found != expected;
    sum += std::abs(found - expected);
  }
  double mean() const { return static_cast<double>(sum) / static_cast<double>(compared); }
};

/// Compares the tensors of a model, by their names in model/trace.hpp, with the recorded codes.
class recorded_comparison {
 public:
  explicit recorded_comparison(const recorded_swin& recorded) : recorded_(recorded) {}

  template <class View>
  void operator()(const trace_site& site, const View& codes) {
    const std::string tensor = recorded_name(site) + "__codes";
    if (!recorded_.has(tensor)) {
      return;
    }
    const std::vector<std::int32_t> expected = recorded_.integers(tensor);
    const index_t heads = site.block < 2 ? 2 : 4;
    const index_t first = site.head < 0 ? 0 : (site.window * heads + site.head) * codes.rows * codes.columns;
    code_differences& seen = differences_[tensor];
    for (index_t i = 0; i < codes.rows; ++i) {
      for (index_t c = 0; c < codes.columns; ++c) {
        seen.compare(codes(i, c), expected.at(static_cast<std::size_t>(first + i * codes.columns + c)));
      }
    }
  }

  const std::map<std::string, code_differences>& differences() const { return differences_; }

 private:
  static std::string recorded_name(const trace_site& site) {
    static const std::map<std::string, std::string> outside = {{"patch", "patch_embed_qact_before_norm"},
                                                               {"tokens", "patch_embed_qact"},
                                                               {"norm", "qact2"},
                                                               {"pool", "qact3"},
                                                               {"logits_u8", "act_out"},
                                                               {"merge_norm", "layers_0_downsample_qact1"},
                                                               {"merge", "layers_0_downsample_qact2"}};
    static const std::map<std::string, std::string> inside = {{"norm1", "qact1"},
                                                              {"qkv", "attn_qact1"},
                                                              {"attention_logits", "attn_qact_attn1"},
                                                              {"biased_logits", "attn_qact2"},
                                                              {"context", "attn_qact3"},
                                                              {"proj", "attn_qact4"},
                                                              {"add1", "qact2"},
                                                              {"norm2", "qact3"},
                                                              {"activation", "mlp_qact1"},
                                                              {"fc2", "mlp_qact2"},
                                                              {"add2", "qact4"}};
    const std::string name(site.name);
    if (const auto found = outside.find(name); found != outside.end()) {
      return found->second;
    }
    const auto found = inside.find(name);
    return found == inside.end() ? "" : recorded_swin::block_name(site.block / 2, site.block % 2) + found->second;
  }

  const recorded_swin& recorded_;
  std::map<std::string, code_differences> differences_;
};

/// Runs the integer model of the recorded weights and scales, after a change, on the recorded codes of the input.
template <class Change>
std::map<std::string, code_differences> differences_of(const recorded_swin& recorded, const Change& change) {
  swin_tensors contents = build_swin(recorded.model(), recorded.scales(), recorded.weights(), paper_recipe).tensors();
  contents.pixel_table.clear();  // the codes themselves
  change(contents);
  const integer_swin model(std::move(contents));
  const std::vector<std::int32_t> input = recorded.integers("qact_input__codes");
  const std::vector<std::uint8_t> pixels(input.begin(), input.end());
  std::vector<std::byte> memory(reference::swin_workspace_bytes(model.shape()));
  std::vector<std::int32_t> logits(10);
  std::vector<std::uint8_t> logits_u8(10);
  recorded_comparison compare(recorded);
  reference::swin(planar_image(pixels.data(), 3, 16, 16), packed_swin(model).parameters(), model.shape(),
                  {matrix_view(logits.data(), 1, 10), matrix_view(logits_u8.data(), 1, 10)},
                  workspace(memory.data(), memory.size()), compare);
  return compare.differences();
}

/// Codes that have nothing to do with each other differ by 40 and more on average.
constexpr double most_codes_apart = 10;

TEST_CASE("build_swin: the codes follow the original's [recorded weights and scales]") {
  if (skip_without_cases()) {
    return;
  }
  const recorded_swin recorded;
  const auto differences = differences_of(recorded, [](swin_tensors&) {});
  CHECK(differences.size() == 51);
  double largest = 0;
  for (const auto& [name, seen] : differences) {
    INFO(name);
    CHECK(seen.mean() < most_codes_apart);
    largest = std::max(largest, seen.mean());
  }
  CHECK(differences.at("patch_embed_qact_before_norm__codes").differ == 0);
  CHECK(differences.at("patch_embed_qact__codes").mean() < 0.1);
  CHECK(differences.at("layers_0_blocks_0_attn_qact2__codes").mean() < 1);
  CHECK(differences.at("layers_0_blocks_1_attn_qact3__codes").mean() < 3);
  CHECK(differences.at("layers_0_downsample_qact1__codes").mean() < 1.5);
  std::cout << "[intact: compared] the recorded Swin transformer: codes differ by " << largest
            << " on average where they differ most\n";
}

TEST_CASE("build_swin: the codes do not follow the original's if patches merge in another order") {
  if (skip_without_cases()) {
    return;
  }
  const recorded_swin recorded;
  const auto differences = differences_of(recorded, [](swin_tensors& contents) {
    std::vector<std::int8_t>& weights = contents.stages[0].reduction.weights.codes;
    for (std::size_t row = 0; row < weights.size(); row += 128) {  // as if the second and third neighbour were swapped
      std::swap_ranges(&weights[row + 32], &weights[row + 64], &weights[row + 64]);
    }
  });
  CHECK(differences.at("layers_0_downsample_qact1__codes").mean() < 1.5);
  CHECK(differences.at("layers_0_downsample_qact2__codes").mean() > most_codes_apart);
}

TEST_CASE("forward: the logits are nearly the original's [recorded weights of a Swin transformer]") {
  if (skip_without_cases()) {
    return;
  }
  const recorded_swin recorded;
  const std::vector<float> image = recorded.floats("image");
  // The recorded pixels are real numbers: they take the place of those that 8-bit pixels give.
  const auto put_image = [&](const trace_site& site, float_matrix& tensor) {
    for (index_t patch = 0; site.name == "input" && patch < tensor.rows(); ++patch) {
      for (index_t k = 0; k < tensor.cols(); ++k) {
        const index_t channel = k / 4, y = patch / 8 * 2 + k / 2 % 2, x = patch % 8 * 2 + k % 2;
        tensor(patch, k) = image.at(static_cast<std::size_t>((channel * 16 + y) * 16 + x));
      }
    }
  };
  const std::vector<std::uint8_t> pixels(image.size());
  const std::vector<float> logits = forward(recorded.model(), planar_image(pixels.data(), 3, 16, 16), put_image);
  const std::vector<float> expected = recorded.floats("logits");
  REQUIRE(logits.size() == expected.size());
  double noise = 0, signal = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto error = static_cast<double>(logits[i] - expected[i]);
    noise += error * error;
    signal += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  const double decibels = 10 * std::log10(signal / noise);
  std::cout << "[intact: compared] logits of the quantized original: " << decibels << " dB from those in float\n";
  CHECK(decibels > 12);
}

}  // namespace
}  // namespace intact_test::swin_golden_test
