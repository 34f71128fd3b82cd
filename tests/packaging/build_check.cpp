// A block is observed, calibrated and built in a unit without exceptions and RTTI.

#include <cstddef>
#include <span>

#include "intact/build/block.hpp"
#include "intact/build/observe_block.hpp"

intact::block_parameters build_observed_block(const intact::float_block_view& block, intact::matrix_view<float> stream,
                                              std::span<std::byte> memory) {
  intact::block_calibration scales =
      intact::calibrate_block(intact::observe_block(block, stream), intact::precise_recipe);
  return intact::build_block(block, scales, intact::precise_recipe, memory);
}
