// In place of quantize.cpp in a library without intact::quantize.

#include "intact/c/intact.h"
#include "intact/c/status.hpp"

intact_status intact_quantize_vit(const intact_checkpoint*, const intact_images*, const intact_recipe*, const char*,
                                  intact_model** model) {
  return intact::c::status_of([&] {
    if (model != nullptr) {
      *model = nullptr;
    }
    throw intact::c::not_built("intact_quantize_vit: the library was built without INTACT_QUANTIZE, which this takes");
  });
}
