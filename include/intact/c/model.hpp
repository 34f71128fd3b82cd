#pragma once

#include <span>
#include <utility>
#include <variant>

#include "intact/build/packed_swin.hpp"
#include "intact/build/packed_vit.hpp"
#include "intact/c/intact.h"
#include "intact/c/status.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/types/image.hpp"

struct intact_model {
  std::variant<intact::packed_vit, intact::packed_swin> packed;
  intact_model_info info;
};

namespace intact {
inline namespace INTACT_UNIT {
namespace c {

inline intact_model_info info_of(const integer_vit& model) {
  const vit_shape& shape = model.shape();
  return {.kind = INTACT_VIT,
          .channels = shape.channels,
          .height = shape.height,
          .width = shape.image_width,
          .classes = shape.classes,
          .features = shape.head_features(),
          .logits_scale = model.tensors().logits_scale,
          .features_scale = model.tensors().features_scale,
          .features_zero_point = model.tensors().features_zero_point};
}

inline intact_model_info info_of(const integer_swin& model) {
  const swin_shape& shape = model.shape();
  return {.kind = INTACT_SWIN,
          .channels = shape.channels,
          .height = shape.height,
          .width = shape.image_width,
          .classes = shape.classes,
          .features = 0,
          .logits_scale = model.tensors().logits_scale,
          .features_scale = 0,
          .features_zero_point = 0};
}

/// A model that is ready to run, on the heap.
template <class Packed, class Integer>
intact_model* packed_model(Integer model) {
  const intact_model_info info = info_of(model);
  return new intact_model{Packed(std::move(model)), info};
}

/// The images of a batch.
inline std::span<const intact_image> images_at(const char* function, const intact_images* images) {
  const intact_images& batch = object_at({function, "images"}, images);
  return array_at({function, "image"}, batch.image, batch.count);
}

inline image_view view_of_image(const intact_image& image) {
  return {.data = image.data,
          .channels = image.channels,
          .height = image.height,
          .width = image.width,
          .channel_stride = image.channel_stride,
          .row_stride = image.row_stride,
          .pixel_stride = image.pixel_stride};
}

}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact
