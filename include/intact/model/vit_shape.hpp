#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "intact/model/block.hpp"
#include "intact/types/image.hpp"
#include "intact/types/stream_codes.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The features of an image, which the head takes, or which come out of a model without a head. Means are those of the
/// patch tokens.
enum class vit_pooling {
  class_tokens,           ///< the final LayerNorm of the class tokens, one after the other
  mean,                   ///< the final LayerNorm of the patch tokens, then their mean
  class_tokens_and_mean,  ///< both, the class tokens first; the mean has the scale of the class tokens
  normalized_mean,        ///< the mean of the patch tokens, then its LayerNorm
  patch_tokens            ///< the final LayerNorm of the patch tokens, one after the other
};

/// Sizes of a vision transformer. Its tokens are the class tokens, the register tokens, and the patches.
struct vit_shape {
  index_t channels = 0;                             ///< of images
  index_t height = 0;                               ///< of images
  index_t image_width = 0;                          ///< of images
  patch_size patch = 1;                             ///< in pixels
  index_t width = 0;                                ///< channels of a token
  index_t heads = 1;                                ///< number of heads
  index_t hidden = 0;                               ///< width of the perceptrons' hidden layer
  index_t depth = 0;                                ///< number of blocks
  index_t classes = 0;                              ///< 0: no head; vit_features() alone
  index_t class_tokens = 1;                         ///< 2 with a distillation token
  stream_codes stream = stream_codes::u8;           ///< codes of the residual stream
  index_t registers = 0;                            ///< register tokens: neither class tokens nor patches
  vit_pooling pooling = vit_pooling::class_tokens;  ///< which tokens the head takes
  normalization norm = normalization::layernorm;    ///< of all norms of the model
  bool gated = false;                               ///< whether the blocks' perceptrons have a gate
  std::optional<normalization> qk_norm = {};        ///< of the norms of queries and keys, if there are any

  /// Patches of an image.
  INTACT_INLINE constexpr index_t patches() const {
    return size_product(height / patch.height, image_width / patch.width);
  }
  /// Class tokens and register tokens.
  INTACT_INLINE constexpr index_t prefix_tokens() const { return size_sum(class_tokens, registers); }
  /// All tokens.
  INTACT_INLINE constexpr index_t tokens() const { return size_sum(patches(), prefix_tokens()); }
  /// Samples of a patch.
  INTACT_INLINE constexpr index_t patch_values() const { return size_product(channels, patch.samples()); }
  /// Sizes of a block.
  INTACT_INLINE constexpr block_shape block() const {
    return {{.tokens = tokens(), .width = width, .heads = heads, .qk_norm = qk_norm}, hidden, norm, gated};
  }

  /// Whether class tokens are features.
  INTACT_INLINE constexpr bool has_class_features() const {
    return pooling == vit_pooling::class_tokens || pooling == vit_pooling::class_tokens_and_mean;
  }
  /// Class tokens that are features.
  INTACT_INLINE constexpr index_t class_features() const { return has_class_features() ? class_tokens : 0; }
  /// Whether a mean of normalized patch tokens is a feature.
  INTACT_INLINE constexpr bool pools_normalized() const {
    return pooling == vit_pooling::mean || pooling == vit_pooling::class_tokens_and_mean;
  }
  /// Tokens of an image that the final LayerNorm takes.
  INTACT_INLINE constexpr index_t normalized_tokens() const {
    const bool of_patches = pools_normalized() || pooling == vit_pooling::patch_tokens;
    return pooling == vit_pooling::normalized_mean ? 1 : size_sum(class_features(), of_patches ? patches() : 0);
  }
  /// Features of an image, the inputs of the head.
  INTACT_INLINE constexpr index_t head_features() const {
    if (pooling == vit_pooling::patch_tokens) {
      return size_product(patches(), width);
    }
    return size_product(size_sum(class_features(), pooling == vit_pooling::class_tokens ? 0 : 1), width);
  }

  INTACT_INLINE friend constexpr bool operator==(const vit_shape&, const vit_shape&) = default;
};

}  // namespace INTACT_ABI
}  // namespace intact
