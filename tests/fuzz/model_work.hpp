#pragma once

#include <cstddef>
#include <initializer_list>

#include "intact/model/swin.hpp"
#include "intact/model/vit.hpp"
#include "tensor.hpp"

// Files claim models of any size: what a model takes to run.

namespace intact_test {

/// Products of codes for an image, and bytes of workspace, of models that are run.
inline constexpr index_t most_work = 1 << 21;
inline constexpr std::size_t most_workspace = 1 << 24;

inline index_t sum_of(std::initializer_list<index_t> all) {
  index_t sum = 0;
  for (const index_t each : all) {
    sum = size_sum(sum, each);
  }
  return sum;
}

inline index_t work_of(const block_shape& shape) {
  const index_t tokens = shape.attention.tokens, width = shape.attention.width;
  return size_product(tokens, size_product(width, sum_of({4 * width, 2 * tokens, 2 * shape.hidden, 64})));
}

inline index_t work_of(const vit_shape& shape) {
  return sum_of({size_product(size_product(shape.patches(), shape.patch_values()), shape.width),
                 size_product(shape.depth, work_of(shape.block())),
                 size_product(shape.classes, shape.head_features())});
}

inline index_t work_of(const swin_shape& shape) {
  index_t work = size_product(size_product(shape.patches(), shape.patch_values()), shape.of(0).width);
  for (index_t s = 0; s < shape.stages; ++s) {
    const swin_block_shape block = shape.block(s, 0);
    const index_t windows = block.attention.grid.windows(), width = shape.of(s).width;
    const index_t blocks = size_product(shape.of(s).depth, size_product(windows, work_of(block.per_window())));
    const index_t merging = size_product(size_product(shape.tokens_of(s), width), size_product(16, width));
    work = sum_of({work, blocks, merging});
  }
  return size_sum(work, size_product(shape.classes, shape.of(shape.stages - 1).width));
}

/// Whether a model runs in a moment.
inline bool is_small(const vit_shape& shape) {
  return work_of(shape) <= most_work && vit_workspace_bytes(shape, 2, 2) <= most_workspace;
}
inline bool is_small(const swin_shape& shape) {
  return work_of(shape) <= most_work && swin_workspace_bytes(shape, 2, 2) <= most_workspace;
}

}  // namespace intact_test
