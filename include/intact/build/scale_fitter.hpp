#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/float_block.hpp"
#include "intact/build/layer_specs.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/scaled_weights.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"

// Integers compute the ratio of two scales only within limits: the scale of a context, for example, is at least a
// quarter of the scale of the values. Observed scales are outside these limits where a tensor is constant, zero, or
// much smaller than the terms of its sums. They are raised to the smallest scales for which the integers exist.
// Sizes are not checked here: fit_block_scales() and fit_scales() do that.

namespace intact {
inline namespace INTACT_UNIT {

/// A scale that was raised.
struct scale_change {
  std::string tensor;   ///< as in model/trace.hpp
  index_t block = -1;   ///< -1: outside the blocks; of merge_norm and merge the Swin stage
  double observed = 0;  ///< the scale before it was raised
  double raised = 0;    ///< rounding errors of the tensor grow by raised / observed
};

/// Scales whose ratios integers compute, and those of them that were raised for it.
template <class Scales>
struct fitted_scales {
  Scales scales;                      ///< the fitted scales
  std::vector<scale_change> changes;  ///< those that were raised, in order
};

/// Raises scales, and records each change.
class scale_fitter {
 public:
  /// Changes are appended to `changes`, which must outlive this object.
  explicit scale_fitter(std::vector<scale_change>& changes) : changes_(changes) {}

  /// The block whose tensors follow; -1: none.
  void enter_block(index_t block) { block_ = block; }

  /// Records that a scale was raised; nothing if it was not.
  void note(const char* tensor, double observed, double raised) {
    if (raised > observed) {
      changes_.push_back({.tensor = tensor, .block = block_, .observed = observed, .raised = raised});
    }
  }

  /// Raises a scale to `raised`, and records it; a larger one stays as it is.
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

  /// Records the channel that was raised most.
  void accept(const char* tensor, ptf_scale& scale, ptf_scale&& raised) {
    if (!std::isfinite(raised.scale)) {
      return;
    }
    scale_change most{.tensor = tensor, .block = block_, .observed = 1, .raised = 1};
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

/// Whether a LayerNorm of C channels takes inputs of a scale: C^2 * eps / s^2 is below 2^60, half of the limit.
inline bool fits_layernorm_input(float scale, index_t channels, double epsilon) {
  const double deviation = static_cast<double>(channels) * std::sqrt(epsilon) / static_cast<double>(scale);
  return deviation * deviation < std::ldexp(1.0, 60);
}

/// Whether 64 bits hold the sums of a LayerNorm whose outputs have a scale, up to 2^19 channels.
inline bool fits_layernorm_output(const float_layernorm_view& norm, float scale) {
  float largest = 0;
  for (const float gamma : norm.weight) {
    largest = std::max(largest, std::fabs(gamma));
  }
  return static_cast<double>(largest) / static_cast<double>(scale) < std::ldexp(1.0, 50);
}

/// Fits the scales of layers that every model has: raises those for which the layer has no integers.
class layer_scale_fitter : public scale_fitter {
 public:
  /// From the list of changes.
  using scale_fitter::scale_fitter;

  /// The outputs of a LayerNorm.
  void norm(const char* tensor, const float_layernorm_view& norm, affine_scale& y) {
    raise(tensor, y.scale, [&](float scale) { return fits_layernorm_output(norm, scale); });
  }

  /// The inputs of a LayerNorm.
  void norm_input(const char* tensor, ptf_scale& x, index_t channels, double epsilon) {
    raise(tensor, x, [&](const ptf_scale& scale) { return fits_layernorm_input(scale.scale, channels, epsilon); });
  }
  /// The same for a scale without powers of two.
  void norm_input(const char* tensor, float& x, index_t channels, double epsilon) {
    raise(tensor, x, [&](float scale) { return fits_layernorm_input(scale, channels, epsilon); });
  }

  /// The outputs of a linear layer. `y` has a zero point of codes, or, for s16 codes, none.
  void linear(const char* tensor, const scaled_weights& weights, std::span<const float> bias, const affine_scale& x,
              affine_scale& y) {
    raise(tensor, y.scale, [&](float scale) {
      return has_scale(linear_specs(weights, bias, x, to_code_scale({scale, y.zero_point})));
    });
  }

  /// The head, whose int32 logits have steps of 1/256 of the scale.
  void head(const scaled_weights& weights, std::span<const float> bias, const affine_scale& x, affine_scale& y) {
    raise("logits", y.scale, [&](float scale) {
      return has_scale(linear_specs(weights, bias, x, {.scale = static_cast<double>(scale) / 256, .zero_point = 0})) &&
             has_scale(linear_specs(weights, bias, x, to_code_scale({scale, y.zero_point})));
    });
  }

  /// The sums of a u8 stream and a branch.
  void addition(const char* tensor, const ptf_scale& stream, const affine_scale& branch, ptf_scale& y) {
    raise_channels(tensor, y, [&](std::size_t c, double step) {
      return has_add_scale(addition_spec(channel_step(stream, c), branch, step), y.zero_point);
    });
  }
};

/// Fits the scales of a block: raises those for which its recipe's graph has no integers. Refusals name the tensor and
/// the block that `fit` has entered.
/// Source: docs/numerics.md, section 9.
struct block_scale_fitter {
  const float_block_view& block;      ///< its weights
  const quantization_recipe& recipe;  ///< the parts of the integer graph
  layer_scale_fitter& fit;            ///< the scales of layers
  float& s16_step;                    ///< the scale of an s16 stream

  /// Whether the residual stream has s16 codes.
  bool wide() const { return recipe.stream == stream_codes::s16; }

  /// `stream` is the scale of the u8 stream that enters the block.
  void operator()(const block_weights& weights, block_scales& own, const ptf_scale& stream) const {
    const attention_shape& shape = block.shape.attention;
    fit.norm("norm1", block.norm1, own.norm1);
    qkv(weights, own);
    if (shape.qk_norm) {
      norms_of_heads(own);
    }
    logits(own);
    fit.at("attention_logits", [&] { separate(weights, own); });
    context(own, shape.tokens);
    branch("proj", weights.proj, block.proj.bias, own.context, own.proj);
    add("add1", stream, own.proj, own.add1);
    fit.norm("norm2", block.norm2, own.norm2);
    activation(weights, own);
    if (block.shape.gated) {
      gate(weights, own);
    }
    branch("fc2", weights.fc2, block.fc2.bias, fc2_input(own, block.shape), own.fc2);
    add("add2", own.add1, own.fc2, own.add2);
  }

 private:
  /// The parts of the qkv layer.
  enum class part : std::size_t { queries, keys, values };

  /// Each part of the layer that has a scale of its own.
  void qkv(const block_weights& weights, block_scales& own) const {
    const auto raise = [&](const char* tensor, affine_scale& y, std::initializer_list<part> parts) {
      fit.raise(tensor, y.scale, [&](float scale) {
        const auto specs = linear_specs(weights.qkv, block.qkv.bias, own.norm1, to_code_scale({scale, y.zero_point}));
        return parts.size() == 3 ? has_scale(specs) : std::all_of(parts.begin(), parts.end(), [&](part each) {
          return has_scale(specs_of(specs, each));
        });
      });
    };
    if (own.k && own.v) {
      raise("qkv", own.qkv, {part::queries});
    } else if (own.k) {
      raise("qkv", own.qkv, {part::queries, part::values});
    } else if (own.v) {
      raise("qkv", own.qkv, {part::queries, part::keys});
    } else {
      raise("qkv", own.qkv, {part::queries, part::keys, part::values});
    }
    if (own.k) {
      raise("keys", *own.k, {part::keys});
    }
    if (own.v) {
      raise("values", *own.v, {part::values});
    }
  }

  /// The inputs of the norms of queries and keys, and their outputs.
  void norms_of_heads(block_scales& own) const {
    const index_t size = block.shape.attention.head_size();
    fit.norm_input("qkv", own.qkv.scale, size, static_cast<double>(block.epsilon));
    fit.norm_input("keys", (own.k ? *own.k : own.qkv).scale, size, static_cast<double>(block.epsilon));
    fit.norm("q_norm", block.q_norm, own.q_norm);
    fit.norm("k_norm", block.k_norm, own.k_norm);
  }

  static std::span<const scale_spec> specs_of(std::span<const scale_spec> specs, part which) {
    const std::size_t width = specs.size() / 3;
    return specs.subspan(static_cast<std::size_t>(which) * width, width);
  }

  void logits(block_scales& own) const {
    fit.raise("attention_logits", own.attention_logits.scale, [&](float scale) {
      const scale_spec target =
          detail::logits_spec(own, {scale, own.attention_logits.zero_point}, block.shape.attention);
      return has_scale({&target, 1});
    });
  }

  /// Where no float is large enough for the logits' scale, queries and keys or all three parts get scales of their own,
  /// but not if they are normalized.
  void separate(const block_weights& weights, block_scales& own) const {
    const block_scales observed = own;
    if (block.shape.attention.qk_norm || lower_queries_and_keys(weights, own)) {
      return;
    }
    own = observed;
    bound_parts(weights, own);
    logits(own);
    if (!lower_queries_and_keys(weights, own)) {
      own = observed;
    }
  }

  /// Where values are larger than queries and keys by many orders, they keep the scale; queries and keys get smaller
  /// ones, in which they have less rounding errors. False if there are none that fit.
  bool lower_queries_and_keys(const block_weights& weights, block_scales& own) const {
    const auto fits = [&] {
      const scale_spec target = detail::logits_spec(own, own.attention_logits, block.shape.attention);
      return has_scale({&target, 1});
    };
    affine_scale q = own.qkv, k = own.keys();
    const affine_scale v = own.values();
    while (!fits() && std::min(q.scale, k.scale) > std::numeric_limits<float>::min()) {
      q.scale /= 2;
      k.scale /= 2;
      own.qkv = q;
      own.k = k;
      own.v = v;
    }
    return fits() && has_scale(detail::qkv_specs(weights.qkv, block.qkv.bias, own.norm1, own));
  }

  /// Where one part is larger than the others by many orders, these get the scales of the largest outputs that their
  /// weights and biases can have.
  void bound_parts(const block_weights& weights, block_scales& own) const {
    const auto reals = linear_specs(weights.qkv, block.qkv.bias, own.norm1, code_scale{.scale = 1, .zero_point = 0});
    const auto bounded = [&](const affine_scale& observed, part which) {
      double largest = 0;
      for (const scale_spec& spec : specs_of(reals, which)) {
        for (const std::int64_t end : {spec.range.low, spec.range.high}) {
          const double value = spec.factor * static_cast<double>(end - spec.correction) + spec.addend;
          largest = std::max(largest, std::fabs(value));
        }
      }
      if (!(largest / 127 < static_cast<double>(observed.scale))) {
        return observed;
      }
      const auto scale = static_cast<float>(largest / 127);
      return affine_scale{.scale = std::max(scale, std::numeric_limits<float>::min()), .zero_point = 128};
    };
    const affine_scale q = bounded(own.qkv, part::queries), k = bounded(own.keys(), part::keys),
                       v = bounded(own.values(), part::values);
    own.qkv = q;
    own.k = k;
    own.v = v;
  }

  void context(block_scales& own, index_t keys) const {
    if (!recipe.normalize_rows) {
      fit.raise("context", own.context.scale, [&](float scale) {
        const scale_spec target = detail::context_spec(own.values(), {scale, own.context.zero_point}, keys);
        const bool left_shift = recipe.probabilities != attention_code::u8_full;  // whose 64-bit sums take none
        return has_scale({&target, 1}) && (left_shift || detail::choose_prescale({&target, 1}) == 0);
      });
    } else if (!has_normalization(scale_ratio(own.values(), own.context))) {
      fit.set("context", own.context.scale, least_context_scale(own.values()));
    }
  }

  void branch(const char* tensor, const scaled_weights& layer, std::span<const float> bias, const affine_scale& x,
              affine_scale& y) const {
    affine_scale s16{s16_step, 0};
    fit.linear(tensor, layer, bias, x, wide() ? s16 : y);
    s16_step = s16.scale;
  }

  void add(const char* tensor, const ptf_scale& stream, const affine_scale& branch, ptf_scale& y) const {
    if (!wide()) {
      fit.addition(tensor, stream, branch, y);
      fit.norm_input(tensor, y, block.shape.attention.width, static_cast<double>(block.epsilon));
    }
  }

  void activation(const block_weights& weights, block_scales& own) const {
    fit.at("fc1", [&] { raise_activation(weights, own); });
  }

  void gate(const block_weights& weights, block_scales& own) const {
    fit.linear("up", weights.up, block.up.bias, own.norm2, own.up);
    fit.raise("gated", own.gated.scale, [&](float scale) {
      const scale_spec target = detail::product_spec(own, {scale, own.gated.zero_point});
      return has_scale({&target, 1});
    });
  }

  void raise_activation(const block_weights& weights, block_scales& own) const {
    constexpr double zero_point_limit = 1 << 30;
    const auto input = [&] { return block_activation_table(block.activation, own).input; };
    const double observed = input().scale;
    for (code_scale codes = input(); codes.scale < std::ldexp(1.0, 128); codes = input()) {
      if (std::fabs(codes.zero_point) < zero_point_limit &&
          has_scale(linear_specs(weights.fc1, block.fc1.bias, own.norm2, codes))) {
        fit.note("fc1", observed, codes.scale);
        return;
      }
      own.fc1_step = 2 * codes.scale;
    }
  }
};

}  // namespace INTACT_UNIT
}  // namespace intact
