#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "intact/build/block_builder.hpp"
#include "intact/build/block_memory.hpp"
#include "intact/build/block_ranges.hpp"
#include "intact/build/float_block.hpp"
#include "intact/build/recipe.hpp"
#include "intact/build/scale_fitter.hpp"
#include "intact/build/scaled_weights.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/block.hpp"

// From a float transformer block and the scales of its tensors to an integer block in memory of the caller. Standard
// library only.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// Checks the scales of a block. Messages name the block and the tensor.
class block_scales_check {
 public:
  block_scales_check(const char* operation, const float_block_view& block, const block_calibration& scales,
                     const quantization_recipe& recipe)
      : operation_(operation), block_(block) {
    const block_scales& own = scales.tensors;
    const bool wide = recipe.stream == stream_codes::s16;
    stream("stream", scales.stream, wide ? code_range{} : u8_codes, wide ? 0 : layernorm_max_shift);
    affine("norm1", own.norm1);
    affine("qkv", own.qkv);
    affine("keys", own.keys());
    affine("values", own.values());
    if (block.shape.attention.qk_norm) {
      affine("q_norm", own.q_norm);
      affine("k_norm", own.k_norm);
    }
    affine("attention_logits", own.attention_logits);
    affine("context", own.context);
    affine("norm2", own.norm2);
    require_value_range(place("fc1").c_str(), own.fc1);
    affine("activation", own.activation);
    if (block.shape.gated) {
      affine("up", own.up);
      affine("gated", own.gated);
    }
    if (!wide) {
      affine("proj", own.proj);
      stream("add1", own.add1, u8_codes, layernorm_max_shift);
      affine("fc2", own.fc2);
      stream("add2", own.add2, u8_codes, layernorm_max_shift);
    }
  }

 private:
  std::string place(const char* tensor) const {
    return operation_ + (": " + tensor_place{tensor, block_.position}.text());
  }

  void affine(const char* tensor, const affine_scale& scale, const code_range& zero_points = u8_codes) const {
    require_affine_scale(place(tensor).c_str(), scale, zero_points);
  }

  void stream(const char* tensor, const ptf_scale& scale, const code_range& zero_points, int max_shift) const {
    affine(tensor, {scale.scale, scale.zero_point}, zero_points);
    require_equal(place(tensor).c_str(), "number of shifts", std::ssize(scale.shift), block_.shape.attention.width);
    for (const std::uint8_t shift : scale.shift) {
      require_at_most(place(tensor).c_str(), "shift", shift, max_shift);
    }
  }

  std::string operation_;
  const float_block_view& block_;
};

/// Raises scales for which the integers of a block with these weights do not exist.
inline std::vector<scale_change> fit_block(const float_block_view& block, const block_weights& weights,
                                           block_calibration& scales, const quantization_recipe& recipe) {
  std::vector<scale_change> changes;
  layer_scale_fitter fit(changes);
  fit.enter_block(block.position);
  fit.norm_input("stream", scales.stream, block.shape.attention.width, static_cast<double>(block.epsilon));
  block_scale_fitter{.block = block, .recipe = recipe, .fit = fit, .s16_step = scales.stream.scale}(
      weights, scales.tensors, scales.stream);
  return changes;
}

}  // namespace detail

/// Raises those scales of a block, in place, for which the integers of the recipe's graph do not exist. build_block()
/// does the same. A program calls this first where the scale of an s16 stream is that of several blocks: until no block
/// raises it.
///
/// Formula:   as of fit_scales(); also the entering stream, doubled until norm1 takes it.
/// Returns:   the scales that were raised.
/// Errors:    as of build_block().
/// Source:    docs/numerics.md, section 9.
inline std::vector<scale_change> fit_block_scales(const float_block_view& block, block_calibration& scales,
                                                  const quantization_recipe& recipe) {
  require_recipe(recipe);
  const detail::float_block_check checked_block("fit_block_scales", block);
  const detail::block_scales_check checked_scales("fit_block_scales", block, scales, recipe);
  return detail::fit_block(block, quantize_block(block, recipe), scales, recipe);
}

/// Bytes of memory of a block's parameters and packed weights, for memory of any alignment; the largest std::size_t if
/// no memory can have as many.
constexpr std::size_t block_memory_bytes(const block_shape& shape, const quantization_recipe& recipe) {
  workspace_size memory;
  detail::block_memory::take(memory, shape, recipe);
  return memory.bytes();
}

/// Builds the integer block of a float block whose tensors have the given scales.
///
/// Formula:   weights are rounded to nearest in the scales of quantize_weights() and quantize_grouped_weights(); the
///            integers are those of build_scale(), build_layernorm(), build_add() and the tables of table.hpp.
/// Shapes:    drawn at float_block_view; one shift per channel for each u8 residual stream.
/// Scales:    those that no integers compute are raised in place, as fit_block_scales() does. A u8 stream enters in
///            `scales.stream` and leaves in `scales.tensors.add2`, which is the next block's `stream`; an s16 stream
///            enters and leaves in `scales.stream`.
/// Memory:    at least block_memory_bytes(block.shape, recipe) bytes of any alignment. It outlives the result, which
///            threads may share. The float block is not used afterwards. Temporary memory is allocated.
/// Exactness: the same bits as the block of build_vit().
/// Errors:    sizes that do not match, weights or biases that are not finite, scales that are not above 0 and finite,
///            scales for which no integers exist: each names the block and the tensor. Memory that is too small, a
///            recipe whose parts exclude each other. All before the memory is written.
/// Source:    docs/numerics.md, section 9.
inline block_parameters build_block(const float_block_view& block, block_calibration& scales,
                                    const quantization_recipe& recipe, std::span<std::byte> memory) {
  require_recipe(recipe);
  const detail::float_block_check checked_block("build_block", block);
  const detail::block_scales_check checked_scales("build_block", block, scales, recipe);
  workspace parameters(memory.data(), memory.size());
  require_workspace("build_block", parameters, block_memory_bytes(block.shape, recipe));

  const block_weights weights = quantize_block(block, recipe);
  detail::fit_block(block, weights, scales, recipe);
  const owned_block built =
      block_builder{block, recipe}(weights, scales.tensors, scales.stream, scales.tensors.attention_logits);
  return detail::store(built, detail::block_memory::take(parameters, block.shape, recipe));
}

}  // namespace INTACT_UNIT
}  // namespace intact
