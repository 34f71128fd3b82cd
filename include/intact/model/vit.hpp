#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

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
  any_packed_weights head;  ///< classes x (class tokens * width)
  channel_scale logits;     ///< int32 codes: 256 steps to one of logits_u8
  channel_scale logits_u8;
};

/// The outputs of a classifier: rows are images.
struct classifier_outputs {
  matrix_view<std::int32_t> logits;     ///< codes with zero point 0 and 1/256 of the scale of logits_u8: to be compared
  matrix_view<std::uint8_t> logits_u8;  ///< codes of the recorded scale
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

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
    wide ? require_block<std::int16_t, Kinds>(block, shape.block())
         : require_block<std::uint8_t, Kinds>(block, shape.block());
  }
  wide ? require_layernorm<std::int16_t>("vit: norm", p.norm, shape.width)
       : require_layernorm("vit: norm", p.norm, shape.width);
  require_linear<Kinds>("vit: head, logits", {p.head, p.logits}, shape.classes, shape.head_features());
  require_linear<Kinds>("vit: head, logits_u8", {p.head, p.logits_u8}, shape.classes, shape.head_features());
}

/// Checks the outputs of a batch against a model's sizes.
inline void require_outputs(const char* operation, const classifier_outputs& y, index_t images, index_t classes) {
  require_shape(operation, "logits", y.logits, images, classes);
  require_shape(operation, "logits_u8", y.logits_u8, images, classes);
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

/// Buffers of a call for `batch` images. Patches and the blocks' buffers share memory: patches are consumed before
/// blocks run.
struct vit_buffers {
  matrix_view<std::uint8_t> normalized;  ///< class tokens
  matrix_view<std::uint8_t> stream_u8;   ///< of this and the next, one is empty
  matrix_view<std::int16_t> stream_s16;

  template <class Workspace>
  static constexpr vit_buffers take(Workspace& memory, const vit_shape& shape, index_t batch) {
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
constexpr std::size_t vit_workspace_bytes(const vit_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory, patches;
  vit_buffers::take(memory, shape, batch);
  vit_buffers::take_patches(patches, shape);
  return memory.bytes_and(std::max(patches.bytes(), block_workspace_bytes(shape.block(), batch, threads)));
}

/// Checks all arguments of vit with a number of threads.
template <class Kinds = all_weight_kinds>
void require_vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                 const classifier_outputs& y, const workspace& memory, index_t threads) {
  const index_t batch = std::ssize(images);
  require_vit<Kinds>(p, shape);
  for (const image_view& image : images) {
    require_vit_image(image, shape);
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

/// The tokens of one image: quantized patches through the patch embedding, after the class tokens.
template <class Isa, class Kinds, class Code, executor Executor>
void embed(const image_view& image, const vit_parameters& p, const vit_shape& shape, matrix_view<Code> stream,
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
    linear<Isa, Kinds>(patches, p.patch.weights,
                       add_to_stream{p.patch.scale, p.token_addend.row_block(class_tokens, patches.rows)}, patch_tokens,
                       run);
  } else {
    const u8_embedding& embedding = p.embedding;
    copy_tokens(embedding.class_token, stream);
    linear<Isa, Kinds>(patches, p.patch.weights, requantize<std::uint8_t>{p.patch.scale}, patch_tokens, run);
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

/// From the images of a batch to their normalized class tokens.
template <class Isa, class Kinds, class Code, executor Executor>
void encode(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
            matrix_view<Code> stream, matrix_view<std::uint8_t> normalized, workspace memory, const Executor& run) {
  const index_t tokens = shape.tokens();
  workspace before_blocks = memory;
  const matrix_view<std::uint8_t> patches = vit_buffers::take_patches(before_blocks, shape);
  for (index_t i = 0; i < std::ssize(images); ++i) {
    embed<Isa, Kinds>(images[static_cast<std::size_t>(i)], p, shape, stream.row_block(i * tokens, tokens), patches,
                      run);
  }
  if (p.blocks.empty()) {
    layernorm<Isa>(gather_class_tokens(stream, shape), p.norm, normalized, run);
    return;
  }
  for (const block_parameters& layer : p.blocks.first(p.blocks.size() - 1)) {
    block<Isa, Kinds>(stream, layer, shape.block(), memory, run);
  }
  layernorm<Isa>(last_block<Isa, Kinds>(stream, p.blocks.back(), shape, memory, run), p.norm, normalized, run);
}

}  // namespace detail

/// A vision transformer in integers, from pixels to logits, for a batch of images. Of the last block only the part that
/// the class tokens need is computed.
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
    detail::encode<Isa, Kinds>(images, p, shape, buffer.stream_s16, buffer.normalized, memory, run);
  } else {
    detail::encode<Isa, Kinds>(images, p, shape, buffer.stream_u8, buffer.normalized, memory, run);
  }
  const matrix_view<const std::uint8_t> features(buffer.normalized.data, batch, shape.head_features());
  linear<Isa, Kinds>(features, p.head, requantize<std::int32_t>{p.logits}, y.logits, run);
  linear<Isa, Kinds>(features, p.head, requantize<std::uint8_t>{p.logits_u8}, y.logits_u8, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
