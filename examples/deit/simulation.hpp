#pragma once

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "intact/log_softmax.hpp"
#include "intact/max_softmax.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/reference/model/trace.hpp"
#include "models.hpp"

// The float model with some kinds of its tensors rounded to the codes that the integer model would have.

namespace intact_deit {

using intact::float_matrix;

/// Kinds of tensors that an integer model quantizes.
enum class tensor_kind {
  weights,
  pixels,
  embedding,  ///< patches, class token and positions
  stream,     ///< the residual stream
  norm,       ///< outputs of LayerNorms
  qkv,        ///< queries, keys and values
  attention_logits,
  attention_weights,  ///< of quantized logits
  context,            ///< attention times V
  branch,             ///< outputs of proj and fc2
  activation,         ///< input and output of GELU
  count
};

inline constexpr std::size_t kind_count = static_cast<std::size_t>(tensor_kind::count);

inline constexpr std::array<const char*, kind_count> kind_names = {"weights",
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

using kind_set = std::bitset<kind_count>;

/// Whether the integer model of a profile has tensors of a kind in codes of their own.
inline bool has_kind(tensor_kind kind, const intact::quantization_recipe& recipe) {
  const bool u8_stream = recipe.stream == intact::stream_codes::u8;
  return kind == tensor_kind::pixels                                     ? !recipe.pixel_codes
         : kind == tensor_kind::embedding || kind == tensor_kind::branch ? u8_stream
                                                                         : true;
}

/// All kinds that the integer model of a profile has.
inline kind_set all_kinds(const intact::quantization_recipe& recipe) {
  kind_set all;
  for (std::size_t kind = 0; kind < kind_count; ++kind) {
    all.set(kind, has_kind(static_cast<tensor_kind>(kind), recipe));
  }
  return all;
}

namespace detail {

using byte_matrix = intact::row_major_matrix<std::uint8_t>;

inline byte_matrix codes_of(const float_matrix& tensor, const intact::affine_scale& scale) {
  byte_matrix codes(tensor.rows(), tensor.cols());
  intact::quantize_codes(intact::view_of(tensor), scale, intact::view_of(codes));
  return codes;
}

inline void round_to(float_matrix& tensor, const intact::affine_scale& scale,
                     const intact::code_range& codes = intact::u8_codes) {
  tensor =
      tensor.unaryExpr([&](float x) { return intact::dequantize_code(intact::quantize_code(x, scale, codes), scale); });
}

inline void round_to(float_matrix& tensor, const intact::ptf_scale& scale) {
  for (index_t c = 0; c < tensor.cols(); ++c) {
    const intact::affine_scale channel = scale.channel(c);
    for (index_t i = 0; i < tensor.rows(); ++i) {
      tensor(i, c) = intact::dequantize_code(intact::quantize_code(tensor(i, c), channel, intact::u8_codes), channel);
    }
  }
}

/// The numbers that quantized weights stand for.
inline float_matrix real_weights(const intact::scaled_weights& quantized) {
  float_matrix real(quantized.weights.rows, quantized.weights.columns);
  for (index_t n = 0; n < real.rows(); ++n) {
    const std::vector<std::int8_t> row = quantized.weights.row(n);
    for (index_t k = 0; k < real.cols(); ++k) {
      real(n, k) = quantized.scale[static_cast<std::size_t>(n)] * static_cast<float>(row[static_cast<std::size_t>(k)]);
    }
  }
  return real;
}

/// The patch layer for normalized pixels, from the one for pixels that are codes.
inline void unfold_patch(intact::float_vit& model, const intact::float_linear& folded) {
  const index_t samples = model.shape.patch * model.shape.patch;
  model.patch.bias = folded.bias;
  for (index_t k = 0; k < folded.weight.cols(); ++k) {
    const std::size_t channel = static_cast<std::size_t>(k / samples);
    const Eigen::VectorXf of_one = folded.weight.col(k) * model.pixel_max;
    model.patch.weight.col(k) = of_one * model.standard_deviation[channel];
    model.patch.bias += (of_one * model.mean[channel]).transpose();
  }
}

/// Attention weights as the integer model computes them from logits in codes.
class softmax_simulation {
 public:
  softmax_simulation(const intact::block_scales& scales, index_t keys, const intact::quantization_recipe& recipe)
      : built_(intact::detail::build_softmax(scales.attention_logits, keys, recipe)) {}

  float_matrix operator()(const byte_matrix& logits) const {
    const auto view = intact::view_of(logits);
    byte_matrix codes(logits.rows(), logits.cols());
    float_matrix weights;
    if (built_.kind == intact::attention_kind::weights) {
      intact::max_softmax(view, built_.table, intact::view_of(codes));
      weights = codes.cast<float>();
    } else if (built_.probabilities == intact::attention_code::u8_masked) {
      weights = by_codes<intact::attention_code::u8_masked>(view, intact::view_of(codes));
    } else if (built_.probabilities == intact::attention_code::u8_full) {
      weights = by_codes<intact::attention_code::u8_full>(view, intact::view_of(codes));
    } else {
      weights = by_codes<intact::attention_code::u4_clipped>(
          view, intact::packed_view<intact::u4, std::uint8_t>(codes.data(), codes.rows(), codes.cols()));
    }
    if (built_.normalize) {
      weights.array().colwise() /= weights.rowwise().sum().array().eval();
    }
    return weights;
  }

 private:
  template <intact::attention_code Format, class Codes>
  float_matrix by_codes(intact::matrix_view<const std::uint8_t> logits, Codes codes) const {
    const intact::exp_table<std::uint64_t> exponential = built_.exponential;
    if (built_.kind == intact::attention_kind::log2_of_sum) {
      if (built_.rounding == intact::log2_rounding::round_ratio) {
        intact::log_softmax<intact::isa::native, Format>(logits, exponential, codes);
      } else {
        intact::log_softmax<intact::isa::native, Format, intact::log2_rounding::round_log>(logits, exponential, codes);
      }
    } else if constexpr (Format != intact::attention_code::u8_full) {
      intact::max_softmax(logits, built_.table, codes);
    }
    float_matrix weights(logits.rows, logits.columns);
    for (index_t i = 0; i < weights.rows(); ++i) {
      for (index_t j = 0; j < weights.cols(); ++j) {
        const int code = codes(i, j);
        weights(i, j) = code > intact::attention_codes<Format>::largest ? 0 : std::ldexp(1.0F, -code);
      }
    }
    return weights;
  }

  intact::owned_softmax built_;
};

}  // namespace detail

/// What an integer model is built of.
struct calibrated_model {
  intact::float_vit model;  ///< with the weights that the codes stand for
  intact::vit_scales scales;
  intact::vit_weights weights;
  std::vector<intact::scale_change> changes = {};  ///< scales that were raised so that integers compute them
  std::string method = "observe";                  ///< the method of calibration, as the option --method names it
};

/// A calibrated model whose scales integers can compute, and all that were raised for it.
struct fitted_model {
  calibrated_model model;
  std::vector<intact::scale_change> changes;
};

inline fitted_model fit(calibrated_model calibrated, const intact::quantization_recipe& recipe) {
  intact::fitted_scales<intact::vit_scales> fitted =
      intact::fit_scales(calibrated.model, calibrated.scales, calibrated.weights, recipe);
  calibrated.scales = std::move(fitted.scales);
  std::vector<intact::scale_change> changes = std::move(calibrated.changes);
  changes.insert(changes.end(), fitted.changes.begin(), fitted.changes.end());
  return {std::move(calibrated), std::move(changes)};
}

/// A calibrated model whose weights are rounded to nearest, each by itself.
inline calibrated_model round_weights(const intact::float_vit& model, const intact::vit_scales& scales,
                                      const intact::quantization_recipe& recipe) {
  calibrated_model rounded{model, scales, intact::quantize_weights(model, recipe)};
  intact::float_linear patch = intact::patch_layer(model, recipe);
  patch.weight = detail::real_weights(rounded.weights.patch);
  if (recipe.pixel_codes) {
    detail::unfold_patch(rounded.model, patch);
  } else {
    rounded.model.patch = patch;
  }
  for (std::size_t position = 0; position < rounded.model.blocks.size(); ++position) {
    intact::float_block& block = rounded.model.blocks[position];
    const intact::block_weights& weights = rounded.weights.blocks[position];
    block.qkv.weight = detail::real_weights(weights.qkv);
    block.proj.weight = detail::real_weights(weights.proj);
    block.fc1.weight = detail::real_weights(weights.fc1);
    block.fc2.weight = detail::real_weights(weights.fc2);
  }
  rounded.model.head.weight = detail::real_weights(rounded.weights.head);
  return rounded;
}

/// A float model some of whose tensors are rounded to codes. Const objects may be shared between threads.
class simulated_vit {
 public:
  /// `exact`: the float model, whose weights are taken if weights are not to be rounded.
  simulated_vit(const intact::float_vit& exact, const calibrated_model& calibrated,
                const intact::quantization_recipe& recipe, const kind_set& rounded)
      : model_(rounded[static_cast<std::size_t>(tensor_kind::weights)] ? calibrated.model : exact),
        scales_(calibrated.scales),
        wide_(recipe.stream == intact::stream_codes::s16),
        rounded_(rounded) {
    model_.positions = exact.positions;
    model_.class_token = exact.class_token;
    if (has(tensor_kind::embedding)) {
      detail::round_to(model_.positions, scales_.positions);
    }
    for (const intact::block_scales& block : scales_.blocks) {
      softmax_.emplace_back(block, exact.shape.tokens(), recipe);
      gelu_input_.push_back(gelu_input(block));
    }
  }

  logit_row operator()(const intact::image_view& image) const {
    return trace(image, [](const intact::trace_site&, const float_matrix&) {});
  }

  /// `record` gets every tensor after it has been rounded, and may change it.
  template <class Record>
  logit_row trace(const intact::image_view& image, Record&& record) const {
    detail::byte_matrix logits;
    return intact::forward(model_, image, [&](const intact::trace_site& site, float_matrix& tensor) {
      round(site, tensor, logits);
      record(site, tensor);
    });
  }

 private:
  bool has(tensor_kind kind) const { return rounded_[static_cast<std::size_t>(kind)]; }

  static intact::affine_scale gelu_input(const intact::block_scales& block) {
    const intact::code_scale input = intact::detail::gelu_table(block).input;
    return {static_cast<float>(input.scale), static_cast<int>(input.zero_point)};
  }

  void round_stream(float_matrix& tensor, const intact::ptf_scale& scale) const {
    if (!has(tensor_kind::stream)) {
      return;
    }
    if (wide_) {
      detail::round_to(tensor, {scales_.stream, 0}, intact::codes_of<std::int16_t>);
    } else {
      detail::round_to(tensor, scale);
    }
  }

  void round(const intact::trace_site& site, float_matrix& tensor, detail::byte_matrix& logits) const {
    const auto round_if = [&](tensor_kind kind, const intact::affine_scale& scale) {
      if (has(kind)) {
        detail::round_to(tensor, scale);
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
      round_stream(tensor, scales_.tokens);
    } else if (site.name == "norm") {
      round_if(tensor_kind::norm, scales_.norm);
    }
  }

  template <class RoundIf>
  void round_in_block(const intact::trace_site& site, float_matrix& tensor, detail::byte_matrix& logits,
                      RoundIf round_if) const {
    const std::size_t position = static_cast<std::size_t>(site.block);
    const intact::block_scales& scales = scales_.blocks[position];
    if (site.name == "attention_logits") {
      logits = detail::codes_of(tensor, scales.attention_logits);
      round_if(tensor_kind::attention_logits, scales.attention_logits);
    } else if (site.name == "attention" && has(tensor_kind::attention_weights)) {
      tensor = softmax_[position](logits);
    } else if (site.name == "add1" || site.name == "add2") {
      round_stream(tensor, site.name == "add1" ? scales.add1 : scales.add2);
    } else if (site.name == "fc1" && has(tensor_kind::activation)) {
      detail::round_to(tensor, gelu_input_[position], {0, intact::activation_table_size_12 - 1, false});
    }
    const std::array<std::tuple<std::string_view, tensor_kind, const intact::affine_scale*>, 7> plain = {
        {{"norm1", tensor_kind::norm, &scales.norm1},
         {"qkv", tensor_kind::qkv, &scales.qkv},
         {"context", tensor_kind::context, &scales.context},
         {"proj", tensor_kind::branch, &scales.proj},
         {"norm2", tensor_kind::norm, &scales.norm2},
         {"activation", tensor_kind::activation, &scales.activation},
         {"fc2", tensor_kind::branch, &scales.fc2}}};
    for (const auto& [name, kind, scale] : plain) {
      if (site.name == name) {
        round_if(kind, *scale);
      }
    }
  }

  intact::float_vit model_;
  intact::vit_scales scales_;
  bool wide_;
  kind_set rounded_;
  std::vector<detail::softmax_simulation> softmax_;
  std::vector<intact::affine_scale> gelu_input_;  ///< 12-bit codes
};

}  // namespace intact_deit
