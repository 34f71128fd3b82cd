#pragma once

#include <cstdint>

#include "intact/simd/intrinsics.hpp"
#include "intact/simd/isa.hpp"
#include "intact/types/view.hpp"

// Registers of 32-bit lanes: xsimd's batches, and plain integers for isa::scalar, under the same few names.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

namespace detail {

template <class Isa>
struct s32_register : s32_register<typename Isa::parent> {};
template <>
struct s32_register<isa::scalar> {
  using type = std::int32_t;
};
#if INTACT_HAS_SSE2
/// xsimd would multiply lane by lane.
template <>
struct s32_register<isa::sse2> {
  using type = xsimd::batch<std::int32_t, xsimd::sse2>;

  INTACT_INLINE static type multiply(__m128i x, __m128i y) {
    const __m128i even = _mm_mul_epu32(x, y);
    const __m128i odd = _mm_mul_epu32(_mm_srli_epi64(x, 32), _mm_srli_epi64(y, 32));
    return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0b10'00), _mm_shuffle_epi32(odd, 0b10'00));
  }
};
#endif
#if INTACT_HAS_SSE4_1
template <>
struct s32_register<isa::sse4_1> {
  using type = xsimd::batch<std::int32_t, xsimd::sse4_1>;
};
#endif
#if INTACT_HAS_AVX2
template <>
struct s32_register<isa::avx2> {
  using type = xsimd::batch<std::int32_t, xsimd::avx2>;
};
#endif
#if INTACT_HAS_AVX512BW
template <>
struct s32_register<isa::avx512bw> {
  using type = xsimd::batch<std::int32_t, xsimd::avx512bw>;
};
#endif
#if INTACT_HAS_NEON
template <>
struct s32_register<isa::neon> {
  using type = xsimd::batch<std::int32_t, xsimd::neon64>;
};
#endif

template <class Isa>
struct compiled_s32_register : s32_register<Isa> {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  static_assert(sizeof(typename s32_register<Isa>::type) * 8 == Isa::register_bits);
};

}  // namespace detail

/// A register of signed 32-bit lanes.
template <class Isa>
using s32 = typename detail::compiled_s32_register<Isa>::type;

/// Lanes of such a register: 1, 4, 8 or 16.
template <class Isa>
inline constexpr index_t lanes = Isa::register_bits / 32;

/// Whether they are registers of several lanes, not plain integers.
template <class Isa>
inline constexpr bool is_vector = lanes<Isa> != 1;

template <class Isa>
INTACT_INLINE s32<Isa> broadcast(std::int32_t x) {
  return s32<Isa>(x);
}

template <class Isa>
INTACT_INLINE s32<Isa> load(const std::int32_t* from) {
  if constexpr (!is_vector<Isa>) {
    return *from;
  } else {
    return s32<Isa>::load_unaligned(from);
  }
}

template <class Isa>
INTACT_INLINE void store(s32<Isa> x, std::int32_t* to) {
  if constexpr (!is_vector<Isa>) {
    *to = x;
  } else {
    x.store_unaligned(to);
  }
}

/// Has no effect, but the compiler forgets all that it knows about the register. Without it GCC keeps the accumulators
/// of a tile twice, as 64-bit and as 32-bit lanes, on the way out of the loop of dot products, or once for each
/// branch on the way, and spills them. Plain integers pass it after each addition: see INTACT_GCC_BUG_107212.
template <class Batch>
INTACT_INLINE void optimization_barrier([[maybe_unused]] Batch& x) {
#if INTACT_GCC_BUG_107212
  if constexpr (sizeof(Batch) == sizeof(std::int32_t)) {
    asm("" : "+r"(x));
  }
#endif
#if INTACT_HAS_SSE2
  if constexpr (sizeof(Batch) > sizeof(std::int32_t)) {
    asm("" : "+v"(x.data));
  }
#endif
#if INTACT_HAS_NEON
  if constexpr (sizeof(Batch) > sizeof(std::int32_t)) {
    asm("" : "+w"(x.data));
  }
#endif
}

/// Wrapping, as registers do.
template <class Isa>
INTACT_INLINE s32<Isa> add(s32<Isa> x, s32<Isa> y) {
  if constexpr (!is_vector<Isa>) {
    auto sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(y));
    optimization_barrier(sum);
    return sum;
  } else {
    return x + y;
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> subtract(s32<Isa> x, s32<Isa> y) {
  if constexpr (!is_vector<Isa>) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) - static_cast<std::uint32_t>(y));
  } else {
    return x - y;
  }
}

/// The low 32 bits of each product.
template <class Isa>
INTACT_INLINE s32<Isa> multiply(s32<Isa> x, s32<Isa> y) {
  if constexpr (!is_vector<Isa>) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) * static_cast<std::uint32_t>(y));
  } else if constexpr (requires { detail::s32_register<Isa>::multiply(x, y); }) {
    return detail::s32_register<Isa>::multiply(x, y);
  } else {
    return x * y;
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> min(s32<Isa> x, s32<Isa> y) {
  if constexpr (!is_vector<Isa>) {
    return x < y ? x : y;
  } else {
    return min(x, y);  // xsimd's
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> max(s32<Isa> x, s32<Isa> y) {
  if constexpr (!is_vector<Isa>) {
    return x > y ? x : y;
  } else {
    return max(x, y);  // xsimd's
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> bit_and(s32<Isa> x, s32<Isa> y) {
  return x & y;
}

template <class Isa>
INTACT_INLINE s32<Isa> bit_or(s32<Isa> x, s32<Isa> y) {
  return x | y;
}

template <class Isa>
INTACT_INLINE s32<Isa> bit_xor(s32<Isa> x, s32<Isa> y) {
  return x ^ y;
}

template <class Isa>
INTACT_INLINE bool any_negative(s32<Isa> x) {
  if constexpr (!is_vector<Isa>) {
    return x < 0;
  } else {
    return any(x < broadcast<Isa>(0));  // xsimd's
  }
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
