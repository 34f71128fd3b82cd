// In place of model.cpp in a library without intact::io: there is no model to be used.

#include <string>

#include "intact/c/intact.h"
#include "intact/c/status.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

intact_status no_models(const char* function) {
  return status_of([&] {
    throw not_built(std::string(function) + ": the library was built without INTACT_IO, which models in files take");
  });
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using intact::c::no_models;

intact_status intact_load_model(const char*, intact_model** model) {
  if (model != nullptr) {
    *model = nullptr;
  }
  return no_models("intact_load_model");
}

intact_status intact_load_model_from_memory(const void*, size_t, const char*, intact_model** model) {
  if (model != nullptr) {
    *model = nullptr;
  }
  return no_models("intact_load_model_from_memory");
}

intact_status intact_free_model(intact_model* model) {
  return model == nullptr ? INTACT_OK : no_models("intact_free_model");
}

intact_status intact_describe_model(const intact_model*, intact_model_info*) {
  return no_models("intact_describe_model");
}

intact_status intact_model_workspace_bytes(const intact_model*, ptrdiff_t, ptrdiff_t, size_t*) {
  return no_models("intact_model_workspace_bytes");
}

intact_status intact_run_model(const intact_model*, const intact_images*, const intact_logits*, const intact_workspace*,
                               const intact_executor*) {
  return no_models("intact_run_model");
}

intact_status intact_model_features(const intact_model*, const intact_images*, const intact_matrix*,
                                    const intact_workspace*, const intact_executor*) {
  return no_models("intact_model_features");
}
