#pragma once

#include <cstddef>
#include <cstdint>

#include "intact/model/vit.hpp"
#include "intact/reference/im2col.hpp"
#include "intact/reference/model/block.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace reference {

/// Buffers of one call, taken from a workspace; what a block needs follows them.
struct vit_buffers {
  matrix_view<std::uint8_t> patches;
  matrix_view<std::uint8_t> normalized;
  matrix_view<std::uint8_t> stream_u8;  ///< of this and the next, one is empty
  matrix_view<std::int16_t> stream_s16;

  template <class Workspace>
  static constexpr vit_buffers take(Workspace& memory, const vit_shape& shape) {
    const bool wide = shape.stream == stream_codes::s16;
    return {memory.template matrix<std::uint8_t>(shape.patches(), shape.patch_values()),
            memory.template matrix<std::uint8_t>(shape.class_tokens, shape.width),
            memory.template matrix<std::uint8_t>(wide ? 0 : shape.tokens(), shape.width),
            memory.template matrix<std::int16_t>(wide ? shape.tokens() : 0, shape.width)};
  }
};

/// Bytes of workspace that a model of this shape needs, for memory of any alignment.
constexpr std::size_t vit_workspace_bytes(const vit_shape& shape) {
  workspace_size memory;
  vit_buffers::take(memory, shape);
  return memory.bytes_and(reference::block_workspace_bytes(shape.block()));
}

namespace detail {

/// Patches, class tokens and positions as a residual stream of u8 codes.
template <class Trace>
void embed(matrix_view<const std::uint8_t> patches, const vit_parameters& p, matrix_view<std::uint8_t> stream,
           Trace& trace) {
  const u8_embedding& embedding = p.embedding;
  const matrix_view<std::uint8_t> patch_tokens = stream.row_block(embedding.class_token.rows, patches.rows);
  reference::linear(patches, p.patch, patch_tokens);
  trace(trace_site{"patch"}, matrix_view<const std::uint8_t>(patch_tokens));
  intact::detail::copy_tokens(embedding.class_token, stream);
  reference::activation(patch_tokens, embedding.table, patch_tokens);
  trace(trace_site{"embed"}, matrix_view<const std::uint8_t>(stream));
  reference::add(stream, embedding.positions, embedding.add_positions, stream);
}

/// Patches added to what the class tokens and the positions are, as a residual stream of s16 codes.
template <class Trace>
void embed(matrix_view<const std::uint8_t> patches, const vit_parameters& p, matrix_view<std::int16_t> stream, Trace&) {
  const index_t class_tokens = stream.rows - patches.rows;
  intact::detail::copy_tokens(p.token_addend.row_block(0, class_tokens), stream);
  reference::linear(patches, p.patch.weights,
                    add_to_stream{p.patch.scale, p.token_addend.row_block(class_tokens, patches.rows)},
                    stream.row_block(class_tokens, patches.rows));
}

/// From quantized patches to the normalized class tokens.
template <class Code, class Trace>
void encode(matrix_view<const std::uint8_t> patches, const vit_parameters& p, const vit_shape& shape,
            matrix_view<Code> stream, matrix_view<std::uint8_t> normalized, workspace memory, Trace& trace) {
  embed(patches, p, stream, trace);
  trace(trace_site{"tokens"}, matrix_view<const Code>(stream));
  for (index_t position = 0; position < shape.depth; ++position) {
    reference::block(stream, p.blocks[static_cast<std::size_t>(position)], shape.block(), memory,
                     layer_trace<Trace>{trace, position});
  }
  reference::layernorm(stream.row_block(0, shape.class_tokens), p.norm, normalized);
}

}  // namespace detail

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
  require_vit(p, shape);
  require_vit_image(image, shape);
  require_outputs("vit", y, 1, shape.classes);
  require_workspace("vit", memory, reference::vit_workspace_bytes(shape));
  const vit_buffers buffer = vit_buffers::take(memory, shape);

  reference::im2col(image, shape.patch, buffer.patches);
  const index_t samples = shape.patch * shape.patch;
  for (index_t channel = 0; channel < p.pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = buffer.patches.column_block(channel * samples, samples);
    reference::activation(part, {p.pixel_table.row_block(channel, 1).data, 256}, part);
  }
  trace(trace_site{"input"}, matrix_view<const std::uint8_t>(buffer.patches));

  if (shape.stream == stream_codes::s16) {
    detail::encode<std::int16_t>(buffer.patches, p, shape, buffer.stream_s16, buffer.normalized, memory, trace);
  } else {
    detail::encode<std::uint8_t>(buffer.patches, p, shape, buffer.stream_u8, buffer.normalized, memory, trace);
  }
  const matrix_view<const std::uint8_t> normalized = buffer.normalized;
  trace(trace_site{"norm"}, normalized);
  const matrix_view<const std::uint8_t> head_input(normalized.data, 1, shape.head_features());
  reference::linear(head_input, p.head, requantize<std::int32_t>{p.logits}, y.logits);
  trace(trace_site{"logits"}, matrix_view<const std::int32_t>(y.logits));
  reference::linear(head_input, p.head, requantize<std::uint8_t>{p.logits_u8}, y.logits_u8);
  trace(trace_site{"logits_u8"}, matrix_view<const std::uint8_t>(y.logits_u8));
}

}  // namespace reference
}  // namespace INTACT_UNIT
}  // namespace intact
