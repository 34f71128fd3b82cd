// Models from float weights. no_quantize.cpp takes its place in a library without intact::quantize.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/model.hpp"
#include "intact/c/recipe.hpp"
#include "intact/c/status.hpp"
#include "intact/io/model_file.hpp"
#include "intact/io/safetensors_write.hpp"
#include "intact/quantize/build_vit.hpp"
#include "intact/quantize/calibrate.hpp"
#include "intact/quantize/load_checkpoint.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

constexpr const char* quantize_function = "intact_quantize_vit";

tensor_to_write tensor_of(const intact_tensor& tensor) {
  constexpr const char* function = quantize_function;
  require_pointer({function, "name of a tensor"}, tensor.name);
  if (tensor.type != INTACT_F32 && tensor.type != INTACT_BF16) [[unlikely]] {
    refuse_type<float, bfloat16>({function, tensor.name}, tensor.type);
  }
  const std::span<const ptrdiff_t> shape = array_at({function, "shape"}, tensor.shape, tensor.dimensions);
  index_t bytes = tensor.type == INTACT_F32 ? 4 : 2;
  for (const ptrdiff_t size : shape) {
    bytes = size_product(bytes, size);
  }
  if (bytes < 0 || bytes == max_size) [[unlikely]] {
    contract_failed("%s: tensor %s has a size below 0 or too many elements", function, tensor.name);
  }
  return {.name = tensor.name,
          .type = tensor.type == INTACT_F32 ? dtype::f32 : dtype::bf16,
          .shape = {shape.begin(), shape.end()},
          .bytes = array_at({function, tensor.name}, static_cast<const std::byte*>(tensor.data), bytes)};
}

/// The tensors as a file in memory, which loaders take.
safetensors_file file_of(const intact_checkpoint& checkpoint) {
  std::vector<tensor_to_write> tensors;
  for (const intact_tensor& tensor : array_at({quantize_function, "tensor"}, checkpoint.tensor, checkpoint.count)) {
    tensors.push_back(tensor_of(tensor));
  }
  return safetensors_file::parse(safetensors_bytes("checkpoint", tensors), "checkpoint");
}

float_vit float_model_of(const intact_checkpoint& checkpoint) {
  constexpr const char* function = quantize_function;
  require_choice({function, "activation"}, checkpoint.activation, INTACT_HARD_SWISH);
  float_vit_options model{.activation = static_cast<activation_function>(checkpoint.activation)};
  if (checkpoint.heads != 0) {
    model.heads = checkpoint.heads;
  }
  if (checkpoint.epsilon != 0) {
    model.epsilon = checkpoint.epsilon;
  }
  const auto floats = [&](const char* argument, const float* values) {
    const std::span<const float> all = optional_array_at({function, argument}, values, checkpoint.channels);
    return std::vector<float>(all.begin(), all.end());
  };
  model.mean = floats("mean", checkpoint.mean);
  model.standard_deviation = floats("deviation", checkpoint.deviation);
  return load_checkpoint(file_of(checkpoint), {.model = model});
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_quantize_vit(const intact_checkpoint* checkpoint, const intact_images* images,
                                  const intact_recipe* recipe, const char* path, intact_model** model) {
  constexpr const char* function = quantize_function;
  return status_of([&] {
    intact_model*& result = object_at({function, "model"}, model);
    result = nullptr;
    const quantization_recipe parts = recipe_of(function, recipe);
    const std::span<const intact_image> given = images_at(function, images);
    std::vector<image_view> views;
    std::transform(given.begin(), given.end(), std::back_inserter(views), view_of_image);
    const float_vit real = float_model_of(object_at({function, "checkpoint"}, checkpoint));
    integer_vit built = build_vit(real, calibrate(real, views), parts);
    if (path != nullptr) {
      save_integer_vit(built, path);
    }
    result = packed_model<packed_vit>(std::move(built));
  });
}
