#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "intact/build/integer_vit.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/model_file_checks.hpp"

// The fields of a model file, described once for both directions. An archive that writes takes each field from a model,
// one that reads fills it in; either way its limits are checked before the next field is looked at, so that whatever is
// used as a size has been checked, and a file that has been written can be read.
//
// Tensors are named like the members of vit_tensors. Fields that a model's kinds do not use are left out.

namespace intact {
inline namespace INTACT_UNIT {
namespace detail {

/// The type by which an archive takes a T: reading changes it, writing does not.
template <class Archive, class T>
using field = std::conditional_t<Archive::writes, const T, T>;

/// The limits of an enumeration, which is stored as its number.
constexpr limits first_of(int choices) {
  return {0, choices - 1};
}

static_assert(static_cast<int>(stream_codes::s16) == 1 && static_cast<int>(weight_kind::s4) == 1 &&
                  static_cast<int>(weight_kind::grouped_s4) == 2 &&
                  static_cast<int>(attention_kind::log2_of_max) == 1 &&
                  static_cast<int>(attention_kind::weights) == 2 &&
                  static_cast<int>(attention_kind::weight_codes) == 3 &&
                  static_cast<int>(attention_code::u4_clipped) == 1 && static_cast<int>(attention_code::u8_full) == 2 &&
                  static_cast<int>(log2_rounding::round_log) == 1 && static_cast<int>(vit_pooling::mean) == 1 &&
                  static_cast<int>(vit_pooling::class_tokens_and_mean) == 2 &&
                  static_cast<int>(vit_pooling::normalized_mean) == 3 &&
                  static_cast<int>(vit_pooling::patch_tokens) == 4 && static_cast<int>(normalization::rmsnorm) == 1,
              "the numbers of enumerations are part of the format");

inline constexpr limits code_limits{0, 255};
inline constexpr limits multiplier_limits{0, std::numeric_limits<std::int32_t>::max()};
inline constexpr limits scale_shift_limits{0, 30};
inline constexpr limits scale_offset_limits{-(std::int64_t{1} << 62) + 1, (std::int64_t{1} << 62) - 1};

/// A kind of norms that may be missing, stored as its number plus 1.
template <class Archive>
void describe_kind(Archive& archive, const std::string& name, field<Archive, std::optional<normalization>>& kind) {
  int stored = kind ? static_cast<int>(*kind) + 1 : 0;
  archive.number(name, stored, limits{1, 2});
  if constexpr (!Archive::writes) {
    kind = static_cast<normalization>(stored - 1);
  }
}

template <class Archive>
void describe_shape(Archive& archive, field<Archive, vit_shape>& shape) {
  constexpr limits size{1, model_file_max_size};
  archive.number("shape.channels", shape.channels, size);
  archive.number("shape.height", shape.height, size);
  archive.number("shape.width_pixels", shape.image_width, size);
  archive.number("shape.patch", shape.patch.height, size);
  if (archive.has("shape.patch_width", shape.patch.width != shape.patch.height)) {
    archive.number("shape.patch_width", shape.patch.width, size);
    if (shape.patch.width == shape.patch.height) {
      archive.refuse("shape.patch_width", "is shape.patch, which is left out");
    }
  } else if constexpr (!Archive::writes) {
    shape.patch.width = shape.patch.height;
  }
  archive.number("shape.width", shape.width, size);
  archive.number("shape.heads", shape.heads, size);
  archive.number("shape.hidden", shape.hidden, size);
  archive.number("shape.depth", shape.depth, limits{0, model_file_max_size});
  archive.number("shape.classes", shape.classes, limits{0, model_file_max_size});
  if (archive.has("shape.class_tokens", shape.class_tokens != 1)) {
    archive.number("shape.class_tokens", shape.class_tokens, limits{0, model_file_max_size});
    if (shape.class_tokens == 1) {
      archive.refuse("shape.class_tokens", "is 1, which is left out");
    }
  }
  if (archive.has("shape.registers", shape.registers != 0)) {
    archive.number("shape.registers", shape.registers, size);
  }
  if (archive.has("shape.pooling", shape.pooling != vit_pooling::class_tokens)) {
    archive.number("shape.pooling", shape.pooling, limits{1, 4});
  }
  if (archive.has("shape.norm", shape.norm != normalization::layernorm)) {
    archive.number("shape.norm", shape.norm, limits{1, 1});
  }
  if (archive.has("shape.gated", shape.gated)) {
    archive.number("shape.gated", shape.gated, limits{1, 1});
  }
  if (archive.has("shape.qk_norm", shape.qk_norm.has_value())) {
    describe_kind(archive, "shape.qk_norm", shape.qk_norm);
  }
  archive.number("shape.stream", shape.stream, first_of(2));
  check_shape(archive, shape);
}

template <class Archive>
void describe_weights(Archive& archive, const std::string& name, field<Archive, owned_weights>& weights, index_t rows,
                      index_t columns) {
  if constexpr (!Archive::writes) {
    weights.rows = rows;
    weights.columns = columns;
  }
  archive.number(name + ".kind", weights.kind, first_of(3));
  check_columns(archive, name, weights.kind, columns);
  if (weights.kind == weight_kind::s8) {
    archive.array(name + ".codes", weights.codes, {rows, columns});
    return;
  }
  archive.array(name + ".packed", weights.packed, {rows, packed_bytes(columns)});
  check_padding(archive, name, weights);
  if (weights.kind == weight_kind::grouped_s4) {
    archive.number(name + ".group", weights.group, limits{1, model_file_max_size});
    archive.array(name + ".shifts", weights.shifts, {rows, (columns + weights.group - 1) / weights.group},
                  limits{0, grouped_s4_view::max_shift});
  }
}

/// A scale of so many channels, without the checks that depend on their accumulators.
template <class Archive>
void describe_channels(Archive& archive, const std::string& name, field<Archive, owned_channel_scale>& scale,
                       index_t channels) {
  archive.array(name + ".multiplier", scale.multiplier, {channels}, multiplier_limits);
  archive.array(name + ".offset", scale.offset, {channels}, scale_offset_limits);
  archive.number(name + ".shift", scale.shift, scale_shift_limits);
  archive.number(name + ".prescale", scale.left_shift, scale_shift_limits);
  archive.reals(name + ".exact", scale.exact, channels);
}

template <class Archive>
void describe_scale(Archive& archive, const std::string& name, field<Archive, owned_channel_scale>& scale,
                    const owned_weights& weights) {
  describe_channels(archive, name, scale, weights.rows);
  check_scale(archive, name, scale, weights);
}

/// A scale of channels whose accumulators have one range.
template <class Archive>
void describe_scale(Archive& archive, const std::string& name, field<Archive, owned_channel_scale>& scale,
                    index_t channels, const accumulator_range& range) {
  describe_channels(archive, name, scale, channels);
  check_channels(archive, name, scale, [&](index_t) { return range; });
}

template <class Archive>
void describe_scale(Archive& archive, const std::string& name, field<Archive, owned_tensor_scale>& p,
                    const accumulator_range& range, const limits& left_shift_limits = scale_shift_limits) {
  archive.number(name + ".multiplier", p.scale.multiplier, multiplier_limits);
  archive.number(name + ".offset", p.scale.offset, scale_offset_limits);
  archive.number(name + ".shift", p.scale.shift, scale_shift_limits);
  archive.number(name + ".prescale", p.scale.left_shift, left_shift_limits);
  archive.real(name + ".exact.factor", p.exact.factor);
  archive.real(name + ".exact.offset", p.exact.offset);
  check_scale(archive, name, p, range);
}

template <class Archive>
void describe_linear(Archive& archive, const std::string& name, field<Archive, owned_linear>& layer, index_t outputs,
                     index_t inputs) {
  describe_weights(archive, name + ".weights", layer.weights, outputs, inputs);
  describe_scale(archive, name + ".scale", layer.scale, layer.weights);
}

template <class Archive>
void describe_add(Archive& archive, const std::string& name, field<Archive, owned_add>& p, index_t channels) {
  constexpr std::int64_t largest = std::numeric_limits<std::int32_t>::max();
  archive.array(name + ".stream_multiplier", p.stream_multiplier, {channels}, multiplier_limits);
  archive.array(name + ".branch_multiplier", p.branch_multiplier, {channels}, multiplier_limits);
  archive.array(name + ".offset", p.offset, {channels}, limits{-largest, largest});
  archive.number(name + ".zero_points.stream", p.zero_points.stream, code_limits);
  archive.number(name + ".zero_points.branch", p.zero_points.branch, code_limits);
  archive.number(name + ".zero_points.output", p.zero_points.output, code_limits);
  archive.number(name + ".shift", p.shift, limits{add_min_shift, add_max_shift});
  archive.reals(name + ".exact", p.exact, channels);
  check_add(archive, name, p);
}

template <class Archive>
void describe_layernorm(Archive& archive, const std::string& name, field<Archive, owned_layernorm>& p, index_t width,
                        stream_codes stream) {
  constexpr std::int64_t gain_limit = (std::int64_t{1} << 30) - 1;
  const bool wide = stream == stream_codes::s16;
  archive.number(name + ".zero_point", p.zero_point, wide ? limits{0, 0} : code_limits);
  archive.array(name + ".shift", p.shift, {width}, limits{0, layernorm_max_shift});
  archive.number(name + ".epsilon", p.epsilon, limits{1, std::int64_t{layernorm_max_epsilon}});
  if (archive.version() >= 2) {
    archive.number(name + ".epsilon_fraction", p.epsilon_fraction,
                   limits{layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction});
  }
  archive.array(name + ".gain", p.gain, {width}, limits{-gain_limit, gain_limit});
  archive.array(name + ".bias", p.bias, {width});
  archive.number(name + ".output_shift", p.output_shift, limits{1, 48});
  check_layernorm(archive, name, p);
}

/// The limits of the codes or weights of a table relative to the maximum.
constexpr limits softmax_table_limits(attention_kind kind, attention_code probabilities) {
  return kind == attention_kind::weights        ? code_limits
         : kind == attention_kind::weight_codes ? limits{0, u4::max}
         : probabilities == attention_code::u4_clipped
             ? limits{0, attention_codes<attention_code::u4_clipped>::largest}
             : limits{0, attention_codes<attention_code::u8_masked>::last_code};
}

template <class Archive>
void describe_softmax(Archive& archive, const std::string& name, field<Archive, owned_softmax>& p, index_t keys) {
  archive.number(name + ".kind", p.kind, first_of(4));
  archive.number(name + ".probabilities", p.probabilities, first_of(3));
  archive.number(name + ".rounding", p.rounding, first_of(2));
  archive.number(name + ".normalize", p.normalize, first_of(2));
  check_softmax(archive, name, p, keys);
  if (p.kind == attention_kind::log2_of_sum) {
    archive.array(name + ".exponential", p.exponential, {softmax_distances});
    check_exponential(archive, name + ".exponential", p.exponential, keys);
  } else {
    archive.array(name + ".table", p.table, {softmax_distances}, softmax_table_limits(p.kind, p.probabilities));
  }
  if (p.kind == attention_kind::weight_codes) {
    archive.array(name + ".code_weights", p.code_weights, {attention_code_weights});
    check_code_weights(archive, name + ".code_weights", p.code_weights);
  }
  if (p.normalize) {
    archive.number(name + ".normalization.factor", p.normalization.factor, limits{1, (1 << 30) - 1});
    archive.number(name + ".normalization.zero_point", p.normalization.zero_point, code_limits);
  } else {
    const bool wide = p.probabilities == attention_code::u8_full;
    describe_scale(archive, name + ".context", p.context, attention_context_spec(1, 0, keys).range,
                   wide ? limits{0, 0} : scale_shift_limits);
  }
}

/// A zero point that keys or values have of their own.
template <class Archive>
void describe_optional_zero_point(Archive& archive, const std::string& name,
                                  field<Archive, std::optional<int>>& zero_point) {
  if (archive.has(name, zero_point.has_value())) {
    if constexpr (!Archive::writes) {
      zero_point = 0;
    }
    archive.number(name, *zero_point, code_limits);
  }
}

/// The gate of a perceptron, and the layer that it multiplies.
template <class Archive>
void describe_gate(Archive& archive, const std::string& name, field<Archive, std::optional<owned_gate>>& gate,
                   const block_shape& shape) {
  if constexpr (!Archive::writes) {
    gate.emplace();
  }
  describe_linear(archive, name + ".up", gate->up, shape.hidden, shape.attention.width);
  archive.number(name + ".activation_zero_point", gate->activation_zero_point, code_limits);
  archive.number(name + ".up_zero_point", gate->up_zero_point, code_limits);
  describe_scale(archive, name + ".product", gate->product,
                 multiply_spec(1, gate->activation_zero_point, gate->up_zero_point, 0).range);
}

template <class Archive>
void describe_block(Archive& archive, const std::string& name, field<Archive, owned_block>& block,
                    const block_shape& shape, stream_codes stream) {
  const index_t width = shape.attention.width;
  const bool u8_stream = stream == stream_codes::u8;
  describe_layernorm(archive, name + ".norm1", block.norm1, width, stream);
  describe_linear(archive, name + ".qkv", block.qkv, 3 * width, width);
  archive.number(name + ".qkv_zero_point", block.qkv_zero_point, code_limits);
  describe_optional_zero_point(archive, name + ".k_zero_point", block.k_zero_point);
  describe_optional_zero_point(archive, name + ".v_zero_point", block.v_zero_point);
  if (shape.attention.qk_norm) {
    if constexpr (!Archive::writes) {
      block.qk_norms.emplace();
    }
    describe_layernorm(archive, name + ".q_norm", block.qk_norms->q, shape.attention.head_size(), stream_codes::u8);
    describe_layernorm(archive, name + ".k_norm", block.qk_norms->k, shape.attention.head_size(), stream_codes::u8);
  }
  describe_scale(archive, name + ".attention_logits", block.attention_logits,
                 attention_logits_spec(1, 0, shape.attention.head_size()).range);
  describe_softmax(archive, name + ".weighting", block.softmax, shape.attention.tokens);
  describe_linear(archive, name + ".proj", block.proj, width, width);
  if (u8_stream) {
    describe_add(archive, name + ".add1", block.add1, width);
  }
  describe_layernorm(archive, name + ".norm2", block.norm2, width, stream);
  describe_linear(archive, name + ".fc1", block.fc1, shape.hidden, width);
  archive.array(name + ".activation", block.activation, {activation_table_size_12});
  if (shape.gated) {
    describe_gate(archive, name + ".gate", block.gate, shape);
  }
  describe_linear(archive, name + ".fc2", block.fc2, width, shape.hidden);
  if (u8_stream) {
    describe_add(archive, name + ".add2", block.add2, width);
  }
}

/// Pixels, patches, the other tokens and positions.
template <class Archive>
void describe_embedding(Archive& archive, field<Archive, vit_tensors>& model) {
  const vit_shape& shape = model.shape;
  if (archive.has("pixel_table", !model.pixel_table.empty())) {
    archive.array("pixel_table", model.pixel_table, {shape.channels, 256});
  }
  describe_linear(archive, "patch", model.patch, shape.width, shape.patch_values());
  if (shape.stream == stream_codes::s16) {
    archive.array("token_addend", model.token_addend, {shape.tokens(), shape.width});
    return;
  }
  archive.array("embed_table", model.embed_table, {activation_table_size_8});
  archive.array("class_token", model.class_token, {shape.prefix_tokens() * shape.width});
  archive.array("positions", model.positions, {shape.tokens(), shape.width});
  describe_add(archive, "add_positions", model.add_positions, shape.width);
}

/// The LayerNorm before the blocks, if there is one.
template <class Archive>
void describe_pre_norm(Archive& archive, field<Archive, vit_tensors>& model) {
  const vit_shape& shape = model.shape;
  if (!archive.has("norm_pre.zero_point", model.norm_pre.has_value())) {
    return;
  }
  if constexpr (!Archive::writes) {
    model.norm_pre.emplace();
  }
  describe_layernorm(archive, "norm_pre", model.norm_pre->norm, shape.width, shape.stream);
  if (shape.stream == stream_codes::s16) {
    describe_scale(archive, "stream", model.norm_pre->stream, shape.width, accumulator_range{0, 255});
  }
}

/// The final LayerNorm, and the mean if the features have one.
template <class Archive>
void describe_features(Archive& archive, field<Archive, vit_tensors>& model) {
  const vit_shape& shape = model.shape;
  const index_t patches = shape.patches();
  const bool of_stream = shape.pooling == vit_pooling::normalized_mean, wide = shape.stream == stream_codes::s16;
  if (shape.pools_normalized()) {
    if constexpr (!Archive::writes) {
      model.mean = owned_tensor_scale();
    }
    describe_scale(archive, "pool", std::get<owned_tensor_scale>(model.mean),
                   average_pool_spec(1, 0, 0, patches).range);
  } else if (of_stream) {
    if constexpr (!Archive::writes) {
      model.mean = owned_channel_scale();
    }
    const accumulator_range range =
        wide ? average_pool_s16_spec(1, patches).range : average_pool_spec(1, 0, 0, patches).range;
    describe_scale(archive, "pool", std::get<owned_channel_scale>(model.mean), shape.width, range);
  }
  describe_layernorm(archive, "norm", model.norm, shape.width, of_stream ? stream_codes::s16 : shape.stream);
}

inline void require_step(const model_archive& archive, const std::string& name, double step) {
  if (!(step > 0 && step <= std::numeric_limits<double>::max())) {
    archive.refuse(name, "is " + text_of(step) + "; it must be above 0 and finite");
  }
}

/// The head of a model of any kind.
template <class Archive, class Contents>
void describe_head(Archive& archive, Contents& model, index_t classes, index_t inputs) {
  describe_weights(archive, "head", model.head, classes, inputs);
  describe_scale(archive, "logits", model.logits, model.head);
  describe_scale(archive, "logits_u8", model.logits_u8, model.head);
  archive.real("logits_scale", model.logits_scale);
  require_step(archive, "logits_scale", model.logits_scale);
}

/// All of a model.
template <class Archive>
void describe_vit(Archive& archive, field<Archive, vit_tensors>& model) {
  describe_shape(archive, model.shape);
  const vit_shape& shape = model.shape;
  describe_embedding(archive, model);
  describe_pre_norm(archive, model);
  for (index_t position = 0; position < shape.depth; ++position) {
    if constexpr (!Archive::writes) {
      model.blocks.emplace_back();  // one at a time: a file that claims more blocks than it has costs no memory
    }
    describe_block(archive, "blocks." + std::to_string(position), model.blocks[static_cast<std::size_t>(position)],
                   shape.block(), shape.stream);
  }
  describe_features(archive, model);
  if (shape.classes != 0) {
    describe_head(archive, model, shape.classes, shape.head_features());
  } else {
    archive.number("features.zero_point", model.features_zero_point, code_limits);
    archive.real("features.scale", model.features_scale);
    require_step(archive, "features.scale", model.features_scale);
  }
}

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
