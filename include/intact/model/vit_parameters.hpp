#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <variant>

#include "intact/average_pool.hpp"
#include "intact/model/block.hpp"
#include "intact/model/vit_shape.hpp"

// Parameters of a vision transformer, their checks, and its memory.

namespace intact {
inline namespace INTACT_ABI {

/// Patches, class and register tokens, and positions in u8, each in a scale of its own, for a stream of u8 codes.
struct u8_embedding {
  std::span<const std::uint8_t> table;          ///< 256: from patch's output scale to the tokens' scale
  matrix_view<const std::uint8_t> class_token;  ///< prefix tokens x width codes in the tokens' scale
  matrix_view<const std::uint8_t> positions;    ///< tokens x width codes
  add_parameters add_positions;                 ///< of tokens and positions
};

/// From sums of tokens to their mean, as the pooling of the shape demands it.
struct no_mean {
  INTACT_INLINE friend constexpr bool operator==(const no_mean&, const no_mean&) = default;
};
/// The final LayerNorm's codes are averaged.
struct mean_of_normalized {
  tensor_scale scale;  ///< from sums of the final LayerNorm's codes to u8
};
/// The residual stream's codes are averaged, before the final LayerNorm.
struct mean_of_stream {
  channel_scale scale;  ///< from sums of the residual stream's codes to s16, which the final LayerNorm takes
};
/// Which mean the head takes.
using mean_parameters = std::variant<no_mean, mean_of_normalized, mean_of_stream>;

/// The LayerNorm before the first block, as CLIP's. Its u8 codes begin the residual stream.
struct no_pre_norm {};
/// Parameters of the LayerNorm before the first block.
struct pre_norm_parameters {
  layernorm_parameters norm;  ///< to u8 codes
  channel_scale stream = {};  ///< of an s16 stream: from the LayerNorm's codes
};
/// Whether there is a LayerNorm before the blocks.
using pre_norm = std::variant<no_pre_norm, pre_norm_parameters>;

/// Parameters of a fully-integer vision transformer. Owns nothing; build/integer_vit.hpp owns them.
struct vit_parameters {
  matrix_view<const std::uint8_t> pixel_table =
      {};                       ///< channels x 256: normalizes and quantizes a pixel; empty: the pixel
  linear_parameters patch;      ///< weights width x (channels * patch samples); to u8 or to the s16 stream
  u8_embedding embedding = {};  ///< of a u8 stream
  matrix_view<const std::int16_t> token_addend = {};  ///< of an s16 stream, tokens x width: prefix tokens and positions
  std::span<const block_parameters> blocks;           ///< from the first to the last
  layernorm_parameters norm;                          ///< the final norm
  any_packed_weights head;    ///< classes x head features; of this and the next two a model without a head has none
  channel_scale logits;       ///< int32 codes: 256 steps to one of logits_u8
  channel_scale logits_u8;    ///< u8 codes
  mean_parameters mean = {};  ///< of the tokens that the head takes
  pre_norm norm_pre = {};     ///< if there is one
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
  require_at_least("vit", "patch height", shape.patch.height, 1);
  require_at_least("vit", "patch width", shape.patch.width, 1);
  require_equal("vit", "height % patch height", shape.height % shape.patch.height, 0);
  require_equal("vit", "image_width % patch width", shape.image_width % shape.patch.width, 0);
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
  if (shape.classes != 0) {
    require_linear<Kinds>("vit: head, logits", {p.head, p.logits}, shape.classes, shape.head_features());
    require_linear<Kinds>("vit: head, logits_u8", {p.head, p.logits_u8}, shape.classes, shape.head_features());
  }
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
  matrix_view<std::uint8_t> features;    ///< of each image
  matrix_view<std::uint8_t> stream_u8;   ///< of this and the next, one is empty
  matrix_view<std::int16_t> stream_s16;  ///< codes of the residual stream

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
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

/// Bytes of workspace that vit needs for a batch and a number of threads, for memory of any alignment.
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

/// Checks the arguments of vit and vit_features but for the outputs.
template <class Kinds>
void require_vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                 const workspace& memory, index_t threads) {
  require_vit<Kinds>(p, shape);
  for (const image_view& image : images) {
    require_image("vit", image, shape);
  }
  require_workspace("vit", memory, vit_workspace_bytes(shape, std::ssize(images), threads));
}

/// Checks all arguments of vit with a number of threads.
template <class Kinds = all_weight_kinds>
void require_vit(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                 const classifier_outputs& y, const workspace& memory, index_t threads) {
  require_at_least("vit", "classes", shape.classes, 1);
  require_vit<Kinds>(images, p, shape, memory, threads);
  require_outputs("vit", y, std::ssize(images), shape.classes);
}

/// Checks all arguments of vit_features with a number of threads.
template <class Kinds = all_weight_kinds>
void require_vit_features(std::span<const image_view> images, const vit_parameters& p, const vit_shape& shape,
                          const matrix_view<std::uint8_t>& y, const workspace& memory, index_t threads) {
  require_vit<Kinds>(images, p, shape, memory, threads);
  require_shape("vit_features", "y", y, std::ssize(images), shape.head_features());
}

}  // namespace INTACT_UNIT
}  // namespace intact
