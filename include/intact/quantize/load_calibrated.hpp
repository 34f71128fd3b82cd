#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/swin_scales.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/real_values.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/io/safetensors_write.hpp"
#include "intact/quantize/calibrated_vit.hpp"
#include "intact/quantize/fit_swin_scales.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/quantize/swin_weights.hpp"

// Models that another tool has calibrated: files of weights, scales, zero points and bit widths, of which build_vit and
// build_swin make integer models. docs/calibrated_models.md has the names of the tensors.

namespace intact {
inline namespace INTACT_UNIT {

inline constexpr const char* calibrated_vit_format = "intact-calibrated-vit";
inline constexpr const char* calibrated_swin_format = "intact-calibrated-swin";

/// A vision transformer that was calibrated elsewhere, and the recipe for its integer model.
struct loaded_calibrated_vit {
  calibrated_vit model;
  quantization_recipe recipe;
};

/// The same of a Swin transformer.
struct loaded_calibrated_swin {
  float_swin model;
  swin_scales scales;
  swin_weights weights;
  std::vector<scale_change> changes;  ///< scales that were raised so that integers can represent them
  quantization_recipe recipe;
};

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
    return {weights(name + ".attn.qkv", block.qkv.weight), weights(name + ".attn.proj", block.proj.weight),
            weights(name + ".mlp.fc1", block.fc1.weight), weights(name + ".mlp.fc2", block.fc2.weight)};
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
    const ptf_scale scale{same.scale, same.zero_point, file_.values<std::uint8_t>(shift, {channels})};
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
    scales.fc2 = affine(name + ".fc2");
    scales.add2 = ptf(name + ".add2", width);
    scales.k = optional_affine(name + ".k");
    scales.v = optional_affine(name + ".v");
    return scales;
  }

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

  [[noreturn]] void refuse(const std::string& problem) const { throw file_error(file_.name(), problem); }

  [[noreturn]] void refuse_value(const std::string& tensor, const std::string& value, const std::string& where,
                                 const char* rule) const {
    refuse("tensor " + in_quotes(tensor) + " has the value " + value + where + "; it must be " + rule);
  }

  static std::string place(std::size_t at) { return " at " + std::to_string(at); }

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

  void require_scale(const std::string& tensor, float scale, const std::string& where) const {
    if (!(scale > 0) || !std::isfinite(scale)) {
      std::array<char, 32> value;
      std::snprintf(value.data(), value.size(), "%g", static_cast<double>(scale));
      refuse_value(tensor, value.data(), where, "above 0 and finite");
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

  /// Weights that are codes already, as the real numbers that they stand for: weights() finds the same codes again.
  void take_codes(const std::string& layer) {
    const std::string name = layer + ".weight";
    const std::vector<std::int64_t>& shape = file_.info(name).shape;
    const std::vector<float> scale = weight_scale(layer, shape.empty() ? 0 : static_cast<index_t>(shape.front()));
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

inline float_vit read_calibrated_floats(calibrated_reader& reader) {
  for (const char* const name : {"cls_token", "pos_embed"}) {
    reader.take(name);
  }
  reader.take_layer("patch_embed.proj");
  for (index_t n = 0; reader.contains("blocks." + std::to_string(n) + ".norm1.weight"); ++n) {
    reader.take_block("blocks." + std::to_string(n));
  }
  reader.take_norm("norm");
  reader.take_layer("head");
  return load_float_vit(reader.float_file());
}

/// The name of a block of a stage.
inline std::string swin_block_name(index_t stage, index_t block) {
  return "layers." + std::to_string(stage) + ".blocks." + std::to_string(block);
}

inline float_swin read_calibrated_swin_floats(calibrated_reader& reader) {
  reader.take_layer("patch_embed.proj");
  reader.take_norm("patch_embed.norm");
  for (index_t s = 0; reader.contains(swin_block_name(s, 0) + ".norm1.weight"); ++s) {
    for (index_t n = 0; reader.contains(swin_block_name(s, n) + ".norm1.weight"); ++n) {
      reader.take_block(swin_block_name(s, n));
      reader.take(swin_block_name(s, n) + ".attn.relative_position_bias_table");
    }
    const std::string merging = "layers." + std::to_string(s) + ".downsample";
    reader.take_norm(merging + ".norm");
    reader.take_layer(merging + ".reduction");
  }
  reader.take_norm("norm");
  reader.take_layer("head");
  return reader.in_file([&] { return load_float_swin(reader.float_file()); });
}

/// The scales and the weights of stage s.
inline void read_calibrated_stage(calibrated_reader& reader, index_t s, loaded_calibrated_swin& loaded) {
  const float_swin_stage& layers = loaded.model.stages[static_cast<std::size_t>(s)];
  swin_stage_scales& scales = loaded.scales.stages.emplace_back();
  swin_stage_weights& weights = loaded.weights.stages.emplace_back();
  for (index_t n = 0; n < std::ssize(layers.blocks); ++n) {
    const std::string name = swin_block_name(s, n);
    scales.blocks.push_back({reader.block(name, loaded.model.shape.of(s).width), reader.affine(name + ".position_bias"),
                             reader.affine(name + ".biased_logits")});
    weights.blocks.push_back(reader.weights(name, layers.blocks[static_cast<std::size_t>(n)].block));
  }
  if (s + 1 < loaded.model.shape.stages) {
    const std::string stage = "layers." + std::to_string(s);
    scales.merge_norm = reader.affine(stage + ".merge_norm");
    scales.merge = reader.ptf(stage + ".merge", loaded.model.shape.of(s + 1).width);
    weights.reduction = reader.weights(stage + ".downsample.reduction", layers.reduction);
  }
}

}  // namespace detail

/// Makes the arguments of build_vit of a file of weights, scales and zero points, in FQ-ViT's graph.
///
/// Formula:   weights: the file's codes, or clamp(rne(w / weight_scale)) of its real numbers; scales and zero points as
///            they are, but for those that no integers compute: fit_scales raises them, and `changes` names them.
/// Errors:    file_error, naming the tensor or the metadata, the value and the limit: metadata that is missing or has
///            another value than the format's; tensors that are missing, have another dtype or shape, or have no place
///            in the model; scales that are not above 0 and finite, zero points outside 0..255, shifts above 3, codes
///            of weights outside their bits; whatever load_float_vit and the builders refuse.
/// Source:    docs/calibrated_models.md.
inline loaded_calibrated_vit load_calibrated_vit(const safetensors_file& file) {
  detail::calibrated_reader reader(file, calibrated_vit_format);
  loaded_calibrated_vit loaded{{detail::read_calibrated_floats(reader), {}, {}}, reader.recipe()};
  const float_vit& model = loaded.model.model;
  vit_scales& scales = loaded.model.scales;
  vit_weights& weights = loaded.model.weights;

  scales.input = reader.affine("input");
  scales.patch = reader.affine("patch");
  scales.embed = reader.affine("embed");
  scales.positions = reader.affine("positions");
  scales.tokens = reader.ptf("tokens", model.shape.width);
  weights.patch = reader.weights("patch_embed.proj", model.patch.weight);
  for (std::size_t n = 0; n < model.blocks.size(); ++n) {
    const std::string name = "blocks." + std::to_string(n);
    scales.blocks.push_back(reader.block(name, model.shape.width));
    weights.blocks.push_back(reader.weights(name, model.blocks[n]));
  }
  scales.norm = reader.affine("norm");
  if (model.shape.pooling == vit_pooling::mean) {
    scales.pool = reader.affine("pool");
  }
  scales.logits = reader.affine("logits");
  weights.head = reader.weights("head", model.head.weight);
  reader.require_all_read();
  loaded.model = reader.in_file([&] { return fit_scales(std::move(loaded.model), loaded.recipe); });
  return loaded;
}

/// The same for build_swin. Tensors of mergings have the old names of timm.
inline loaded_calibrated_swin load_calibrated_swin(const safetensors_file& file) {
  detail::calibrated_reader reader(file, calibrated_swin_format);
  loaded_calibrated_swin loaded{detail::read_calibrated_swin_floats(reader), {}, {}, {}, reader.recipe()};
  const float_swin& model = loaded.model;
  swin_scales& scales = loaded.scales;

  scales.input = reader.affine("input");
  scales.patch = reader.affine("patch");
  scales.tokens = reader.affine("tokens");
  loaded.weights.patch = reader.weights("patch_embed.proj", model.patch.weight);
  for (index_t s = 0; s < model.shape.stages; ++s) {
    detail::read_calibrated_stage(reader, s, loaded);
  }
  scales.norm = reader.affine("norm");
  scales.pool = reader.affine("pool");
  scales.logits = reader.affine("logits");
  loaded.weights.head = reader.weights("head", model.head.weight);
  reader.require_all_read();
  fitted_scales<swin_scales> fitted =
      reader.in_file([&] { return fit_scales(model, scales, loaded.weights, loaded.recipe); });
  loaded.scales = std::move(fitted.scales);
  loaded.changes = std::move(fitted.changes);
  return loaded;
}

}  // namespace INTACT_UNIT
}  // namespace intact
