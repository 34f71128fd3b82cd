// Models from files. no_model.cpp takes its place in a library without intact::io.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <span>
#include <variant>
#include <vector>

#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/model.hpp"
#include "intact/c/status.hpp"
#include "intact/dispatch/models.hpp"
#include "intact/io/model_file.hpp"
#include "intact/io/safetensors.hpp"
#include "intact/types/image.hpp"
#include "intact/types/workspace.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

/// The model of a file of one of both formats.
template <class File>
intact_model* load(File& file) {
  const auto format = file.metadata().find("format");
  if (format != file.metadata().end() && format->second == swin_file_format) {
    return packed_model<packed_swin>(load_integer_swin(file));
  }
  return packed_model<packed_vit>(load_integer_vit(file));
}

/// A call of a model: images as views at the beginning of the workspace, and the rest of it.
class model_call {
 public:
  model_call(const char* function, const intact_images* images, const intact_workspace* scratch)
      : rest_(object_at({function, "workspace"}, scratch).memory, scratch->bytes) {
    const std::span<const intact_image> given = images_at(function, images);
    require_workspace("run_model", rest_, workspace_bytes(std::ssize(given), 0));
    image_view* const views = rest_.take<image_view>(std::ssize(given));
    std::transform(given.begin(), given.end(), views, view_of_image);
    images_ = {views, given.size()};
  }

  std::span<const image_view> images() const { return images_; }
  const workspace& rest() const { return rest_; }

  /// Bytes for views, and for a model that takes so many bytes.
  static std::size_t workspace_bytes(index_t images, std::size_t of_model) {
    workspace_size size;
    size.take<image_view>(images);
    return size.bytes_and(of_model);
  }

 private:
  workspace rest_;
  std::span<const image_view> images_;
};

std::size_t model_bytes(const packed_vit& model, index_t images, index_t threads) {
  return vit_workspace_bytes(model.shape(), images, threads);
}
std::size_t model_bytes(const packed_swin& model, index_t images, index_t threads) {
  return swin_workspace_bytes(model.shape(), images, threads);
}

void classify(const packed_vit& model, const model_call& call, const classifier_outputs& y,
              const executor_of_caller& run) {
  dispatch::vit(call.images(), model.parameters(), model.shape(), y, call.rest(), run);
}
void classify(const packed_swin& model, const model_call& call, const classifier_outputs& y,
              const executor_of_caller& run) {
  dispatch::swin(call.images(), model.parameters(), model.shape(), y, call.rest(), run);
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_load_model(const char* path, intact_model** model) {
  constexpr const char* function = "intact_load_model";
  return status_of([&] {
    intact_model*& result = object_at({function, "model"}, model);
    result = nullptr;
    require_pointer({function, "path"}, path);
    safetensors_reader file{std::filesystem::path(path)};
    result = load(file);
  });
}

intact_status intact_load_model_from_memory(const void* data, size_t bytes, const char* name, intact_model** model) {
  constexpr const char* function = "intact_load_model_from_memory";
  return status_of([&] {
    intact_model*& result = object_at({function, "model"}, model);
    result = nullptr;
    require_pointer({function, "name"}, name);
    require_pointer({function, "data"}, data);
    const auto* const first = static_cast<const std::byte*>(data);
    const safetensors_file file = safetensors_file::parse(std::vector<std::byte>(first, first + bytes), name);
    result = load(file);
  });
}

intact_status intact_free_model(intact_model* model) {
  delete model;
  return INTACT_OK;
}

intact_status intact_describe_model(const intact_model* model, intact_model_info* info) {
  constexpr const char* function = "intact_describe_model";
  return status_of([&] {
    const intact_model& mine = object_at({function, "model"}, model);
    object_at({function, "info"}, info) = mine.info;
  });
}

intact_status intact_model_workspace_bytes(const intact_model* model, ptrdiff_t images, ptrdiff_t threads,
                                           size_t* bytes) {
  constexpr const char* function = "intact_model_workspace_bytes";
  return status_of([&] {
    const intact_model& mine = object_at({function, "model"}, model);
    std::size_t& result = object_at({function, "bytes"}, bytes);
    require_at_least("model", "images", images, 0);
    require_at_least("model", "threads", threads, 1);
    result = std::visit(
        [&](const auto& packed) { return model_call::workspace_bytes(images, model_bytes(packed, images, threads)); },
        mine.packed);
  });
}

intact_status intact_run_model(const intact_model* model, const intact_images* images, const intact_logits* logits,
                               const intact_workspace* scratch, const intact_executor* run) {
  constexpr const char* function = "intact_run_model";
  return status_of([&] {
    const intact_model& mine = object_at({function, "model"}, model);
    const intact_logits& to = object_at({function, "logits"}, logits);
    const classifier_outputs y{.logits = matrix_of<std::int32_t>({function, "s32"}, to.s32),
                               .logits_u8 = matrix_of<std::uint8_t>({function, "u8"}, to.u8)};
    const executor_of_caller executor(function, run);
    const model_call call(function, images, scratch);
    std::visit([&](const auto& packed) { classify(packed, call, y, executor); }, mine.packed);
  });
}

intact_status intact_model_features(const intact_model* model, const intact_images* images, const intact_matrix* y,
                                    const intact_workspace* scratch, const intact_executor* run) {
  constexpr const char* function = "intact_model_features";
  return status_of([&] {
    const intact_model& mine = object_at({function, "model"}, model);
    const auto* const vit = std::get_if<packed_vit>(&mine.packed);
    if (vit == nullptr) [[unlikely]] {
      contract_failed("%s: the model is a Swin transformer; features are those of INTACT_VIT", function);
    }
    const auto to = matrix_of<std::uint8_t>({function, "y"}, object_at({function, "y"}, y));
    const executor_of_caller executor(function, run);
    const model_call call(function, images, scratch);
    dispatch::vit_features(call.images(), vit->parameters(), vit->shape(), to, call.rest(), executor);
  });
}
