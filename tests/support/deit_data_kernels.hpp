#pragma once

#include <cstdint>
#include <span>

#include "intact/model/vit.hpp"

namespace intact_test {

/// A call of fused_vit.
struct fused_vit_call {
  std::span<const intact::image_view> images;
  const intact::vit_parameters& parameters;
  intact::vit_shape shape;
  intact::matrix_view<std::int32_t> logits;
  intact::matrix_view<std::uint8_t> logits_u8;
  intact::workspace memory;
};

/// What the library of an instruction set offers, as intact_fused_vit.
using fused_vit_function = void (*)(const fused_vit_call& call);

}  // namespace intact_test
