#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/integer_swin.hpp"
#include "intact/build/swin_scales.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/fit_swin_scales.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/quantize/swin_weights.hpp"

// From a float Swin transformer and images to the scales of its tensors, and from these and its weights as codes to an
// integer model.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

inline swin_block_scales calibrated_swin_block(const calibrator& seen, const float_swin_block& block,
                                               index_t position) {
  const auto [low, high] =
      std::minmax_element(block.position_bias.data(), block.position_bias.data() + block.position_bias.size());
  require_length({"position_bias", position}, {*low, *high});
  return {.block = calibrated_block(seen, position),
          .position_bias = build_affine_scale(range_with_zero({*low, *high}), u8_codes),
          .biased_logits = seen.affine("biased_logits", position)};
}

}  // namespace detail

/// Runs the float model on images and chooses the scales of all of its tensors.
///
/// Formula, errors: as of calibrate() of a float_vit; position biases by their range.
/// Source:    docs/numerics.md, sections 1 and 12.
inline swin_scales calibrate(const float_swin& model, std::span<const image_view> images,
                             const calibration_options& options = {}) {
  index_t position = 0;
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    for (const float_swin_block& block : model.stages[s].blocks) {
      at_tensor({"position_bias", position++}, [&] {
        detail::require_position_bias("calibrate", block.position_bias, model.shape.of(static_cast<index_t>(s)));
      });
    }
  }
  const detail::calibrator seen = detail::observe_images(model, images, options);
  swin_scales scales;
  scales.input = seen.affine("input");
  scales.patch = seen.affine("patch");
  scales.tokens = seen.affine("tokens");
  value_range begin = seen.range("tokens");
  index_t block = 0;
  for (index_t s = 0; s < std::ssize(model.stages); ++s) {
    const float_swin_stage& stage = model.stages[static_cast<std::size_t>(s)];
    swin_stage_scales& made = scales.stages.emplace_back();
    made.stream = seen.s16_scale(begin, block, std::ssize(stage.blocks));
    for (const float_swin_block& here : stage.blocks) {
      made.blocks.push_back(detail::calibrated_swin_block(seen, here, block++));
    }
    if (stage.reduction.size() != 0) {
      made.merge_norm = seen.affine("merge_norm", s);
      made.merge = seen.ptf("merge", s);
      begin = seen.range("merge", s);
    }
  }
  scales.norm = seen.affine("norm");
  scales.pool = seen.affine("pool");
  scales.logits = seen.affine("logits");
  return scales;
}

namespace detail {

/// One addition for all keys.
inline owned_add build_bias_addition(const affine_scale& logits, const affine_scale& bias, const affine_scale& sum,
                                     index_t keys) {
  const add_spec target = bias_spec(logits, bias, sum);
  owned_add built({&target, 1}, {.stream = logits.zero_point, .branch = bias.zero_point, .output = sum.zero_point});
  const auto repeat = [&](auto& values) { values.resize(static_cast<std::size_t>(keys), values.front()); };
  repeat(built.stream_multiplier);
  repeat(built.branch_multiplier);
  repeat(built.offset);
  repeat(built.exact);
  return built;
}

/// The codes of the biases that tokens of a window have for each other, head by head.
inline std::vector<std::uint8_t> quantize_position_bias(const float_matrix& table, index_t window,
                                                        const affine_scale& scale) {
  const index_t tokens = window * window;
  std::vector<std::uint8_t> codes;
  for (index_t head = 0; head < table.cols(); ++head) {
    for (index_t at = 0; at < tokens * tokens; ++at) {
      const index_t row = relative_position(window, at / tokens, at % tokens);
      codes.push_back(quantize_code<std::uint8_t>(table(row, head), scale));
    }
  }
  return codes;
}

/// Builds the Swin stages of a model.
struct swin_builder {
  const float_swin& model;
  const quantization_recipe& recipe;

  bool wide() const { return recipe.stream == stream_codes::s16; }

  /// The scale of a stream of Swin stage s without shifts.
  ptf_scale unshifted(const affine_scale& scale, index_t s) const {
    return unshifted_scale(scale, model.shape.of(s).width);
  }

  /// Swin stage s, whose first block has a position in the model; `stream` is the scale of the residual stream that
  /// enters it, then of that which leaves it.
  owned_swin_stage stage(index_t s, index_t first_block, const swin_stage_weights& weights,
                         const swin_stage_scales& scales, ptf_scale& stream) const {
    const float_swin_stage& layers = model.stages[static_cast<std::size_t>(s)];
    owned_swin_stage built;
    for (std::size_t position = 0; position < layers.blocks.size(); ++position) {
      const float_swin_block& block = layers.blocks[position];
      const swin_block_scales& own = scales.blocks[position];
      const window_attention_shape shape = model.shape.block(s, static_cast<index_t>(position)).attention;
      const index_t number = first_block + static_cast<index_t>(position);
      const float_block_view view = block_view(model, s, static_cast<index_t>(position), number);
      owned_block layers_of_block =
          block_builder{view, recipe}(weights.blocks[position], own.block, stream, own.biased_logits);
      std::vector<std::uint8_t> bias = at_tensor({"position_bias", number}, [&] {
        return quantize_position_bias(block.position_bias, shape.grid.window, own.position_bias);
      });
      owned_add add_bias = at_tensor({"biased_logits", number}, [&] {
        return build_bias_addition(own.block.attention_logits, own.position_bias, own.biased_logits,
                                   shape.grid.tokens_per_window());
      });
      built.blocks.push_back({.block = std::move(layers_of_block),
                              .norm1_zero_point = own.block.norm1.zero_point,
                              .position_bias = std::move(bias),
                              .add_bias = std::move(add_bias)});
      stream = wide() ? stream : own.block.add2;
    }
    return built;
  }

  /// The merging after Swin stage s, from a stream to one of scale `next`.
  void merging(index_t s, const scaled_weights& reduction, const affine_scale& merge_norm, const ptf_scale& stream,
               const ptf_scale& next, owned_swin_stage& built) const {
    const float_layernorm& norm = model.stages[static_cast<std::size_t>(s)].merge_norm;
    built.merge_norm = at_tensor(
        {"merge_norm", s}, [&] { return build_norm(view_of(norm), model.epsilon, four_times(stream), merge_norm); });
    built.reduction = at_tensor({"merge", s}, [&]() -> owned_linear {
      return {reduction.weights, owned_channel_scale(linear_specs(reduction, merge_norm, next))};
    });
  }
};

}  // namespace detail

/// Builds the integer model of a float model whose tensors have the given scales and whose weights are given as codes.
/// Scales that no integers compute are replaced by those of fit_scales().
///
/// Errors:    scales or weights of other sizes than the model's, a recipe whose parts exclude each other, packed codes
///            (attention_code::u4_clipped) with shifted windows; values that the builders of build/ refuse: each names
///            tensor and block.
/// Source:    docs/numerics.md, section 12.
inline integer_swin build_swin(const float_swin& model, const swin_scales& observed, const swin_weights& weights,
                               const quantization_recipe& recipe) {
  const swin_scales scales = fit_scales(model, observed, weights, recipe).scales;
  const detail::swin_builder builder{model, recipe};
  const affine_scale input = recipe.pixel_codes ? affine_scale{1, 0} : scales.input;
  const auto stream_of = [&](std::size_t s, const ptf_scale& codes) {
    const affine_scale wide{scales.stages[s].stream, 0};
    return builder.wide() ? builder.unshifted(wide, static_cast<index_t>(s)) : codes;
  };

  swin_tensors contents;
  contents.shape = model.shape;
  contents.shape.stream = recipe.stream;
  if (!recipe.pixel_codes) {
    contents.pixel_table = at_tensor({"input"}, [&] { return detail::build_pixel_table(model, scales.input); });
  }
  contents.patch = at_tensor({"patch"}, [&] {
    return build_linear(weights.patch, span_of(patch_layer(model, recipe).bias), input, to_code_scale(scales.patch));
  });
  contents.patch_norm = at_tensor({"tokens"}, [&] {
    return build_norm(view_of(model.patch_norm), model.epsilon, builder.unshifted(scales.patch, 0), scales.tokens);
  });
  ptf_scale stream = stream_of(0, builder.unshifted(scales.tokens, 0));
  if (builder.wide()) {
    contents.tokens =
        at_tensor({"tokens"}, [&] { return owned_tensor_scale(detail::stream_spec(scales.tokens, stream.scale)); });
  }
  index_t block = 0;
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    const index_t number = static_cast<index_t>(s);
    contents.stages.push_back(builder.stage(number, block, weights.stages[s], scales.stages[s], stream));
    block += std::ssize(model.stages[s].blocks);
    if (s + 1 < model.stages.size()) {
      const ptf_scale next = stream_of(s + 1, scales.stages[s].merge);
      builder.merging(number, weights.stages[s].reduction, scales.stages[s].merge_norm, stream, next,
                      contents.stages.back());
      stream = next;
    }
  }

  contents.norm =
      at_tensor({"norm"}, [&] { return build_norm(view_of(model.norm), model.epsilon, stream, scales.norm); });
  contents.pool = at_tensor({"pool"}, [&] { return owned_tensor_scale(detail::pool_spec(scales, model.shape)); });
  detail::build_head(weights.head, span_of(model.head.bias), scales.pool, scales.logits, contents);
  return integer_swin(std::move(contents));
}

/// The same with weights quantized by themselves.
inline integer_swin build_swin(const float_swin& model, const swin_scales& scales,
                               const quantization_recipe& recipe = paper_recipe) {
  require_recipe(recipe);
  return build_swin(model, scales, quantize_weights(model, recipe), recipe);
}

}  // namespace INTACT_UNIT
}  // namespace intact
