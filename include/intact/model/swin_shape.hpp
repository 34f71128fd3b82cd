#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "intact/model/swin_block.hpp"
#include "intact/types/stream_codes.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Most Swin stages of a model.
inline constexpr index_t swin_max_stages = 8;

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// Sizes of one Swin stage: blocks between two mergings.
struct swin_stage_shape {
  index_t width = 0;   ///< channels
  index_t heads = 1;   ///< number of heads
  index_t hidden = 0;  ///< width of the perceptrons' hidden layer
  index_t depth = 0;   ///< number of blocks
  index_t window = 1;  ///< tokens on a side of a window

  INTACT_INLINE friend constexpr bool operator==(const swin_stage_shape&, const swin_stage_shape&) = default;
};

/// Sizes of a Swin transformer.
struct swin_shape {
  index_t channels = 0;     ///< of images
  index_t height = 0;       ///< of images
  index_t image_width = 0;  ///< of images
  index_t patch = 1;        ///< side of a patch in pixels
  index_t stages = 0;       ///< number of Swin stages
  /// Sizes of each.
  std::array<swin_stage_shape, static_cast<std::size_t>(swin_max_stages)> stage = {};
  index_t classes = 0;                     ///< number of classes
  stream_codes stream = stream_codes::u8;  ///< codes of the residual stream

  /// Swin stages within the limits: the sizes of a shape that the models refuse are unspecified, but finite.
  INTACT_INLINE constexpr index_t usable_stages() const {
    return stages < 1 ? 1 : stages < swin_max_stages ? stages : swin_max_stages;
  }
  /// Sizes of Swin stage s.
  INTACT_INLINE constexpr const swin_stage_shape& of(index_t s) const { return stage[static_cast<std::size_t>(s)]; }
  /// Samples of a patch.
  INTACT_INLINE constexpr index_t patch_values() const { return size_product(channels, size_product(patch, patch)); }
  /// Tokens down, across, and all, of a Swin stage; a merging halves them, rounded up.
  INTACT_INLINE constexpr index_t rows_of(index_t s) const { return halved(height / patch, s); }
  /// Tokens across, of a Swin stage.
  INTACT_INLINE constexpr index_t columns_of(index_t s) const { return halved(image_width / patch, s); }
  /// Tokens of a Swin stage.
  INTACT_INLINE constexpr index_t tokens_of(index_t s) const { return size_product(rows_of(s), columns_of(s)); }
  /// Patches of an image: tokens of the first Swin stage.
  INTACT_INLINE constexpr index_t patches() const { return tokens_of(0); }

  /// Every other block of a Swin stage, beginning with the second, shifts its windows by half of their size, but not
  /// where the smaller side of the grid is no longer than a window.
  INTACT_INLINE constexpr swin_block_shape block(index_t s, index_t position) const {
    const index_t side = std::min(rows_of(s), columns_of(s)), window = of(s).window;
    const index_t shift = position % 2 == 0 || side <= window ? 0 : window / 2;
    return {
        {{.height = rows_of(s), .width = columns_of(s), .window = window, .shift = shift}, of(s).width, of(s).heads},
        of(s).hidden};
  }

  INTACT_INLINE friend constexpr bool operator==(const swin_shape&, const swin_shape&) = default;

 private:
  INTACT_INLINE static constexpr index_t halved(index_t size, index_t times) {
    for (; times > 0; --times) {
      size = size / 2 + size % 2;
    }
    return size;
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks a shape's sizes.
inline void require_swin_shape(const swin_shape& shape) {
  require_at_least("swin", "patch", shape.patch, 1);
  require_at_least("swin", "height", shape.height, 0);
  require_at_least("swin", "image_width", shape.image_width, 0);
  require_equal("swin", "height % patch", shape.height % shape.patch, 0);
  require_equal("swin", "image_width % patch", shape.image_width % shape.patch, 0);
  require_between("swin", "stages", shape.stages, 1, swin_max_stages);
  for (index_t s = 0; s < shape.stages; ++s) {
    require_at_least("swin", "window", shape.of(s).window, 1);
    require_at_least("swin", "depth of a stage", shape.of(s).depth, 0);
  }
}

/// Buffers of the patch embedding and of a merging for a batch, taken from a workspace.
struct swin_patch_buffers {
  matrix_view<std::uint8_t> samples;  ///< patches as rows of samples
  matrix_view<std::uint8_t> patches;  ///< codes of the patch embedding

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr swin_patch_buffers take(Workspace& memory, const swin_shape& shape, index_t batch = 1) {
    const index_t rows = size_product(batch, shape.tokens_of(0));
    return {.samples = memory.template matrix<std::uint8_t>(rows, shape.patch_values()),
            .patches = memory.template matrix<std::uint8_t>(rows, shape.of(0).width)};
  }
};

/// Buffers of a merging.
template <class Code>
struct swin_merging_buffers {
  matrix_view<Code> merged;              ///< 2 x 2 tokens in one row
  matrix_view<std::uint8_t> normalized;  ///< the same after the LayerNorm

  /// Of the merging after Swin stage s.
  template <class Workspace>
  static constexpr swin_merging_buffers take(Workspace& memory, const swin_shape& shape, index_t s, index_t batch = 1) {
    const index_t rows = size_product(batch, shape.tokens_of(s + 1)), columns = size_product(4, shape.of(s).width);
    return {.merged = memory.template matrix<Code>(rows, columns),
            .normalized = memory.template matrix<std::uint8_t>(rows, columns)};
  }
};

/// The residual streams of all Swin stages.
template <class Code>
using swin_maps = std::array<matrix_view<Code>, static_cast<std::size_t>(swin_max_stages)>;

/// Buffers of a classification of a batch, taken from a workspace; the Swin stages' buffers follow them.
template <class Code>
struct swin_buffers {
  swin_maps<Code> maps = {};             ///< codes of the residual stream
  matrix_view<std::uint8_t> normalized;  ///< of all tokens
  matrix_view<std::uint8_t> pooled;      ///< one row per image

  /// Takes the buffers from a workspace; of a workspace_size, counts their bytes.
  template <class Workspace>
  static constexpr swin_buffers take(Workspace& memory, const swin_shape& shape, index_t batch = 1) {
    swin_buffers buffers;
    for (index_t s = 0; s < shape.usable_stages(); ++s) {
      buffers.maps[static_cast<std::size_t>(s)] =
          memory.template matrix<Code>(size_product(batch, shape.tokens_of(s)), shape.of(s).width);
    }
    const index_t last = shape.usable_stages() - 1;
    buffers.normalized =
        memory.template matrix<std::uint8_t>(size_product(batch, shape.tokens_of(last)), shape.of(last).width);
    buffers.pooled = memory.template matrix<std::uint8_t>(batch, shape.of(last).width);
    return buffers;
  }
};

}  // namespace INTACT_UNIT
}  // namespace intact
