#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/model/fused_block.hpp"
#include "intact/model/vit.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Buffers of a call for `batch` images. The patches lie where the blocks' buffers follow: they are used up before.
struct fused_vit_buffers {
  matrix_view<std::uint8_t> normalized;  ///< class tokens
  matrix_view<std::uint8_t> stream_u8;   ///< of this and the next, one is empty
  matrix_view<std::int16_t> stream_s16;

  template <class Workspace>
  static constexpr fused_vit_buffers take(Workspace& memory, const vit_shape& shape, index_t batch) {
    const index_t rows = size_product(batch, shape.tokens());
    const bool wide = shape.stream == stream_codes::s16;
    return {memory.template matrix<std::uint8_t>(size_product(batch, shape.class_tokens), shape.width),
            memory.template matrix<std::uint8_t>(wide ? 0 : rows, shape.width),
            memory.template matrix<std::int16_t>(wide ? rows : 0, shape.width)};
  }

  /// One image's patches.
  template <class Workspace>
  static constexpr matrix_view<std::uint8_t> take_patches(Workspace& memory, const vit_shape& shape) {
    return memory.template matrix<std::uint8_t>(shape.patches(), shape.patch_values());
  }
};

/// Bytes of workspace that a fused model needs for a batch and a number of threads, for memory of any alignment.
constexpr std::size_t fused_vit_bytes(const vit_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory, patches;
  fused_vit_buffers::take(memory, shape, batch);
  fused_vit_buffers::take_patches(patches, shape);
  return memory.bytes_and(std::max(patches.bytes(), fused_block_bytes(shape.block(), batch, threads)));
}

namespace detail {

/// The tokens of one image: quantized patches through the patch embedding, behind the class tokens.
template <class Isa, class Code, executor Executor>
void fused_embed(const image_view& image, const vit_parameters& p, const vit_shape& shape, matrix_view<Code> stream,
                 matrix_view<std::uint8_t> patches, const Executor& run) {
  im2col<Isa>(image, shape.patch, patches, run);
  const index_t samples = shape.patch * shape.patch;
  for (index_t channel = 0; channel < p.pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = patches.column_block(channel * samples, samples);
    activation<Isa>(part, {p.pixel_table.row_block(channel, 1).data, 256}, part, run);
  }
  const index_t class_tokens = shape.class_tokens;
  const matrix_view<Code> patch_tokens = stream.row_block(class_tokens, patches.rows);
  if constexpr (std::is_same_v<Code, std::int16_t>) {
    copy_tokens(p.token_addend.row_block(0, class_tokens), stream);
    linear<Isa>(patches, p.patch.weights,
                add_to_stream{p.patch.scale, p.token_addend.row_block(class_tokens, patches.rows)}, patch_tokens, run);
  } else {
    const u8_embedding& embedding = p.embedding;
    copy_tokens(embedding.class_token, stream);
    linear<Isa>(patches, p.patch.weights, requantize<std::uint8_t>{p.patch.scale}, patch_tokens, run);
    activation<Isa>(patch_tokens, embedding.table, patch_tokens, run);
    add<Isa>(stream, embedding.positions, embedding.add_positions, stream, run);
  }
}

/// Moves the class tokens of a batch to the first rows of its streams.
template <class Code>
matrix_view<Code> gather_class_tokens(matrix_view<Code> stream, const vit_shape& shape) {
  const index_t class_tokens = shape.class_tokens, batch = stream.rows / shape.tokens();
  for (index_t i = 1; i < batch; ++i) {
    copy_tokens<Code>(stream.row_block(i * shape.tokens(), class_tokens),
                      stream.row_block(i * class_tokens, class_tokens));
  }
  return stream.row_block(0, batch * class_tokens);
}

/// The last block, whose class tokens are all that the head takes: they alone are queries, and go on behind attention.
/// Returns them.
template <class Isa, class Code, executor Executor>
matrix_view<Code> fused_last_block(matrix_view<Code> stream, const block_parameters& p, const vit_shape& shape,
                                   workspace memory, const Executor& run) {
  const index_t tokens = shape.tokens(), width = shape.width, queries = shape.class_tokens,
                batch = stream.rows / tokens;
  const fused_block_buffers buffer = fused_block_buffers::take(memory, shape.block(), stream.rows);
  const matrix_view<std::uint8_t> qkv(buffer.wide, stream.rows, 3 * width);
  const index_t each = fused_band_rows(stream.rows, width, shape.hidden);
  fused_qkv<Isa>(stream, p, each, buffer.normalized, qkv, run);
  const auto image = [&](index_t i) {
    const auto part = [&](index_t which, index_t rows) {
      return quantized_matrix{qkv.row_block(i * tokens, rows).column_block(which * width, width),
                              p.attention.qkv_zero_point};
    };
    return attention_operands{part(0, queries), part(1, tokens), part(2, tokens)};
  };
  const auto context = [&](index_t i) { return buffer.normalized.row_block(i * queries, queries); };
  attend_batch<Isa>(batch, image, context, shape.heads, p.attention.logits, p.attention.softmax, memory, run);
  const matrix_view<Code> class_tokens = gather_class_tokens(stream, shape);
  fused_after_attention<Isa>(buffer.normalized.row_block(0, class_tokens.rows), p, each, buffer.wide, class_tokens,
                             run);
  return class_tokens;
}

/// From the images of a batch to their normalized class tokens.
template <class Isa, class Code, executor Executor>
void fused_encode(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                  matrix_view<Code> stream, matrix_view<std::uint8_t> normalized, workspace memory,
                  const Executor& run) {
  const index_t tokens = shape.tokens();
  workspace before_blocks = memory;
  const matrix_view<std::uint8_t> patches = fused_vit_buffers::take_patches(before_blocks, shape);
  for (index_t i = 0; i < std::ssize(images); ++i) {
    fused_embed<Isa>(images[static_cast<std::size_t>(i)], p, shape, stream.row_block(i * tokens, tokens), patches, run);
  }
  if (p.blocks.empty()) {
    layernorm<Isa>(gather_class_tokens(stream, shape), p.norm, normalized, run);
    return;
  }
  for (const block_parameters& block : p.blocks.first(p.blocks.size() - 1)) {
    fused_block<Isa>(stream, block, shape.block(), memory, run);
  }
  layernorm<Isa>(fused_last_block<Isa>(stream, p.blocks.back(), shape, memory, run), p.norm, normalized, run);
}

}  // namespace detail

/// The vision transformer of vit.hpp for a batch of images, on blocks without tensors between their steps. Of the last
/// block only what the class tokens need is computed.
///
/// Shapes:    images as `shape` says; logits and logits_u8 images x classes.
/// Units:     as vit().
/// Weights:   packed ones (pack.hpp) run on the fast kernels; others give the same bits, slowly.
/// Memory:    at least fused_vit_bytes(shape, images, run.threads()) bytes. Nothing is allocated.
/// Exactness: bit for bit what vit() gives for each image, on every instruction set, with every executor.
/// Errors:    sizes that do not match and a workspace that is too small: before anything is written.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Isa = isa::native, executor Executor = sequential>
void fused_vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
               matrix_view<std::int32_t> logits, matrix_view<std::uint8_t> logits_u8, workspace memory,
               const Executor& run = {}) {
  const index_t batch = std::ssize(images);
  require_vit(p, shape);
  for (const image_view& image : images) {
    require_vit_image(image, shape);
  }
  require_shape("vit", "logits", logits, batch, shape.classes);
  require_shape("vit", "logits_u8", logits_u8, batch, shape.classes);
  require_workspace("vit", memory, fused_vit_bytes(shape, batch, run.threads()));
  const fused_vit_buffers buffer = fused_vit_buffers::take(memory, shape, batch);

  if (shape.stream == stream_codes::s16) {
    detail::fused_encode<Isa>(images, p, shape, buffer.stream_s16, buffer.normalized, memory, run);
  } else {
    detail::fused_encode<Isa>(images, p, shape, buffer.stream_u8, buffer.normalized, memory, run);
  }
  const matrix_view<const std::uint8_t> head_features(buffer.normalized.data, batch, shape.head_features());
  linear<Isa>(head_features, p.head, requantize<std::int32_t>{p.logits}, logits, run);
  linear<Isa>(head_features, p.head, requantize<std::uint8_t>{p.logits_u8}, logits_u8, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
