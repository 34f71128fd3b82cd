#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "intact/simd/dot4.hpp"

namespace intact_bench {

namespace detail {

/// x, but the compiler must believe that it is something else: it can neither compute in advance what the result is
/// used for nor leave out what x is the result of. No instruction.
template <class Register>
INTACT_INLINE Register hidden(Register x) {
  if constexpr (requires { x.data; }) {  // of xsimd
    return hidden(x.data);
  } else {
#if INTACT_X86
    asm volatile("" : "+v"(x));
#else
    asm volatile("" : "+w"(x));
#endif
    return x;
  }
}
INTACT_INLINE std::int32_t hidden(std::int32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}
INTACT_INLINE auto hidden(intact::simd::dot4<intact::isa::scalar, std::uint8_t>::quad x) {
  return decltype(x){{hidden(x.values[0]), hidden(x.values[1]), hidden(x.values[2]), hidden(x.values[3])}};
}

}  // namespace detail

/// Operations per second, in units of 10^9, of nothing but dot products: the instructions that the kernel uses for
/// them, on more accumulators than they take cycles, with no operand in memory. No matrix product can be faster. One
/// thread; the best of many short runs.
template <class Isa>
double peak_gops() {
  using dot = intact::simd::dot4<Isa, std::uint8_t>;
  using timer = std::chrono::steady_clock;
  constexpr std::size_t accumulators = !intact::simd::is_vector<Isa> ? 4 : 12;
  constexpr int steps = 20000;
  constexpr int unrolled = 4;
  constexpr double operations = 2.0 * 4 * static_cast<double>(dot::columns) * static_cast<double>(accumulators) * steps;
  const typename dot::activation activations[4] = {1, 2, 3, 4};
  const std::uint8_t weights[64] = {1, 2, 3, 4};
  const auto a = dot::broadcast(activations);
  auto w = dot::load(weights);
  double best = 0;
  for (const timer::time_point begin = timer::now(); timer::now() - begin < std::chrono::milliseconds(200);) {
    typename dot::accumulator sums[accumulators] = {};
    const timer::time_point start = timer::now();
    for (int i = 0; i < steps; i += unrolled) {
      INTACT_UNROLL
      for (int u = 0; u < unrolled; ++u) {
        INTACT_UNROLL
        for (std::size_t j = 0; j < accumulators; ++j) {
          w = detail::hidden(w);
          sums[j] = detail::hidden(dot::multiply_add(sums[j], a, w));
        }
      }
    }
    best = std::max(best, operations / std::chrono::duration<double, std::nano>(timer::now() - start).count());
  }
  return best;
}

}  // namespace intact_bench
