#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "intact/im2col.hpp"
#include "intact/model/block.hpp"
#include "intact/types/stream_codes.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Sizes of a vision transformer that classifies by a class token, or by a class token and a distillation token.
struct vit_shape {
  index_t channels = 0;
  index_t height = 0;
  index_t image_width = 0;
  index_t patch = 1;
  index_t width = 0;
  index_t heads = 1;
  index_t hidden = 0;
  index_t depth = 0;
  index_t classes = 0;
  index_t class_tokens = 1;  ///< 2 with a distillation token
  stream_codes stream = stream_codes::u8;

  INTACT_INLINE constexpr index_t patches() const { return size_product(height / patch, image_width / patch); }
  INTACT_INLINE constexpr index_t tokens() const { return size_sum(patches(), class_tokens); }
  INTACT_INLINE constexpr index_t head_features() const { return size_product(class_tokens, width); }
  INTACT_INLINE constexpr index_t patch_values() const { return size_product(channels, size_product(patch, patch)); }
  INTACT_INLINE constexpr block_shape block() const { return {{tokens(), width, heads}, hidden}; }
};

/// Patches, class tokens and positions in u8, each in a scale of its own, for a stream of u8 codes.
struct u8_embedding {
  std::span<const std::uint8_t> table;          ///< 256: from patch's output scale to the tokens' scale
  matrix_view<const std::uint8_t> class_token;  ///< class tokens x width codes in the tokens' scale
  matrix_view<const std::uint8_t> positions;    ///< tokens x width codes
  add_parameters add_positions;
};

/// Parameters of a fully-integer vision transformer. Owns nothing; build/integer_vit.hpp owns them.
struct vit_parameters {
  matrix_view<const std::uint8_t> pixel_table =
      {};                       ///< channels x 256: normalizes and quantizes a pixel; empty: the pixel
  linear_parameters patch;      ///< weights width x (channels * patch^2); to u8 or to the s16 stream
  u8_embedding embedding = {};  ///< of a u8 stream
  matrix_view<const std::int16_t> token_addend = {};  ///< of an s16 stream, tokens x width: class tokens and positions
  std::span<const block_parameters> blocks;
  layernorm_parameters norm;
  weights_view head;     ///< classes x (class tokens * width)
  channel_scale logits;  ///< int32 codes: 256 steps to one of logits_u8
  channel_scale logits_u8;
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

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
  return memory.bytes_and(block_workspace_bytes(shape.block()));
}

/// Checks a model's parameters against its sizes.
inline void require_vit(const vit_parameters& p, const vit_shape& shape) {
  require_at_least("vit", "patch", shape.patch, 1);
  require_equal("vit", "height % patch", shape.height % shape.patch, 0);
  require_equal("vit", "image_width % patch", shape.image_width % shape.patch, 0);
  if (p.pixel_table.rows != 0) {
    require_shape("vit", "pixel_table", p.pixel_table, shape.channels, 256);
  }
  require_linear("vit: patch", p.patch, shape.width, shape.patch_values());
  require_at_least("vit", "class_tokens", shape.class_tokens, 1);
  const bool wide = shape.stream == stream_codes::s16;
  if (wide) {
    require_shape("vit", "token_addend", p.token_addend, shape.tokens(), shape.width);
  } else {
    require_equal("vit", "size of embedding.table", std::ssize(p.embedding.table), activation_table_size_8);
    require_shape("vit", "embedding.class_token", p.embedding.class_token, shape.class_tokens, shape.width);
    require_shape("vit", "embedding.positions", p.embedding.positions, shape.tokens(), shape.width);
    require_add_parameters("vit: embedding.add_positions", p.embedding.add_positions, shape.width);
  }
  require_equal("vit", "size of blocks", std::ssize(p.blocks), shape.depth);
  for (const block_parameters& block : p.blocks) {
    wide ? require_block<std::int16_t>(block, shape.block()) : require_block(block, shape.block());
  }
  wide ? require_layernorm<std::int16_t>("vit: norm", p.norm, shape.width)
       : require_layernorm("vit: norm", p.norm, shape.width);
  require_linear("vit: head, logits", {p.head, p.logits}, shape.classes, shape.head_features());
  require_linear("vit: head, logits_u8", {p.head, p.logits_u8}, shape.classes, shape.head_features());
}

/// Checks an image against a model's sizes.
inline void require_vit_image(const image_view& image, const vit_shape& shape) {
  require_equal("vit", "image channels", image.channels, shape.channels);
  require_equal("vit", "image height", image.height, shape.height);
  require_equal("vit", "image width", image.width, shape.image_width);
  require_reach("vit", image);
  if (image.data == nullptr && size_product(shape.patches(), shape.patch_values()) != 0) [[unlikely]] {
    contract_failed("intact::vit: image has no data; it must have some");
  }
}

namespace detail {

/// Copies tokens to the beginning of the stream.
template <class Code>
void copy_tokens(matrix_view<const Code> tokens, matrix_view<Code> stream) {
  for (index_t i = 0; i < tokens.rows; ++i) {
    std::copy_n(tokens.data + i * tokens.stride, tokens.columns, stream.data + i * stream.stride);
  }
}

/// Patches, class tokens and positions as a residual stream of u8 codes.
template <class Trace>
void embed(matrix_view<const std::uint8_t> patches, const vit_parameters& p, matrix_view<std::uint8_t> stream,
           Trace& trace) {
  const u8_embedding& embedding = p.embedding;
  const matrix_view<std::uint8_t> patch_tokens = stream.row_block(embedding.class_token.rows, patches.rows);
  linear(patches, p.patch, patch_tokens);
  trace(trace_site{"patch"}, matrix_view<const std::uint8_t>(patch_tokens));
  copy_tokens(embedding.class_token, stream);
  activation(patch_tokens, embedding.table, patch_tokens);
  trace(trace_site{"embed"}, matrix_view<const std::uint8_t>(stream));
  add(stream, embedding.positions, embedding.add_positions, stream);
}

/// Patches added to what the class tokens and the positions are, as a residual stream of s16 codes.
template <class Trace>
void embed(matrix_view<const std::uint8_t> patches, const vit_parameters& p, matrix_view<std::int16_t> stream, Trace&) {
  const index_t class_tokens = stream.rows - patches.rows;
  copy_tokens(p.token_addend.row_block(0, class_tokens), stream);
  linear(patches, p.patch.weights, add_to_stream{p.patch.scale, p.token_addend.row_block(class_tokens, patches.rows)},
         stream.row_block(class_tokens, patches.rows));
}

/// From quantized patches to the normalized class tokens.
template <class Code, class Trace>
void encode(matrix_view<const std::uint8_t> patches, const vit_parameters& p, const vit_shape& shape,
            matrix_view<Code> stream, matrix_view<std::uint8_t> normalized, workspace memory, Trace& trace) {
  embed(patches, p, stream, trace);
  trace(trace_site{"tokens"}, matrix_view<const Code>(stream));
  for (index_t position = 0; position < shape.depth; ++position) {
    block(stream, p.blocks[static_cast<std::size_t>(position)], shape.block(), memory, position, trace);
  }
  layernorm(stream.row_block(0, shape.class_tokens), p.norm, normalized);
}

}  // namespace detail

/// A vision transformer in integers, from pixels to logits.
///
/// Shapes:    image as `shape` says; logits 1 x classes (int32), logits_u8 1 x classes.
/// Units:     logits are codes with zero point 0 and 1/256 of the scale of logits_u8: compare them as they are.
/// Memory:    `memory` has at least vit_workspace_bytes(shape) bytes. Nothing is allocated.
/// Exactness: every bit, on every target.
/// Errors:    sizes that do not match and a workspace that is too small: before anything is written.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Trace = no_trace>
void vit(const image_view& image, const vit_parameters& p, const vit_shape& shape, matrix_view<std::int32_t> logits,
         matrix_view<std::uint8_t> logits_u8, workspace memory, Trace&& trace = {}) {
  require_vit(p, shape);
  require_vit_image(image, shape);
  require_shape("vit", "logits", logits, 1, shape.classes);
  require_shape("vit", "logits_u8", logits_u8, 1, shape.classes);
  require_workspace("vit", memory, vit_workspace_bytes(shape));
  const vit_buffers buffer = vit_buffers::take(memory, shape);

  im2col(image, shape.patch, buffer.patches);
  const index_t samples = shape.patch * shape.patch;
  for (index_t channel = 0; channel < p.pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = buffer.patches.column_block(channel * samples, samples);
    activation(part, {p.pixel_table.row_block(channel, 1).data, 256}, part);
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
  linear(head_input, p.head, requantize<std::int32_t>{p.logits}, logits);
  trace(trace_site{"logits"}, matrix_view<const std::int32_t>(logits));
  linear(head_input, p.head, requantize<std::uint8_t>{p.logits_u8}, logits_u8);
  trace(trace_site{"logits_u8"}, matrix_view<const std::uint8_t>(logits_u8));
}

}  // namespace INTACT_UNIT
}  // namespace intact
