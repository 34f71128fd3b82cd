#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrated_vit.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/observe.hpp"
#include "intact/quantize/range_search.hpp"
#include "intact/quantize/reconstruction_steps.hpp"
#include "intact/quantize/simulation.hpp"
#include "intact/quantize/tensor_rounding.hpp"
#include "intact/quantize/weight_rounding.hpp"
#include "intact/types/executor.hpp"

// Scales and weights that are chosen layer by layer, for the least error of the layer's outputs on the inputs that the
// rounded layers before it make.

namespace intact {
inline namespace INTACT_UNIT {

/// How weights and scales are chosen.
struct reconstruction_options {
  weight_rounding rounding = weight_rounding::compensated;  ///< compensated: biases compensate mean errors, too
  std::function<void()> block_done = [] {};                 ///< called after every block
};

namespace detail {

/// Chooses scales and weights along the residual stream of all images. A tensor of all images is one matrix, with the
/// rows of one image after those of the other.
template <executor Executor>
class reconstruction {
 public:
  /// `scales` are used where nothing is searched. The arguments must outlive the object.
  reconstruction(const float_vit& model, const vit_scales& scales, const quantization_recipe& recipe,
                 const reconstruction_options& options, const Executor& run)
      : exact_(model),
        recipe_(recipe),
        options_(options),
        attention_{model.shape, recipe, run},
        result_{.model = model, .scales = scales, .weights = {}} {}

  calibrated_vit operator()(std::span<const image_view> images) {
    images_ = std::ssize(images);
    embed(images);
    for (std::size_t layer = 0; layer < exact_.blocks.size(); ++layer) {
      at_tensor({"", static_cast<index_t>(layer)}, [&] {
        reconstruct_attention(layer);
        reconstruct_mlp(layer);
      });
      options_.block_done();
    }
    reconstruct_head();
    return std::move(result_);
  }

 private:
  /// A tensor of the float model, and the same tensor after rounded layers.
  struct tensor_pair {
    float_matrix exact, rounded;
  };

  /// Rows of a tensor, and the square roots of their weights in sums of errors.
  struct weighted_rows {
    float_matrix rows;
    Eigen::VectorXf weight;
  };

  bool wide() const { return recipe_.stream == stream_codes::s16; }
  index_t tokens() const { return exact_.shape.tokens(); }
  index_t prefix_tokens() const { return exact_.shape.prefix_tokens(); }

  /// The weights of the rows of a tensor in sums of errors: those of class tokens that are features are larger.
  Eigen::VectorXf row_weights(index_t rows) const {
    Eigen::VectorXf weights = Eigen::VectorXf::Ones(rows);
    for (index_t row = 0; rows == images_ * tokens() && row < rows; row += tokens()) {
      weights.segment(row, exact_.shape.class_features()).setConstant(class_token_weight);
    }
    return weights;
  }

  /// Up to about 2048 rows, evenly spaced, and all class tokens: enough to measure errors.
  weighted_rows sample(const float_matrix& tensor) const {
    constexpr index_t most = 2048;
    const index_t step = std::max<index_t>(tensor.rows() / most, 1);
    const Eigen::VectorXf weights = row_weights(tensor.rows());
    std::vector<index_t> kept;
    for (index_t row = 0; row < tensor.rows(); ++row) {
      if (row % step == 0 || weights[row] != 1) {
        kept.push_back(row);
      }
    }
    weighted_rows some{float_matrix(std::ssize(kept), tensor.cols()), Eigen::VectorXf(std::ssize(kept))};
    for (index_t i = 0; i < std::ssize(kept); ++i) {
      const index_t row = kept[static_cast<std::size_t>(i)];
      some.rows.row(i) = tensor.row(row);
      some.weight[i] = std::sqrt(weights[row] == 1 ? static_cast<float>(step) : weights[row]);
    }
    return some;
  }

  /// Rounds a tensor with the scale of least error of the outputs of the layer with these weights; without weights, of
  /// the tensor itself.
  affine_scale round_input(float_matrix& input, const float_matrix* weight) const {
    const weighted_rows some = sample(input);
    const affine_scale best = search_scale(range_of(input), [&](const affine_scale& scale) {
      float_matrix difference = some.rows;
      round_to_codes(difference, scale);
      difference = some.weight.asDiagonal() * (difference - some.rows);
      return static_cast<double>(weight == nullptr ? difference.squaredNorm()
                                                   : (difference * weight->transpose()).squaredNorm());
    });
    round_to_codes(input, best);
    return best;
  }

  /// Rounds a layer's weights for inputs that are rounded already. To compensate, the bias makes the mean of the
  /// outputs that of `target`.
  scaled_weights reconstruct(float_linear& layer, const float_matrix& input, const float_matrix& target) const {
    const Eigen::VectorXf weights = row_weights(input.rows());
    const auto mean = [&](const float_matrix& tensor) -> Eigen::RowVectorXd {
      return weights.cast<double>().transpose() * tensor.cast<double>() / weights.cast<double>().sum();
    };
    const Eigen::RowVectorXd input_mean = mean(input);
    float_matrix centered = weights.cwiseSqrt().asDiagonal() * (input.rowwise() - input_mean.cast<float>()).eval();
    centered *= unit_of(centered);
    double_matrix moments = (centered.transpose() * centered).cast<double>();
    moments.diagonal().array() += 0.01 * moments.trace() / static_cast<double>(moments.rows()) + 1e-9;

    const rounded_weights rounded = round_weights(layer.weight, moments, recipe_, options_.rounding);
    scaled_weights packed = pack_rounded_weights(rounded, recipe_.weights);
    layer.weight = real_weights(packed);
    if (options_.rounding == weight_rounding::compensated) {
      const Eigen::RowVectorXd bias = mean(target) - input_mean * layer.weight.cast<double>().transpose();
      layer.bias = bias.cast<float>();
    }
    return packed;
  }

  /// Patches, and the residual stream that they begin.
  void embed(std::span<const image_view> images) {
    const index_t patches = exact_.shape.patches();
    float_matrix input(patches * images_, exact_.shape.patch_values());
    for (index_t i = 0; i < images_; ++i) {
      input.middleRows(i * patches, patches) = float_input(exact_, images[static_cast<std::size_t>(i)]);
    }
    const float_matrix exact_patches = apply(exact_.patch, input);
    if (recipe_.pixel_codes) {
      float_linear folded = patch_layer(exact_, recipe_);
      unnormalize(exact_, input);
      result_.weights.patch = reconstruct(folded, input, exact_patches);
      unfold_patch(result_.model, folded);
      begin_stream(exact_patches, apply(folded, input));
    } else {
      result_.scales.input = round_input(input, &exact_.patch.weight);
      result_.weights.patch = reconstruct(result_.model.patch, input, exact_patches);
      begin_stream(exact_patches, apply(result_.model.patch, input));
    }
  }

  void begin_stream(const float_matrix& exact_patches, float_matrix patches) {
    vit_scales& scales = result_.scales;
    if (!wide()) {
      scales.patch = round_input(patches, nullptr);
      float_matrix tokens_of_all(patches.rows() + prefix_tokens(), patches.cols());
      tokens_of_all << exact_.class_token, patches;
      scales.embed = round_input(tokens_of_all, nullptr);
      result_.model.class_token = tokens_of_all.topRows(prefix_tokens());
      patches = tokens_of_all.bottomRows(patches.rows());
      scales.positions = round_input(result_.model.positions, nullptr);
    }
    stream_ = {embedded(exact_, exact_patches, images_), embedded(result_.model, patches, images_)};
    round_stream(exact_.norm_pre ? scales.s16_tokens : scales.stream, scales.tokens);
    if (!exact_.norm_pre) {
      return;
    }
    stream_.exact = apply(*exact_.norm_pre, stream_.exact, exact_.epsilon, exact_.shape.norm);
    stream_.rounded = apply(*exact_.norm_pre, stream_.rounded, exact_.epsilon, exact_.shape.norm);
    search_powers(scales.norm_pre);
    if (wide()) {
      round_stream(scales.stream, scales.norm_pre);
    }
  }

  /// Rounds the residual stream to s16 codes of a scale, or to u8 codes.
  void round_stream(float s16, ptf_scale& best) {
    if (wide()) {
      round_to_codes(stream_.rounded, {s16, 0}, codes_of<std::int16_t>);
    } else {
      search_powers(best);
    }
  }

  /// Rounds the residual stream to u8 codes with the scale of least error among those of shrunk ranges.
  void search_powers(ptf_scale& best) {
    const weighted_rows some = sample(stream_.rounded);
    const matrix_view<const float> view = view_of(some.rows);
    const value_range range = range_of(stream_.rounded);
    double least = std::numeric_limits<double>::infinity();
    for (int percent = 100; percent >= 40; percent -= 5) {
      const float part = static_cast<float>(percent) / 100;
      const ptf_scale scale = build_ptf_scale({range.low * part, range.high * part}, u8_codes, {&view, 1});
      float_matrix difference = some.rows;
      round_to_codes(difference, scale);
      difference = some.weight.asDiagonal() * (difference - some.rows);
      const double error = static_cast<double>(difference.squaredNorm());
      if (error < least) {
        least = error;
        best = scale;
      }
    }
    round_to_codes(stream_.rounded, best);
  }

  /// Adds a branch to the stream: rounded by itself first if the stream has u8 codes.
  void add_branch(float_matrix branch, affine_scale& branch_scale, ptf_scale& stream_scale) {
    if (!wide()) {
      branch_scale = round_input(branch, nullptr);
    }
    stream_.rounded += branch;
    round_stream(result_.scales.stream, stream_scale);
  }

  void reconstruct_attention(std::size_t layer) {
    const float_block& exact = exact_.blocks[layer];
    float_block& block = result_.model.blocks[layer];
    block_scales& scales = result_.scales.blocks[layer];
    block_weights& weights = result_.weights.blocks.emplace_back();

    tensor_pair x = normalized(exact.norm1, scales.norm1, exact.qkv.weight);
    x = layer_outputs(exact.qkv, block.qkv, x, weights.qkv);
    attend(exact, x, scales);
    round_context(x.rounded, layer, scales);
    stream_.exact += apply(exact.proj, x.exact);
    weights.proj = reconstruct(block.proj, x.rounded, stream_.exact - stream_.rounded);
    add_branch(apply(block.proj, x.rounded), scales.proj, scales.add1);
  }

  /// The context's scale is at least the smallest that row normalization can represent.
  void round_context(float_matrix& context, std::size_t layer, block_scales& scales) {
    float_matrix rounded = context;
    scales.context = round_input(rounded, &exact_.blocks[layer].proj.weight);
    if (recipe_.normalize_rows && !has_normalization(scale_ratio(scales.qkv, scales.context))) {
      const float observed = std::exchange(scales.context.scale, least_context_scale(scales.qkv));
      result_.changes.push_back({.tensor = "context",
                                 .block = static_cast<index_t>(layer),
                                 .observed = static_cast<double>(observed),
                                 .raised = static_cast<double>(scales.context.scale)});
      rounded = context;
      round_to_codes(rounded, scales.context);
    }
    context = std::move(rounded);
  }

  void reconstruct_mlp(std::size_t layer) {
    const float_block& exact = exact_.blocks[layer];
    float_block& block = result_.model.blocks[layer];
    block_scales& scales = result_.scales.blocks[layer];
    block_weights& weights = result_.weights.blocks.back();

    const bool gated = exact_.shape.gated;
    const tensor_pair input =
        normalized(exact.norm2, scales.norm2, gated ? rows_of_both(exact.fc1, exact.up) : exact.fc1.weight);
    tensor_pair x = layer_outputs(exact.fc1, block.fc1, input, weights.fc1);
    scales.fc1 = range_of(x.rounded);
    apply(exact.activation, x.exact);
    apply(exact.activation, x.rounded);
    if (gated) {
      scales.activation = round_input(x.rounded, nullptr);
      tensor_pair up = layer_outputs(exact.up, block.up, input, weights.up);
      scales.up = round_input(up.rounded, nullptr);
      x.exact.array() *= up.exact.array();
      x.rounded.array() *= up.rounded.array();
    }
    (gated ? scales.gated : scales.activation) = round_input(x.rounded, &exact.fc2.weight);
    stream_.exact += apply(exact.fc2, x.exact);
    weights.fc2 = reconstruct(block.fc2, x.rounded, stream_.exact - stream_.rounded);
    add_branch(apply(block.fc2, x.rounded), scales.fc2, scales.add2);
  }

  /// The outputs of a layer, whose weights are rounded for these inputs.
  tensor_pair layer_outputs(const float_linear& exact, float_linear& layer, const tensor_pair& x,
                            scaled_weights& weights) const {
    tensor_pair y{apply(exact, x.exact), {}};
    weights = reconstruct(layer, x.rounded, y.exact);
    y.rounded = apply(layer, x.rounded);
    return y;
  }

  /// Outputs of a norm, rounded for the weights of the layers that take them.
  tensor_pair normalized(const float_layernorm& norm, affine_scale& scale, const float_matrix& next) const {
    tensor_pair x = {apply(norm, stream_.exact, exact_.epsilon, exact_.shape.norm),
                     apply(norm, stream_.rounded, exact_.epsilon, exact_.shape.norm)};
    scale = round_input(x.rounded, &next);
    return x;
  }

  /// From queries, keys and values to the context. Scales are searched for the least error of the context of up to 8
  /// images, and so are the weights of attention codes.
  void attend(const float_block& block, tensor_pair& x, block_scales& scales) const {
    const index_t some = std::min<index_t>(images_, 8) * tokens();
    const auto search = [&](const value_range& range, const float_matrix& qkv, auto context) {
      const float_matrix expected = attention_.context_of(qkv, nullptr);
      return search_scale(range, [&](const affine_scale& scale) {
        return static_cast<double>((context(scale) - expected).squaredNorm());
      });
    };
    const float_matrix first = x.rounded.topRows(some);
    scales.qkv = search(range_of(x.rounded), with_qk_norms(exact_, block, first), [&](const affine_scale& scale) {
      float_matrix rounded = first;
      round_to_codes(rounded, scale);
      return attention_.context_of(with_qk_norms(exact_, block, std::move(rounded)), nullptr);
    });
    round_to_codes(x.rounded, scales.qkv);
    x = {with_qk_norms(exact_, block, std::move(x.exact)),
         with_qk_norms(exact_, block, std::move(x.rounded), [&](const trace_site& site, float_matrix& tensor) {
           (site.name == "q_norm" ? scales.q_norm : scales.k_norm) = round_input(tensor, nullptr);
         })};
    scales.context = scales.qkv;
    scales.attention_logits =
        search(attention_.logits_range(x.rounded), x.rounded.topRows(some), [&](const affine_scale& scale) {
          scales.attention_logits = scale;
          return attention_.context_of(x.rounded.topRows(some), &scales);
        });
    if (recipe_.attention == attention_kind::weight_codes) {
      scales.attention_weights =
          search_code_weights(static_cast<double>(scales.attention_logits.scale),
                              attention_.weight_error(x.rounded.topRows(some), scales.attention_logits));
    }
    x = {attention_.context_of(x.exact, nullptr), attention_.context_of(x.rounded, &scales)};
  }

  /// The features of all images, and the head, whose weights are rounded to nearest: features are too few to choose a
  /// thousand rows of weights. Where the features have a scale of their own it is the one of least error; scales of
  /// tensors before them remain.
  void reconstruct_head() {
    const vit_shape& shape = exact_.shape;
    if (shape.pooling != vit_pooling::class_tokens_and_mean) {
      float_matrix x(images_, shape.head_features());
      auto ignore = [](const trace_site&, const float_matrix&) {};
      for (index_t i = 0; i < images_; ++i) {
        x.row(i) = float_features(exact_, stream_.rounded.middleRows(i * tokens(), tokens()), ignore);
      }
      affine_scale& scale = shape.pooling == vit_pooling::mean ? result_.scales.pool : result_.scales.norm;
      scale = round_input(x, shape.classes == 0 ? nullptr : &exact_.head.weight);
    }
    if (shape.classes != 0) {
      result_.weights.head = quantize_layer({"logits"}, view_of(exact_.head.weight), recipe_);
      result_.model.head.weight = real_weights(result_.weights.head);
    }
  }

  const float_vit& exact_;
  const quantization_recipe& recipe_;
  const reconstruction_options& options_;
  attention_of_images<Executor> attention_;
  calibrated_vit result_;
  index_t images_ = 0;
  tensor_pair stream_;
};

}  // namespace detail

/// Chooses the scales and the weights of a model, layer by layer.
///
/// Formula:   the scale of the input of a layer makes the least squared error of the layer's outputs (search_scale);
///            weights are those of round_weights() with the second moments of the rounded inputs, compensated biases
///            make the mean of the outputs that of the float model; additions have the scale of least squared error of
///            the residual stream. Class tokens weigh 20 times as much as other tokens. The head is rounded to nearest.
/// Arguments: scales are those of calibrate(); they remain where nothing is searched.
/// Threads:   images of attention are tasks of the executor. The result does not depend on it.
/// Errors:    no images, images that the model does not take, scales of another depth; a tensor that rounding makes
///            larger than float can represent. Messages begin with the block.
/// Source:    docs/accuracy.md.
template <executor Executor = sequential>
calibrated_vit reconstruct(const float_vit& model, const vit_scales& scales, std::span<const image_view> images,
                           const quantization_recipe& recipe, const reconstruction_options& options = {},
                           const Executor& run = {}) {
  require_recipe(recipe);
  require_at_least("reconstruct", "number of images", std::ssize(images), 1);
  require_equal("reconstruct", "blocks of scales", std::ssize(scales.blocks), model.shape.depth);
  return detail::reconstruction(model, scales, recipe, options, run)(images);
}

}  // namespace INTACT_UNIT
}  // namespace intact
