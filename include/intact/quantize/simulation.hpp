#pragma once

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrated_vit.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/tensor_rounding.hpp"

// A simulation of an integer model in float: the float model with some kinds of its tensors rounded to codes.

namespace intact {
inline namespace INTACT_UNIT {

/// Kinds of tensors that an integer model quantizes.
enum class tensor_kind {
  weights,
  pixels,
  embedding,  ///< patches, class token and positions
  stream,     ///< the residual stream
  norm,       ///< outputs of LayerNorms
  qkv,        ///< queries, keys and values, also normalized ones
  attention_logits,
  attention_weights,  ///< of quantized logits
  context,            ///< attention times V
  branch,             ///< outputs of proj and fc2
  activation,         ///< input and output of the activation function; with a gate its product and both factors
  count
};

/// Kinds of tensors.
inline constexpr std::size_t tensor_kind_count = static_cast<std::size_t>(tensor_kind::count);

/// Their names for people.
inline constexpr std::array<const char*, tensor_kind_count> tensor_kind_names = {"weights",
                                                                                 "pixels",
                                                                                 "embedding",
                                                                                 "residual stream",
                                                                                 "LayerNorm outputs",
                                                                                 "queries, keys, values",
                                                                                 "attention logits",
                                                                                 "attention weights",
                                                                                 "context",
                                                                                 "proj, fc2 outputs",
                                                                                 "GELU"};

/// Kinds that are quantized in a simulation.
using tensor_kind_set = std::bitset<tensor_kind_count>;

/// Whether the integer model of a recipe has tensors of a kind in codes of their own.
inline bool has_tensor_kind(tensor_kind kind, const quantization_recipe& recipe) {
  const bool u8_stream = recipe.stream == stream_codes::u8;
  return kind == tensor_kind::pixels                                     ? !recipe.pixel_codes
         : kind == tensor_kind::embedding || kind == tensor_kind::branch ? u8_stream
                                                                         : true;
}

/// All kinds of tensors that the integer model of a recipe has.
inline tensor_kind_set all_tensor_kinds(const quantization_recipe& recipe) {
  tensor_kind_set all;
  for (std::size_t kind = 0; kind < tensor_kind_count; ++kind) {
    all.set(kind, has_tensor_kind(static_cast<tensor_kind>(kind), recipe));
  }
  return all;
}

/// The kinds of tensors of a recipe, each by itself and all at once, for a budget of errors.
struct budget_case {
  std::string name;       ///< for people
  tensor_kind_set kinds;  ///< that are quantized
};

/// The cases of a recipe.
inline std::vector<budget_case> budget_cases(const quantization_recipe& recipe) {
  std::vector<budget_case> all;
  for (std::size_t kind = 0; kind < tensor_kind_count; ++kind) {
    if (has_tensor_kind(static_cast<tensor_kind>(kind), recipe)) {
      all.push_back({tensor_kind_names[kind], tensor_kind_set().set(kind)});
    }
  }
  all.push_back({"everything", all_tensor_kinds(recipe)});
  return all;
}

namespace detail {

using byte_matrix = row_major_matrix<std::uint8_t>;

/// Attention weights as the integer model computes them from logits in codes.
class softmax_simulation {
 public:
  softmax_simulation(const block_scales& scales, index_t keys, const quantization_recipe& recipe)
      : built_(build_softmax(scales.attention_logits, scales.attention_weights, keys, recipe)) {}

  float_matrix operator()(const byte_matrix& logits) const {
    const auto view = view_of(logits);
    byte_matrix codes(logits.rows(), logits.cols());
    float_matrix weights;
    if (built_.kind == attention_kind::weights) {
      max_softmax(view, built_.table, view_of(codes));
      weights = codes.cast<float>();
    } else if (built_.kind == attention_kind::weight_codes) {
      max_softmax(view, built_.table, view_of(codes));
      weights = codes.unaryExpr([&](std::uint8_t code) { return static_cast<float>(built_.code_weights[code]); });
    } else if (built_.probabilities == attention_code::u8_masked) {
      weights = by_codes<attention_code::u8_masked>(view, view_of(codes));
    } else if (built_.probabilities == attention_code::u8_full) {
      weights = by_codes<attention_code::u8_full>(view, view_of(codes));
    } else {
      weights = by_codes<attention_code::u4_clipped>(
          view, packed_view<u4, std::uint8_t>(codes.data(), codes.rows(), codes.cols()));
    }
    if (built_.normalize) {
      weights.array().colwise() /= weights.rowwise().sum().array().eval();
    }
    return weights;
  }

 private:
  template <attention_code Format, class Codes>
  float_matrix by_codes(matrix_view<const std::uint8_t> logits, Codes codes) const {
    const exp_table<std::uint64_t> exponential = built_.exponential;
    if (built_.kind == attention_kind::log2_of_sum) {
      if (built_.rounding == log2_rounding::round_ratio) {
        log_softmax<isa::native, Format>(logits, exponential, codes);
      } else {
        log_softmax<isa::native, Format, log2_rounding::round_log>(logits, exponential, codes);
      }
    } else if constexpr (Format != attention_code::u8_full) {
      max_softmax(logits, built_.table, codes);
    }
    float_matrix weights(logits.rows, logits.columns);
    for (index_t i = 0; i < weights.rows(); ++i) {
      for (index_t j = 0; j < weights.cols(); ++j) {
        const int code = codes(i, j);
        weights(i, j) = code > attention_codes<Format>::largest ? 0 : std::ldexp(1.0F, -code);
      }
    }
    return weights;
  }

  owned_softmax built_;
};

}  // namespace detail

/// A float model some kinds of whose tensors are rounded to the codes of an integer model. Const objects may be shared
/// between threads.
///
/// Exactness: with all kinds rounded, the logits are those of the integer model up to float32 rounding. A code that
///            float32 rounding moves to its neighbour changes later tensors.
/// Errors:    those of the builders of the softmax and of the table of the activation function; of forward().
/// Source:    docs/accuracy.md.
class simulated_vit {
 public:
  /// `exact`: the float model, with the weights that are used if weights are not rounded. `calibrated` has scales that
  /// integers can represent: those of fit_scales().
  simulated_vit(const float_vit& exact, const calibrated_vit& calibrated, const quantization_recipe& recipe,
                const tensor_kind_set& rounded)
      : model_(rounded[static_cast<std::size_t>(tensor_kind::weights)] ? calibrated.model : exact),
        scales_(calibrated.scales),
        wide_(recipe.stream == stream_codes::s16),
        rounded_(rounded) {
    model_.positions = exact.positions;
    model_.class_token = exact.class_token;
    if (has(tensor_kind::embedding)) {
      round_to_codes(model_.positions, scales_.positions);
    }
    for (std::size_t i = 0; i < scales_.blocks.size(); ++i) {
      const block_scales& block = scales_.blocks[i];
      softmax_.emplace_back(block, exact.shape.tokens(), recipe);
      activation_input_.push_back(activation_input(exact.blocks[i].activation, block));
    }
  }

  /// The logits of an image.
  std::vector<float> operator()(const image_view& image) const {
    return trace(image, [](const trace_site&, const float_matrix&) {});
  }

  /// The logits. `record` is called as by forward(), with every tensor after it has been rounded, and may change it.
  template <class Record>
  std::vector<float> trace(const image_view& image, Record&& record) const {
    detail::byte_matrix logits;
    return forward(model_, image, [&](const trace_site& site, float_matrix& tensor) {
      round(site, tensor, logits);
      record(site, tensor);
    });
  }

 private:
  bool has(tensor_kind kind) const { return rounded_[static_cast<std::size_t>(kind)]; }

  static affine_scale activation_input(activation_function function, const block_scales& block) {
    const code_scale input = block_activation_table(function, block).input;
    return {static_cast<float>(input.scale), static_cast<int>(input.zero_point)};
  }

  void round_stream(float_matrix& tensor, const ptf_scale& scale) const {
    if (!has(tensor_kind::stream)) {
      return;
    }
    if (wide_) {
      round_to_codes(tensor, {scales_.stream, 0}, codes_of<std::int16_t>);
    } else {
      round_to_codes(tensor, scale);
    }
  }

  void round_tokens(float_matrix& tensor) const {
    if (model_.norm_pre && wide_ && has(tensor_kind::stream)) {
      round_to_codes(tensor, {scales_.s16_tokens, 0}, codes_of<std::int16_t>);
    } else {
      round_stream(tensor, scales_.tokens);
    }
  }

  void round(const trace_site& site, float_matrix& tensor, detail::byte_matrix& logits) const {
    const auto round_if = [&](tensor_kind kind, const affine_scale& scale) {
      if (has(kind)) {
        round_to_codes(tensor, scale);
      }
    };
    if (site.block >= 0) {
      round_in_block(site, tensor, logits, round_if);
    } else if (site.name == "input") {
      round_if(tensor_kind::pixels, scales_.input);
    } else if (site.name == "patch") {
      round_if(tensor_kind::embedding, scales_.patch);
    } else if (site.name == "embed") {
      round_if(tensor_kind::embedding, scales_.embed);
    } else if (site.name == "tokens") {
      round_tokens(tensor);
    } else if (site.name == "norm_pre" && has(tensor_kind::stream)) {
      round_to_codes(tensor, scales_.norm_pre);
      round_stream(tensor, scales_.norm_pre);
    } else if (site.name == "norm") {
      round_if(tensor_kind::norm, scales_.norm);
    } else if (site.name == "pool" && has(tensor_kind::norm)) {
      round_mean(tensor);
    }
  }

  void round_mean(float_matrix& tensor) const {
    if (model_.shape.pooling == vit_pooling::normalized_mean) {
      round_to_codes(tensor, scales_.pool, codes_of<std::int16_t>);
    } else {
      round_to_codes(tensor, detail::features_scale(scales_, model_.shape));
    }
  }

  template <class RoundIf>
  void round_in_block(const trace_site& site, float_matrix& tensor, detail::byte_matrix& logits,
                      RoundIf round_if) const {
    const std::size_t position = static_cast<std::size_t>(site.block);
    const block_scales& scales = scales_.blocks[position];
    if (site.name == "attention_logits") {
      logits = u8_codes_of(tensor, scales.attention_logits);
      round_if(tensor_kind::attention_logits, scales.attention_logits);
    } else if (site.name == "attention" && has(tensor_kind::attention_weights)) {
      tensor = softmax_[position](logits);
    } else if (site.name == "add1" || site.name == "add2") {
      round_stream(tensor, site.name == "add1" ? scales.add1 : scales.add2);
    } else if (site.name == "fc1" && has(tensor_kind::activation)) {
      round_to_codes(tensor, activation_input_[position], {0, activation_table_size_12 - 1, false});
    }
    const struct {
      traced_tensor name;
      tensor_kind kind;
      const affine_scale& scale;
    } plain[] = {
        {"norm1", tensor_kind::norm, scales.norm1},        {"qkv", tensor_kind::qkv, scales.qkv},
        {"q_norm", tensor_kind::qkv, scales.q_norm},       {"k_norm", tensor_kind::qkv, scales.k_norm},
        {"context", tensor_kind::context, scales.context}, {"proj", tensor_kind::branch, scales.proj},
        {"norm2", tensor_kind::norm, scales.norm2},        {"activation", tensor_kind::activation, scales.activation},
        {"up", tensor_kind::activation, scales.up},        {"gated", tensor_kind::activation, scales.gated},
        {"fc2", tensor_kind::branch, scales.fc2}};
    for (const auto& [name, kind, scale] : plain) {
      if (site.name == name) {
        round_if(kind, scale);
      }
    }
  }

  float_vit model_;
  vit_scales scales_;
  bool wide_;
  tensor_kind_set rounded_;
  std::vector<detail::softmax_simulation> softmax_;
  std::vector<affine_scale> activation_input_;  ///< 12-bit codes
};

}  // namespace INTACT_UNIT
}  // namespace intact
