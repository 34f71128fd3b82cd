#pragma once

#include <string>
#include <tuple>

#include "intact/config/contract.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/types/view.hpp"

// Names of a model's tensors in messages, so that a refusal says where in the model it applies.

namespace intact {
inline namespace INTACT_UNIT {

/// A tensor of a model, named as in model/trace.hpp. Without a name: a block.
struct tensor_place {
  std::string tensor;  ///< its name; empty: the block itself
  index_t block = -1;  ///< -1: outside the blocks; of merge_norm and merge the Swin stage

  /// "tensor fc1 of block 3", for messages.
  std::string text() const {
    if (block < 0) {
      return "tensor " + tensor;
    }
    const std::string part = (tensor.starts_with("merge") ? "stage " : "block ") + std::to_string(block);
    return tensor.empty() ? part : "tensor " + tensor + " of " + part;
  }

  friend bool operator<(const tensor_place& a, const tensor_place& b) {
    return std::tie(a.block, a.tensor) < std::tie(b.block, b.tensor);
  }
};

/// Runs a part of the work on a model: part(), whose result it returns. Refusals in it begin with the tensor and the
/// block; without exceptions, with the words of the part alone.
template <class Part>
decltype(auto) at_tensor(const tensor_place& place, Part&& part) {
  return with_refusals(part, [&](const char* words) { return place.text() + ": " + words; });
}

}  // namespace INTACT_UNIT
}  // namespace intact
