#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "intact/config/bits_as.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/kernel/row.hpp"
#include "intact/simd/batch.hpp"

// Registers of float32 lanes: xsimd's batches, as many lanes as those of 32-bit integers, and plain numbers for
// isa::scalar. Every operation is rounded to float32: between a product and a sum, rounded_to_float keeps compilers
// from contracting them to one instruction with one rounding, which -march=native allows them otherwise.

namespace intact {
inline namespace INTACT_UNIT {

/// Checks that numbers are finite and at least `lowest`, which `rule` says in words.
inline void require_floats(const char* operation, const char* argument, std::span<const float> all, float lowest,
                           const char* rule) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!(all[i] >= lowest) || !std::isfinite(all[i])) [[unlikely]] {
      contract_failed("intact::%s: %s[%zu] is %g; it must be %s", operation, argument, i, static_cast<double>(all[i]),
                      rule);
    }
  }
}

namespace kernel {

namespace detail {

template <class Register>
struct float_register;
template <>
struct float_register<std::int32_t> {
  using type = float;
};
template <template <class, class> class Batch, class Arch>
struct float_register<Batch<std::int32_t, Arch>> {
  using type = Batch<float, Arch>;
};

}  // namespace detail

template <class Isa>
using f32 = typename detail::float_register<s32<Isa>>::type;

/// 1.5 * 2^23: the sum of it and an x of less than 2^22 is rounded to an integer, halves to even, in its low bits.
inline constexpr float rounding_constant = 12582912;

INTACT_INLINE float rounded_to_float(float x) {
  auto bits = bits_as<std::int32_t>(x);
  asm("" : "+r"(bits));
  return bits_as<float>(bits);
}

/// x, |x| < 2^22, to the nearest integer, halves to even.
INTACT_INLINE std::int32_t nearest_integer(float x) {
  return bits_as<std::int32_t>(x + rounding_constant) - bits_as<std::int32_t>(rounding_constant);
}

template <class Isa>
INTACT_INLINE f32<Isa> rounded_lanes(f32<Isa> x) {
  if constexpr (!simd::is_vector<Isa>) {
    return rounded_to_float(x);
  } else {
    simd::optimization_barrier(x);
    return x;
  }
}

template <class Isa>
INTACT_INLINE f32<Isa> float_of(s32<Isa> x) {
  if constexpr (!simd::is_vector<Isa>) {
    return static_cast<float>(x);
  } else {
    return to_float(x);  // xsimd's
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> nearest_integers(f32<Isa> x) {
  return simd::subtract<Isa>(bits_as<s32<Isa>>(x + f32<Isa>(rounding_constant)),
                             simd::broadcast<Isa>(bits_as<std::int32_t>(rounding_constant)));
}

/// x limited to low..high. x is no NaN.
template <class Isa>
INTACT_INLINE f32<Isa> clamp_lanes(f32<Isa> x, f32<Isa> low, f32<Isa> high) {
  if constexpr (!simd::is_vector<Isa>) {
    return x < low ? low : x > high ? high : x;
  } else {
    return min(max(x, low), high);  // xsimd's
  }
}

template <class Isa>
INTACT_INLINE f32<Isa> load_floats(const float* from) {
  if constexpr (!simd::is_vector<Isa>) {
    return *from;
  } else {
    return f32<Isa>::load_unaligned(from);
  }
}

template <class Isa>
INTACT_INLINE void store_floats(f32<Isa> x, float* to) {
  if constexpr (!simd::is_vector<Isa>) {
    *to = x;
  } else {
    x.store_unaligned(to);
  }
}

/// `count` numbers for N registers, followed by zeros.
template <class Isa, unsigned N>
INTACT_INLINE void load_float_row(const float* from, index_t count, f32<Isa> (&to)[N]) {
  alignas(64) float copy[static_cast<std::size_t>(N * simd::lanes<Isa>)];
  if (count < index_t{N} * simd::lanes<Isa>) {
    copy_prefix<Isa>(from, count, copy);
    from = copy;
  }
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    to[j] = load_floats<Isa>(from + j * simd::lanes<Isa>);
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
