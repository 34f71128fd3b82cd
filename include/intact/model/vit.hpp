#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>
#include <variant>

#include "intact/average_pool.hpp"
#include "intact/convert_codes.hpp"
#include "intact/im2col.hpp"
#include "intact/model/block.hpp"
#include "intact/model/vit_parameters.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Copies tokens to the beginning of a stream of as many channels and as many tokens, or more.
template <class Code>
void copy_tokens(matrix_view<const Code> tokens, matrix_view<Code> stream) {
  for (index_t i = 0; i < tokens.rows; ++i) {
    std::copy_n(tokens.data + i * tokens.stride, tokens.columns, stream.data + i * stream.stride);
  }
}

namespace detail {

/// Pixels to codes by the table of their channel, in place; pixels that are codes have no table.
template <class Isa, executor Executor>
void quantize_pixels(matrix_view<std::uint8_t> patches, matrix_view<const std::uint8_t> pixel_table,
                     const patch_size& patch, const Executor& run) {
  const index_t samples = patch.samples();
  for (index_t channel = 0; channel < pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = patches.column_block(channel * samples, samples);
    activation<Isa>(part, {pixel_table.row_block(channel, 1).data, 256}, part, run);
  }
}

/// The tokens of one image: quantized patches through the patch embedding, after the class tokens and register tokens.
template <class Isa, class Kinds, class Code, executor Executor>
void embed(const image_view& image, const vit_parameters& p, const vit_shape& shape, matrix_view<Code> stream,
           matrix_view<std::uint8_t> patches, const Executor& run) {
  im2col<Isa>(image, shape.patch, patches, run);
  quantize_pixels<Isa>(patches, p.pixel_table, shape.patch, run);
  const index_t prefix = shape.prefix_tokens();
  const matrix_view<Code> patch_tokens = stream.row_block(prefix, patches.rows);
  if constexpr (std::is_same_v<Code, std::int16_t>) {
    copy_tokens(p.token_addend.row_block(0, prefix), stream);
    linear<Isa, Kinds>(patches, p.patch.weights,
                       add_to_stream{p.patch.scale, p.token_addend.row_block(prefix, patches.rows)}, patch_tokens, run);
  } else {
    const u8_embedding& embedding = p.embedding;
    copy_tokens(embedding.class_token, stream);
    linear<Isa, Kinds>(patches, p.patch.weights, requantize<std::uint8_t>{p.patch.scale}, patch_tokens, run);
    activation<Isa>(patch_tokens, embedding.table, patch_tokens, run);
    add<Isa>(stream, embedding.positions, embedding.add_positions, stream, run);
  }
}

/// The LayerNorm before the blocks, in place on the tokens of one image.
template <class Isa, class Code, executor Executor>
void normalize_tokens(matrix_view<Code> tokens, const pre_norm_parameters& p, const vit_shape& shape, workspace memory,
                      const Executor& run) {
  if constexpr (std::is_same_v<Code, std::int16_t>) {
    const matrix_view<std::uint8_t> normalized = vit_buffers::take_pre_norm(memory, shape);
    normalize_rows<Isa>(shape.norm, tokens, p.norm, normalized, run);
    convert_codes<Isa>(normalized, requantize<std::int16_t>{p.stream}, tokens, run);
  } else {
    normalize_rows<Isa>(shape.norm, tokens, p.norm, tokens, run);
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

/// The last block, whose class tokens are all that the head takes: they alone are queries, and go on after attention.
/// Returns them.
template <class Isa, class Kinds, class Code, executor Executor>
matrix_view<Code> last_block(matrix_view<Code> stream, const block_parameters& p, const vit_shape& shape,
                             workspace memory, const Executor& run) {
  const index_t tokens = shape.tokens(), width = shape.width, queries = shape.class_tokens,
                batch = stream.rows / tokens;
  const block_buffers buffer = block_buffers::take(memory, shape.block(), stream.rows);
  const matrix_view<std::uint8_t> qkv(buffer.wide, stream.rows, 3 * width);
  const block_shape of_block = shape.block();
  const block_layers layers{.p = p, .shape = of_block, .band = band_rows(stream.rows, width, of_block.hidden_codes())};
  project_qkv<Isa, Kinds>(stream, layers, buffer.normalized, qkv, run);
  const auto image = [&](index_t i) {
    attention_operands operands = p.attention.operands(qkv.row_block(i * tokens, tokens));
    operands.q.codes = operands.q.codes.row_block(0, queries);
    return operands;
  };
  const auto context = [&](index_t i) { return buffer.normalized.row_block(i * queries, queries); };
  attend_batch<Isa>(batch, image, context, p.attention.multihead(shape.heads), memory, run);
  const matrix_view<Code> class_tokens = gather_class_tokens(stream, shape);
  after_attention<Isa, Kinds>(buffer.normalized.row_block(0, class_tokens.rows), layers, buffer.wide, class_tokens,
                              run);
  return class_tokens;
}

/// The mean of one image's normalized patch tokens, after its normalized class tokens if these are features.
template <class Isa, class Code, executor Executor>
void pool_normalized(matrix_view<const Code> stream, const vit_parameters& p, const vit_shape& shape,
                     matrix_view<std::uint8_t> features, workspace memory, const Executor& run) {
  const index_t classes = shape.class_features(), patches = shape.patches(), width = shape.width;
  const matrix_view<std::uint8_t> normalized = vit_buffers::take_normalized(memory, shape);
  const matrix_view<std::uint8_t> patch_tokens = normalized.row_block(classes, patches);
  normalize_rows<Isa>(shape.norm, stream.row_block(0, classes), p.norm, normalized.row_block(0, classes), run);
  normalize_rows<Isa>(shape.norm, stream.row_block(shape.prefix_tokens(), patches), p.norm, patch_tokens, run);
  copy_tokens<std::uint8_t>(normalized.row_block(0, classes), {features.data, classes, width});
  average_pool<Isa>(patch_tokens,
                    requantize<std::uint8_t, tensor_scale>{std::get_if<mean_of_normalized>(&p.mean)->scale},
                    features.column_block(classes * width, width));
}

/// From the streams that leave the blocks to the features.
template <class Isa, class Code, executor Executor>
void pool(matrix_view<const Code> stream, const vit_parameters& p, const vit_shape& shape,
          matrix_view<std::uint8_t> features, workspace memory, const Executor& run) {
  const auto image = [&](index_t i) { return stream.row_block(i * shape.tokens(), shape.tokens()); };
  if (const auto* const mean = std::get_if<mean_of_stream>(&p.mean)) {
    const matrix_view<std::int16_t> means = vit_buffers::take_means(memory, shape, features.rows);
    for (index_t i = 0; i < features.rows; ++i) {
      average_pool<Isa>(image(i).row_block(shape.prefix_tokens(), shape.patches()),
                        requantize<std::int16_t>{mean->scale}, means.row_block(i, 1));
    }
    normalize_rows<Isa>(shape.norm, means, p.norm, features, run);
    return;
  }
  for (index_t i = 0; i < features.rows; ++i) {
    const matrix_view<std::uint8_t> own = features.row_block(i, 1);
    if (shape.pooling == vit_pooling::patch_tokens) {
      normalize_rows<Isa>(shape.norm, image(i).row_block(shape.prefix_tokens(), shape.patches()), p.norm,
                          {own.data, shape.patches(), shape.width}, run);
    } else {
      pool_normalized<Isa>(image(i), p, shape, own, memory, run);
    }
  }
}

/// The images of a batch as the streams of the first block.
template <class Isa, class Kinds, class Code, executor Executor>
void embed_images(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                  matrix_view<Code> stream, workspace memory, const Executor& run) {
  const index_t tokens = shape.tokens();
  workspace before_blocks = memory;
  const matrix_view<std::uint8_t> patches = vit_buffers::take_patches(before_blocks, shape);
  for (index_t i = 0; i < std::ssize(images); ++i) {
    const matrix_view<Code> own = stream.row_block(i * tokens, tokens);
    embed<Isa, Kinds>(images[static_cast<std::size_t>(i)], p, shape, own, patches, run);
    if (const auto* const norm_pre = std::get_if<pre_norm_parameters>(&p.norm_pre)) {
      normalize_tokens<Isa>(own, *norm_pre, shape, memory, run);
    }
  }
}

/// From the streams of the first block to the features.
template <class Isa, class Kinds, class Code, executor Executor>
void encode(matrix_view<Code> stream, const vit_parameters& p, const vit_shape& shape,
            matrix_view<std::uint8_t> features, workspace memory, const Executor& run) {
  const bool class_tokens_alone = shape.pooling == vit_pooling::class_tokens && !p.blocks.empty();
  for (const block_parameters& layer : p.blocks.first(p.blocks.size() - (class_tokens_alone ? 1 : 0))) {
    block<Isa, Kinds>(stream, layer, shape.block(), memory, run);
  }
  if (shape.pooling != vit_pooling::class_tokens) {
    pool<Isa, Code>(stream, p, shape, features, memory, run);
    return;
  }
  const matrix_view<std::uint8_t> normalized(features.data, features.rows * shape.class_tokens, shape.width);
  normalize_rows<Isa>(shape.norm,
                      class_tokens_alone ? last_block<Isa, Kinds>(stream, p.blocks.back(), shape, memory, run)
                                         : gather_class_tokens(stream, shape),
                      p.norm, normalized, run);
}

/// The features of a batch, in the workspace.
template <class Isa, class Kinds, executor Executor>
matrix_view<std::uint8_t> features_of(std::span<const image_view> images, const vit_parameters& p,
                                      const vit_shape& shape, workspace memory, const Executor& run) {
  const vit_buffers buffer = vit_buffers::take(memory, shape, std::ssize(images));
  const auto run_on = [&](const auto& stream) {
    embed_images<Isa, Kinds>(images, p, shape, stream, memory, run);
    encode<Isa, Kinds>(stream, p, shape, buffer.features, memory, run);
  };
  if (shape.stream == stream_codes::s16) {
    run_on(buffer.stream_s16);
  } else {
    run_on(buffer.stream_u8);
  }
  return buffer.features;
}

}  // namespace detail

/// The features of a vision transformer in integers, with or without a head, for a batch of images.
///
/// Shapes:    images as `shape` says; y images x shape.head_features(): the tokens or means that the pooling names, one
///            after the other.
/// Units:     codes of the scale of the final LayerNorm's outputs, or of a mean of its own.
/// Memory, exactness, errors: as of vit.
/// Aliasing:  y must not overlap the images or the workspace.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section 9.
template <class Isa = isa::native, class Kinds = all_weight_kinds, executor Executor = sequential>
void vit_features(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                  matrix_view<std::uint8_t> y, workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_vit_features<Kinds>(images, p, shape, y, memory, run.threads());
  copy_tokens<std::uint8_t>(detail::features_of<Isa, Kinds>(images, p, shape, memory, run), y);
}

/// A vision transformer in integers, from pixels to logits, for a batch of images. If the class tokens are the
/// features, only the part of the last block that they need is computed.
///
/// Shapes:    images as `shape` says; logits and logits_u8 images x classes.
/// Units:     logits are codes with zero point 0 and 1/256 of the scale of logits_u8: compare them as they are.
/// Memory:    at least vit_workspace_bytes(shape, images, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor; equal to reference::vit of each image.
/// Errors:    sizes that do not match, parameters out of range, weights of a kind that is not of Kinds, a workspace
///            that is too small: before anything is written.
/// Aliasing:  logits and logits_u8 must not overlap each other, the images or the workspace.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Isa = isa::native, class Kinds = all_weight_kinds, executor Executor = sequential>
void vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
         const classifier_outputs& y, workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_vit<Kinds>(images, p, shape, y, memory, run.threads());
  const matrix_view<std::uint8_t> features = detail::features_of<Isa, Kinds>(images, p, shape, memory, run);
  linear<Isa, Kinds>(features, p.head, requantize<std::int32_t>{p.logits}, y.logits, run);
  linear<Isa, Kinds>(features, p.head, requantize<std::uint8_t>{p.logits_u8}, y.logits_u8, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
