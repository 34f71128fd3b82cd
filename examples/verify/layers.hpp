#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "intact/activation.hpp"
#include "intact/build/owned_parameters.hpp"
#include "intact/build/table.hpp"
#include "intact/gemm.hpp"
#include "intact/im2col.hpp"
#include "intact/io/recorded_case.hpp"
#include "intact/reference/gemm.hpp"

// Fully connected layers and patch embeddings: accumulators, requantized codes, and GELU by table.

namespace intact_verify {

using namespace intact::recorded;
using intact::index_t;

/// How the tensors around a layer are called: the ending of the layer's name, and its replacement in the names
/// of its input and its output.
struct layer_names {
  std::string_view layer, input, output;
};
inline constexpr std::string_view through_gelu = "mlp_qact1";
inline constexpr std::array<layer_names, 7> known_layers = {{{"attn_qkv", "qact1", "attn_qact1"},
                                                             {"attn_proj", "attn_qact2", "attn_qact3"},
                                                             {"mlp_fc1", "qact3", through_gelu},
                                                             {"mlp_fc2", "mlp_qact1", "mlp_qact2"},
                                                             {"patch_embed_proj", "qact_input", "patch_embed_qact"},
                                                             {"head", "qact2", "act_out"},
                                                             {"lin", "qin", "qout"}}};

/// A recorded layer with its input.
struct recorded_layer {
  std::string name, input_name, output_name;
  bool gelu = false;
  bool image = false;
  matrix<std::uint8_t> input{0, 0};
  std::optional<matrix<std::int8_t>> signed_input;  ///< in place of `input`
  double input_scale = 0;
  int input_zero_point = 0;
  matrix<std::int8_t> weights{0, 0};
  std::vector<float> weight_scale, bias;

  bool four_bits() const {
    return std::all_of(weights.values.begin(), weights.values.end(),
                       [](std::int8_t w) { return w >= intact::s4::min && w <= intact::s4::max; });
  }

  /// The accumulator of the recording: the input's zero point is subtracted.
  std::int64_t corrected(std::int64_t accumulator, index_t n) const {
    for (index_t k = 0; k < weights.columns; ++k) {
      accumulator -= std::int64_t{input_zero_point} * weights(n, k);
    }
    return accumulator;
  }
  index_t rows() const { return signed_input ? signed_input->rows : input.rows; }
  /// Outputs of all rows: a recording that has as many is compared before memory is taken for them.
  std::size_t outputs() const { return static_cast<std::size_t>(intact::size_product(rows(), weights.rows)); }
  std::int64_t input_value(index_t m, index_t k) const {
    return std::int64_t{signed_input ? (*signed_input)(m, k) : input(m, k)} - input_zero_point;
  }
  /// The product of the input and weights, through an output stage.
  template <class Weights, class Stage>
  void multiply(Weights w, const Stage& stage, intact::matrix_view<typename Stage::output> y) const {
    if (signed_input) {
      intact::reference::gemm(signed_input->view(), w, stage, y);
    } else {
      intact::reference::gemm(input.view(), w, stage, y);
    }
  }
  double factor(index_t n) const {
    return input_scale * static_cast<double>(weight_scale[static_cast<std::size_t>(n)]);
  }
  double addend(index_t n) const { return static_cast<double>(bias[static_cast<std::size_t>(n)]); }
};

/// The patches of the recorded images, one per row.
inline matrix<std::uint8_t> patches_of(const recorded_case& file, const std::string& layer, const std::string& input) {
  const std::string name = input + "__codes";
  matrix<std::uint8_t> pixels = file.codes<std::uint8_t>(name);
  const index_t images = file.size(name, 0, 4), channels = file.size(name, 1, 4);
  const index_t height = file.size(name, 2, 4), width = file.size(name, 3, 4);
  const index_t patch = std::max<index_t>(file.size(layer + "__wcodes", 2, 4), 1);
  if (file.size(layer + "__wcodes", 1, 4) != channels || file.size(layer + "__wcodes", 3, 4) != patch) {
    file.fail(layer + "__wcodes of shape " + printable(file.shape(layer + "__wcodes")) + " must have " +
              std::to_string(channels) + " channels and square patches");
  }
  const index_t patches = (height / patch) * (width / patch);
  matrix<std::uint8_t> rows(images * patches, channels * patch * patch);
  for (index_t i = 0; i < images; ++i) {
    const auto image =
        intact::planar_image(pixels.values.data() + i * channels * height * width, channels, height, width);
    intact::im2col(image, patch, rows.view().row_block(i * patches, patches));
  }
  return rows;
}

/// The scales of a layer's weights: one, or one per output channel. A channel of scale 0 has no weights but zeros.
inline std::vector<float> read_weight_scales(const recorded_case& file, const std::string& name, std::size_t channels) {
  std::vector<float> scales = file.floats(name + "__wscale");
  if (scales.size() == 1) {
    scales.resize(channels, scales[0]);
  }
  file.require_count(name + "__wscale", scales.size(), channels);
  for (const float scale : scales) {
    if (!(scale >= 0)) {
      file.fail(name + "__wscale has the value " + std::to_string(scale) + "; it must be at least 0");
    }
  }
  return scales;
}

inline recorded_layer read_layer(const recorded_case& file, const std::string& name,
                                 std::span<const layer_names> layers = known_layers) {
  const auto known =
      std::find_if(layers.begin(), layers.end(), [&](const layer_names& names) { return name.ends_with(names.layer); });
  if (known == layers.end()) {
    file.fail(name + "__wcodes: no input and output are known for a layer of this name");
  }
  const std::string prefix = name.substr(0, name.size() - known->layer.size());
  recorded_layer layer;
  layer.name = name;
  layer.input_name = prefix + std::string(known->input);
  layer.output_name = prefix + std::string(known->output);
  layer.gelu = known->output == through_gelu;
  if (!file.has(layer.input_name + "__codes")) {
    layer.input_name = "qin";  // attention recorded alone
  }
  const matrix<std::int8_t> codes = file.codes<std::int8_t>(name + "__wcodes");
  if (codes.values.empty()) {
    file.fail(name + "__wcodes has no values");
  }
  const index_t outputs = file.shape(name + "__wcodes").empty() ? 0 : file.shape(name + "__wcodes")[0];
  layer.image = file.shape(name + "__wcodes").size() == 4;
  layer.weights = matrix<std::int8_t>(outputs, outputs == 0 ? 0 : codes.rows * codes.columns / outputs);
  layer.weights.values = codes.values;
  quantizer input;
  if (!layer.image && file.is_signed(layer.input_name)) {
    layer.signed_input = file.codes<std::int8_t>(layer.input_name + "__codes");
    input = file.quantizer_of<std::int8_t>(layer.input_name);
  } else {
    layer.input =
        layer.image ? patches_of(file, name, layer.input_name) : file.codes<std::uint8_t>(layer.input_name + "__codes");
    input = file.quantizer_of(layer.input_name);
  }
  layer.input_scale = file.only_scale(layer.input_name, input);
  layer.input_zero_point = input.zero_point;
  const auto channels = static_cast<std::size_t>(outputs);
  layer.weight_scale = read_weight_scales(file, name, channels);
  layer.bias = file.has(name + "__bias") ? file.floats(name + "__bias", channels) : std::vector<float>(channels, 0.0F);
  return layer;
}

/// The place of the accumulators of rows m and outputs n in the recording; those of images are output by output.
struct accumulator_places {
  index_t outputs = 0;
  index_t patches = 1;  ///< rows of one image

  accumulator_places(const recorded_case& file, const std::string& tensor, const recorded_layer& layer)
      : outputs(layer.weights.rows) {
    if (layer.image) {
      patches = std::max<index_t>(file.size(tensor, 2, 4) * file.size(tensor, 3, 4), 1);
    }
    if (layer.rows() % patches != 0) {
      file.fail(tensor + " of shape " + printable(file.shape(tensor)) + " does not fit " +
                std::to_string(layer.rows()) + " patches");
    }
  }
  std::size_t operator()(index_t m, index_t n) const {
    return static_cast<std::size_t>((m / patches * outputs + n) * patches + m % patches);
  }
};

template <class Weights>
tensor_comparison compare_accumulators(const recorded_case& file, const recorded_layer& layer, Weights weights,
                                       const char* operation) {
  const std::string tensor = layer.name + "__acc";
  tensor_comparison result = file.compare(tensor, operation, claim::exact, layer.outputs());
  matrix<std::int32_t> sums(layer.rows(), layer.weights.rows);
  layer.multiply(weights, intact::raw_accumulator{}, sums.view());
  const std::vector<std::int64_t> recorded = file.integers(tensor);
  const accumulator_places place(file, tensor, layer);
  for (index_t m = 0; m < sums.rows; ++m) {
    for (index_t n = 0; n < sums.columns; ++n) {
      const std::size_t at = place(m, n);
      result.compare(at, layer.corrected(sums(m, n), n), recorded[at]);
    }
  }
  return result;
}

/// The layer's scale to output codes, whose scale is given for each channel.
template <class OutputScale>
intact::owned_channel_scale build_layer_scale(const recorded_layer& layer, const OutputScale& output_of) {
  std::vector<intact::scale_spec> specs;
  for (index_t n = 0; n < layer.weights.rows; ++n) {
    const std::span<const std::int8_t> row(layer.weights.values.data() + n * layer.weights.columns,
                                           static_cast<std::size_t>(layer.weights.columns));
    const intact::code_scale output = output_of(n);
    const intact::linear_channel channel{.weights = row,
                                         .factor = layer.factor(n) / output.scale,
                                         .addend = layer.addend(n) / output.scale + output.zero_point,
                                         .zero_point = layer.input_zero_point};
    specs.push_back(layer.signed_input ? intact::linear_spec<std::int8_t>(channel)
                                       : intact::linear_spec<std::uint8_t>(channel));
  }
  return intact::owned_channel_scale(specs);
}

/// Why float32 may give another code: its sums are off by up to K roundings of the sum of magnitudes.
inline std::string layer_reason(const recorded_layer& layer, const intact::code_scale& output, index_t m, index_t n,
                                std::int64_t found, std::int64_t expected) {
  std::int64_t sum = 0, magnitudes = 0;
  for (index_t k = 0; k < layer.weights.columns; ++k) {
    const std::int64_t product = layer.input_value(m, k) * std::int64_t{layer.weights(n, k)};
    sum += product;
    magnitudes += std::abs(product);
  }
  const long double factor = static_cast<long double>(layer.factor(n)) / static_cast<long double>(output.scale);
  const long double addend = static_cast<long double>(layer.addend(n)) / static_cast<long double>(output.scale);
  const long double exact =
      static_cast<long double>(sum) * factor + addend + static_cast<long double>(output.zero_point);
  const long double roundings = static_cast<long double>(layer.weights.columns + 4) * float32_rounding;
  return near_tie(exact, found, expected,
                  roundings * (static_cast<long double>(magnitudes) * factor + std::fabs(addend)) +
                      float32_rounding * std::fabs(exact));
}

template <class Code>
tensor_comparison compare_requantized(const recorded_case& file, const recorded_layer& layer) {
  const std::string tensor = layer.output_name + "__codes";
  const quantizer output = file.quantizer_of<Code>(layer.output_name);
  const auto output_of = [&](index_t n) {
    return intact::code_scale{.scale = static_cast<double>(output.channel(n)),
                              .zero_point = static_cast<double>(output.zero_point)};
  };
  tensor_comparison result = file.compare(tensor, "requantized codes of layers", claim::bounded, layer.outputs());
  const auto built = build_layer_scale(layer, output_of);
  matrix<Code> codes(layer.rows(), layer.weights.rows);
  layer.multiply(layer.weights.view(), intact::requantize<Code>{built.view()}, codes.view());
  const std::vector<std::int64_t> recorded = file.integers(tensor);
  for (index_t m = 0; m < codes.rows; ++m) {
    for (index_t n = 0; n < codes.columns; ++n) {
      const auto at = static_cast<std::size_t>(m * codes.columns + n);
      result.compare<std::int64_t>(at, codes(m, n), recorded[at],
                                   [&] { return layer_reason(layer, output_of(n), m, n, codes(m, n), recorded[at]); });
    }
  }
  return result;
}

/// GELU by a table of 12-bit codes, fed from the layer's accumulators. Its range is that of the recorded inputs.
inline tensor_comparison compare_gelu(const recorded_case& file, const recorded_layer& layer) {
  const std::string tensor = layer.output_name + "__codes";
  const std::string prefix = layer.name.substr(0, layer.name.size() - std::string_view("fc1").size());
  const std::vector<float> inputs = file.floats(prefix + "act__in");
  if (inputs.empty()) {
    file.fail(prefix + "act__in is empty");
  }
  const auto [low, high] = std::minmax_element(inputs.begin(), inputs.end());
  const double zero_point = file.quantizer_of(layer.output_name).zero_point;
  const intact::activation_table table =
      intact::build_activation_table(intact::gelu, static_cast<double>(*low), static_cast<double>(*high),
                                     {file.tensor_scale(layer.output_name), zero_point});
  tensor_comparison result = file.compare(tensor, "GELU of 12-bit codes", claim::within_one, layer.outputs());
  const auto built = build_layer_scale(layer, [&](index_t) { return table.input; });
  matrix<std::uint16_t> wide(layer.rows(), layer.weights.rows);
  matrix<std::uint8_t> codes(wide.rows, wide.columns);
  layer.multiply(layer.weights.view(), intact::requantize_u12{built.view()}, wide.view());
  intact::activation(wide.view(), table.codes, codes.view());
  const std::vector<std::int64_t> recorded = file.integers(tensor);
  for (std::size_t at = 0; at < recorded.size(); ++at) {
    result.compare<std::int64_t>(at, codes.values[at], recorded[at]);
  }
  return result;
}

/// The weights quantized anew from the recorded floats, in the recorded scales. Channels of scale 0 are left out.
inline tensor_comparison compare_weights(const recorded_case& file, const recorded_layer& layer) {
  const std::string tensor = layer.name + "__wcodes";
  const intact::code_range codes = layer.four_bits() ? intact::s4_codes : intact::s8_codes;
  const std::vector<float> floats = file.floats("weight_f32", layer.weights.values.size());
  matrix<std::int8_t> found(layer.weights.rows, layer.weights.columns);
  const auto is_left_out = [&](index_t n) { return layer.weight_scale[static_cast<std::size_t>(n)] == 0; };
  for (index_t n = 0; n < found.rows; ++n) {
    if (is_left_out(n)) {
      continue;
    }
    const intact::matrix_view<const float> row(floats.data() + n * found.columns, 1, found.columns);
    const intact::affine_scale scale{layer.weight_scale[static_cast<std::size_t>(n)], 0};
    intact::quantize_codes(row, scale, found.view().row_block(n, 1), codes);
  }
  tensor_comparison result = file.compare(tensor, "quantized weights", claim::exact, found.values.size());
  for (std::size_t at = 0; at < found.values.size(); ++at) {
    if (!is_left_out(static_cast<index_t>(at) / found.columns)) {
      result.compare<std::int64_t>(at, found.values[at], layer.weights.values[at]);
    }
  }
  return result;
}

inline void verify_accumulators(const recorded_case& file, const recorded_layer& layer, case_report& report) {
  if (!file.has(layer.name + "__acc")) {
    return;
  }
  report.add(compare_accumulators(file, layer, layer.weights.view(), "accumulators of layers"));
  if (layer.four_bits()) {
    const auto packed = intact::owned_weights::pack_s4(layer.weights.values, layer.weights.rows, layer.weights.columns);
    report.add(compare_accumulators(
        file, layer,
        intact::packed_view<intact::s4, const std::uint8_t>(packed.packed.data(), packed.rows, packed.columns),
        "accumulators of layers, packed s4"));
  }
}

inline void verify_outputs(const recorded_case& file, const recorded_layer& layer, case_report& report) {
  if (layer.gelu) {
    report.add(compare_gelu(file, layer));
  } else if (file.has(layer.output_name + "__codes")) {
    report.add(file.is_signed(layer.output_name) ? compare_requantized<std::int8_t>(file, layer)
                                                 : compare_requantized<std::uint8_t>(file, layer));
  }
}

inline void verify_layer(const recorded_case& file, const std::string& name, case_report& report) {
  const recorded_layer layer = read_layer(file, name);
  verify_accumulators(file, layer, report);
  verify_outputs(file, layer, report);
  if (file.has("weight_f32")) {
    report.add(compare_weights(file, layer));
  }
}

}  // namespace intact_verify
