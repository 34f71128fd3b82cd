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
struct architecture {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
};
#if INTACT_HAS_SSE4_1
template <>
struct architecture<isa::sse4_1> {
  using type = xsimd::sse4_1;
};
#endif
#if INTACT_HAS_AVX2
template <>
struct architecture<isa::avx2> {
  using type = xsimd::avx2;
};
#endif
#if INTACT_HAS_AVX2_VNNI
template <>
struct architecture<isa::avx2_vnni> {
  using type = xsimd::avx2;
};
#endif
#if INTACT_HAS_AVX512BW
template <>
struct architecture<isa::avx512bw> {
  using type = xsimd::avx512bw;
};
#endif
#if INTACT_HAS_AVX512VNNI
template <>
struct architecture<isa::avx512vnni> {
  using type = xsimd::avx512bw;
};
#endif
#if INTACT_HAS_AVX512VBMI
template <>
struct architecture<isa::avx512vbmi> {
  using type = xsimd::avx512bw;
};
#endif
#if INTACT_HAS_NEON
template <>
struct architecture<isa::neon> {
  using type = xsimd::neon64;
};
#endif
#if INTACT_HAS_NEON_DOTPROD
template <>
struct architecture<isa::neon_dotprod> {
  using type = xsimd::neon64;
};
#endif
#if INTACT_HAS_NEON_I8MM
template <>
struct architecture<isa::neon_i8mm> {
  using type = xsimd::neon64;
};
#endif

template <class Isa>
struct s32_register {
#if INTACT_HAS_SSE4_1 || INTACT_HAS_NEON
  using type = xsimd::batch<std::int32_t, typename architecture<Isa>::type>;
#else
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
#endif
};
template <>
struct s32_register<isa::scalar> {
  using type = std::int32_t;
};

}  // namespace detail

/// A register of signed 32-bit lanes.
template <class Isa>
using s32 = typename detail::s32_register<Isa>::type;

/// Lanes of such a register: 1, 4, 8 or 16.
template <class Isa>
inline constexpr index_t lanes = sizeof(s32<Isa>) / sizeof(std::int32_t);

template <class Isa>
INTACT_INLINE s32<Isa> broadcast(std::int32_t x) {
  return s32<Isa>(x);
}

template <class Isa>
INTACT_INLINE s32<Isa> load(const std::int32_t* from) {
  if constexpr (lanes<Isa> == 1) {
    return *from;
  } else {
    return s32<Isa>::load_unaligned(from);
  }
}

template <class Isa>
INTACT_INLINE void store(s32<Isa> x, std::int32_t* to) {
  if constexpr (lanes<Isa> == 1) {
    *to = x;
  } else {
    x.store_unaligned(to);
  }
}

/// Wrapping, as registers do.
template <class Isa>
INTACT_INLINE s32<Isa> add(s32<Isa> x, s32<Isa> y) {
  if constexpr (lanes<Isa> == 1) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(y));
  } else {
    return x + y;
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> subtract(s32<Isa> x, s32<Isa> y) {
  if constexpr (lanes<Isa> == 1) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) - static_cast<std::uint32_t>(y));
  } else {
    return x - y;
  }
}

/// The low 32 bits of each product.
template <class Isa>
INTACT_INLINE s32<Isa> multiply(s32<Isa> x, s32<Isa> y) {
  if constexpr (lanes<Isa> == 1) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) * static_cast<std::uint32_t>(y));
  } else {
    return x * y;
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> min(s32<Isa> x, s32<Isa> y) {
  if constexpr (lanes<Isa> == 1) {
    return x < y ? x : y;
  } else {
    return min(x, y);  // xsimd's
  }
}

template <class Isa>
INTACT_INLINE s32<Isa> max(s32<Isa> x, s32<Isa> y) {
  if constexpr (lanes<Isa> == 1) {
    return x > y ? x : y;
  } else {
    return max(x, y);  // xsimd's
  }
}

/// Does nothing, but the compiler does not know: what it has found out about a register ends here. Without it GCC keeps
/// the accumulators of a tile twice, as 64-bit and as 32-bit lanes, on the way from the loop of dot products to what
/// follows, or once for each branch on the way, and spills them. Accumulators of plain integers pass it after their
/// loop, too: see INTACT_GCC_BUG_107212.
template <class Batch>
INTACT_INLINE void optimization_barrier([[maybe_unused]] Batch& x) {
#if INTACT_GCC_BUG_107212
  if constexpr (sizeof(Batch) == sizeof(std::int32_t)) {
    asm("" : "+r"(x));
  }
#endif
#if INTACT_HAS_SSE4_1
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

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
