#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "intact/model/vit.hpp"
#include "intact/reference/average_pool.hpp"
#include "intact/reference/convert_codes.hpp"
#include "intact/reference/im2col.hpp"
#include "intact/reference/model/block.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Buffers of one call, taken from a workspace; a block's buffers follow them.
struct vit_buffers {
  matrix_view<std::uint8_t> patches;     ///< patches x samples
  matrix_view<std::uint8_t> normalized;  ///< the tokens that the final LayerNorm takes
  matrix_view<std::uint8_t> features;    ///< in place of normalized tokens of which some are averaged
  matrix_view<std::int16_t> mean;        ///< of the stream
  matrix_view<std::uint8_t> stream_u8;   ///< of this and the next, one is empty
  matrix_view<std::int16_t> stream_s16;  ///< codes of the residual stream

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr vit_buffers take(Workspace& memory, const vit_shape& shape) {
    const bool wide = shape.stream == stream_codes::s16;
    return {.patches = memory.template matrix<std::uint8_t>(shape.patches(), shape.patch_values()),
            .normalized = memory.template matrix<std::uint8_t>(shape.normalized_tokens(), shape.width),
            .features = memory.template matrix<std::uint8_t>(shape.pools_normalized() ? 1 : 0, shape.head_features()),
            .mean = memory.template matrix<std::int16_t>(shape.pooling == vit_pooling::normalized_mean ? 1 : 0,
                                                         shape.width),
            .stream_u8 = memory.template matrix<std::uint8_t>(wide ? 0 : shape.tokens(), shape.width),
            .stream_s16 = memory.template matrix<std::int16_t>(wide ? shape.tokens() : 0, shape.width)};
  }
};

/// The LayerNorm before the blocks, in memory that the blocks use afterwards.
struct pre_norm_buffer {
  matrix_view<std::uint8_t> normalized;  ///< tokens x width

  /// Takes the buffer from a workspace; of a workspace_size, counts its bytes.
  template <class Workspace>
  static constexpr pre_norm_buffer take(Workspace& memory, const vit_shape& shape) {
    return {memory.template matrix<std::uint8_t>(shape.tokens(), shape.width)};
  }
};

/// Bytes of workspace that a model of this shape needs, for memory of any alignment.
constexpr std::size_t vit_workspace_bytes(const vit_shape& shape) {
  workspace_size memory, pre_norm;
  vit_buffers::take(memory, shape);
  pre_norm_buffer::take(pre_norm, shape);
  return memory.bytes_and(std::max(pre_norm.bytes(), reference::block_workspace_bytes(shape.block())));
}

namespace detail {

/// Pixels to codes by the table of their channel, in place; pixels that are codes have no table.
inline void quantize_pixels(matrix_view<std::uint8_t> patches, matrix_view<const std::uint8_t> pixel_table,
                            const patch_size& patch) {
  const index_t samples = patch.samples();
  for (index_t channel = 0; channel < pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = patches.column_block(channel * samples, samples);
    reference::activation(part, {pixel_table.row_block(channel, 1).data, 256}, part);
  }
}

/// Patches, prefix tokens and positions as a residual stream of u8 codes.
template <class Trace>
void embed(matrix_view<const std::uint8_t> patches, const vit_parameters& p, matrix_view<std::uint8_t> stream,
           Trace& trace) {
  const u8_embedding& embedding = p.embedding;
  const matrix_view<std::uint8_t> patch_tokens = stream.row_block(embedding.class_token.rows, patches.rows);
  reference::linear(patches, p.patch, patch_tokens);
  trace(trace_site{"patch"}, matrix_view<const std::uint8_t>(patch_tokens));
  copy_tokens(embedding.class_token, stream);
  reference::activation(patch_tokens, embedding.table, patch_tokens);
  trace(trace_site{"embed"}, matrix_view<const std::uint8_t>(stream));
  reference::add(stream, embedding.positions, embedding.add_positions, stream);
}

/// The sum of patches, the other tokens and positions, as a residual stream of s16 codes.
template <class Trace>
void embed(matrix_view<const std::uint8_t> patches, const vit_parameters& p, matrix_view<std::int16_t> stream, Trace&) {
  const index_t prefix = stream.rows - patches.rows;
  copy_tokens(p.token_addend.row_block(0, prefix), stream);
  reference::linear(patches, p.patch.weights,
                    add_to_stream{p.patch.scale, p.token_addend.row_block(prefix, patches.rows)},
                    stream.row_block(prefix, patches.rows));
}

/// The LayerNorm before the blocks, in place on the tokens, which become the residual stream.
template <class Code, class Trace>
void normalize_tokens(matrix_view<Code> tokens, const pre_norm_parameters& p, const vit_shape& shape, workspace memory,
                      Trace& trace) {
  const matrix_view<std::uint8_t> normalized = pre_norm_buffer::take(memory, shape).normalized;
  normalize(shape.norm, tokens, p.norm, normalized);
  trace(trace_site{"norm_pre"}, matrix_view<const std::uint8_t>(normalized));
  if constexpr (std::is_same_v<Code, std::int16_t>) {
    reference::convert_codes(normalized, requantize<std::int16_t>{p.stream}, tokens);
    trace(trace_site{"stream"}, matrix_view<const std::int16_t>(tokens));
  } else {
    copy_tokens<std::uint8_t>(normalized, tokens);
  }
}

/// From the residual stream to the features.
template <class Code, class Trace>
matrix_view<const std::uint8_t> pool(matrix_view<const Code> stream, const vit_parameters& p, const vit_shape& shape,
                                     const vit_buffers& buffer, Trace& trace) {
  const index_t classes = shape.class_features();
  const matrix_view<const Code> patches = stream.row_block(shape.prefix_tokens(), shape.patches());
  const matrix_view<std::uint8_t> normalized = buffer.normalized;
  if (const auto* const mean = std::get_if<mean_of_stream>(&p.mean)) {
    reference::average_pool(patches, requantize<std::int16_t>{mean->scale}, buffer.mean);
    trace(trace_site{"pool"}, matrix_view<const std::int16_t>(buffer.mean));
    normalize(shape.norm, buffer.mean, p.norm, normalized);
  } else {
    const index_t pooled = shape.normalized_tokens() - classes;
    normalize(shape.norm, stream.row_block(0, classes), p.norm, normalized.row_block(0, classes));
    normalize(shape.norm, patches.row_block(0, pooled), p.norm, normalized.row_block(classes, pooled));
  }
  trace(trace_site{"norm"}, matrix_view<const std::uint8_t>(normalized));
  if (!shape.pools_normalized()) {
    return {normalized.data, 1, shape.head_features()};
  }
  const index_t first = classes * shape.width;
  const matrix_view<std::uint8_t> mean = buffer.features.column_block(first, shape.width);
  copy_tokens<std::uint8_t>({normalized.data, 1, first}, buffer.features);
  reference::average_pool(normalized.row_block(classes, patches.rows),
                          requantize<std::uint8_t, tensor_scale>{std::get_if<mean_of_normalized>(&p.mean)->scale},
                          mean);
  trace(trace_site{"pool"}, matrix_view<const std::uint8_t>(mean));
  return buffer.features;
}

/// From quantized patches to the features.
template <class Code, class Trace>
matrix_view<const std::uint8_t> encode(const vit_buffers& buffer, const vit_parameters& p, const vit_shape& shape,
                                       matrix_view<Code> stream, workspace memory, Trace& trace) {
  embed(buffer.patches, p, stream, trace);
  trace(trace_site{"tokens"}, matrix_view<const Code>(stream));
  if (const auto* const norm_pre = std::get_if<pre_norm_parameters>(&p.norm_pre)) {
    normalize_tokens(stream, *norm_pre, shape, memory, trace);
  }
  for (index_t position = 0; position < shape.depth; ++position) {
    reference::block(stream, p.blocks[static_cast<std::size_t>(position)], shape.block(), memory,
                     layer_trace<Trace>{trace, position});
  }
  return pool<Code>(stream, p, shape, buffer, trace);
}

}  // namespace detail

namespace detail {

/// The features of an image, in the workspace.
template <class Trace>
matrix_view<const std::uint8_t> features_of(const image_view& image, const vit_parameters& p, const vit_shape& shape,
                                            workspace memory, Trace& trace) {
  const vit_buffers buffer = vit_buffers::take(memory, shape);
  reference::im2col(image, shape.patch, buffer.patches);
  quantize_pixels(buffer.patches, p.pixel_table, shape.patch);
  trace(trace_site{"input"}, matrix_view<const std::uint8_t>(buffer.patches));
  return shape.stream == stream_codes::s16 ? encode(buffer, p, shape, buffer.stream_s16, memory, trace)
                                           : encode(buffer, p, shape, buffer.stream_u8, memory, trace);
}

inline void require_vit(const image_view& image, const vit_parameters& p, const vit_shape& shape,
                        const workspace& memory) {
  intact::require_vit(p, shape);
  require_image("vit", image, shape);
  require_workspace("vit", memory, reference::vit_workspace_bytes(shape));
}

}  // namespace detail

/// The features of a vision transformer in integers, with or without a head.
///
/// Shapes:    image as `shape` says; y 1 x shape.head_features().
/// Units:     codes of the scale of the final LayerNorm's outputs, or of a mean of its own.
/// Memory, exactness, errors: as of vit.
/// Source:    docs/numerics.md, section 9.
template <class Trace = no_trace>
void vit_features(const image_view& image, const vit_parameters& p, const vit_shape& shape, matrix_view<std::uint8_t> y,
                  workspace memory, Trace&& trace = {}) {
  detail::require_vit(image, p, shape, memory);
  require_shape("vit_features", "y", y, 1, shape.head_features());
  copy_tokens<std::uint8_t>(detail::features_of(image, p, shape, memory, trace), y);
}

/// A vision transformer in integers, from pixels to logits.
///
/// Shapes:    image as `shape` says; logits and logits_u8 1 x classes.
/// Units:     logits are codes with zero point 0 and 1/256 of the scale of logits_u8: compare them as they are.
/// Memory:    `memory` has at least vit_workspace_bytes(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    sizes that do not match and a workspace that is too small: before anything is written.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Trace = no_trace>
void vit(const image_view& image, const vit_parameters& p, const vit_shape& shape, const classifier_outputs& y,
         workspace memory, Trace&& trace = {}) {
  require_at_least("vit", "classes", shape.classes, 1);
  detail::require_vit(image, p, shape, memory);
  require_outputs("vit", y, 1, shape.classes);
  const matrix_view<const std::uint8_t> features = detail::features_of(image, p, shape, memory, trace);
  reference::linear(features, p.head, requantize<std::int32_t>{p.logits}, y.logits);
  trace(trace_site{"logits"}, matrix_view<const std::int32_t>(y.logits));
  reference::linear(features, p.head, requantize<std::uint8_t>{p.logits_u8}, y.logits_u8);
  trace(trace_site{"logits_u8"}, matrix_view<const std::uint8_t>(y.logits_u8));
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
