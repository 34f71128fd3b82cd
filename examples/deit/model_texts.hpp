#pragma once

#include <string>

#include "models.hpp"

// Sizes of models, for people.

namespace intact_deit {

/// "12 blocks of width 192"; of a Swin transformer each stage has a width.
inline std::string blocks_text(const intact::vit_shape& shape) {
  return std::to_string(shape.depth) + " blocks of width " + std::to_string(shape.width);
}
inline std::string blocks_text(const intact::swin_shape& shape) {
  std::string depths, widths;
  for (index_t s = 0; s < shape.stages; ++s) {
    depths += (s == 0 ? "" : ", ") + std::to_string(shape.of(s).depth);
    widths += (s == 0 ? "" : ", ") + std::to_string(shape.of(s).width);
  }
  return std::to_string(shape.stages) + " stages of " + depths + " blocks of width " + widths;
}

/// "1000 classes", or the features of a model without a head.
inline std::string outputs_text(const intact::vit_shape& shape) {
  return shape.classes != 0 ? std::to_string(shape.classes) + " classes"
                            : std::to_string(shape.head_features()) + " features";
}
inline std::string outputs_text(const intact::swin_shape& shape) {
  return std::to_string(shape.classes) + " classes";
}

}  // namespace intact_deit
