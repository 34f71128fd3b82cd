#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/model/fused_block.hpp"
#include "intact/model/fused_window_attention.hpp"
#include "intact/model/swin.hpp"

// Swin transformers on kernels, for batches and threads, without tensors between a product and the operation behind it.

namespace intact {
inline namespace INTACT_UNIT {

/// Buffers of a fused block for a batch.
template <class Code>
struct fused_swin_block_buffers {
  matrix_view<std::uint8_t> normalized;
  matrix_view<std::uint8_t> windows;  ///< in window order: norm1, then the attention's context
  matrix_view<Code> stream;           ///< in window order
  std::uint8_t* wide;                 ///< q, k and v in window order, then the perceptron's hidden codes of a band

  template <class Workspace>
  static constexpr fused_swin_block_buffers take(Workspace& memory, const swin_block_shape& shape, index_t batch) {
    const index_t width = shape.attention.width;
    const index_t rows = size_product(batch, shape.attention.grid.tokens());
    const index_t padded = size_product(batch, shape.attention.grid.padded_tokens());
    return {memory.template matrix<std::uint8_t>(rows, width), memory.template matrix<std::uint8_t>(padded, width),
            memory.template matrix<Code>(padded, width),
            memory.template take<std::uint8_t>(
                std::max(size_product(padded, size_product(3, width)),
                         size_product(fused_band_rows(rows, width, shape.hidden), shape.hidden)))};
  }
};

/// Bytes of workspace that a fused block needs for a batch and a number of threads, for memory of any alignment.
template <class Code = std::uint8_t>
constexpr std::size_t fused_swin_block_bytes(const swin_block_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory;
  fused_swin_block_buffers<Code>::take(memory, shape, batch);
  return memory.bytes_and(fused_window_attention_bytes(shape.attention, threads));
}

namespace detail {

/// The first half of a block. The residual stream goes into window order and back, so that the projection adds to it
/// where it is computed.
template <class Isa, class Code, executor Executor>
void fused_window_attention_half(matrix_view<Code> stream, const swin_block_parameters& p,
                                 const window_attention_shape& shape, const fused_swin_block_buffers<Code>& buffer,
                                 index_t batch, workspace memory, const Executor& run) {
  const window_grid& grid = shape.grid;
  const index_t tokens = grid.tokens(), padded = grid.padded_tokens();
  const auto padding = static_cast<std::uint8_t>(p.norm1_zero_point);
  layernorm<Isa>(stream, p.block.norm1, buffer.normalized, run);
  for (index_t i = 0; i < batch; ++i) {
    window_partition<Isa>(buffer.normalized.row_block(i * tokens, tokens), grid, padding,
                          buffer.windows.row_block(i * padded, padded), run);
    window_partition<Isa>(stream.row_block(i * tokens, tokens), grid, 0, buffer.stream.row_block(i * padded, padded),
                          run);
  }
  const linear_parameters& layer = p.block.attention.qkv;
  const matrix_view<std::uint8_t> qkv(buffer.wide, batch * padded, 3 * shape.width);
  linear<Isa>(buffer.windows, layer.weights, requantize<std::uint8_t>{layer.scale}, qkv, run);
  fused_window_attention<Isa>(qkv, p.attention(), shape, buffer.windows, memory, run);
  add_branch<Isa>(buffer.windows, p.block.attention.proj, p.block.add1, buffer.stream, run);
  for (index_t i = 0; i < batch; ++i) {
    window_reverse<Isa>(buffer.stream.row_block(i * padded, padded), grid, stream.row_block(i * tokens, tokens), run);
  }
}

}  // namespace detail

/// The block of swin_block.hpp, in place on the residual streams of a batch.
///
/// Shapes:    stream (batch * tokens) x width of u8 or s16, images behind each other.
/// Weights:   packed ones (pack.hpp) run on the fast kernels; others give the same bits, slowly.
/// Memory:    at least fused_swin_block_bytes<Code>(shape, batch, run.threads()) bytes. Nothing is allocated.
/// Exactness: bit for bit what swin_block() gives for each image, on every instruction set, with every executor.
/// Errors:    sizes that do not match, parameters out of range, a workspace that is too small: before anything is
///            written.
/// Source:    Swin transformer (arXiv 2103.14030), section 3.2; docs/numerics.md, section 12.
template <class Isa = isa::native, class Code, executor Executor = sequential>
void fused_swin_block(matrix_view<Code> stream, const swin_block_parameters& p, const swin_block_shape& shape,
                      workspace memory, const Executor& run = {}) {
  require_swin_block<Code>(p, shape);
  const index_t tokens = shape.attention.grid.tokens(), batch = tokens == 0 ? 0 : stream.rows / tokens;
  require_shape("swin_block", "stream", stream, batch * tokens, shape.attention.width);
  require_workspace("swin_block", memory, fused_swin_block_bytes<Code>(shape, batch, run.threads()));
  const auto buffer = fused_swin_block_buffers<Code>::take(memory, shape, batch);
  detail::fused_window_attention_half<Isa>(stream, p, shape.attention, buffer, batch, memory, run);

  const index_t each = fused_band_rows(stream.rows, stream.columns, shape.hidden);
  detail::for_each_fused_band(stream.rows, each, [&](index_t first, index_t count) {
    detail::fused_mlp_half<Isa>(stream.row_block(first, count), p.block, buffer.normalized.row_block(first, count),
                                {buffer.wide, count, shape.hidden}, run);
  });
}

/// Bytes of workspace that the feature maps of a batch take to compute, for memory of any alignment.
template <class Code>
constexpr std::size_t fused_swin_features_bytes(const swin_shape& shape, index_t batch = 1, index_t threads = 1) {
  std::size_t most = 0;
  const auto include = [&](auto take) {
    workspace_size memory;
    take(memory);
    most = std::max(most, memory.bytes());
  };
  include([&](workspace_size& memory) { swin_patch_buffers::take(memory, shape, batch); });
  for (index_t s = 0; s < shape.usable_stages(); ++s) {
    for (index_t position = 0; position < std::min<index_t>(shape.of(s).depth, 2); ++position) {
      most = std::max(most, fused_swin_block_bytes<Code>(shape.block(s, position), batch, threads));
    }
    if (s + 1 < shape.usable_stages()) {
      include([&](workspace_size& memory) { swin_merging_buffers<Code>::take(memory, shape, s, batch); });
    }
  }
  return most;
}

/// Bytes of workspace that a fused model needs for a batch and a number of threads, for memory of any alignment.
constexpr std::size_t fused_swin_bytes(const swin_shape& shape, index_t batch = 1, index_t threads = 1) {
  workspace_size memory;
  if (shape.stream == stream_codes::s16) {
    swin_buffers<std::int16_t>::take(memory, shape, batch);
    return memory.bytes_and(fused_swin_features_bytes<std::int16_t>(shape, batch, threads));
  }
  swin_buffers<std::uint8_t>::take(memory, shape, batch);
  return memory.bytes_and(fused_swin_features_bytes<std::uint8_t>(shape, batch, threads));
}

namespace detail {

/// The images of a batch as the residual stream of the first stage.
template <class Isa, class Code, executor Executor>
void fused_embed_patches(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                         matrix_view<Code> stream, workspace memory, const Executor& run) {
  const swin_patch_buffers buffer = swin_patch_buffers::take(memory, shape, std::ssize(images));
  const index_t samples = shape.patch * shape.patch, patches = shape.patches();
  for (index_t i = 0; i < std::ssize(images); ++i) {
    im2col<Isa>(images[static_cast<std::size_t>(i)], shape.patch, buffer.samples.row_block(i * patches, patches), run);
  }
  for (index_t channel = 0; channel < p.pixel_table.rows; ++channel) {
    const matrix_view<std::uint8_t> part = buffer.samples.column_block(channel * samples, samples);
    activation<Isa>(part, {p.pixel_table.row_block(channel, 1).data, 256}, part, run);
  }
  linear<Isa>(buffer.samples, p.patch.weights, requantize<std::uint8_t>{p.patch.scale}, buffer.patches, run);
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    layernorm<Isa>(buffer.patches, p.patch_norm, stream, run);
  } else {
    layernorm<Isa>(buffer.patches, p.patch_norm, buffer.patches, run);
    convert_codes<Isa>(buffer.patches, requantize<std::int16_t, tensor_scale>{p.tokens}, stream, run);
  }
}

/// From the residual streams of stage s to those of the next.
template <class Isa, class Code, executor Executor>
void fused_merge_stage(matrix_view<const Code> stream, const swin_merging_parameters& p, const swin_shape& shape,
                       index_t s, matrix_view<Code> next, index_t batch, workspace memory, const Executor& run) {
  const auto buffer = swin_merging_buffers<Code>::take(memory, shape, s, batch);
  const index_t tokens = shape.tokens_of(s), merged = shape.tokens_of(s + 1);
  for (index_t i = 0; i < batch; ++i) {
    patch_merge<Isa>(stream.row_block(i * tokens, tokens), shape.rows_of(s), shape.columns_of(s),
                     static_cast<Code>(p.norm.zero_point), buffer.merged.row_block(i * merged, merged), run);
  }
  layernorm<Isa>(buffer.merged, p.norm, buffer.normalized, run);
  linear<Isa>(buffer.normalized, p.reduction.weights, requantize<Code>{p.reduction.scale}, next, run);
}

/// All stages; the contracts have been checked.
template <class Isa, class Code, executor Executor>
void run_fused_stages(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                      std::span<const matrix_view<Code>> maps, workspace memory, const Executor& run) {
  fused_embed_patches<Isa>(images, p, shape, maps[0], memory, run);
  for (std::size_t s = 0; s < maps.size(); ++s) {
    const swin_stage_parameters& stage = p.stages[s];
    const index_t here = static_cast<index_t>(s);
    for (index_t position = 0; position < shape.of(here).depth; ++position) {
      fused_swin_block<Isa>(maps[s], stage.blocks[static_cast<std::size_t>(position)], shape.block(here, position),
                            memory, run);
    }
    if (s + 1 < maps.size()) {
      fused_merge_stage<Isa, Code>(maps[s], stage.merging, shape, here, maps[s + 1], std::ssize(images), memory, run);
    }
  }
}

/// From the images of a batch to the means of their last stage's normalized tokens.
template <class Isa, class Code, executor Executor>
matrix_view<const std::uint8_t> fused_pool_features(std::span<const image_view> images, const swin_parameters& p,
                                                    const swin_shape& shape, workspace& memory, const Executor& run) {
  const index_t batch = std::ssize(images), tokens = shape.tokens_of(shape.stages - 1);
  const auto buffer = swin_buffers<Code>::take(memory, shape, batch);
  const std::size_t stages = static_cast<std::size_t>(shape.stages);
  run_fused_stages<Isa, Code>(images, p, shape, std::span(buffer.maps).first(stages), memory, run);
  layernorm<Isa>(buffer.maps[stages - 1], p.norm, buffer.normalized, run);
  for (index_t i = 0; i < batch; ++i) {
    average_pool<Isa>(buffer.normalized.row_block(i * tokens, tokens), requantize<std::uint8_t, tensor_scale>{p.pool},
                      buffer.pooled.row_block(i, 1));
  }
  return buffer.pooled;
}

}  // namespace detail

/// The feature maps of swin_features() for a batch of images.
///
/// Shapes:    maps[s] (images * shape.tokens_of(s)) x shape.of(s).width, images behind each other; else as there.
/// Memory:    at least fused_swin_features_bytes<Code>(shape, images, run.threads()) bytes. Nothing is allocated.
/// Exactness: bit for bit what swin_features() gives, on every instruction set, with every executor.
/// Errors:    as there.
/// Source:    docs/numerics.md, section 12.
template <class Isa = isa::native, class Code, executor Executor = sequential>
void fused_swin_features(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                         std::span<const matrix_view<Code>> maps, workspace memory, const Executor& run = {}) {
  require_swin_features<Code>(p, shape);
  detail::require_swin_maps(maps, shape, std::ssize(images));
  for (const image_view& image : images) {
    detail::require_swin_image(image, shape);
  }
  require_workspace("swin_features", memory, fused_swin_features_bytes<Code>(shape, std::ssize(images), run.threads()));
  detail::run_fused_stages<Isa, Code>(images, p, shape, maps, memory, run);
}

/// The Swin transformer of swin.hpp for a batch of images, on blocks without tensors between their steps.
///
/// Shapes:    images as `shape` says; logits and logits_u8 images x classes.
/// Units:     as swin().
/// Weights:   packed ones (pack.hpp) run on the fast kernels; others give the same bits, slowly.
/// Memory:    at least fused_swin_bytes(shape, images, run.threads()) bytes. Nothing is allocated.
/// Exactness: bit for bit what swin() gives for each image, on every instruction set, with every executor.
/// Errors:    sizes that do not match and a workspace that is too small: before anything is written.
/// Source:    docs/numerics.md, section 12.
template <class Isa = isa::native, executor Executor = sequential>
void fused_swin(std::span<const image_view> images, const swin_parameters& p, const swin_shape& shape,
                matrix_view<std::int32_t> logits, matrix_view<std::uint8_t> logits_u8, workspace memory,
                const Executor& run = {}) {
  const index_t batch = std::ssize(images);
  require_swin(p, shape);
  for (const image_view& image : images) {
    detail::require_swin_image(image, shape);
  }
  require_shape("swin", "logits", logits, batch, shape.classes);
  require_shape("swin", "logits_u8", logits_u8, batch, shape.classes);
  require_workspace("swin", memory, fused_swin_bytes(shape, batch, run.threads()));
  const matrix_view<const std::uint8_t> pooled =
      shape.stream == stream_codes::s16 ? detail::fused_pool_features<Isa, std::int16_t>(images, p, shape, memory, run)
                                        : detail::fused_pool_features<Isa, std::uint8_t>(images, p, shape, memory, run);
  linear<Isa>(pooled, p.head, requantize<std::int32_t>{p.logits}, logits, run);
  linear<Isa>(pooled, p.head, requantize<std::uint8_t>{p.logits_u8}, logits_u8, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
