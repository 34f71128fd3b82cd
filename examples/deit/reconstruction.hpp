#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/reference/model/trace.hpp"
#include "range_search.hpp"
#include "simulation.hpp"
#include "weight_rounding.hpp"
#include "workers.hpp"

// Scales and weights chosen one layer after the other, on the inputs that the layer gets from the rounded layers before
// it, for the least error of its outputs.

namespace intact_deit {

/// What class tokens count where errors of tokens are added up: the class is read off them in the end.
inline constexpr float class_token_weight = 20;

struct reconstruction_options {
  bool compensate = false;  ///< weights and biases make good for errors; else every weight is rounded to nearest
  std::size_t threads = 1;
};

/// Chooses scales and weights along the residual stream of all images. A tensor of all images is one matrix, the images
/// one below the other.
class reconstruction {
 public:
  /// `scales` are taken where nothing is searched. The model and the profile must outlive the object.
  reconstruction(const intact::float_vit& model, intact::vit_scales scales, const intact::quantization_recipe& recipe,
                 const reconstruction_options& options)
      : exact_(model), chosen_(recipe), options_(options), result_{model, std::move(scales), {}} {}

  calibrated_model operator()(std::span<const rgb_image> images) {
    images_ = std::ssize(images);
    progress_bar progress("calibration", exact_.blocks.size());
    embed(images);
    for (std::size_t position = 0; position < exact_.blocks.size(); ++position) {
      intact::detail::at_tensor({"", static_cast<index_t>(position)}, [&] {
        reconstruct_attention(position);
        reconstruct_mlp(position);
      });
      progress.advance();
    }
    reconstruct_head();
    return std::move(result_);
  }

 private:
  /// A tensor as the float model has it, and as the rounded layers make it.
  struct tensor_pair {
    float_matrix exact, rounded;
  };

  /// Rows of a tensor with the square roots of what they count.
  struct weighted_rows {
    float_matrix rows;
    Eigen::VectorXf weight;
  };

  bool wide() const { return chosen_.stream == intact::stream_codes::s16; }
  index_t tokens() const { return exact_.shape.tokens(); }
  index_t class_tokens() const { return exact_.shape.class_tokens; }

  /// What the rows of a tensor count: class tokens more than others, if it has any.
  Eigen::VectorXf row_weights(index_t rows) const {
    Eigen::VectorXf weights = Eigen::VectorXf::Ones(rows);
    for (index_t row = 0; rows == images_ * tokens() && row < rows; row += tokens()) {
      weights.segment(row, class_tokens()).setConstant(class_token_weight);
    }
    return weights;
  }

  /// Enough rows to measure errors on, evenly spaced, and all class tokens.
  weighted_rows sample(const float_matrix& tensor) const {
    constexpr index_t most = 2048;
    const index_t step = std::max<index_t>(tensor.rows() / most, 1);
    const Eigen::VectorXf weights = row_weights(tensor.rows());
    std::vector<index_t> recipe;
    for (index_t row = 0; row < tensor.rows(); ++row) {
      if (row % step == 0 || weights[row] != 1) {
        recipe.push_back(row);
      }
    }
    weighted_rows some{float_matrix(std::ssize(recipe), tensor.cols()), Eigen::VectorXf(std::ssize(recipe))};
    for (index_t i = 0; i < std::ssize(recipe); ++i) {
      const index_t row = recipe[static_cast<std::size_t>(i)];
      some.rows.row(i) = tensor.row(row);
      some.weight[i] = std::sqrt(weights[row] == 1 ? static_cast<float>(step) : weights[row]);
    }
    return some;
  }

  /// Halved where float does not hold the length.
  static intact::value_range range_of(const float_matrix& tensor) {
    const intact::value_range range{tensor.minCoeff(), tensor.maxCoeff()};
    return std::isfinite(range.high - range.low) ? range : intact::value_range{range.low / 2, range.high / 2};
  }

  /// Rounds a tensor in the scale for which the outputs of a layer that takes it change least; without weights, the
  /// tensor itself.
  intact::affine_scale round_input(float_matrix& input, const float_matrix* weight) const {
    const weighted_rows some = sample(input);
    const intact::affine_scale recipe = search_scale(range_of(input), [&](const intact::affine_scale& scale) {
      float_matrix difference = some.rows;
      detail::round_to(difference, scale);
      difference = some.weight.asDiagonal() * (difference - some.rows);
      return static_cast<double>(weight == nullptr ? difference.squaredNorm()
                                                   : (difference * weight->transpose()).squaredNorm());
    });
    detail::round_to(input, recipe);
    return recipe;
  }

  /// Rounds a layer's weights for inputs that are rounded already. To compensate, it gets the bias that makes the mean
  /// of its outputs that of `target`.
  intact::scaled_weights reconstruct(intact::float_linear& layer, const float_matrix& input,
                                     const float_matrix& target) const {
    const Eigen::VectorXf weights = row_weights(input.rows());
    const auto mean = [&](const float_matrix& tensor) -> Eigen::RowVectorXd {
      return weights.cast<double>().transpose() * tensor.cast<double>() / weights.cast<double>().sum();
    };
    const Eigen::RowVectorXd input_mean = mean(input);
    float_matrix centered = weights.cwiseSqrt().asDiagonal() * (input.rowwise() - input_mean.cast<float>()).eval();
    centered *= unit_of(centered);
    double_matrix moments = (centered.transpose() * centered).cast<double>();
    moments.diagonal().array() += 0.01 * moments.trace() / static_cast<double>(moments.rows()) + 1e-9;

    const rounded_weights rounded = round_weights(layer.weight, moments, chosen_, options_.compensate);
    intact::scaled_weights packed = pack(rounded, chosen_.weights);
    layer.weight = detail::real_weights(packed);
    if (options_.compensate) {
      layer.bias = (mean(target) - input_mean * layer.weight.cast<double>().transpose()).cast<float>();
    }
    return packed;
  }

  /// A power of two that brings numbers near 1 whose squares float would not hold. Only ratios of moments matter.
  static float unit_of(const float_matrix& tensor) {
    const float largest = tensor.cwiseAbs().maxCoeff();
    const bool ordinary = largest < 0x1p40F && (largest > 0x1p-20F || largest == 0);
    return ordinary ? 1.0F : std::ldexp(1.0F, std::clamp(-std::ilogb(largest), -126, 126));
  }

  /// Patches, and the residual stream that they begin.
  void embed(std::span<const rgb_image> images) {
    const index_t patches = exact_.shape.patches();
    float_matrix input(patches * images_, exact_.shape.patch_values());
    for (index_t i = 0; i < images_; ++i) {
      input.middleRows(i * patches, patches) =
          intact::detail::float_input(exact_, images[static_cast<std::size_t>(i)].view());
    }
    const float_matrix exact_patches = intact::detail::apply(exact_.patch, input);
    if (chosen_.pixel_codes) {
      intact::float_linear folded = intact::patch_layer(exact_, chosen_);
      unnormalize(input);
      result_.weights.patch = reconstruct(folded, input, exact_patches);
      detail::unfold_patch(result_.model, folded);
      begin_stream(exact_patches, intact::detail::apply(folded, input));
    } else {
      result_.scales.input = round_input(input, &exact_.patch.weight);
      result_.weights.patch = reconstruct(result_.model.patch, input, exact_patches);
      begin_stream(exact_patches, intact::detail::apply(result_.model.patch, input));
    }
  }

  /// From the numbers that the float model takes back to pixels.
  void unnormalize(float_matrix& input) const {
    const index_t samples = exact_.shape.patch * exact_.shape.patch;
    for (index_t k = 0; k < input.cols(); ++k) {
      const std::size_t c = static_cast<std::size_t>(k / samples);
      input.col(k) = (input.col(k).array() * exact_.standard_deviation[c] + exact_.mean[c]) * exact_.pixel_max;
    }
  }

  /// The class tokens in front of an image's patches, and positions.
  float_matrix embedded(const intact::float_vit& model, const float_matrix& patches) const {
    float_matrix stream(images_ * tokens(), model.shape.width);
    const index_t count = exact_.shape.patches();
    for (index_t i = 0; i < images_; ++i) {
      auto image = stream.middleRows(i * tokens(), tokens());
      image << model.class_token, patches.middleRows(i * count, count);
      image += model.positions;
    }
    return stream;
  }

  void begin_stream(const float_matrix& exact_patches, float_matrix patches) {
    intact::vit_scales& scales = result_.scales;
    if (!wide()) {
      scales.patch = round_input(patches, nullptr);
      float_matrix tokens_of_all(patches.rows() + class_tokens(), patches.cols());
      tokens_of_all << exact_.class_token, patches;
      scales.embed = round_input(tokens_of_all, nullptr);
      result_.model.class_token = tokens_of_all.topRows(class_tokens());
      patches = tokens_of_all.bottomRows(patches.rows());
      scales.positions = round_input(result_.model.positions, nullptr);
    }
    stream_ = {embedded(exact_, exact_patches), embedded(result_.model, patches)};
    round_stream(scales.tokens);
  }

  /// Rounds the residual stream; with u8 codes, in the scale of least error among those of shrunk ranges.
  void round_stream(intact::ptf_scale& recipe) {
    if (wide()) {
      detail::round_to(stream_.rounded, {result_.scales.stream, 0}, intact::codes_of<std::int16_t>);
      return;
    }
    const weighted_rows some = sample(stream_.rounded);
    const intact::matrix_view<const float> view = intact::view_of(some.rows);
    const intact::value_range range = range_of(stream_.rounded);
    double least = std::numeric_limits<double>::infinity();
    for (int percent = 100; percent >= 40; percent -= 5) {
      const float part = static_cast<float>(percent) / 100;
      const intact::ptf_scale scale =
          intact::build_ptf_scale({range.low * part, range.high * part}, intact::u8_codes, {&view, 1});
      float_matrix difference = some.rows;
      detail::round_to(difference, scale);
      difference = some.weight.asDiagonal() * (difference - some.rows);
      const double error = static_cast<double>(difference.squaredNorm());
      if (error < least) {
        least = error;
        recipe = scale;
      }
    }
    detail::round_to(stream_.rounded, recipe);
  }

  /// Adds a branch to the stream: rounded by itself first if the stream has u8 codes.
  void add_branch(float_matrix branch, intact::affine_scale& branch_scale, intact::ptf_scale& stream_scale) {
    if (!wide()) {
      branch_scale = round_input(branch, nullptr);
    }
    stream_.rounded += branch;
    round_stream(stream_scale);
  }

  void reconstruct_attention(std::size_t position) {
    const intact::float_block& exact = exact_.blocks[position];
    intact::float_block& block = result_.model.blocks[position];
    intact::block_scales& scales = result_.scales.blocks[position];
    intact::block_weights& weights = result_.weights.blocks.emplace_back();

    tensor_pair x = normalized(exact.norm1, scales.norm1, exact.qkv);
    x.exact = intact::detail::apply(exact.qkv, x.exact);
    weights.qkv = reconstruct(block.qkv, x.rounded, x.exact);
    x.rounded = intact::detail::apply(block.qkv, x.rounded);
    attend(x, scales);
    round_context(x.rounded, position, scales);
    stream_.exact += intact::detail::apply(exact.proj, x.exact);
    weights.proj = reconstruct(block.proj, x.rounded, stream_.exact - stream_.rounded);
    add_branch(intact::detail::apply(block.proj, x.rounded), scales.proj, scales.add1);
  }

  /// The context's scale is at least what its normalization takes.
  void round_context(float_matrix& context, std::size_t position, intact::block_scales& scales) {
    float_matrix rounded = context;
    scales.context = round_input(rounded, &exact_.blocks[position].proj.weight);
    if (chosen_.normalize_rows && !intact::has_normalization(intact::detail::scale_ratio(scales.qkv, scales.context))) {
      const float observed = std::exchange(scales.context.scale, intact::detail::least_context_scale(scales.qkv));
      result_.changes.push_back({"context", static_cast<index_t>(position), static_cast<double>(observed),
                                 static_cast<double>(scales.context.scale)});
      rounded = context;
      detail::round_to(rounded, scales.context);
    }
    context = std::move(rounded);
  }

  void reconstruct_mlp(std::size_t position) {
    const intact::float_block& exact = exact_.blocks[position];
    intact::float_block& block = result_.model.blocks[position];
    intact::block_scales& scales = result_.scales.blocks[position];
    intact::block_weights& weights = result_.weights.blocks.back();

    tensor_pair x = normalized(exact.norm2, scales.norm2, exact.fc1);
    x.exact = intact::detail::apply(exact.fc1, x.exact);
    weights.fc1 = reconstruct(block.fc1, x.rounded, x.exact);
    x.rounded = intact::detail::apply(block.fc1, x.rounded);
    scales.fc1 = range_of(x.rounded);
    intact::detail::apply_gelu(x.exact);
    intact::detail::apply_gelu(x.rounded);
    scales.activation = round_input(x.rounded, &exact.fc2.weight);
    stream_.exact += intact::detail::apply(exact.fc2, x.exact);
    weights.fc2 = reconstruct(block.fc2, x.rounded, stream_.exact - stream_.rounded);
    add_branch(intact::detail::apply(block.fc2, x.rounded), scales.fc2, scales.add2);
  }

  /// Outputs of a LayerNorm, rounded for the layer that takes them.
  tensor_pair normalized(const intact::float_layernorm& norm, intact::affine_scale& scale,
                         const intact::float_linear& next) const {
    tensor_pair x = {intact::detail::apply(norm, stream_.exact, exact_.epsilon),
                     intact::detail::apply(norm, stream_.rounded, exact_.epsilon)};
    scale = round_input(x.rounded, &next.weight);
    return x;
  }

  /// From queries, keys and values to the context. Errors are those of the context of a few images.
  void attend(tensor_pair& x, intact::block_scales& scales) const {
    const index_t some = std::min<index_t>(images_, 8) * tokens();
    const auto search = [&](const intact::value_range& range, auto context) {
      const float_matrix expected = context_of(x.rounded.topRows(some), nullptr);
      return search_scale(range, [&](const intact::affine_scale& scale) {
        return static_cast<double>((context(scale) - expected).squaredNorm());
      });
    };
    scales.qkv = search(range_of(x.rounded), [&](const intact::affine_scale& scale) {
      float_matrix rounded = x.rounded.topRows(some);
      detail::round_to(rounded, scale);
      return context_of(rounded, nullptr);
    });
    detail::round_to(x.rounded, scales.qkv);
    scales.context = scales.qkv;
    scales.attention_logits = search(logits_range(x.rounded), [&](const intact::affine_scale& scale) {
      scales.attention_logits = scale;
      return context_of(x.rounded.topRows(some), &scales);
    });
    x = {context_of(x.exact, nullptr), context_of(x.rounded, &scales)};
  }

  /// Attention times V, image by image: in float, or with the integer model's attention weights in these scales.
  float_matrix context_of(const float_matrix& qkv, const intact::block_scales* scales) const {
    std::optional<detail::softmax_simulation> softmax;
    if (scales != nullptr) {
      softmax.emplace(*scales, tokens(), chosen_);
    }
    float_matrix context(qkv.rows(), exact_.shape.width);
    const std::size_t images = static_cast<std::size_t>(qkv.rows() / tokens());
    for_each_parallel(images, options_.threads, [&](std::size_t image, std::size_t) {
      detail::byte_matrix codes;
      const auto round = [&](const intact::trace_site& site, float_matrix& tensor) {
        if (softmax && site.name == "attention_logits") {
          codes = detail::codes_of(tensor, scales->attention_logits);
        } else if (softmax) {
          tensor = (*softmax)(codes);
        }
      };
      const index_t first = static_cast<index_t>(image) * tokens();
      context.middleRows(first, tokens()) =
          intact::detail::float_attention(qkv.middleRows(first, tokens()), exact_.shape, 0, round);
    });
    return context;
  }

  intact::value_range logits_range(const float_matrix& qkv) const {
    intact::value_range range;
    const auto widen = [&](const intact::trace_site& site, const float_matrix& tensor) {
      if (site.name == "attention_logits") {
        range = {std::min(range.low, tensor.minCoeff()), std::max(range.high, tensor.maxCoeff())};
      }
    };
    for (index_t first = 0; first < qkv.rows(); first += tokens()) {
      intact::detail::float_attention(qkv.middleRows(first, tokens()), exact_.shape, 0, widen);
    }
    return range;
  }

  /// The final LayerNorm of the class tokens and the head. They are too few to choose a thousand rows of weights by.
  void reconstruct_head() {
    float_matrix classes(images_ * class_tokens(), exact_.shape.width);
    for (index_t i = 0; i < images_; ++i) {
      classes.middleRows(i * class_tokens(), class_tokens()) = stream_.rounded.middleRows(i * tokens(), class_tokens());
    }
    float_matrix x = intact::detail::apply(exact_.norm, classes, exact_.epsilon);
    x.resize(images_, exact_.shape.head_features());  // row by row: an image's tokens one behind the other
    result_.scales.norm = round_input(x, &exact_.head.weight);
    result_.weights.head = intact::detail::quantize_layer_at({"logits"}, intact::view_of(exact_.head.weight), chosen_);
    result_.model.head.weight = detail::real_weights(result_.weights.head);
  }

  const intact::float_vit& exact_;
  const intact::quantization_recipe& chosen_;
  reconstruction_options options_;
  calibrated_model result_;
  index_t images_ = 0;
  tensor_pair stream_;
};

}  // namespace intact_deit
