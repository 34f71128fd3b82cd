#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/simulation.hpp"
#include "intact/quantize/tensor_rounding.hpp"
#include "intact/quantize/weight_code_search.hpp"
#include "intact/reference/model/trace.hpp"
#include "intact/types/executor.hpp"

// Ranges, and attention of many images, for reconstruction.hpp.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// The range of a tensor; half of it if float cannot represent its length.
inline value_range range_of(const float_matrix& tensor) {
  const value_range range{tensor.minCoeff(), tensor.maxCoeff()};
  return std::isfinite(range.high - range.low) ? range : value_range{range.low / 2, range.high / 2};
}

/// A power of two that scales numbers whose squares float cannot represent to about 1. Only ratios of moments matter.
inline float unit_of(const float_matrix& tensor) {
  const float largest = tensor.cwiseAbs().maxCoeff();
  const bool ordinary = largest < 0x1p40F && (largest > 0x1p-20F || largest == 0);
  return ordinary ? 1.0F : std::ldexp(1.0F, std::clamp(-std::ilogb(largest), -126, 126));
}

/// From normalized values back to pixels.
inline void unnormalize(const float_vit& model, float_matrix& input) {
  const index_t samples = model.shape.patch.samples();
  for (index_t k = 0; k < input.cols(); ++k) {
    const std::size_t c = static_cast<std::size_t>(k / samples);
    input.col(k) = (input.col(k).array() * model.standard_deviation[c] + model.mean[c]) * model.pixel_max;
  }
}

/// The prefix tokens and the patches of every image, plus positions.
inline float_matrix embedded(const float_vit& model, const float_matrix& patches, index_t images) {
  const index_t count = model.shape.patches(), tokens = model.shape.tokens();
  float_matrix stream(images * tokens, model.shape.width);
  for (index_t i = 0; i < images; ++i) {
    auto image = stream.middleRows(i * tokens, tokens);
    image << model.class_token, patches.middleRows(i * count, count);
    image += model.positions;
  }
  return stream;
}

/// The weights of two layers of the same inputs.
inline float_matrix rows_of_both(const float_linear& a, const float_linear& b) {
  float_matrix both(a.weight.rows() + b.weight.rows(), a.weight.cols());
  both << a.weight, b.weight;
  return both;
}

/// Queries, keys and values, of which queries and keys are normalized if the model has norms of them. `record` may
/// change the normalized ones.
template <class Recorder = no_trace>
float_matrix with_qk_norms(const float_vit& model, const float_block& block, float_matrix qkv, Recorder&& record = {}) {
  if (model.shape.qk_norm) {
    float_qk_norms(block, model.shape.block().attention, model.epsilon, 0, qkv, record);
  }
  return qkv;
}

/// The weight of class tokens in the sums of the errors of all tokens: the class depends on them in the end.
inline constexpr float class_token_weight = 20;

/// Attention of many images: queries, keys and values of all images are one matrix.
template <executor Executor>
struct attention_of_images {
  const vit_shape& shape;
  const quantization_recipe& recipe;
  const Executor& run;

  index_t tokens() const { return shape.tokens(); }

  /// Attention times V, image by image: in float, or with the attention weights of the integer model with these scales.
  float_matrix context_of(const float_matrix& qkv, const block_scales* scales) const {
    std::optional<softmax_simulation> softmax;
    if (scales != nullptr) {
      softmax.emplace(*scales, tokens(), recipe);
    }
    float_matrix context(qkv.rows(), shape.width);
    std::vector<std::exception_ptr> failures(static_cast<std::size_t>(qkv.rows() / tokens()));
    run.for_each(std::ssize(failures), [&](index_t image) {
      try {
        const index_t first = image * tokens();
        context.middleRows(first, tokens()) = context_of_image(qkv.middleRows(first, tokens()), scales, softmax);
      } catch (...) {  // tasks of an executor must not throw
        failures[static_cast<std::size_t>(image)] = std::current_exception();
      }
    });
    for (const std::exception_ptr& failure : failures) {
      if (failure) {
        std::rethrow_exception(failure);
      }
    }
    return context;
  }

  float_matrix context_of_image(const float_matrix& qkv, const block_scales* scales,
                                const std::optional<softmax_simulation>& softmax) const {
    row_major_matrix<std::uint8_t> codes;
    const auto round = [&](const trace_site& site, float_matrix& tensor) {
      if (softmax && site.name == "attention_logits") {
        codes = u8_codes_of(tensor, scales->attention_logits);
      } else if (softmax) {
        tensor = (*softmax)(codes);
      }
    };
    return float_attention(qkv, shape, 0, round);
  }

  /// The error of the context with this scale of the logits, in some rows of each image.
  attention_weight_error weight_error(const float_matrix& qkv, const affine_scale& logits) const {
    attention_weight_error error;
    for (index_t first = 0; first < qkv.rows(); first += tokens()) {
      add_weight_error(qkv.middleRows(first, tokens()), logits, error);
    }
    return error;
  }

  /// Every eighth row is added for all rows, and that of each class token that is a feature for many.
  void add_weight_error(const float_matrix& qkv, const affine_scale& logits, attention_weight_error& error) const {
    constexpr index_t step = 8;
    const index_t size = shape.width / shape.heads;
    row_major_matrix<std::uint8_t> codes;
    const auto record = [&](const trace_site& site, const float_matrix& tensor) {
      if (site.name == "attention_logits") {
        codes = u8_codes_of(tensor, logits);
        return;
      }
      const float_matrix v = qkv.middleCols(2 * shape.width + site.head * size, size);
      for (index_t i = 0; i < tokens(); ++i) {
        const bool feature = i < shape.class_features();
        if (!feature && i % step != 0) {
          continue;
        }
        const float largest = tensor.row(i).maxCoeff();
        const float weight = largest * std::sqrt(feature ? class_token_weight : static_cast<float>(step));
        const float_row context = tensor.row(i) * v;
        const int largest_code = codes.row(i).maxCoeff();
        float_matrix sums = float_matrix::Zero(softmax_distances, size);
        float_row counts = float_row::Zero(softmax_distances);
        for (index_t j = 0; j < tokens(); ++j) {
          const index_t distance = largest_code - codes(i, j);
          sums.row(distance) += weight * (v.row(j) - context);
          counts[distance] += weight;
        }
        error.add(sums, counts);
      }
    };
    float_attention(qkv, shape, 0, record);
  }

  value_range logits_range(const float_matrix& qkv) const {
    value_range range;
    const auto widen = [&](const trace_site& site, const float_matrix& tensor) {
      if (site.name == "attention_logits") {
        range = {std::min(range.low, tensor.minCoeff()), std::max(range.high, tensor.maxCoeff())};
      }
    };
    for (index_t first = 0; first < qkv.rows(); first += tokens()) {
      float_attention(qkv.middleRows(first, tokens()), shape, 0, widen);
    }
    return range;
  }
};

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
