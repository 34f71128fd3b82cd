#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/swin_scales.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/fit_scales.hpp"
#include "intact/quantize/float_swin.hpp"
#include "intact/quantize/swin_weights.hpp"

// The scales of a Swin transformer, raised where no integers compute the ratios of the observed ones.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Logits and the biases of relative positions.
inline add_spec bias_spec(const affine_scale& logits, const affine_scale& bias, const affine_scale& sum) {
  return addition_spec(static_cast<double>(logits.scale), bias, static_cast<double>(sum.scale));
}

/// The tokens that begin an s16 stream.
inline scale_spec stream_spec(const affine_scale& tokens, float stream) {
  return convert_codes_spec(scale_ratio(tokens, {stream, 0}), tokens.zero_point, 0);
}

/// The mean of all tokens.
inline scale_spec pool_spec(const swin_scales& scales, const swin_shape& shape) {
  return average_pool_spec(scale_ratio(scales.norm, scales.pool), scales.norm.zero_point, scales.pool.zero_point,
                           shape.tokens_of(shape.stages - 1));
}

/// A stream of four times as many channels, whose shifts repeat.
inline ptf_scale four_times(const ptf_scale& stream) {
  ptf_scale merged{.scale = stream.scale, .zero_point = stream.zero_point, .shift = {}};
  for (int quarter = 0; quarter < 4; ++quarter) {
    merged.shift.insert(merged.shift.end(), stream.shift.begin(), stream.shift.end());
  }
  return merged;
}

/// Checks the size of a table of position biases.
inline void require_position_bias(const char* operation, const float_matrix& table, const swin_stage_shape& stage) {
  const index_t distances = 2 * stage.window - 1;
  require_equal(operation, "rows of a position bias table", table.rows(), distances * distances);
  require_equal(operation, "columns of a position bias table", table.cols(), stage.heads);
}

/// Refuses weights and scales of other sizes than the model's.
inline void require_swin_sizes(const char* operation, const swin_weights& weights, const swin_scales& scales,
                               const float_swin& model) {
  const swin_shape& shape = model.shape;
  require_equal(operation, "number of stages of the model", std::ssize(model.stages), shape.stages);
  require_equal(operation, "number of stages of the weights", std::ssize(weights.stages), shape.stages);
  require_equal(operation, "number of stages of the scales", std::ssize(scales.stages), shape.stages);
  require_layer(operation, {"patch"}, weights.patch, model.patch.weight);
  index_t block = 0;
  for (std::size_t s = 0; s < model.stages.size(); ++s) {
    const float_swin_stage& stage = model.stages[s];
    const index_t depth = shape.of(static_cast<index_t>(s)).depth;
    const std::string of_stage = "number of blocks of stage " + std::to_string(s) + " of the ";
    require_equal(operation, (of_stage + "model").c_str(), std::ssize(stage.blocks), depth);
    require_equal(operation, (of_stage + "weights").c_str(), std::ssize(weights.stages[s].blocks), depth);
    require_equal(operation, (of_stage + "scales").c_str(), std::ssize(scales.stages[s].blocks), depth);
    for (std::size_t position = 0; position < stage.blocks.size(); ++position, ++block) {
      require_layers(operation, block, weights.stages[s].blocks[position], stage.blocks[position].block);
      at_tensor({"position_bias", block}, [&] {
        require_position_bias(operation, stage.blocks[position].position_bias, shape.of(static_cast<index_t>(s)));
      });
    }
    if (s + 1 < model.stages.size()) {
      const tensor_place merge{"merge", static_cast<index_t>(s)};
      require_layer(operation, merge, weights.stages[s].reduction, stage.reduction);
      at_tensor(merge, [&] {
        require_equal(operation, "number of shifts", std::ssize(scales.stages[s].merge.shift), stage.reduction.rows());
      });
    }
  }
  require_layer(operation, {"logits"}, weights.head, model.head.weight);
}

/// Fits the scales of a model's Swin stages.
class swin_fitter {
 public:
  swin_fitter(const float_swin& model, const swin_weights& weights, const quantization_recipe& recipe,
              fitted_scales<swin_scales>& fitted)
      : model_(model), weights_(weights), recipe_(recipe), scales_(fitted.scales), fit_(fitted.changes) {}

  void operator()() {
    begin();
    ptf_scale stream = unshifted_scale(scales_.tokens, width(0));
    index_t block = 0;
    for (std::size_t s = 0; s < scales_.stages.size(); ++s) {
      stage(s, stream, block);
      if (s + 1 < scales_.stages.size()) {
        fit_.enter_block(static_cast<index_t>(s));
        merging(s);
        stream = scales_.stages[s].merge;
      }
    }
    fit_.enter_block(-1);
    fit_.norm("norm", view_of(model_.norm), scales_.norm);
    fit_.raise("pool", scales_.pool.scale, [&](float scale) {
      swin_scales scales;
      scales.norm = scales_.norm;
      scales.pool = {scale, scales_.pool.zero_point};
      const scale_spec target = pool_spec(scales, model_.shape);
      return has_scale({&target, 1});
    });
    fit_.head(weights_.head, span_of(model_.head.bias), scales_.pool, scales_.logits);
  }

 private:
  bool wide() const { return recipe_.stream == stream_codes::s16; }
  double epsilon() const { return static_cast<double>(model_.epsilon); }
  index_t width(std::size_t s) const { return model_.shape.of(static_cast<index_t>(s)).width; }

  void begin() {
    fit_.linear("patch", weights_.patch, span_of(patch_layer(model_, recipe_).bias),
                recipe_.pixel_codes ? affine_scale{1, 0} : scales_.input, scales_.patch);
    fit_.norm_input("patch", scales_.patch.scale, width(0), epsilon());
    fit_.norm("tokens", view_of(model_.patch_norm), scales_.tokens);
    if (!wide()) {
      fit_.norm_input("tokens", scales_.tokens.scale, 4 * width(0), epsilon());
      return;
    }
    fit_.raise("tokens", scales_.stages.front().stream, [&](float scale) {
      const scale_spec target = stream_spec(scales_.tokens, scale);
      return has_scale({&target, 1});
    });
  }

  void stage(std::size_t s, ptf_scale& stream, index_t& block) {
    swin_stage_scales& scales = scales_.stages[s];
    const float_swin_stage& layers = model_.stages[s];
    for (std::size_t position = 0; position < layers.blocks.size(); ++position) {
      swin_block_scales& own = scales.blocks[position];
      const float_block_view view =
          block_view(model_, static_cast<index_t>(s), static_cast<index_t>(position), block++);
      fit_.enter_block(view.position);
      block_scale_fitter{.block = view, .recipe = recipe_, .fit = fit_, .s16_step = scales.stream}(
          weights_.stages[s].blocks[position], own.block, stream);
      fit_.raise("biased_logits", own.biased_logits.scale, [&](float scale) {
        const affine_scale sum{scale, own.biased_logits.zero_point};
        return has_add_scale(bias_spec(own.block.attention_logits, own.position_bias, sum), sum.zero_point);
      });
      stream = own.block.add2;
    }
    if (wide()) {
      fit_.norm_input("add2", scales.stream, 4 * width(s), epsilon());  // of the merging, the widest
    } else if (!layers.blocks.empty()) {
      fit_.norm_input("add2", scales.blocks.back().block.add2, 4 * width(s), epsilon());
    }
  }

  /// From Swin stage s to the next.
  void merging(std::size_t s) {
    swin_stage_scales& scales = scales_.stages[s];
    const float_swin_stage& layers = model_.stages[s];
    fit_.norm("merge_norm", view_of(layers.merge_norm), scales.merge_norm);
    const auto fits = [&](const ptf_scale& y) {
      return has_scale(linear_specs(weights_.stages[s].reduction, scales.merge_norm, y));
    };
    if (wide()) {
      fit_.raise("merge", scales_.stages[s + 1].stream, [&](float scale) {
        return fits(unshifted_scale({scale, 0}, width(s + 1)));
      });
    } else {
      fit_.raise("merge", scales.merge, fits);
      fit_.norm_input("merge", scales.merge, 4 * width(s + 1), epsilon());
    }
  }

  const float_swin& model_;
  const swin_weights& weights_;
  const quantization_recipe& recipe_;
  swin_scales& scales_;
  layer_scale_fitter fit_;
};

}  // namespace detail

/// The scales with those raised for which the integers of a recipe's graph do not exist, as of a float_vit. Blocks are
/// numbered through all Swin stages.
/// Errors:    scales or weights of other sizes than the model's, a recipe whose parts exclude each other; scales that
///            are not above 0 and finite, naming tensor and block.
/// Source:    docs/numerics.md, sections 9 and 12.
inline fitted_scales<swin_scales> fit_scales(const float_swin& model, const swin_scales& observed,
                                             const swin_weights& weights, const quantization_recipe& recipe) {
  require_recipe(recipe);
  detail::require_swin_sizes("fit_scales", weights, observed, model);
  fitted_scales<swin_scales> fitted{observed, {}};
  detail::swin_fitter(model, weights, recipe, fitted)();
  return fitted;
}

}  // namespace INTACT_UNIT
}  // namespace intact
