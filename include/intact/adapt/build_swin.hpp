#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/adapt/build.hpp"
#include "intact/adapt/calibrate.hpp"
#include "intact/adapt/float_swin.hpp"
#include "intact/adapt/integer_swin.hpp"

// From a float Swin transformer and images to the scales of its tensors, and from these and its weights as codes to an
// integer model.

namespace intact {
inline namespace INTACT_UNIT {

/// Scales of a block's tensors; fields are named like the tensors of model/trace.hpp.
struct swin_block_scales {
  block_scales block;
  affine_scale position_bias, biased_logits;
};

/// Scales of a stage's tensors.
struct swin_stage_scales {
  std::vector<swin_block_scales> blocks;
  affine_scale merge_norm;  ///< these two not of the last stage
  ptf_scale merge;          ///< the residual stream of the next stage
  float stream = 1;         ///< of an s16 residual stream
};

/// Scales of a Swin transformer's tensors.
struct swin_scales {
  affine_scale input, patch;
  affine_scale tokens;  ///< the residual stream, or the u8 codes that begin an s16 stream
  std::vector<swin_stage_scales> stages;
  affine_scale norm, pool, logits;
};

/// Weights of a stage's layers.
struct swin_stage_weights {
  std::vector<block_weights> blocks;
  scaled_weights reduction;  ///< not of the last stage
};

/// Weights of a Swin transformer's layers.
struct swin_weights {
  scaled_weights patch;  ///< of patch_layer
  std::vector<swin_stage_weights> stages;
  scaled_weights head;
};

/// Quantizes the weights of all layers.
inline swin_weights quantize_weights(const float_swin& model, const profile& chosen) {
  swin_weights weights;
  weights.patch = quantize_layer(patch_layer(model, chosen).weight, chosen);
  for (const float_swin_stage& stage : model.stages) {
    swin_stage_weights& made = weights.stages.emplace_back();
    for (const float_swin_block& block : stage.blocks) {
      made.blocks.push_back(quantize_block(block.block, chosen));
    }
    if (stage.reduction.size() != 0) {
      made.reduction = quantize_layer(stage.reduction, chosen);
    }
  }
  weights.head = quantize_layer(model.head.weight, chosen);
  return weights;
}

namespace detail {

/// Checks the size of a table of position biases.
inline void require_position_bias(const char* operation, const float_matrix& table, const swin_stage_shape& stage) {
  const index distances = 2 * stage.window - 1;
  require_equal(operation, "rows of a position bias table", table.rows(), distances * distances);
  require_equal(operation, "columns of a position bias table", table.cols(), stage.heads);
}

inline swin_block_scales calibrated_swin_block(const calibrator& seen, const float_swin_block& block, index position) {
  const auto [low, high] =
      std::minmax_element(block.position_bias.data(), block.position_bias.data() + block.position_bias.size());
  return {calibrated_block(seen, position), build_affine_scale({*low, *high}, u8_codes),
          seen.affine("biased_logits", position)};
}

}  // namespace detail

/// Runs the float model on images and chooses the scales of all of its tensors.
///
/// Formula, errors: as of calibrate() of a float_vit; position biases by their range.
/// Source:    docs/numerics.md, sections 1 and 12.
inline swin_scales calibrate(const float_swin& model, std::span<const image_view> images,
                             const calibration_options& options = {}) {
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    for (const float_swin_block& block : model.stages[s].blocks) {
      detail::require_position_bias("calibrate", block.position_bias, model.shape.of(static_cast<index>(s)));
    }
  }
  const detail::calibrator seen = detail::observe_images(model, images, options);
  swin_scales scales;
  scales.input = seen.affine("input");
  scales.patch = seen.affine("patch");
  scales.tokens = seen.affine("tokens");
  value_range begin = seen.range("tokens");
  index block = 0;
  for (index s = 0; s < std::ssize(model.stages); ++s) {
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
                                     index keys) {
  const double step = static_cast<double>(sum.scale);
  const add_target target{static_cast<double>(logits.scale) / step, static_cast<double>(bias.scale) / step};
  owned_add built({&target, 1}, {logits.zero_point, bias.zero_point, sum.zero_point});
  const auto repeat = [&](auto& values) { values.resize(static_cast<std::size_t>(keys), values.front()); };
  repeat(built.stream_multiplier);
  repeat(built.branch_multiplier);
  repeat(built.offset);
  repeat(built.exact);
  return built;
}

/// The codes of the biases that tokens of a window have for each other, head by head.
inline std::vector<std::uint8_t> quantize_position_bias(const float_matrix& table, index window,
                                                        const affine_scale& scale) {
  const index tokens = window * window;
  std::vector<std::uint8_t> codes;
  for (index head = 0; head < table.cols(); ++head) {
    for (index at = 0; at < tokens * tokens; ++at) {
      const index row = relative_position(window, at / tokens, at % tokens);
      codes.push_back(quantize_code<std::uint8_t>(table(row, head), scale));
    }
  }
  return codes;
}

/// The shifts of channels that stand side by side four times.
inline ptf_scale four_times(const ptf_scale& stream) {
  ptf_scale merged{stream.scale, stream.zero_point, {}};
  for (int quarter = 0; quarter < 4; ++quarter) {
    merged.shift.insert(merged.shift.end(), stream.shift.begin(), stream.shift.end());
  }
  return merged;
}

/// Scales of channels that may differ, as those of a linear layer's outputs.
inline owned_linear build_linear(const scaled_weights& layer, const affine_scale& x, const ptf_scale& y) {
  std::vector<scale_target> targets(static_cast<std::size_t>(layer.weights.rows));
  for (std::size_t n = 0; n < targets.size(); ++n) {
    const double factor = static_cast<double>(x.scale) * static_cast<double>(layer.scale[n]) / channel_step(y, n);
    targets[n] = linear_target<std::uint8_t>({.weights = layer.weights.row(static_cast<index>(n)),
                                              .factor = factor,
                                              .addend = static_cast<double>(y.zero_point),
                                              .zero_point = x.zero_point});
  }
  return {layer.weights, owned_channel_scale(targets)};
}

/// Builds the stages of a model.
struct swin_builder {
  const float_swin& model;
  const profile& chosen;

  bool wide() const { return chosen.stream == stream_codes::s16; }
  double epsilon() const { return static_cast<double>(model.epsilon); }

  /// A stream without shifts.
  ptf_scale even(const affine_scale& scale, index s) const {
    return {scale.scale, scale.zero_point,
            std::vector<std::uint8_t>(static_cast<std::size_t>(model.shape.of(s).width))};
  }

  /// Stage s; `stream` is the scale of the residual stream that enters it, then of that which leaves it.
  owned_swin_stage stage(index s, const swin_stage_weights& weights, const swin_stage_scales& scales,
                         ptf_scale& stream) const {
    const float_swin_stage& layers = model.stages[static_cast<std::size_t>(s)];
    owned_swin_stage built;
    for (std::size_t position = 0; position < layers.blocks.size(); ++position) {
      const float_swin_block& block = layers.blocks[position];
      const swin_block_scales& own = scales.blocks[position];
      const window_attention_shape shape = model.shape.block(s, static_cast<index>(position)).attention;
      const block_builder build_block{shape.per_window(), epsilon(), scales.stream, chosen};
      built.blocks.push_back({build_block(block.block, weights.blocks[position], own.block, stream, own.biased_logits),
                              own.block.norm1.zero_point,
                              quantize_position_bias(block.position_bias, shape.grid.window, own.position_bias),
                              build_bias_addition(own.block.attention_logits, own.position_bias, own.biased_logits,
                                                  shape.grid.tokens_per_window())});
      stream = wide() ? stream : own.block.add2;
    }
    return built;
  }

  /// The merging behind stage s, to a stream of scale `next`.
  void merging(const float_swin_stage& layers, const scaled_weights& reduction, const affine_scale& merge_norm,
               const ptf_scale& stream, const ptf_scale& next, owned_swin_stage& built) const {
    built.merge_norm = build_norm(layers.merge_norm, epsilon(), four_times(stream), merge_norm);
    built.reduction = build_linear(reduction, merge_norm, next);
  }
};

/// Refuses weights and scales of other sizes than the model's.
inline void require_swin_sizes(const swin_weights& weights, const swin_scales& scales, const float_swin& model) {
  const auto require = [](const char* name, const scaled_weights& layer, const float_matrix& expected) {
    layer.weights.require_sizes();
    require_equal("build_swin", (std::string("rows of ") + name).c_str(), layer.weights.rows, expected.rows());
    require_equal("build_swin", (std::string("columns of ") + name).c_str(), layer.weights.columns, expected.cols());
    require_equal("build_swin", (std::string("scales of ") + name).c_str(), std::ssize(layer.scale), expected.rows());
  };
  const swin_shape& shape = model.shape;
  require_equal("build_swin", "number of stages of the model", std::ssize(model.stages), shape.stages);
  require_equal("build_swin", "number of stages of the weights", std::ssize(weights.stages), shape.stages);
  require_equal("build_swin", "number of stages of the scales", std::ssize(scales.stages), shape.stages);
  require("patch", weights.patch, model.patch.weight);
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    const float_swin_stage& stage = model.stages[s];
    const index depth = shape.of(static_cast<index>(s)).depth;
    require_equal("build_swin", "number of blocks of a stage of the model", std::ssize(stage.blocks), depth);
    require_equal("build_swin", "number of blocks of a stage of the weights", std::ssize(weights.stages[s].blocks),
                  depth);
    require_equal("build_swin", "number of blocks of a stage of the scales", std::ssize(scales.stages[s].blocks),
                  depth);
    for (std::size_t position = 0; position < stage.blocks.size(); ++position) {
      const block_weights& block = weights.stages[s].blocks[position];
      const float_block& expected = stage.blocks[position].block;
      require("qkv", block.qkv, expected.qkv.weight);
      require("proj", block.proj, expected.proj.weight);
      require("fc1", block.fc1, expected.fc1.weight);
      require("fc2", block.fc2, expected.fc2.weight);
      require_position_bias("build_swin", stage.blocks[position].position_bias, shape.of(static_cast<index>(s)));
    }
    if (s + 1 < model.stages.size()) {
      require("reduction", weights.stages[s].reduction, stage.reduction);
      require_equal("build_swin", "number of shifts of a merging", std::ssize(scales.stages[s].merge.shift),
                    stage.reduction.rows());
    }
  }
  require("head", weights.head, model.head.weight);
}

}  // namespace detail

/// Builds the integer model of a float model whose tensors have the given scales and whose weights are given as codes.
///
/// Errors:    scales or weights of other sizes than the model's, a profile that makes no sense, packed codes
///            (tail::clip) with shifted windows; whatever the builders of adapt/ refuse.
/// Source:    docs/numerics.md, section 12.
inline integer_swin build_swin(const float_swin& model, const swin_scales& scales, const swin_weights& weights,
                               const profile& chosen) {
  require_profile(chosen);
  detail::require_swin_sizes(weights, scales, model);
  const detail::swin_builder builder{model, chosen};
  const affine_scale input = chosen.pixel_codes ? affine_scale{1, 0} : scales.input;
  const auto stream_of = [&](std::size_t s, const ptf_scale& codes) {
    const affine_scale wide{scales.stages[s].stream, 0};
    return builder.wide() ? builder.even(wide, static_cast<index>(s)) : codes;
  };

  swin_contents contents;
  contents.shape = model.shape;
  contents.shape.stream = chosen.stream;
  if (!chosen.pixel_codes) {
    contents.pixel_table = detail::build_pixel_table(model, scales.input);
  }
  contents.patch =
      detail::build_linear(weights.patch, patch_layer(model, chosen).bias, input, detail::to_code_scale(scales.patch));
  contents.patch_norm =
      detail::build_norm(model.patch_norm, builder.epsilon(), builder.even(scales.patch, 0), scales.tokens);
  ptf_scale stream = stream_of(0, builder.even(scales.tokens, 0));
  if (builder.wide()) {
    const double ratio = static_cast<double>(scales.tokens.scale) / static_cast<double>(stream.scale);
    contents.tokens = owned_tensor_scale(rescale_target(ratio, scales.tokens.zero_point, 0));
  }
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    contents.stages.push_back(builder.stage(static_cast<index>(s), weights.stages[s], scales.stages[s], stream));
    if (s + 1 < model.stages.size()) {
      const ptf_scale next = stream_of(s + 1, scales.stages[s].merge);
      builder.merging(model.stages[s], weights.stages[s].reduction, scales.stages[s].merge_norm, stream, next,
                      contents.stages.back());
      stream = next;
    }
  }

  contents.norm = detail::build_norm(model.norm, builder.epsilon(), stream, scales.norm);
  const double pooled = static_cast<double>(scales.norm.scale) / static_cast<double>(scales.pool.scale);
  contents.pool = owned_tensor_scale(average_pool_target(pooled, scales.norm.zero_point, scales.pool.zero_point,
                                                         model.shape.tokens_of(model.shape.stages - 1)));
  contents.logits_scale = static_cast<double>(scales.logits.scale) / 256;
  const auto build_logits = [&](const code_scale& y) {
    return detail::build_linear(weights.head, model.head.bias, scales.pool, y).scale;
  };
  contents.head = weights.head.weights;
  contents.logits = build_logits({contents.logits_scale, 0});
  contents.logits_u8 = build_logits(detail::to_code_scale(scales.logits));
  return integer_swin(std::move(contents));
}

/// The same with weights quantized by themselves.
inline integer_swin build_swin(const float_swin& model, const swin_scales& scales,
                               const profile& chosen = paper_profile) {
  require_profile(chosen);
  return build_swin(model, scales, quantize_weights(model, chosen), chosen);
}

}  // namespace INTACT_UNIT
}  // namespace intact
