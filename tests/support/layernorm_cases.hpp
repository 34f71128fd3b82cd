#pragma once

#include <algorithm>
#include <cstdint>

#include "guarded_memory.hpp"
#include "intact/layernorm.hpp"
#include "tensor.hpp"

// Random parameters of LayerNorm and RMSNorm. No array is followed by memory that may be read.

namespace intact_test {

struct guarded_layernorm {
  int zero_point;
  guarded_vector<std::uint8_t> shift;
  std::uint64_t epsilon;
  guarded_vector<std::int32_t> gain;
  guarded_vector<std::int64_t> bias;
  int output_shift;
  std::int64_t epsilon_fraction = 0;

  layernorm_parameters view() const { return {zero_point, shift, epsilon, gain, bias, output_shift, epsilon_fraction}; }
};

/// Half of the outputs are within the range of codes, the others are clamped.
inline guarded_layernorm random_layernorm(index_t channels, bool is_wide, int output_shift, generator& random) {
  guarded_layernorm p{is_wide ? 0 : static_cast<int>(random.between(0, 255)), {}, 1, {}, {}, output_shift};
  p.epsilon = std::uint64_t{1} << random.between(0, 40);
  p.epsilon_fraction = random.between(layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction);
  const std::int64_t largest_gain =
      std::min<std::int64_t>((1 << 30) - 1, std::int64_t{100} << std::max(0, output_shift - 24));
  for (index_t c = 0; c < channels; ++c) {
    p.shift.push_back(static_cast<std::uint8_t>(random.between(0, layernorm_max_shift)));
    p.gain.push_back(static_cast<std::int32_t>(random.between(-largest_gain, largest_gain)));
    p.bias.push_back(random.between(0, (std::int64_t{256} << output_shift) - 1));
  }
  return p;
}

}  // namespace intact_test
