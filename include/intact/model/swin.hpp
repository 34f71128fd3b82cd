#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/activation.hpp"
#include "intact/average_pool.hpp"
#include "intact/convert_codes.hpp"
#include "intact/im2col.hpp"
#include "intact/layernorm.hpp"
#include "intact/model/swin_block.hpp"
#include "intact/model/swin_shape.hpp"
#include "intact/patch_merge.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Patch merging: 2 x 2 neighbours side by side, LayerNorm, and a linear layer to the next stage's residual stream.
struct swin_merging_parameters {
  layernorm_parameters norm;    ///< 4 width channels: the shifts of the stream's channels four times
  linear_parameters reduction;  ///< weights next width x 4 width; to codes of the next stage's stream
};

/// Parameters of a stage.
struct swin_stage_parameters {
  std::span<const swin_block_parameters> blocks;
  swin_merging_parameters merging = {};  ///< not of the last stage
};

/// Parameters of a fully-integer Swin transformer. Owns nothing; build/integer_swin.hpp owns them.
struct swin_parameters {
  matrix_view<const std::uint8_t> pixel_table =
      {};                           ///< channels x 256: normalizes and quantizes a pixel; empty: the pixel
  linear_parameters patch;          ///< weights width x (channels * patch^2); to u8
  layernorm_parameters patch_norm;  ///< to the codes of a u8 stream, or to those that begin an s16 stream
  tensor_scale tokens = {};         ///< of an s16 stream: from patch_norm's codes
  std::span<const swin_stage_parameters> stages;
  layernorm_parameters norm;
  tensor_scale pool;     ///< from sums of norm's codes
  weights_view head;     ///< classes x width of the last stage
  channel_scale logits;  ///< int32 codes: 256 steps to one of logits_u8
  channel_scale logits_u8;
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

namespace detail {

template <class Code>
void require_swin_stages(const swin_parameters& p, const swin_shape& shape) {
  require_equal("swin", "size of stages", std::ssize(p.stages), shape.stages);
  for (index_t s = 0; s < shape.stages; ++s) {
    const swin_stage_parameters& stage = p.stages[static_cast<std::size_t>(s)];
    require_equal("swin", "size of a stage's blocks", std::ssize(stage.blocks), shape.of(s).depth);
    for (index_t position = 0; position < shape.of(s).depth; ++position) {
      require_swin_block<Code>(stage.blocks[static_cast<std::size_t>(position)], shape.block(s, position));
    }
    if (s + 1 < shape.stages) {
      const index_t merged = 4 * shape.of(s).width;
      require_layernorm<Code>("swin: merging.norm", stage.merging.norm, merged);
      require_linear("swin: merging.reduction", stage.merging.reduction, shape.of(s + 1).width, merged);
    }
  }
}

}  // namespace detail

/// Checks what the feature maps are computed with.
template <class Code>
void require_swin_features(const swin_parameters& p, const swin_shape& shape) {
  require_swin_shape(shape);
  if (p.pixel_table.rows != 0) {
    require_shape("swin", "pixel_table", p.pixel_table, shape.channels, 256);
  }
  require_linear("swin: patch", p.patch, shape.of(0).width, shape.patch_values());
  require_layernorm("swin: patch_norm", p.patch_norm, shape.of(0).width);
  require_scale("swin: tokens", p.tokens, shape.of(0).width);
  detail::require_swin_stages<Code>(p, shape);
}

/// Checks a model's parameters against its sizes.
inline void require_swin(const swin_parameters& p, const swin_shape& shape) {
  const bool wide = shape.stream == stream_codes::s16;
  wide ? require_swin_features<std::int16_t>(p, shape) : require_swin_features<std::uint8_t>(p, shape);
  const index_t last = shape.stages - 1, width = shape.of(last).width;
  wide ? require_layernorm<std::int16_t>("swin: norm", p.norm, width) : require_layernorm("swin: norm", p.norm, width);
  require_at_most("swin", "tokens to pool", shape.tokens_of(last), average_pool_max_tokens);
  require_scale("swin: pool", p.pool, width);
  require_linear("swin: head, logits", {p.head, p.logits}, shape.classes, width);
  require_linear("swin: head, logits_u8", {p.head, p.logits_u8}, shape.classes, width);
}

namespace detail {

inline void require_swin_image(const image_view& image, const swin_shape& shape) {
  require_equal("swin", "image channels", image.channels, shape.channels);
  require_equal("swin", "image height", image.height, shape.height);
  require_equal("swin", "image width", image.width, shape.image_width);
  require_reach("swin", image);
  if (image.data == nullptr && size_product(shape.patches(), shape.patch_values()) != 0) [[unlikely]] {
    contract_failed("intact::swin: image has no data; it must have some");
  }
}

/// Checks feature maps against the sizes of a model and a batch.
template <class Code>
void require_swin_maps(std::span<const matrix_view<Code>> maps, const swin_shape& shape, index_t batch) {
  require_equal("swin_features", "s16 maps", std::is_same_v<Code, std::int16_t>, shape.stream == stream_codes::s16);
  require_equal("swin_features", "number of maps", std::ssize(maps), shape.stages);
  for (index_t s = 0; s < shape.stages; ++s) {
    require_shape("swin_features", "a map", maps[static_cast<std::size_t>(s)], size_product(batch, shape.tokens_of(s)),
                  shape.of(s).width);
  }
}

/// Patches and their LayerNorm as the residual stream of the first stage.
template <class Code, class Trace>
void embed_patches(const image_view& image, const swin_parameters& p, const swin_shape& shape, matrix_view<Code> stream,
                   workspace memory, Trace& trace) {
  const swin_patch_buffers buffer = swin_patch_buffers::take(memory, shape);
  im2col(image, shape.patch, buffer.samples);
  const index_t samples = shape.patch * shape.patch;
  for (index_t channel = 0; channel < p.pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = buffer.samples.column_block(channel * samples, samples);
    activation(part, {p.pixel_table.row_block(channel, 1).data, 256}, part);
  }
  trace(trace_site{"input"}, matrix_view<const std::uint8_t>(buffer.samples));
  linear(buffer.samples, p.patch, buffer.patches);
  trace(trace_site{"patch"}, matrix_view<const std::uint8_t>(buffer.patches));
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    layernorm(buffer.patches, p.patch_norm, stream);
  } else {
    layernorm(buffer.patches, p.patch_norm, buffer.patches);
    trace(trace_site{"patch_norm"}, matrix_view<const std::uint8_t>(buffer.patches));
    convert_codes(buffer.patches, requantize<std::int16_t, tensor_scale>{p.tokens}, stream);
  }
  trace(trace_site{"tokens"}, matrix_view<const Code>(stream));
}

/// From the residual stream of stage s to that of the next.
template <class Code, class Trace>
void merge_stage(matrix_view<const Code> stream, const swin_merging_parameters& p, const swin_shape& shape, index_t s,
                 matrix_view<Code> next, workspace memory, Trace& trace) {
  const swin_merging_buffers<Code> buffer = swin_merging_buffers<Code>::take(memory, shape, s);
  patch_merge(stream, shape.rows_of(s), shape.columns_of(s), static_cast<Code>(p.norm.zero_point), buffer.merged);
  layernorm(buffer.merged, p.norm, buffer.normalized);
  trace(trace_site{"merge_norm", s}, matrix_view<const std::uint8_t>(buffer.normalized));
  linear(buffer.normalized, p.reduction, next);
  trace(trace_site{"merge", s}, matrix_view<const Code>(next));
}

/// All stages; the contracts have been checked.
template <class Code, class Trace>
void run_stages(const image_view& image, const swin_parameters& p, const swin_shape& shape,
                std::span<const matrix_view<Code>> maps, workspace memory, Trace& trace) {
  embed_patches(image, p, shape, maps[0], memory, trace);
  index_t block = 0;
  for (std::size_t s = 0; s < maps.size(); ++s) {
    const swin_stage_parameters& stage = p.stages[s];
    const index_t here = static_cast<index_t>(s);
    for (index_t position = 0; position < shape.of(here).depth; ++position, ++block) {
      swin_block(maps[s], stage.blocks[static_cast<std::size_t>(position)], shape.block(here, position), memory, block,
                 trace);
    }
    if (s + 1 < maps.size()) {
      merge_stage<Code>(maps[s], stage.merging, shape, here, maps[s + 1], memory, trace);
    }
  }
}

/// From pixels to the mean of the last stage's normalized tokens.
template <class Code, class Trace>
matrix_view<const std::uint8_t> pool_features(const image_view& image, const swin_parameters& p,
                                              const swin_shape& shape, workspace& memory, Trace& trace) {
  const swin_buffers<Code> buffer = swin_buffers<Code>::take(memory, shape);
  const std::size_t stages = static_cast<std::size_t>(shape.stages);
  run_stages<Code>(image, p, shape, std::span(buffer.maps).first(stages), memory, trace);
  layernorm(buffer.maps[stages - 1], p.norm, buffer.normalized);
  trace(trace_site{"norm"}, matrix_view<const std::uint8_t>(buffer.normalized));
  average_pool(buffer.normalized, requantize<std::uint8_t, tensor_scale>{p.pool}, buffer.pooled);
  trace(trace_site{"pool"}, matrix_view<const std::uint8_t>(buffer.pooled));
  return buffer.pooled;
}

}  // namespace detail

/// The feature maps of a Swin transformer in integers: the residual stream that leaves each stage, before it is merged.
/// A detector's backbone normalizes them with layernorm() and parameters of its own.
///
/// Shapes:    image as `shape` says; maps[s] shape.tokens_of(s) x shape.of(s).width of u8 or s16, row-major on a grid
///            of shape.rows_of(s) x shape.columns_of(s) tokens: strides of patch * 2^s pixels. Grids whose sides are no
///            multiples of the window, or odd before a merging, are padded with zeros, as the original does.
/// Units:     u8: codes of the last block's add2; s16: one scale for each stage.
/// Memory:    `memory` has at least swin_features_workspace_bytes<Code>(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    an image whose sides are no multiples of a patch, sizes that do not match, a stream of the other type,
///            a workspace that is too small: before anything is written.
/// Source:    Swin transformer (arXiv 2103.14030), section 3; FQ-ViT; docs/numerics.md, section 12.
template <class Code, class Trace = no_trace>
void swin_features(const image_view& image, const swin_parameters& p, const swin_shape& shape,
                   std::span<const matrix_view<Code>> maps, workspace memory, Trace&& trace = {}) {
  require_swin_features<Code>(p, shape);
  detail::require_swin_image(image, shape);
  detail::require_swin_maps(maps, shape, 1);
  require_workspace("swin_features", memory, swin_features_workspace_bytes<Code>(shape));
  detail::run_stages<Code>(image, p, shape, maps, memory, trace);
}

/// A Swin transformer in integers, from pixels to logits.
///
/// Shapes:    image as `shape` says; logits 1 x classes (int32), logits_u8 1 x classes.
/// Units:     logits are codes with zero point 0 and 1/256 of the scale of logits_u8: compare them as they are.
/// Memory:    `memory` has at least swin_workspace_bytes(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    as of swin_features.
/// Source:    Swin transformer (arXiv 2103.14030); FQ-ViT; docs/numerics.md, section 12.
template <class Trace = no_trace>
void swin(const image_view& image, const swin_parameters& p, const swin_shape& shape, matrix_view<std::int32_t> logits,
          matrix_view<std::uint8_t> logits_u8, workspace memory, Trace&& trace = {}) {
  require_swin(p, shape);
  detail::require_swin_image(image, shape);
  require_shape("swin", "logits", logits, 1, shape.classes);
  require_shape("swin", "logits_u8", logits_u8, 1, shape.classes);
  require_workspace("swin", memory, swin_workspace_bytes(shape));
  const matrix_view<const std::uint8_t> pooled =
      shape.stream == stream_codes::s16 ? detail::pool_features<std::int16_t>(image, p, shape, memory, trace)
                                        : detail::pool_features<std::uint8_t>(image, p, shape, memory, trace);
  linear(pooled, p.head, requantize<std::int32_t>{p.logits}, logits);
  trace(trace_site{"logits"}, matrix_view<const std::int32_t>(logits));
  linear(pooled, p.head, requantize<std::uint8_t>{p.logits_u8}, logits_u8);
  trace(trace_site{"logits_u8"}, matrix_view<const std::uint8_t>(logits_u8));
}

}  // namespace INTACT_UNIT
}  // namespace intact
