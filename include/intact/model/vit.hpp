#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "intact/im2col.hpp"
#include "intact/model/block.hpp"

namespace intact::inline INTACT_ABI {

/// Sizes of a vision transformer with a class token.
struct vit_shape {
  index channels = 0;
  index height = 0;
  index width_pixels = 0;
  index patch = 1;
  index width = 0;
  index heads = 1;
  index hidden = 0;
  index depth = 0;
  index classes = 0;

  constexpr index patches() const { return (height / patch) * (width_pixels / patch); }
  constexpr index tokens() const { return patches() + 1; }
  constexpr index patch_samples() const { return channels * patch * patch; }
  constexpr block_shape block() const { return {{tokens(), width, heads}, hidden}; }
};

/// Parameters of a fully-integer vision transformer. Owns nothing; adapt/build.hpp builds and owns them.
struct vit_parameters {
  matrix_view<const std::uint8_t> pixel_table;  ///< channels x 256: normalization and quantization of a pixel
  linear_parameters patch;                      ///< weights width x (channels * patch^2)
  std::span<const std::uint8_t> embed_table;    ///< 256: from patch's output scale to the tokens' scale
  matrix_view<const std::uint8_t> class_token;  ///< 1 x width codes in the tokens' scale
  matrix_view<const std::uint8_t> positions;    ///< tokens x width codes
  add_scale add_positions;
  std::span<const block_parameters> blocks;
  layernorm_parameters norm;
  matrix_view<const std::int8_t> head;  ///< weights classes x width
  channel_scale logits;                 ///< int32 codes: 256 steps to one of logits_u8
  channel_scale logits_u8;
};

/// Buffers of one call, taken from a workspace; what a block needs follows them.
struct vit_buffers {
  matrix_view<std::uint8_t> patches;
  matrix_view<std::uint8_t> stream;
  matrix_view<std::uint8_t> normalized;

  template <class Workspace>
  static constexpr vit_buffers take(Workspace& memory, const vit_shape& shape) {
    return {memory.template matrix<std::uint8_t>(shape.patches(), shape.patch_samples()),
            memory.template matrix<std::uint8_t>(shape.tokens(), shape.width),
            memory.template matrix<std::uint8_t>(1, shape.width)};
  }
};

/// Bytes of workspace that a model of this shape needs, for memory of any alignment.
constexpr std::size_t vit_workspace_bytes(const vit_shape& shape) {
  workspace_size memory;
  vit_buffers::take(memory, shape);
  return memory.bytes() + block_workspace_bytes(shape.block());
}

/// Checks a model's parameters against its sizes.
inline void require_vit(const vit_parameters& p, const vit_shape& shape) {
  require_at_least("vit", "patch", shape.patch, 1);
  require_equal("vit", "height % patch", shape.height % shape.patch, 0);
  require_equal("vit", "width_pixels % patch", shape.width_pixels % shape.patch, 0);
  require_shape("vit", "pixel_table", p.pixel_table, shape.channels, 256);
  require_linear("vit: patch", p.patch, shape.width, shape.patch_samples());
  require_equal("vit", "size of embed_table", std::ssize(p.embed_table), activation_table_size_8);
  require_shape("vit", "class_token", p.class_token, 1, shape.width);
  require_shape("vit", "positions", p.positions, shape.tokens(), shape.width);
  require_add_scale("vit: add_positions", p.add_positions, shape.width);
  require_equal("vit", "size of blocks", std::ssize(p.blocks), shape.depth);
  for (const block_parameters& block : p.blocks) {
    require_block(block, shape.block());
  }
  require_layernorm("vit: norm", p.norm, shape.width);
  require_linear("vit: head, logits", {p.head, p.logits}, shape.classes, shape.width);
  require_linear("vit: head, logits_u8", {p.head, p.logits_u8}, shape.classes, shape.width);
}

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
  require_equal("vit", "image channels", image.channels, shape.channels);
  require_equal("vit", "image height", image.height, shape.height);
  require_equal("vit", "image width", image.width, shape.width_pixels);
  require_shape("vit", "logits", logits, 1, shape.classes);
  require_shape("vit", "logits_u8", logits_u8, 1, shape.classes);
  require_workspace("vit", memory, vit_workspace_bytes(shape));
  const vit_buffers buffer = vit_buffers::take(memory, shape);
  const auto show = [&](std::string_view name, matrix_view<const std::uint8_t> codes) {
    trace(trace_site{name}, codes);
  };

  im2col(image, shape.patch, buffer.patches);
  const index samples = shape.patch * shape.patch;
  for (index channel = 0; channel < shape.channels; ++channel) {
    const matrix_view<std::uint8_t> part = buffer.patches.column_block(channel * samples, samples);
    activation(part, {p.pixel_table.row_block(channel, 1).data, 256}, part);
  }
  show("input", buffer.patches);

  const matrix_view<std::uint8_t> class_token = buffer.stream.row_block(0, 1);
  const matrix_view<std::uint8_t> patch_tokens = buffer.stream.row_block(1, shape.patches());
  linear(matrix_view<const std::uint8_t>(buffer.patches), p.patch, patch_tokens);
  show("patch", patch_tokens);
  std::copy_n(p.class_token.data, shape.width, class_token.data);
  activation(patch_tokens, p.embed_table, patch_tokens);
  show("embed", buffer.stream);
  add(buffer.stream, p.positions, p.add_positions, buffer.stream);
  show("tokens", buffer.stream);

  for (index position = 0; position < shape.depth; ++position) {
    block(buffer.stream, p.blocks[static_cast<std::size_t>(position)], shape.block(), memory, position, trace);
  }

  layernorm(class_token, p.norm, buffer.normalized);
  show("norm", buffer.normalized);
  const matrix_view<const std::uint8_t> normalized = buffer.normalized;
  gemm(normalized, p.head, requantize<std::int32_t>{p.logits}, logits);
  trace(trace_site{"logits"}, matrix_view<const std::int32_t>(logits));
  gemm(normalized, p.head, requantize<std::uint8_t>{p.logits_u8}, logits_u8);
  show("logits_u8", logits_u8);
}

}  // namespace intact::inline INTACT_ABI
