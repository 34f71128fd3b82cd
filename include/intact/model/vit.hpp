#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>
#include <variant>

#include "intact/average_pool.hpp"
#include "intact/convert_codes.hpp"
#include "intact/im2col.hpp"
#include "intact/model/block.hpp"
#include "intact/model/vit_shape.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Patches, class tokens and registers, and positions in u8, each in a scale of its own, for a stream of u8 codes.
struct u8_embedding {
  std::span<const std::uint8_t> table;          ///< 256: from patch's output scale to the tokens' scale
  matrix_view<const std::uint8_t> class_token;  ///< prefix tokens x width codes in the tokens' scale
  matrix_view<const std::uint8_t> positions;    ///< tokens x width codes
  add_parameters add_positions;
};

/// From sums of tokens to their mean, as the pooling of the shape demands it.
struct no_mean {
  INTACT_INLINE friend constexpr bool operator==(const no_mean&, const no_mean&) = default;
};
struct mean_of_normalized {
  tensor_scale scale;  ///< from sums of the final LayerNorm's codes to u8
};
struct mean_of_stream {
  channel_scale scale;  ///< from sums of the residual stream's codes to s16, which the final LayerNorm takes
};
using mean_parameters = std::variant<no_mean, mean_of_normalized, mean_of_stream>;

/// The LayerNorm before the first block, as CLIP's. Its u8 codes begin the residual stream.
struct no_pre_norm {};
struct pre_norm_parameters {
  layernorm_parameters norm;
  channel_scale stream = {};  ///< of an s16 stream: from the LayerNorm's codes
};
using pre_norm = std::variant<no_pre_norm, pre_norm_parameters>;

/// Parameters of a fully-integer vision transformer. Owns nothing; build/integer_vit.hpp owns them.
struct vit_parameters {
  matrix_view<const std::uint8_t> pixel_table =
      {};                       ///< channels x 256: normalizes and quantizes a pixel; empty: the pixel
  linear_parameters patch;      ///< weights width x (channels * patch^2); to u8 or to the s16 stream
  u8_embedding embedding = {};  ///< of a u8 stream
  matrix_view<const std::int16_t> token_addend = {};  ///< of an s16 stream, tokens x width: prefix tokens and positions
  std::span<const block_parameters> blocks;
  layernorm_parameters norm;
  any_packed_weights head;  ///< classes x head features
  channel_scale logits;     ///< int32 codes: 256 steps to one of logits_u8
  channel_scale logits_u8;
  mean_parameters mean = {};
  pre_norm norm_pre = {};
};

/// The outputs of a classifier: rows are images.
struct classifier_outputs {
  matrix_view<std::int32_t> logits;     ///< codes with zero point 0 and 1/256 of the scale of logits_u8: to be compared
  matrix_view<std::uint8_t> logits_u8;  ///< codes of the recorded scale
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks the features' parameters against a model's sizes.
inline void require_pooling(const vit_parameters& p, const vit_shape& shape) {
  require_at_least("vit", "class_tokens", shape.class_tokens, shape.has_class_features() ? 1 : 0);
  require_at_least("vit", "registers", shape.registers, 0);
  const bool of_stream = shape.pooling == vit_pooling::normalized_mean;
  if (std::holds_alternative<mean_of_normalized>(p.mean) != shape.pools_normalized() ||
      std::holds_alternative<mean_of_stream>(p.mean) != of_stream) [[unlikely]] {
    contract_failed("intact::vit: mean is not of the kind that the shape's pooling demands");
  }
  if (const auto* const mean = std::get_if<mean_of_normalized>(&p.mean)) {
    require_at_most("vit", "tokens to pool", shape.patches(), average_pool_max_tokens);
    require_scale("vit: mean", mean->scale, shape.width);
  } else if (const auto* const s16_mean = std::get_if<mean_of_stream>(&p.mean)) {
    require_at_most("vit", "tokens to pool", shape.patches(), average_pool_max_tokens_s16);
    require_scale("vit: mean", s16_mean->scale, shape.width);
  }
  of_stream || shape.stream == stream_codes::s16 ? require_layernorm<std::int16_t>("vit: norm", p.norm, shape.width)
                                                 : require_layernorm("vit: norm", p.norm, shape.width);
}

/// Checks a model's parameters against its sizes.
template <class Kinds = all_weight_kinds>
void require_vit(const vit_parameters& p, const vit_shape& shape) {
  require_at_least("vit", "patch", shape.patch, 1);
  require_equal("vit", "height % patch", shape.height % shape.patch, 0);
  require_equal("vit", "image_width % patch", shape.image_width % shape.patch, 0);
  if (p.pixel_table.rows != 0) {
    require_shape("vit", "pixel_table", p.pixel_table, shape.channels, 256);
  }
  require_linear<Kinds>("vit: patch", p.patch, shape.width, shape.patch_values());
  require_pooling(p, shape);
  const bool wide = shape.stream == stream_codes::s16;
  if (const auto* const norm_pre = std::get_if<pre_norm_parameters>(&p.norm_pre)) {
    wide ? require_layernorm<std::int16_t>("vit: norm_pre", norm_pre->norm, shape.width)
         : require_layernorm("vit: norm_pre", norm_pre->norm, shape.width);
    if (wide) {
      require_scale("vit: norm_pre", norm_pre->stream, shape.width);
    }
  }
  if (wide) {
    require_shape("vit", "token_addend", p.token_addend, shape.tokens(), shape.width);
  } else {
    require_equal("vit", "size of embedding.table", std::ssize(p.embedding.table), activation_table_size_8);
    require_shape("vit", "embedding.class_token", p.embedding.class_token, shape.prefix_tokens(), shape.width);
    require_shape("vit", "embedding.positions", p.embedding.positions, shape.tokens(), shape.width);
    require_add_parameters("vit: embedding.add_positions", p.embedding.add_positions, shape.width);
  }
  require_equal("vit", "size of blocks", std::ssize(p.blocks), shape.depth);
  for (const block_parameters& block : p.blocks) {
    wide ? require_block<std::int16_t, Kinds>(block, shape.block())
         : require_block<std::uint8_t, Kinds>(block, shape.block());
  }
  require_linear<Kinds>("vit: head, logits", {p.head, p.logits}, shape.classes, shape.head_features());
  require_linear<Kinds>("vit: head, logits_u8", {p.head, p.logits_u8}, shape.classes, shape.head_features());
}

/// Checks the outputs of a batch against a model's sizes.
inline void require_outputs(const char* operation, const classifier_outputs& y, index_t images, index_t classes) {
  require_shape(operation, "logits", y.logits, images, classes);
  require_shape(operation, "logits_u8", y.logits_u8, images, classes);
}

/// Checks an image against the sizes of a model of any kind.
template <class Shape>
void require_image(const char* operation, const image_view& image, const Shape& shape) {
  require_equal(operation, "image channels", image.channels, shape.channels);
  require_equal(operation, "image height", image.height, shape.height);
  require_equal(operation, "image width", image.width, shape.image_width);
  require_reach(operation, image);
  if (image.data == nullptr && size_product(shape.patches(), shape.patch_values()) != 0) [[unlikely]] {
    contract_failed("intact::%s: image has no data; it must have some", operation);
  }
}

/// Buffers of a call for `batch` images. Patches, the blocks' buffers and those of means share memory: each is consumed
/// before the next is filled.
struct vit_buffers {
  matrix_view<std::uint8_t> features;   ///< of each image
  matrix_view<std::uint8_t> stream_u8;  ///< of this and the next, one is empty
  matrix_view<std::int16_t> stream_s16;

  template <class Workspace>
  static constexpr vit_buffers take(Workspace& memory, const vit_shape& shape, index_t batch) {
    const index_t rows = size_product(batch, shape.tokens());
    const bool wide = shape.stream == stream_codes::s16;
    return {memory.template matrix<std::uint8_t>(batch, shape.head_features()),
            memory.template matrix<std::uint8_t>(wide ? 0 : rows, shape.width),
            memory.template matrix<std::int16_t>(wide ? rows : 0, shape.width)};
  }

  /// One image's patches.
  template <class Workspace>
  static constexpr matrix_view<std::uint8_t> take_patches(Workspace& memory, const vit_shape& shape) {
    return memory.template matrix<std::uint8_t>(shape.patches(), shape.patch_values());
  }

  /// One image's tokens between the LayerNorm before the blocks and an s16 stream.
  template <class Workspace>
  static constexpr matrix_view<std::uint8_t> take_pre_norm(Workspace& memory, const vit_shape& shape) {
    return memory.template matrix<std::uint8_t>(shape.stream == stream_codes::s16 ? shape.tokens() : 0, shape.width);
  }

  /// One image's normalized tokens, of which some are averaged.
  template <class Workspace>
  static constexpr matrix_view<std::uint8_t> take_normalized(Workspace& memory, const vit_shape& shape) {
    return memory.template matrix<std::uint8_t>(shape.pools_normalized() ? shape.normalized_tokens() : 0, shape.width);
  }

  /// The means of all streams, before they are normalized.
  template <class Workspace>
  static constexpr matrix_view<std::int16_t> take_means(Workspace& memory, const vit_shape& shape, index_t batch) {
    return memory.template matrix<std::int16_t>(shape.pooling == vit_pooling::normalized_mean ? batch : 0, shape.width);
  }
};

/// Bytes of workspace that a fused model needs for a batch and a number of threads, for memory of any alignment.
constexpr std::size_t vit_workspace_bytes(const vit_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory, patches, pre_norm, pooling;
  vit_buffers::take(memory, shape, batch);
  vit_buffers::take_patches(patches, shape);
  vit_buffers::take_pre_norm(pre_norm, shape);
  vit_buffers::take_normalized(pooling, shape);
  vit_buffers::take_means(pooling, shape, batch);
  const std::size_t blocks = block_workspace_bytes(shape.block(), batch, threads);
  return memory.bytes_and(std::max({patches.bytes(), pre_norm.bytes(), pooling.bytes(), blocks}));
}

/// Checks all arguments of vit with a number of threads.
template <class Kinds = all_weight_kinds>
void require_vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                 const classifier_outputs& y, const workspace& memory, index_t threads) {
  const index_t batch = std::ssize(images);
  require_vit<Kinds>(p, shape);
  for (const image_view& image : images) {
    require_image("vit", image, shape);
  }
  require_outputs("vit", y, batch, shape.classes);
  require_workspace("vit", memory, vit_workspace_bytes(shape, batch, threads));
}

namespace detail {

/// Copies tokens to the beginning of the stream.
template <class Code>
void copy_tokens(matrix_view<const Code> tokens, matrix_view<Code> stream) {
  for (index_t i = 0; i < tokens.rows; ++i) {
    std::copy_n(tokens.data + i * tokens.stride, tokens.columns, stream.data + i * stream.stride);
  }
}

/// Pixels to codes by the table of their channel, in place; pixels that are codes have no table.
template <class Isa, executor Executor>
void quantize_pixels(matrix_view<std::uint8_t> patches, matrix_view<const std::uint8_t> pixel_table, index_t patch,
                     const Executor& run) {
  const index_t samples = patch * patch;
  for (index_t channel = 0; channel < pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = patches.column_block(channel * samples, samples);
    activation<Isa>(part, {pixel_table.row_block(channel, 1).data, 256}, part, run);
  }
}

/// The tokens of one image: quantized patches through the patch embedding, after the class tokens and registers.
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
    layernorm<Isa>(tokens, p.norm, normalized, run);
    convert_codes<Isa>(normalized, requantize<std::int16_t>{p.stream}, tokens, run);
  } else {
    layernorm<Isa>(tokens, p.norm, tokens, run);
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
  const index_t each = band_rows(stream.rows, width, shape.hidden);
  project_qkv<Isa, Kinds>(stream, p, each, buffer.normalized, qkv, run);
  const auto image = [&](index_t i) {
    attention_operands operands = p.attention.operands(qkv.row_block(i * tokens, tokens));
    operands.q.codes = operands.q.codes.row_block(0, queries);
    return operands;
  };
  const auto context = [&](index_t i) { return buffer.normalized.row_block(i * queries, queries); };
  attend_batch<Isa>(batch, image, context, p.attention.multihead(shape.heads), memory, run);
  const matrix_view<Code> class_tokens = gather_class_tokens(stream, shape);
  after_attention<Isa, Kinds>(buffer.normalized.row_block(0, class_tokens.rows), p, each, buffer.wide, class_tokens,
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
  layernorm<Isa>(stream.row_block(0, classes), p.norm, normalized.row_block(0, classes), run);
  layernorm<Isa>(stream.row_block(shape.prefix_tokens(), patches), p.norm, patch_tokens, run);
  copy_tokens<std::uint8_t>(normalized.row_block(0, classes), {features.data, classes, width});
  average_pool<Isa>(patch_tokens,
                    requantize<std::uint8_t, tensor_scale>{std::get_if<mean_of_normalized>(&p.mean)->scale},
                    features.column_block(classes * width, width));
}

/// From the streams of a batch to the features.
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
    layernorm<Isa>(means, p.norm, features, run);
    return;
  }
  for (index_t i = 0; i < features.rows; ++i) {
    pool_normalized<Isa>(image(i), p, shape, features.row_block(i, 1), memory, run);
  }
}

/// From the images of a batch to their features.
template <class Isa, class Kinds, class Code, executor Executor>
void encode(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
            matrix_view<Code> stream, matrix_view<std::uint8_t> features, workspace memory, const Executor& run) {
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
  const bool class_tokens_alone = shape.pooling == vit_pooling::class_tokens && !p.blocks.empty();
  for (const block_parameters& layer : p.blocks.first(p.blocks.size() - (class_tokens_alone ? 1 : 0))) {
    block<Isa, Kinds>(stream, layer, shape.block(), memory, run);
  }
  if (shape.pooling != vit_pooling::class_tokens) {
    pool<Isa, Code>(stream, p, shape, features, memory, run);
    return;
  }
  const matrix_view<std::uint8_t> normalized(features.data, features.rows * shape.class_tokens, shape.width);
  layernorm<Isa>(class_tokens_alone ? last_block<Isa, Kinds>(stream, p.blocks.back(), shape, memory, run)
                                    : gather_class_tokens(stream, shape),
                 p.norm, normalized, run);
}

}  // namespace detail

/// A vision transformer in integers, from pixels to logits, for a batch of images. If the class tokens are the
/// features, only the part of the last block that they need is computed.
///
/// Shapes:    images as `shape` says; logits and logits_u8 images x classes.
/// Units:     logits are codes with zero point 0 and 1/256 of the scale of logits_u8: compare them as they are.
/// Memory:    at least vit_workspace_bytes(shape, images, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor; equal to reference::vit of each image.
/// Errors:    sizes that do not match, parameters out of range, weights of a kind that is not of Kinds, a workspace
///            that is too small: before anything is written.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, figure 2; docs/numerics.md, section 9.
template <class Isa = isa::native, class Kinds = all_weight_kinds, executor Executor = sequential>
void vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
         const classifier_outputs& y, workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_vit<Kinds>(images, p, shape, y, memory, run.threads());
  const index_t batch = std::ssize(images);
  const vit_buffers buffer = vit_buffers::take(memory, shape, batch);

  if (shape.stream == stream_codes::s16) {
    detail::encode<Isa, Kinds>(images, p, shape, buffer.stream_s16, buffer.features, memory, run);
  } else {
    detail::encode<Isa, Kinds>(images, p, shape, buffer.stream_u8, buffer.features, memory, run);
  }
  linear<Isa, Kinds>(buffer.features, p.head, requantize<std::int32_t>{p.logits}, y.logits, run);
  linear<Isa, Kinds>(buffer.features, p.head, requantize<std::uint8_t>{p.logits_u8}, y.logits_u8, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
