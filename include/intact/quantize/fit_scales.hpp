#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/layer_specs.hpp"

// Integers compute the ratio of two scales only within limits: attention, for one, takes values to a context whose
// scale is at least a quarter of theirs. Observed scales lie outside where a tensor is constant, zero, or much smaller
// than the terms of its sums. They are raised just so far that the integers exist.

namespace intact {
inline namespace INTACT_UNIT {

/// A scale that was raised.
struct scale_change {
  std::string tensor;  ///< as in model/trace.hpp
  index_t block = -1;  ///< -1: outside the blocks; of merge_norm and merge the stage
  double observed = 0;
  double raised = 0;  ///< rounding errors of the tensor grow by raised / observed
};

/// Scales that integers can compute, and which of them were raised for it.
template <class Scales>
struct fitted_scales {
  Scales scales;
  std::vector<scale_change> changes;
};

namespace detail {

/// Raises scales, and remembers which.
class scale_fitter {
 public:
  explicit scale_fitter(std::vector<scale_change>& changes) : changes_(changes) {}

  /// The block whose tensors follow; -1: none.
  void enter_block(index_t block) { block_ = block; }

  void note(const char* tensor, double observed, double raised) {
    if (raised > observed) {
      changes_.push_back({tensor, block_, observed, raised});
    }
  }

  void set(const char* tensor, float& scale, float raised) {
    note(tensor, static_cast<double>(scale), static_cast<double>(raised));
    scale = std::max(scale, raised);
  }

  /// Runs a part of the fitting. Refusals in it name the tensor and the present block.
  template <class Part>
  decltype(auto) at(const char* tensor, Part part) const {
    return at_tensor({tensor, block_}, part);
  }

  /// The least of scale, 2 * scale, 4 * scale, ... that fits; as it is if none does.
  template <class Fits>
  void raise(const char* tensor, float& scale, Fits fits) {
    float raised = scale;
    while (raised > 0 && std::isfinite(raised) && !at(tensor, [&] { return fits(raised); })) {
      raised *= 2;
    }
    if (std::isfinite(raised)) {
      set(tensor, scale, raised);
    }
  }

  /// The same for a scale with powers of two. Those channels keep their steps whose power can be lowered instead.
  template <class Fits>
  void raise(const char* tensor, ptf_scale& scale, Fits fits) {
    ptf_scale raised = scale;
    while (raised.scale > 0 && std::isfinite(raised.scale) && !at(tensor, [&] { return fits(raised); })) {
      double_scale(raised);
    }
    accept(tensor, scale, std::move(raised));
  }

  /// Raises the power of two of every channel until its step fits, and the scale where there is no higher power.
  template <class Fits>
  void raise_channels(const char* tensor, ptf_scale& scale, Fits fits) {
    ptf_scale raised = scale;
    for (std::size_t c = 0; c < raised.shift.size(); ++c) {
      const auto fits_now = [&] { return fits(c, channel_step(raised, c)); };
      while (raised.scale > 0 && std::isfinite(raised.scale) && !at(tensor, fits_now)) {
        if (raised.shift[c] == layernorm_max_shift) {
          double_scale(raised);
        }
        ++raised.shift[c];
      }
    }
    accept(tensor, scale, std::move(raised));
  }

 private:
  static void double_scale(ptf_scale& scale) {
    scale.scale *= 2;
    for (std::uint8_t& shift : scale.shift) {
      shift = static_cast<std::uint8_t>(std::max(shift - 1, 0));
    }
  }

  /// Remembers the channel that was raised most.
  void accept(const char* tensor, ptf_scale& scale, ptf_scale&& raised) {
    if (!std::isfinite(raised.scale)) {
      return;
    }
    scale_change most{tensor, block_, 1, 1};
    for (std::size_t c = 0; c < scale.shift.size(); ++c) {
      const double before = channel_step(scale, c), after = channel_step(raised, c);
      if (after * most.observed > most.raised * before) {
        most.observed = before;
        most.raised = after;
      }
    }
    note(tensor, most.observed, most.raised);
    scale = std::move(raised);
  }

  std::vector<scale_change>& changes_;
  index_t block_ = -1;
};

/// Whether a LayerNorm takes inputs of a scale: C^2 * eps / s^2 is an integer below 2^61, with one bit to spare.
inline bool fits_layernorm_input(float scale, index_t channels, double epsilon) {
  const double deviation = static_cast<double>(channels) * std::sqrt(epsilon) / static_cast<double>(scale);
  return deviation * deviation < std::ldexp(1.0, 60);
}

/// Whether 64 bits hold the sums of a LayerNorm whose outputs have a scale, up to 2^19 channels.
inline bool fits_layernorm_output(const float_layernorm& norm, float scale) {
  const float largest = norm.weight.size() == 0 ? 0.0F : norm.weight.cwiseAbs().maxCoeff();
  return static_cast<double>(largest) / static_cast<double>(scale) < std::ldexp(1.0, 50);
}

/// Fits the scales of layers that every model has.
class layer_fitter : public scale_fitter {
 public:
  using scale_fitter::scale_fitter;

  void norm(const char* tensor, const float_layernorm& norm, affine_scale& y) {
    raise(tensor, y.scale, [&](float scale) { return fits_layernorm_output(norm, scale); });
  }

  void norm_input(const char* tensor, ptf_scale& x, index_t channels, double epsilon) {
    raise(tensor, x, [&](const ptf_scale& scale) { return fits_layernorm_input(scale.scale, channels, epsilon); });
  }
  void norm_input(const char* tensor, float& x, index_t channels, double epsilon) {
    raise(tensor, x, [&](float scale) { return fits_layernorm_input(scale, channels, epsilon); });
  }

  /// `y` has a zero point of codes, or, for s16 codes, none.
  void linear(const char* tensor, const scaled_weights& weights, const float_row& bias, const affine_scale& x,
              affine_scale& y) {
    raise(tensor, y.scale, [&](float scale) {
      return has_scale(linear_specs(weights, bias, x, to_code_scale({scale, y.zero_point})));
    });
  }

  /// The head, whose int32 logits have steps of 1/256 of the scale.
  void head(const scaled_weights& weights, const float_row& bias, const affine_scale& x, affine_scale& y) {
    raise("logits", y.scale, [&](float scale) {
      return has_scale(linear_specs(weights, bias, x, {static_cast<double>(scale) / 256, 0})) &&
             has_scale(linear_specs(weights, bias, x, to_code_scale({scale, y.zero_point})));
    });
  }

  /// The stream has a scale per channel, given as a function of the channel.
  template <class StreamStep>
  void addition(const char* tensor, StreamStep stream_step, const affine_scale& branch, ptf_scale& y) {
    raise_channels(tensor, y, [&](std::size_t c, double step) {
      return has_add_scale(addition_spec(stream_step(c), branch, step), y.zero_point);
    });
  }
};

/// Fits the scales of blocks of one width.
struct block_fitter {
  attention_shape shape;
  double epsilon;
  const quantization_recipe& recipe;
  layer_fitter& fit;
  float& s16_step;  ///< the scale of an s16 stream

  bool wide() const { return recipe.stream == stream_codes::s16; }

  /// `stream` is the scale of the u8 stream that enters the block.
  void operator()(const float_block& block, const block_weights& weights, block_scales& own, const ptf_scale& stream) {
    fit.norm("norm1", block.norm1, own.norm1);
    fit.linear("qkv", weights.qkv, block.qkv.bias, own.norm1, own.qkv);
    fit.raise("attention_logits", own.attention_logits.scale, [&](float scale) {
      const scale_spec target = logits_spec(own.qkv, {scale, own.attention_logits.zero_point}, shape.head_size());
      return has_scale({&target, 1});
    });
    context(own);
    branch("proj", weights.proj, block.proj.bias, own.context, own.proj);
    add("add1", stream, own.proj, own.add1);
    fit.norm("norm2", block.norm2, own.norm2);
    activation(block, weights, own);
    branch("fc2", weights.fc2, block.fc2.bias, own.activation, own.fc2);
    add("add2", own.add1, own.fc2, own.add2);
  }

 private:
  void context(block_scales& own) {
    if (!recipe.normalize_rows) {
      fit.raise("context", own.context.scale, [&](float scale) {
        const scale_spec target = context_spec(own.qkv, {scale, own.context.zero_point}, shape.tokens);
        const bool left_shift = recipe.probabilities != attention_code::u8_full;  // whose 64-bit sums take none
        return has_scale({&target, 1}) && (left_shift || choose_prescale({&target, 1}) == 0);
      });
    } else if (!has_normalization(scale_ratio(own.qkv, own.context))) {
      fit.set("context", own.context.scale, least_context_scale(own.qkv));
    }
  }

  void branch(const char* tensor, const scaled_weights& layer, const float_row& bias, const affine_scale& x,
              affine_scale& y) {
    affine_scale s16{s16_step, 0};
    fit.linear(tensor, layer, bias, x, wide() ? s16 : y);
    s16_step = s16.scale;
  }

  void add(const char* tensor, const ptf_scale& stream, const affine_scale& branch, ptf_scale& y) {
    if (!wide()) {
      fit.addition(
          tensor, [&](std::size_t c) { return channel_step(stream, c); }, branch, y);
      fit.norm_input(tensor, y, shape.width, epsilon);
    }
  }

  void activation(const float_block& block, const block_weights& weights, block_scales& own) {
    fit.at("fc1", [&] { raise_activation(block, weights, own); });
  }

  void raise_activation(const float_block& block, const block_weights& weights, block_scales& own) {
    constexpr double zero_point_limit = 1 << 30;
    const double observed = gelu_table(own).input.scale;
    for (code_scale codes = gelu_table(own).input; codes.scale < std::ldexp(1.0, 128); codes = gelu_table(own).input) {
      if (std::fabs(codes.zero_point) < zero_point_limit &&
          has_scale(linear_specs(weights.fc1, block.fc1.bias, own.norm2, codes))) {
        fit.note("fc1", observed, codes.scale);
        return;
      }
      own.fc1_step = 2 * codes.scale;
    }
  }
};

/// Refuses weights of other sizes than the layer's that makes a tensor.
inline void require_layer(const char* operation, const tensor_place& place, const scaled_weights& layer,
                          const float_matrix& expected) {
  at_tensor(place, [&] {
    layer.weights.require_sizes();
    require_equal(operation, "rows of the weights", layer.weights.rows, expected.rows());
    require_equal(operation, "columns of the weights", layer.weights.columns, expected.cols());
    require_equal(operation, "scales of the weights", std::ssize(layer.scale), layer.weights.rows);
  });
}

/// The same for all layers of a block.
inline void require_layers(const char* operation, index_t position, const block_weights& weights,
                           const float_block& block) {
  require_layer(operation, {"qkv", position}, weights.qkv, block.qkv.weight);
  require_layer(operation, {"proj", position}, weights.proj, block.proj.weight);
  require_layer(operation, {"fc1", position}, weights.fc1, block.fc1.weight);
  require_layer(operation, {"fc2", position}, weights.fc2, block.fc2.weight);
}

/// Refuses weights of other sizes than the model's.
inline void require_weights(const char* operation, const vit_weights& weights, const float_vit& model) {
  require_equal(operation, "number of blocks of the weights", std::ssize(weights.blocks), model.shape.depth);
  require_layer(operation, {"patch"}, weights.patch, model.patch.weight);
  for (std::size_t position = 0; position < weights.blocks.size(); ++position) {
    require_layers(operation, static_cast<index_t>(position), weights.blocks[position], model.blocks[position]);
  }
  require_layer(operation, {"logits"}, weights.head, model.head.weight);
}

}  // namespace detail

/// The scales with those raised for which the integers of a recipe's graph do not exist. Scales of a model that
/// build_vit() takes as they are stay as they are.
///
/// Formula:   context, where rows are normalized: s_v / 3.99; additions of u8 streams: the channel's power of two, then
///            the scale, doubled; all others doubled, until has_scale, has_normalization and has_add_scale hold. In the
///            order of the graph, as what follows depends on what comes before.
/// Errors:    scales or weights of another depth or width, a recipe that makes no sense; scales that make no numbers,
///            naming tensor and block.
/// Source:    docs/numerics.md, section 9.
inline fitted_scales<vit_scales> fit_scales(const float_vit& model, const vit_scales& observed,
                                            const vit_weights& weights, const quantization_recipe& recipe) {
  require_recipe(recipe);
  require_equal("fit_scales", "number of blocks of the scales", std::ssize(observed.blocks), model.shape.depth);
  require_equal("fit_scales", "number of shifts of the tokens", std::ssize(observed.tokens.shift), model.shape.width);
  detail::require_weights("fit_scales", weights, model);
  fitted_scales<vit_scales> fitted{observed, {}};
  vit_scales& scales = fitted.scales;
  detail::layer_fitter fit(fitted.changes);
  const double epsilon = static_cast<double>(model.epsilon);
  const index_t width = model.shape.width;
  const bool wide = recipe.stream == stream_codes::s16;

  affine_scale s16{scales.stream, 0};
  fit.linear("patch", weights.patch, patch_layer(model, recipe).bias,
             recipe.pixel_codes ? affine_scale{1, 0} : scales.input, wide ? s16 : scales.patch);
  scales.stream = s16.scale;
  if (wide) {
    fit.norm_input("tokens", scales.stream, width, epsilon);
  } else {
    const double embed = static_cast<double>(scales.embed.scale);
    fit.addition(
        "tokens", [&](std::size_t) { return embed; }, scales.positions, scales.tokens);
    fit.norm_input("tokens", scales.tokens, width, epsilon);
  }
  detail::block_fitter fit_block{model.shape.block().attention, epsilon, recipe, fit, scales.stream};
  for (std::size_t position = 0; position < scales.blocks.size(); ++position) {
    fit.enter_block(static_cast<index_t>(position));
    const ptf_scale& stream = position == 0 ? scales.tokens : scales.blocks[position - 1].add2;
    fit_block(model.blocks[position], weights.blocks[position], scales.blocks[position], stream);
  }
  fit.enter_block(-1);
  fit.norm("norm", model.norm, scales.norm);
  fit.head(weights.head, model.head.bias, scales.norm, scales.logits);
  return fitted;
}

}  // namespace INTACT_UNIT
}  // namespace intact
