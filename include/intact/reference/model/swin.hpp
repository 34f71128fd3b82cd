#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "intact/reference/average_pool.hpp"
#include "intact/reference/convert_codes.hpp"
#include "intact/reference/im2col.hpp"
#include "intact/reference/model/swin_block.hpp"
#include "intact/reference/model/vit.hpp"
#include "intact/reference/patch_merge.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Bytes of workspace that the feature maps of a model of this shape take to compute, for memory of any alignment.
template <class Code>
constexpr std::size_t swin_features_workspace_bytes(const swin_shape& shape) {
  workspace_size patches;
  swin_patch_buffers::take(patches, shape);
  std::size_t most = patches.bytes();
  for (index_t s = 0; s < shape.usable_stages(); ++s) {
    for (index_t position = 0; position < std::min<index_t>(shape.of(s).depth, 2); ++position) {
      most = std::max(most, reference::swin_block_workspace_bytes<Code>(shape.block(s, position)));
    }
    if (s + 1 < shape.usable_stages()) {
      workspace_size merging;
      swin_merging_buffers<Code>::take(merging, shape, s);
      most = std::max(most, merging.bytes());
    }
  }
  return most;
}

/// Bytes of workspace that a model of this shape needs, for memory of any alignment.
constexpr std::size_t swin_workspace_bytes(const swin_shape& shape) {
  workspace_size memory;
  if (shape.stream == stream_codes::s16) {
    swin_buffers<std::int16_t>::take(memory, shape);
    return memory.bytes_and(reference::swin_features_workspace_bytes<std::int16_t>(shape));
  }
  swin_buffers<std::uint8_t>::take(memory, shape);
  return memory.bytes_and(reference::swin_features_workspace_bytes<std::uint8_t>(shape));
}

namespace detail {

/// Patches and their LayerNorm as the residual stream of the first Swin stage.
template <class Code, class Trace>
void embed_patches(const image_view& image, const swin_parameters& p, const swin_shape& shape, matrix_view<Code> stream,
                   workspace memory, Trace& trace) {
  const swin_patch_buffers buffer = swin_patch_buffers::take(memory, shape);
  reference::im2col(image, shape.patch, buffer.samples);
  quantize_pixels(buffer.samples, p.pixel_table, shape.patch);
  trace(trace_site{"input"}, matrix_view<const std::uint8_t>(buffer.samples));
  reference::linear(buffer.samples, p.patch, buffer.patches);
  trace(trace_site{"patch"}, matrix_view<const std::uint8_t>(buffer.patches));
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    reference::layernorm(buffer.patches, p.patch_norm, stream);
  } else {
    reference::layernorm(buffer.patches, p.patch_norm, buffer.patches);
    trace(trace_site{"patch_norm"}, matrix_view<const std::uint8_t>(buffer.patches));
    reference::convert_codes(buffer.patches, requantize<std::int16_t, tensor_scale>{p.tokens}, stream);
  }
  trace(trace_site{"tokens"}, matrix_view<const Code>(stream));
}

/// From the residual stream of Swin stage s, maps[s], to that of the next.
template <class Code, class Trace>
void merge_stage(std::span<const matrix_view<Code>> maps, index_t s, const swin_merging_parameters& p,
                 const swin_shape& shape, workspace memory, Trace& trace) {
  const matrix_view<Code> stream = maps[static_cast<std::size_t>(s)], next = maps[static_cast<std::size_t>(s + 1)];
  const swin_merging_buffers<Code> buffer = swin_merging_buffers<Code>::take(memory, shape, s);
  reference::patch_merge(stream, shape.rows_of(s), shape.columns_of(s), static_cast<Code>(p.norm.zero_point),
                         buffer.merged);
  reference::layernorm(buffer.merged, p.norm, buffer.normalized);
  trace(trace_site{"merge_norm", s}, matrix_view<const std::uint8_t>(buffer.normalized));
  reference::linear(buffer.normalized, p.reduction, next);
  trace(trace_site{"merge", s}, matrix_view<const Code>(next));
}

/// All Swin stages; the contracts have been checked.
template <class Code, class Trace>
void run_stages(const image_view& image, const swin_parameters& p, const swin_shape& shape,
                std::span<const matrix_view<Code>> maps, workspace memory, Trace& trace) {
  embed_patches(image, p, shape, maps[0], memory, trace);
  index_t block = 0;
  for (std::size_t s = 0; s < maps.size(); ++s) {
    const swin_stage_parameters& stage = p.stages[s];
    const index_t here = static_cast<index_t>(s);
    for (index_t position = 0; position < shape.of(here).depth; ++position, ++block) {
      reference::swin_block(maps[s], stage.blocks[static_cast<std::size_t>(position)], shape.block(here, position),
                            memory, layer_trace<Trace>{trace, block});
    }
    if (s + 1 < maps.size()) {
      merge_stage(maps, here, stage.merging, shape, memory, trace);
    }
  }
}

/// From pixels to the mean of the last Swin stage's normalized tokens.
template <class Code, class Trace>
matrix_view<const std::uint8_t> pool_features(const image_view& image, const swin_parameters& p,
                                              const swin_shape& shape, workspace& memory, Trace& trace) {
  const swin_buffers<Code> buffer = swin_buffers<Code>::take(memory, shape);
  const std::size_t stages = static_cast<std::size_t>(shape.stages);
  run_stages<Code>(image, p, shape, std::span(buffer.maps).first(stages), memory, trace);
  reference::layernorm(buffer.maps[stages - 1], p.norm, buffer.normalized);
  trace(trace_site{"norm"}, matrix_view<const std::uint8_t>(buffer.normalized));
  reference::average_pool(buffer.normalized, requantize<std::uint8_t, tensor_scale>{p.pool}, buffer.pooled);
  trace(trace_site{"pool"}, matrix_view<const std::uint8_t>(buffer.pooled));
  return buffer.pooled;
}

}  // namespace detail

/// The feature maps of a Swin transformer in integers: the residual stream that leaves each Swin stage, before it is
/// merged. A detector's backbone normalizes them with layernorm() and parameters of its own.
///
/// Shapes:    image as `shape` says; maps[s] shape.tokens_of(s) x shape.of(s).width of u8 or s16, row-major on a grid
///            of shape.rows_of(s) x shape.columns_of(s) tokens: strides of patch * 2^s pixels. Grids whose sides are no
///            multiples of the window, or odd before a merging, are padded with zeros, as the original does.
/// Units:     u8: codes of the last block's add2; s16: one scale for each Swin stage.
/// Memory:    `memory` has at least swin_features_workspace_bytes<Code>(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    an image whose sides are no multiples of a patch, sizes that do not match, a stream of the other type,
///            a workspace that is too small: before anything is written.
/// Source:    Swin transformer (arXiv 2103.14030), section 3; FQ-ViT; docs/numerics.md, section 12.
template <class Code, class Trace = no_trace>
void swin_features(const image_view& image, const swin_parameters& p, const swin_shape& shape,
                   std::span<const matrix_view<Code>> maps, workspace memory, Trace&& trace = {}) {
  require_swin_features<Code>(p, shape);
  require_image("swin", image, shape);
  require_swin_maps(maps, shape, 1);
  require_workspace("swin_features", memory, reference::swin_features_workspace_bytes<Code>(shape));
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
void swin(const image_view& image, const swin_parameters& p, const swin_shape& shape, const classifier_outputs& y,
          workspace memory, Trace&& trace = {}) {
  require_swin(p, shape);
  require_image("swin", image, shape);
  require_outputs("swin", y, 1, shape.classes);
  require_workspace("swin", memory, reference::swin_workspace_bytes(shape));
  const matrix_view<const std::uint8_t> pooled =
      shape.stream == stream_codes::s16 ? detail::pool_features<std::int16_t>(image, p, shape, memory, trace)
                                        : detail::pool_features<std::uint8_t>(image, p, shape, memory, trace);
  reference::linear(pooled, p.head, requantize<std::int32_t>{p.logits}, y.logits);
  trace(trace_site{"logits"}, matrix_view<const std::int32_t>(y.logits));
  reference::linear(pooled, p.head, requantize<std::uint8_t>{p.logits_u8}, y.logits_u8);
  trace(trace_site{"logits_u8"}, matrix_view<const std::uint8_t>(y.logits_u8));
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
