#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/scaled_weights.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/real_values.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "intact/quantize/float_layers.hpp"
#include "intact/quantize/vit_weights.hpp"

// Reading weights, scales, zero points and bit widths of models that another tool has calibrated.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Inputs beyond which the codes of GELU are constant: in double, GELU is 0 below -9; above 0 it is above x - 0.17.
inline value_range gelu_input_range(const affine_scale& y) {
  return {-9, static_cast<float>(256 - y.zero_point) * y.scale + 0.17F};
}

/// Reads a calibrated model: its weights become a file that load_float_vit or load_float_swin reads.
class calibrated_reader {
 public:
  calibrated_reader(const safetensors_file& file, const char* format) : file_(file) {
    require_metadata("format", {format});
    require_metadata("version", {"1"});
    require_metadata("activation_bits", {"8"});
    recipe_.weights = require_metadata("weight_bits", {"4", "8"}) == "4" ? weight_kind::s4 : weight_kind::s8;
    recipe_.probabilities =
        require_metadata("attention_bits", {"4", "8"}) == "4" ? attention_code::u8_masked : attention_code::u8_full;
  }

  const quantization_recipe& recipe() const { return recipe_; }

  /// A metadata value, which must be one of these.
  std::string require_metadata(const std::string& key, const std::vector<std::string>& allowed) const {
    const std::string& value = file_.metadata_value(key);
    std::string all;
    for (const std::string& one : allowed) {
      if (value == one) {
        return one;
      }
      all += (all.empty() ? "" : " or ") + in_quotes(one);
    }
    refuse("metadata " + in_quotes(key) + " is " + in_quotes(value) + "; it must be " + all);
  }

  /// The same of a value that may be missing.
  void require_metadata_if_any(const std::string& key, const std::vector<std::string>& allowed) const {
    if (file_.metadata().contains(key)) {
      require_metadata(key, allowed);
    }
  }

  bool contains(const std::string& name) const { return file_.contains(name); }

  /// Marks a tensor of real numbers as one of the float model. A missing one is refused by the float model's loader.
  void take(const std::string& name) {
    if (contains(name)) {
      read_.insert(name);
      add(name, file_.info(name).shape, real_values(file_, name));
    }
  }
  void take_norm(const std::string& name) {
    take(name + ".weight");
    take(name + ".bias");
  }
  void take_layer(const std::string& name) {
    if (contains(name + ".weight") && file_.info(name + ".weight").type == dtype::i8) {
      take_codes(name);
    } else {
      take(name + ".weight");
    }
    take(name + ".bias");
  }
  void take_block(const std::string& name) {
    for (const char* const norm : {".norm1", ".norm2"}) {
      take_norm(name + norm);
    }
    for (const char* const layer : {".attn.qkv", ".attn.proj", ".mlp.fc1", ".mlp.fc2"}) {
      take_layer(name + layer);
    }
  }

  /// The float model's file. Messages about it name the file that is read.
  safetensors_file float_file() const {
    std::vector<tensor_to_write> tensors;
    for (const auto& [name, tensor] : floats_) {
      tensors.push_back(tensor_from(name, tensor.first, tensor.second));
    }
    return safetensors_file::parse(safetensors_bytes(file_.name(), tensors, file_.metadata()), file_.name());
  }

  /// The codes of a layer's weights in the scales of the file.
  scaled_weights weights(const std::string& layer, const float_matrix& real) {
    const std::vector<float> scale = weight_scale(layer, real.rows());
    const code_range& range = weight_range();
    std::vector<std::int8_t> codes(static_cast<std::size_t>(real.size()));
    const matrix_view<std::int8_t> view(codes.data(), real.rows(), real.cols());
    for (index_t n = 0; n < real.rows(); ++n) {
      quantize_codes(view_of(real).row_block(n, 1), affine_scale{scale[static_cast<std::size_t>(n)], 0},
                     view.row_block(n, 1), range);
    }
    return {recipe_.weights == weight_kind::s4 ? owned_weights::pack_s4(codes, real.rows(), real.cols())
                                               : owned_weights(std::move(codes), real.rows(), real.cols()),
            scale};
  }
  block_weights weights(const std::string& name, const float_block& block) {
    return {.qkv = weights(name + ".attn.qkv", block.qkv.weight),
            .proj = weights(name + ".attn.proj", block.proj.weight),
            .fc1 = weights(name + ".mlp.fc1", block.fc1.weight),
            .fc2 = weights(name + ".mlp.fc2", block.fc2.weight)};
  }

  /// The scale of a tensor of activations.
  affine_scale affine(const std::string& tensor) {
    const std::string scale = activations + tensor + ".scale", zero_point = activations + tensor + ".zero_point";
    const float value = real_values(file_, scale, {}).front();
    require_scale(scale, value, "");
    const std::int64_t zero = file_.values<std::int64_t>(zero_point, {}).front();
    if (zero < 0 || zero > 255) {
      refuse_value(zero_point, std::to_string(zero), "", "in 0..255");
    }
    read_.insert({scale, zero_point});
    return {value, static_cast<int>(zero)};
  }

  /// The same with a power of two per channel; all 1 if the file has no shifts.
  ptf_scale ptf(const std::string& tensor, index_t channels) {
    const ptf_scale same = unshifted_scale(affine(tensor), channels);
    const std::string shift = activations + tensor + ".shift";
    if (!contains(shift)) {
      return same;
    }
    const ptf_scale scale{
        .scale = same.scale, .zero_point = same.zero_point, .shift = file_.values<std::uint8_t>(shift, {channels})};
    for (std::size_t c = 0; c < scale.shift.size(); ++c) {
      if (scale.shift[c] > 3) {
        refuse_value(shift, std::to_string(scale.shift[c]), place(c), "in 0..3");
      }
    }
    read_.insert(shift);
    return scale;
  }

  /// The scales of a block of this width. `context` and the others have their names in model/trace.hpp.
  block_scales block(const std::string& name, index_t width) {
    block_scales scales;
    scales.norm1 = affine(name + ".norm1");
    scales.qkv = affine(name + ".qkv");
    scales.attention_logits = affine(name + ".attention_logits");
    scales.context = affine(name + ".context");
    scales.proj = affine(name + ".proj");
    scales.add1 = ptf(name + ".add1", width);
    scales.norm2 = affine(name + ".norm2");
    scales.activation = affine(name + ".activation");
    scales.fc1 = gelu_input_range(scales.activation);
    if (!std::isfinite(scales.fc1.high)) {  // the scale times 256 - zero_point
      const int codes = 256 - scales.activation.zero_point;
      refuse_value(activations + name + ".activation.scale", text_of(scales.activation.scale), "",
                   "at most " + text_of(std::numeric_limits<float>::max() / static_cast<float>(codes)));
    }
    scales.fc2 = affine(name + ".fc2");
    scales.add2 = ptf(name + ".add2", width);
    scales.k = optional_affine(name + ".k");
    scales.v = optional_affine(name + ".v");
    return scales;
  }

  [[noreturn]] void refuse(const std::string& problem) const { throw file_error(file_.name(), problem); }

  void require_all_read() const {
    for (const std::string& name : file_.names()) {
      if (!read_.contains(name)) {
        refuse("tensor " + in_quotes(name) + " has no place in a calibrated model of this architecture");
      }
    }
  }

  /// Runs an action that refuses arguments; then they are the file's.
  template <class Action>
  auto in_file(Action action) const {
    try {
      return action();
    } catch (const std::invalid_argument& error) {
      refuse(error.what());
    }
  }

 private:
  static constexpr const char* activations = "activations.";

  [[noreturn]] void refuse_value(const std::string& tensor, const std::string& value, const std::string& where,
                                 const std::string& rule) const {
    refuse("tensor " + in_quotes(tensor) + " has the value " + value + where + "; it must be " + rule);
  }

  static std::string text_of(float value) {
    std::array<char, 32> text;
    std::snprintf(text.data(), text.size(), "%g", static_cast<double>(value));
    return text.data();
  }

  static std::string place(std::size_t at) { return " at " + std::to_string(at); }

  void require_scale(const std::string& tensor, float scale, const std::string& where) const {
    if (!(scale > 0) || !std::isfinite(scale)) {
      refuse_value(tensor, text_of(scale), where, "above 0 and finite");
    }
  }

  std::optional<affine_scale> optional_affine(const std::string& tensor) {
    return contains(activations + tensor + ".scale") ? std::optional(affine(tensor)) : std::nullopt;
  }

  const code_range& weight_range() const { return recipe_.weights == weight_kind::s4 ? s4_codes : s8_codes; }

  std::vector<float> weight_scale(const std::string& layer, index_t rows) {
    const std::string name = layer + ".weight_scale";
    const std::vector<float> scale = real_values(file_, name, {rows});
    for (std::size_t n = 0; n < scale.size(); ++n) {
      require_scale(name, scale[n], place(n));
    }
    read_.insert(name);
    return scale;
  }

  /// Weights that are codes already, as their real numbers: weights() finds the same codes again.
  void take_codes(const std::string& layer) {
    const std::string name = layer + ".weight";
    const std::vector<std::int64_t>& shape = file_.info(name).shape;
    if (shape.empty()) {
      refuse("tensor " + in_quotes(name) + " has shape []; it must have a row of codes per output channel");
    }
    const std::vector<float> scale = weight_scale(layer, static_cast<index_t>(shape.front()));
    const std::vector<std::int8_t> codes = file_.values<std::int8_t>(name);
    const code_range& range = weight_range();
    std::vector<float> real;
    for (std::size_t at = 0; at < codes.size(); ++at) {
      if (codes[at] < range.low || codes[at] > range.high) {
        refuse_value(name, std::to_string(codes[at]), place(at),
                     recipe_.weights == weight_kind::s4 ? "in -8..7, as weight_bits is 4" : "in -128..127");
      }
      real.push_back(static_cast<float>(codes[at]) * scale[at / (codes.size() / scale.size())]);
    }
    read_.insert(name);
    add(name, shape, std::move(real));
  }

  void add(const std::string& name, const std::vector<std::int64_t>& shape, std::vector<float> values) {
    floats_.emplace(name, std::pair(shape, std::move(values)));
  }

  const safetensors_file& file_;
  quantization_recipe recipe_ = paper_recipe;
  std::map<std::string, std::pair<std::vector<std::int64_t>, std::vector<float>>> floats_;
  std::set<std::string> read_;
};

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
