#pragma once

#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "intact/config/floating_point.hpp"
#include "intact/types/view.hpp"

// Names of a model's tensors in messages, so that a refusal says where in the model it applies.

namespace intact {
inline namespace INTACT_UNIT {

namespace detail {

/// A tensor of a model, named as in model/trace.hpp. Without a name: a block.
struct tensor_place {
  std::string tensor;
  index_t block = -1;  ///< -1: outside the blocks; of merge_norm and merge the stage

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

/// Runs a part of the work on a model. Refusals in it get the tensor and the block before their own words.
template <class Part>
decltype(auto) at_tensor(const tensor_place& place, Part&& part) {
  try {
    return std::forward<Part>(part)();
  } catch (const std::invalid_argument& refusal) {
    contract_broken((place.text() + ": " + refusal.what()).c_str());
  }
}

}  // namespace detail

}  // namespace INTACT_UNIT
}  // namespace intact
