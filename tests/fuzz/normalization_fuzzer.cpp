// LayerNorm and RMSNorm of u8 and s16 codes.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fuzz_input.hpp"
#include "guarded_memory.hpp"
#include "intact/layernorm.hpp"
#include "intact/reference/layernorm.hpp"
#include "intact/reference/rmsnorm.hpp"
#include "intact/rmsnorm.hpp"
#include "layernorm_cases.hpp"
#include "same_bits.hpp"

namespace intact_test {
namespace {

/// Random parameters, or some at the ends of their ranges.
guarded_layernorm some_layernorm(fuzz_input& input, index_t channels, bool wide, generator& random) {
  guarded_layernorm p = random_layernorm(channels, wide, static_cast<int>(input.between(1, 48)), random);
  p.zero_point = wide ? 0 : input.code();
  if (input.flag()) {
    p.shift.assign(p.shift.size(), static_cast<std::uint8_t>(input.between(0, layernorm_max_shift)));
  }
  if (input.flag()) {
    const std::uint64_t power = std::uint64_t{1} << input.between(0, 61);
    p.epsilon = power + static_cast<std::uint64_t>(input.between(-1, 1));
    p.epsilon_fraction = input.between(layernorm_min_epsilon_fraction, layernorm_max_epsilon_fraction);
  }
  // Normalized values are at most sqrt(C), in units of 2^-24: with gains and bias they stay below 2^63.
  const auto largest_z = static_cast<std::int64_t>(std::sqrt(static_cast<double>(channels)) * 16777300) + 2;
  const auto largest_gain = static_cast<std::int32_t>(std::min((1LL << 62) / largest_z, (1LL << 30) - 1));
  for (std::int32_t& gain : p.gain) {
    gain = std::clamp(gain, -largest_gain, largest_gain);
  }
  if (input.flag()) {
    const std::int64_t largest_bias = std::numeric_limits<std::int64_t>::max() - largest_z * largest_gain;
    p.gain.assign(p.gain.size(), input.flag() ? largest_gain : -largest_gain);
    p.bias.assign(p.bias.size(), input.flag() ? largest_bias : -largest_bias);
  }
  return p;
}

template <class Code>
void check(fuzz_input& input) {
  constexpr std::int64_t low = std::numeric_limits<Code>::min(), high = std::numeric_limits<Code>::max();
  constexpr bool wide = low < 0;
  constexpr index_t limit = wide ? layernorm_max_channels_s16 : layernorm_max_channels;
  const bool at_limit = input.between(0, 127) == 127;
  const index_t rows = at_limit ? input.between(0, 2) : input.size(80);
  const index_t columns = at_limit ? limit + input.between(-1, 1) : input.size();
  generator random = input.random();
  const guarded_layernorm p = some_layernorm(input, columns, wide, random);
  guarded_tensor<Code> x(rows, columns, input.where());
  const std::int64_t least = input.between(low, high), most = input.between(least, high);
  fill(x.view(), input.contents(), least, most, random);
  input.change(x.view(), low, high);
  const auto compare = [&](const auto& specified, const auto& computed) {
    expect_same_bits<guarded_tensor<std::uint8_t>>(
        input, rows, columns, [&](auto y) { specified(y); },
        [&](auto y, const auto& run) { computed(std::as_const(x).view(), y, run); });
    if constexpr (!wide) {
      expect_same_bits_in_place(x, specified, [&](auto y) { computed(matrix_view<const Code>(y), y, sequential{}); });
    }
  };
  const matrix_view<const Code> codes = x.view();
  compare([&](auto y) { reference::layernorm(codes, p.view(), y); },
          [&](auto from, auto y, const auto& run) { layernorm<tested_isa>(from, p.view(), y, run); });
  compare([&](auto y) { reference::rmsnorm(codes, p.view(), y); },
          [&](auto from, auto y, const auto& run) { rmsnorm<tested_isa>(from, p.view(), y, run); });
}

}  // namespace
}  // namespace intact_test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace intact_test;
  fuzz_input input(bytes, size);
  input.call_one({check<std::uint8_t>, check<std::int16_t>});
  return 0;
}
