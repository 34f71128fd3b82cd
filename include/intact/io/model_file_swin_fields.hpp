#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "intact/build/integer_swin.hpp"
#include "intact/io/model_file_checks.hpp"
#include "intact/io/model_file_fields.hpp"

// The fields of a file of a Swin transformer, as model_file_fields.hpp describes those of a vision transformer. Tensors
// are named like the members of swin_tensors.

namespace intact {
inline namespace INTACT_UNIT {

/// The most tokens of the first Swin stage: with all other sizes at their limits, buffers of a block fit 64 bits.
inline constexpr index_t swin_file_max_tokens = 1 << 24;

namespace detail {

/// Checks the relations between a Swin stage's sizes, once all of them have been read.
inline void check_stage(const model_archive& archive, const std::string& name, const swin_shape& shape, index_t s) {
  const swin_stage_shape& stage = shape.of(s);
  check_heads(archive, name, stage.width, stage.heads);
  const bool merges = s + 1 < shape.stages, wide = shape.stream == stream_codes::s16;
  const index_t channels = wide ? layernorm_max_channels_s16 : layernorm_max_channels;
  archive.require(name + ".width", stage.width, {1, merges ? channels / 4 : channels});
  if (const std::int64_t tokens = std::int64_t{stage.window} * stage.window; tokens > shift_matmul_max_keys) {
    archive.refuse(name + ".window", "makes " + std::to_string(tokens) + " tokens; they must be at most " +
                                         std::to_string(shift_matmul_max_keys));
  }
}

template <class Archive>
void describe_shape(Archive& archive, field<Archive, swin_shape>& shape) {
  constexpr limits size{1, model_file_max_size};
  archive.number("shape.channels", shape.channels, size);
  archive.number("shape.height", shape.height, size);
  archive.number("shape.width_pixels", shape.image_width, size);
  archive.number("shape.patch", shape.patch, size);
  archive.number("shape.classes", shape.classes, size);
  archive.number("shape.stream", shape.stream, first_of(2));
  archive.number("shape.stages", shape.stages, limits{1, swin_max_stages});
  check_patches(archive, shape);
  check_patch_samples(archive, shape);
  if (patch_count(shape) > swin_file_max_tokens || shape.tokens_of(shape.stages - 1) > average_pool_max_tokens) {
    archive.refuse("shape.patch",
                   "makes " + std::to_string(patch_count(shape)) + " tokens, and " +
                       std::to_string(shape.tokens_of(shape.stages - 1)) + " of the last stage; they must be at most " +
                       std::to_string(swin_file_max_tokens) + " and " + std::to_string(average_pool_max_tokens));
  }
  for (index_t s = 0; s < shape.stages; ++s) {
    auto& stage = shape.stage[static_cast<std::size_t>(s)];
    const std::string name = "shape.stage." + std::to_string(s);
    archive.number(name + ".width", stage.width, size);
    archive.number(name + ".heads", stage.heads, size);
    archive.number(name + ".hidden", stage.hidden, size);
    archive.number(name + ".depth", stage.depth, limits{0, model_file_max_size});
    archive.number(name + ".window", stage.window, size);
    check_stage(archive, name, shape, s);
  }
}

template <class Archive>
void describe_block(Archive& archive, const std::string& name, field<Archive, owned_swin_block>& block,
                    const swin_block_shape& shape, stream_codes stream) {
  const block_shape window = shape.per_window();
  const index_t tokens = window.attention.tokens;
  describe_block(archive, name + ".block", block.block, window, stream);
  archive.number(name + ".norm1_zero_point", block.norm1_zero_point, code_limits);
  archive.array(name + ".position_bias", block.position_bias, {window.attention.heads, tokens, tokens});
  describe_add(archive, name + ".add_bias", block.add_bias, tokens);
  const owned_softmax& softmax = block.block.softmax;
  const bool log2 = softmax.kind == attention_kind::log2_of_sum || softmax.kind == attention_kind::log2_of_max;
  const bool packed = log2 && softmax.probabilities == attention_code::u4_clipped;
  if (packed && shape.attention.grid.shift != 0) {
    archive.refuse(name + ".block.weighting.probabilities",
                   "is that of packed codes; shifted windows mask keys, for which these have no weight 0");
  }
}

template <class Archive>
void describe_stage(Archive& archive, const std::string& name, field<Archive, owned_swin_stage>& stage,
                    const swin_shape& shape, index_t s) {
  for (index_t position = 0; position < shape.of(s).depth; ++position) {
    if constexpr (!Archive::writes) {
      stage.blocks.emplace_back();  // one at a time: a file that claims more blocks than it has costs no memory
    }
    describe_block(archive, name + ".blocks." + std::to_string(position),
                   stage.blocks[static_cast<std::size_t>(position)], shape.block(s, position), shape.stream);
  }
  if (s + 1 < shape.stages) {
    const index_t merged = 4 * shape.of(s).width;
    describe_layernorm(archive, name + ".merge_norm", stage.merge_norm, merged, shape.stream);
    describe_linear(archive, name + ".reduction", stage.reduction, shape.of(s + 1).width, merged);
  }
}

/// All of a model.
template <class Archive>
void describe_swin(Archive& archive, field<Archive, swin_tensors>& model) {
  describe_shape(archive, model.shape);
  const swin_shape& shape = model.shape;
  const index_t last = shape.stages - 1, width = shape.of(0).width;
  if (archive.has("pixel_table", !model.pixel_table.empty())) {
    archive.array("pixel_table", model.pixel_table, {shape.channels, 256});
  }
  describe_linear(archive, "patch", model.patch, width, shape.patch_values());
  describe_layernorm(archive, "patch_norm", model.patch_norm, width, stream_codes::u8);
  if (shape.stream == stream_codes::s16) {
    describe_scale(archive, "tokens", model.tokens, accumulator_range{0, 255});
  }
  if constexpr (!Archive::writes) {
    model.stages.resize(static_cast<std::size_t>(shape.stages));
  }
  for (index_t s = 0; s < shape.stages; ++s) {
    describe_stage(archive, "stages." + std::to_string(s), model.stages[static_cast<std::size_t>(s)], shape, s);
  }
  describe_layernorm(archive, "norm", model.norm, shape.of(last).width, shape.stream);
  describe_scale(archive, "pool", model.pool, accumulator_range{0, 255 * shape.tokens_of(last)});
  describe_head(archive, model, shape.classes, shape.of(last).width);
}

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
