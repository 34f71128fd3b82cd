#pragma once

#include <span>

#include "intact/model/vit.hpp"

namespace intact_test {

/// A call of vit.
struct vit_call {
  std::span<const intact::image_view> images;
  const intact::vit_parameters& parameters;
  intact::vit_shape shape;
  intact::classifier_outputs y;
  intact::workspace memory;
};

/// The function intact_vit in the library of each instruction set.
using vit_function = void (*)(const vit_call& call);

}  // namespace intact_test
