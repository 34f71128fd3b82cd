#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../support/parameter_memory.hpp"
#include "hashes.hpp"
#include "intact/arith/integer_math.hpp"
#include "intact/layernorm.hpp"
#include "intact/types/scale.hpp"
#include "intact/types/softmax_parameters.hpp"

// Parameters of operations, from integers alone, such that codes fall all over their range and beyond.

namespace hashes {

/// The distribution of an operation's output codes.
struct integer_spread {
  int middle = 128;
  int deviation = 60;
};

/// Owns the arrays that parameters refer to, and draws random ones.
class random_memory : public intact_test::parameter_memory {
 public:
  explicit random_memory(std::uint64_t seed) : random(seed) {}

  random_numbers random;

  template <class T>
  std::span<T> random_array(index_t count, std::int64_t low, std::int64_t high) {
    return array<T>(count, [&](index_t) { return random.between(low, high); });
  }

  template <class T>
  matrix_view<const T> random_matrix(index_t rows, index_t columns, std::int64_t low, std::int64_t high) {
    return matrix<T>(rows, columns, low, high, random);
  }

  packed_view<s4, const std::uint8_t> random_s4(index_t rows, index_t columns) {
    const auto made = std::make_shared<nibble_matrix<s4>>(rows, columns, random);
    keep(made);
    return made->view();
  }

  grouped_s4_view random_grouped_s4(index_t rows, index_t columns, index_t group) {
    const packed_view<s4, const std::uint8_t> codes = random_s4(rows, columns);
    return {codes, random_matrix<std::uint8_t>(rows, group_count(columns, group), 0, 3), group};
  }
};

/// The scale that takes accumulators of this deviation to codes of that.
inline tensor_scale scale_of(std::int64_t accumulator_deviation, const integer_spread& y) {
  int shift = 0;
  while (shift < 24 && (std::int64_t{y.deviation} << (33 + shift)) / accumulator_deviation < std::int64_t{1} << 31) {
    ++shift;
  }
  const std::int64_t multiplier = (std::int64_t{y.deviation} << (32 + shift)) / accumulator_deviation;
  return {static_cast<std::int32_t>(multiplier), (2 * std::int64_t{y.middle} + 1) * (std::int64_t{1} << (31 + shift)),
          shift, 0};
}

/// The deviation of a sum of products of `inputs` uniform codes, whose products deviate by so much.
inline std::int64_t deviation_of_sum(std::int64_t of_product, index_t inputs) {
  const auto variance = static_cast<std::uint64_t>(of_product * of_product * std::max<index_t>(inputs, 1));
  return std::int64_t{integer_sqrt(variance)};
}

/// Deviations of products of uniform codes: u8 around its zero point and s8, s4, u8 and u8.
inline constexpr std::int64_t u8_s8_deviation = 5400, u8_s4_deviation = 340, u8_u8_deviation = 5400;

/// A scale per channel for the sums of weights(n, k) times u8 codes with the zero point 128.
template <class Weights>
channel_scale channel_scale_of(random_memory& memory, const Weights& weights, std::int64_t product_deviation,
                               const integer_spread& y) {
  const tensor_scale all = scale_of(deviation_of_sum(product_deviation, weights.columns), y);
  const std::span<std::int32_t> multiplier =
      memory.random_array<std::int32_t>(weights.rows, all.multiplier / 2, all.multiplier);
  const auto offset = [&](index_t n) {
    std::int64_t sum = 0;
    for (index_t k = 0; k < weights.columns; ++k) {
      sum += weights(n, k);
    }
    return all.offset - 128 * sum * multiplier[static_cast<std::size_t>(n)];
  };
  return {multiplier, memory.array<std::int64_t>(weights.rows, offset), all.shift, 0};
}

inline layernorm_parameters layernorm_of(random_memory& memory, index_t width, int zero_point) {
  return {.zero_point = zero_point,
          .shift = memory.random_array<std::uint8_t>(width, 0, layernorm_max_shift),
          .epsilon = 1000,
          .gain = memory.array<std::int32_t>(width, [&](index_t) { return memory.random.between(-60, 60) << 23; }),
          .bias = memory.array<std::int64_t>(
              width, [&](index_t) { return (memory.random.between(200, 300) << 47) + memory.random.between(0, 99); }),
          .output_shift = 48};
}

inline add_parameters add_of(random_memory& memory, index_t width) {
  return {.stream_multiplier = memory.random_array<std::int32_t>(width, 500'000, 1'000'000),
          .branch_multiplier = memory.random_array<std::int32_t>(width, 200'000, 900'000),
          .offset = memory.array<std::int32_t>(width, [](index_t) { return 257 << 19; }),
          .stream_zero_point = 120,
          .branch_zero_point = 128,
          .shift = 20};
}

/// exp(-d / 16) times 2^bits, about.
template <class T>
std::span<const T> exponential_of(random_memory& memory, int bits) {
  std::uint64_t value = std::uint64_t{1} << bits;
  return memory.array<T>(256, [&](index_t) {
    const std::uint64_t now = value;
    value -= value >> 4;
    return now;
  });
}

/// Codes of the logarithm to the base 2, up to the largest, or weights of 255 * 2^(-d / 16).
inline std::span<const std::uint8_t> log2_codes(random_memory& memory, int largest) {
  return memory.array<std::uint8_t>(256, [&](index_t d) { return std::min<index_t>(d / 11, largest); });
}
inline std::span<const std::uint8_t> weights_by_distance(random_memory& memory) {
  std::uint64_t value = 255 << 16;
  return memory.array<std::uint8_t>(256, [&](index_t) {
    const std::uint64_t now = value >> 16;
    value -= value >> 4;
    return now;
  });
}

}  // namespace hashes
