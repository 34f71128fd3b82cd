#pragma once

#include <vector>

#include "intact/build/vit_scales.hpp"
#include "intact/config/floating_point.hpp"

// Scales of the tensors of a Swin transformer: observed by calibrate(), taken by build_swin().

namespace intact {
inline namespace INTACT_UNIT {

/// Scales of a block's tensors; fields are named like the tensors of model/trace.hpp.
struct swin_block_scales {
  block_scales block;  ///< as of a vision transformer
  /// The bias, and logits plus bias.
  affine_scale position_bias, biased_logits;
};

/// Scales of a Swin stage's tensors.
struct swin_stage_scales {
  std::vector<swin_block_scales> blocks;  ///< from the first to the last
  affine_scale merge_norm;                ///< these two not of the last Swin stage
  ptf_scale merge;                        ///< the residual stream of the next Swin stage
  float stream = 1;                       ///< of an s16 residual stream
};

/// Scales of a Swin transformer's tensors.
struct swin_scales {
  /// Pixels, and the patch embedding.
  affine_scale input, patch;
  affine_scale tokens;                    ///< the residual stream, or the u8 codes that begin an s16 stream
  std::vector<swin_stage_scales> stages;  ///< from the first to the last
  /// The final LayerNorm, its mean, and the head.
  affine_scale norm, pool, logits;
};

}  // namespace INTACT_UNIT
}  // namespace intact
