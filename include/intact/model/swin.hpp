#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/activation.hpp"
#include "intact/average_pool.hpp"
#include "intact/convert_codes.hpp"
#include "intact/im2col.hpp"
#include "intact/layernorm.hpp"
#include "intact/model/swin_block.hpp"
#include "intact/model/swin_shape.hpp"
#include "intact/model/vit.hpp"
#include "intact/patch_merge.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Patch merging: 2 x 2 neighbours in one row, LayerNorm, and a linear layer to the next Swin stage's residual stream.
struct swin_merging_parameters {
  layernorm_parameters norm;    ///< 4 width channels: the shifts of the stream's channels four times
  linear_parameters reduction;  ///< weights next width x 4 width; to codes of the next Swin stage's stream
};

/// Parameters of a Swin stage.
struct swin_stage_parameters {
  std::span<const swin_block_parameters> blocks;  ///< from the first to the last
  swin_merging_parameters merging = {};           ///< not of the last Swin stage
};

/// Parameters of a fully-integer Swin transformer. Owns nothing; build/integer_swin.hpp owns them.
struct swin_parameters {
  matrix_view<const std::uint8_t> pixel_table =
      {};                           ///< channels x 256: normalizes and quantizes a pixel; empty: the pixel
  linear_parameters patch;          ///< weights width x (channels * patch^2); to u8
  layernorm_parameters patch_norm;  ///< to the codes of a u8 stream, or to those that begin an s16 stream
  tensor_scale tokens = {};         ///< of an s16 stream: from patch_norm's codes
  std::span<const swin_stage_parameters> stages;  ///< from the first to the last
  layernorm_parameters norm;                      ///< the final LayerNorm
  tensor_scale pool;                              ///< from sums of norm's codes
  any_packed_weights head;                        ///< classes x width of the last Swin stage
  channel_scale logits;                           ///< int32 codes: 256 steps to one of logits_u8
  channel_scale logits_u8;                        ///< u8 codes
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

namespace detail {

template <class Code, class Kinds>
void require_swin_stages(const swin_parameters& p, const swin_shape& shape) {
  require_equal("swin", "size of stages", std::ssize(p.stages), shape.stages);
  for (index_t s = 0; s < shape.stages; ++s) {
    const swin_stage_parameters& stage = p.stages[static_cast<std::size_t>(s)];
    require_equal("swin", "size of a stage's blocks", std::ssize(stage.blocks), shape.of(s).depth);
    for (index_t position = 0; position < shape.of(s).depth; ++position) {
      require_swin_block<Code, Kinds>(stage.blocks[static_cast<std::size_t>(position)], shape.block(s, position));
    }
    if (s + 1 < shape.stages) {
      const index_t merged = 4 * shape.of(s).width;
      require_layernorm<Code>("swin: merging.norm", stage.merging.norm, merged);
      require_linear<Kinds>("swin: merging.reduction", stage.merging.reduction, shape.of(s + 1).width, merged);
    }
  }
}

}  // namespace detail

/// Checks the parameters that feature maps are computed with.
template <class Code, class Kinds = all_weight_kinds>
void require_swin_features(const swin_parameters& p, const swin_shape& shape) {
  require_swin_shape(shape);
  if (p.pixel_table.rows != 0) {
    require_shape("swin", "pixel_table", p.pixel_table, shape.channels, 256);
  }
  require_linear<Kinds>("swin: patch", p.patch, shape.of(0).width, shape.patch_values());
  require_layernorm("swin: patch_norm", p.patch_norm, shape.of(0).width);
  require_scale("swin: tokens", p.tokens, shape.of(0).width);
  detail::require_swin_stages<Code, Kinds>(p, shape);
}

/// Checks a model's parameters against its sizes.
template <class Kinds = all_weight_kinds>
void require_swin(const swin_parameters& p, const swin_shape& shape) {
  const bool wide = shape.stream == stream_codes::s16;
  wide ? require_swin_features<std::int16_t, Kinds>(p, shape) : require_swin_features<std::uint8_t, Kinds>(p, shape);
  const index_t last = shape.stages - 1, width = shape.of(last).width;
  wide ? require_layernorm<std::int16_t>("swin: norm", p.norm, width) : require_layernorm("swin: norm", p.norm, width);
  require_at_most("swin", "tokens to pool", shape.tokens_of(last), average_pool_max_tokens);
  require_scale("swin: pool", p.pool, width);
  require_linear<Kinds>("swin: head, logits", {p.head, p.logits}, shape.classes, width);
  require_linear<Kinds>("swin: head, logits_u8", {p.head, p.logits_u8}, shape.classes, width);
}

/// Checks feature maps against the sizes of a model and a batch: one for each stage.
template <class Code>
void require_swin_maps(std::span<const matrix_view<Code>> maps, const swin_shape& shape, index_t batch) {
  require_equal("swin_features", "s16 maps", std::is_same_v<Code, std::int16_t>, shape.stream == stream_codes::s16);
  require_equal("swin_features", "number of maps", std::ssize(maps), shape.stages);
  for (index_t s = 0; s < shape.stages; ++s) {
    require_shape("swin_features", "a map", maps[static_cast<std::size_t>(s)], size_product(batch, shape.tokens_of(s)),
                  shape.of(s).width);
  }
}

/// Bytes of workspace that the feature maps of a batch take to compute, for memory of any alignment.
template <class Code>
constexpr std::size_t swin_features_workspace_bytes(const swin_shape& shape, index_t batch = 1, index_t threads = 1) {
  std::size_t most = 0;
  const auto include = [&](auto take) {
    workspace_size memory;
    take(memory);
    most = std::max(most, memory.bytes());
  };
  include([&](workspace_size& memory) { swin_patch_buffers::take(memory, shape, batch); });
  for (index_t s = 0; s < shape.usable_stages(); ++s) {
    for (index_t position = 0; position < std::min<index_t>(shape.of(s).depth, 2); ++position) {
      most = std::max(most, swin_block_workspace_bytes<Code>(shape.block(s, position), batch, threads));
    }
    if (s + 1 < shape.usable_stages()) {
      include([&](workspace_size& memory) { swin_merging_buffers<Code>::take(memory, shape, s, batch); });
    }
  }
  return most;
}

/// Bytes of workspace that a model needs for a batch and a number of threads, for memory of any alignment.
constexpr std::size_t swin_workspace_bytes(const swin_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory;
  if (shape.stream == stream_codes::s16) {
    swin_buffers<std::int16_t>::take(memory, shape, batch);
    return memory.bytes_and(swin_features_workspace_bytes<std::int16_t>(shape, batch, threads));
  }
  swin_buffers<std::uint8_t>::take(memory, shape, batch);
  return memory.bytes_and(swin_features_workspace_bytes<std::uint8_t>(shape, batch, threads));
}

/// Checks all arguments of swin_features with a number of threads.
template <class Kinds = all_weight_kinds, class Code>
void require_swin_features(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                           std::span<const matrix_view<Code>> maps, const workspace& memory, index_t threads) {
  require_swin_features<Code, Kinds>(p, shape);
  require_swin_maps(maps, shape, std::ssize(images));
  for (const image_view& image : images) {
    require_image("swin", image, shape);
  }
  require_workspace("swin_features", memory, swin_features_workspace_bytes<Code>(shape, std::ssize(images), threads));
}

/// Checks all arguments of swin with a number of threads.
template <class Kinds = all_weight_kinds>
void require_swin(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                  const classifier_outputs& y, const workspace& memory, index_t threads) {
  const index_t batch = std::ssize(images);
  require_swin<Kinds>(p, shape);
  for (const image_view& image : images) {
    require_image("swin", image, shape);
  }
  require_outputs("swin", y, batch, shape.classes);
  require_workspace("swin", memory, swin_workspace_bytes(shape, batch, threads));
}

namespace detail {

/// The images of a batch as the residual stream of the first Swin stage.
template <class Isa, class Kinds, class Code, executor Executor>
void embed_patches(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                   matrix_view<Code> stream, workspace memory, const Executor& run) {
  const swin_patch_buffers buffer = swin_patch_buffers::take(memory, shape, std::ssize(images));
  const index_t patches = shape.patches();
  for (index_t i = 0; i < std::ssize(images); ++i) {
    im2col<Isa>(images[static_cast<std::size_t>(i)], shape.patch, buffer.samples.row_block(i * patches, patches), run);
  }
  quantize_pixels<Isa>(buffer.samples, p.pixel_table, shape.patch, run);
  linear<Isa, Kinds>(buffer.samples, p.patch.weights, requantize<std::uint8_t>{p.patch.scale}, buffer.patches, run);
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    layernorm<Isa>(buffer.patches, p.patch_norm, stream, run);
  } else {
    layernorm<Isa>(buffer.patches, p.patch_norm, buffer.patches, run);
    convert_codes<Isa>(buffer.patches, requantize<std::int16_t, tensor_scale>{p.tokens}, stream, run);
  }
}

/// From the residual streams of Swin stage s, maps[s], to those of the next.
template <class Isa, class Kinds, class Code, executor Executor>
void merge_stage(std::span<const matrix_view<Code>> maps, index_t s, const swin_merging_parameters& p,
                 const swin_shape& shape, workspace memory, const Executor& run) {
  const matrix_view<Code> stream = maps[static_cast<std::size_t>(s)], next = maps[static_cast<std::size_t>(s + 1)];
  const index_t tokens = shape.tokens_of(s), merged = shape.tokens_of(s + 1);
  const index_t batch = tokens == 0 ? 0 : stream.rows / tokens;
  const auto buffer = swin_merging_buffers<Code>::take(memory, shape, s, batch);
  for (index_t i = 0; i < batch; ++i) {
    patch_merge<Isa>(stream.row_block(i * tokens, tokens), shape.rows_of(s), shape.columns_of(s),
                     static_cast<Code>(p.norm.zero_point), buffer.merged.row_block(i * merged, merged), run);
  }
  layernorm<Isa>(buffer.merged, p.norm, buffer.normalized, run);
  linear<Isa, Kinds>(buffer.normalized, p.reduction.weights, requantize<Code>{p.reduction.scale}, next, run);
}

/// All Swin stages; the contracts have been checked.
template <class Isa, class Kinds, class Code, executor Executor>
void run_stages(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                std::span<const matrix_view<Code>> maps, workspace memory, const Executor& run) {
  embed_patches<Isa, Kinds>(images, p, shape, maps[0], memory, run);
  for (std::size_t s = 0; s < maps.size(); ++s) {
    const swin_stage_parameters& stage = p.stages[s];
    const index_t here = static_cast<index_t>(s);
    for (index_t position = 0; position < shape.of(here).depth; ++position) {
      swin_block<Isa, Kinds>(maps[s], stage.blocks[static_cast<std::size_t>(position)], shape.block(here, position),
                             memory, run);
    }
    if (s + 1 < maps.size()) {
      merge_stage<Isa, Kinds>(maps, here, stage.merging, shape, memory, run);
    }
  }
}

/// From the images of a batch to the means of their last Swin stage's normalized tokens.
template <class Isa, class Kinds, class Code, executor Executor>
matrix_view<const std::uint8_t> pool_features(std::span<const image_view> images, const swin_parameters& p,
                                              const swin_shape& shape, workspace& memory, const Executor& run) {
  const index_t batch = std::ssize(images), tokens = shape.tokens_of(shape.stages - 1);
  const auto buffer = swin_buffers<Code>::take(memory, shape, batch);
  const std::size_t stages = static_cast<std::size_t>(shape.stages);
  run_stages<Isa, Kinds, Code>(images, p, shape, std::span(buffer.maps).first(stages), memory, run);
  layernorm<Isa>(buffer.maps[stages - 1], p.norm, buffer.normalized, run);
  for (index_t i = 0; i < batch; ++i) {
    average_pool<Isa>(buffer.normalized.row_block(i * tokens, tokens), requantize<std::uint8_t, tensor_scale>{p.pool},
                      buffer.pooled.row_block(i, 1));
  }
  return buffer.pooled;
}

}  // namespace detail

/// The feature maps of a Swin transformer in integers, for a batch of images: the residual stream that leaves each
/// Swin stage, before it is merged. A detector's backbone normalizes them with layernorm() and parameters of its own.
///
/// Shapes:    images as `shape` says; maps[s] (images * shape.tokens_of(s)) x shape.of(s).width of u8 or s16, one image
///            after the other, row-major on a grid of shape.rows_of(s) x shape.columns_of(s) tokens: strides of patch *
///            2^s pixels. Grids whose sides are no multiples of the window, or odd before a merging, are padded with
///            zeros, as the original does.
/// Units:     u8: codes of the last block's add2; s16: one scale for each Swin stage.
/// Memory:    at least swin_features_workspace_bytes<Code>(shape, images, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor; equal to reference::swin_features.
/// Errors:    an image whose sides are no multiples of a patch, sizes that do not match, a stream of the other type,
///            weights of a kind that is not of Kinds, a workspace that is too small: before anything is written.
/// Aliasing:  maps must not overlap each other, the images or the workspace.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    Swin transformer (arXiv 2103.14030), section 3; FQ-ViT; docs/numerics.md, section 12.
template <class Isa = isa::native, class Kinds = all_weight_kinds, class Code, executor Executor = sequential>
void swin_features(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                   std::span<const matrix_view<Code>> maps, workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_swin_features<Kinds>(images, p, shape, maps, memory, run.threads());
  detail::run_stages<Isa, Kinds, Code>(images, p, shape, maps, memory, run);
}

/// A Swin transformer in integers, from pixels to logits, for a batch of images.
///
/// Shapes:    images as `shape` says; logits and logits_u8 images x classes.
/// Units:     as of vit().
/// Memory:    at least swin_workspace_bytes(shape, images, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor; equal to reference::swin of each image.
/// Errors:    as of swin_features.
/// Aliasing:  logits and logits_u8 must not overlap each other, the images or the workspace.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    Swin transformer (arXiv 2103.14030); FQ-ViT; docs/numerics.md, section 12.
template <class Isa = isa::native, class Kinds = all_weight_kinds, executor Executor = sequential>
void swin(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
          const classifier_outputs& y, workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_swin<Kinds>(images, p, shape, y, memory, run.threads());
  const matrix_view<const std::uint8_t> pooled =
      shape.stream == stream_codes::s16
          ? detail::pool_features<Isa, Kinds, std::int16_t>(images, p, shape, memory, run)
          : detail::pool_features<Isa, Kinds, std::uint8_t>(images, p, shape, memory, run);
  linear<Isa, Kinds>(pooled, p.head, requantize<std::int32_t>{p.logits}, y.logits, run);
  linear<Isa, Kinds>(pooled, p.head, requantize<std::uint8_t>{p.logits_u8}, y.logits_u8, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
