#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "intact/simd/batch.hpp"
#include "intact/simd/sse_steps.hpp"

// Conversion between registers of 32-bit lanes and memory of 8 or 16 bits.
//
//   widen<Isa>(from)      `lanes` elements of u8, s16 or s32 as s32
//   narrow<Isa>(x, to)    N registers, saturated to s8, u8, s16 or u16, and stored one after the other; s32 unchanged
//   narrow<Isa>(x, to, count)  the same for the first `count` elements only
//
// Four registers become one of bytes by two saturating packs; on AVX2 and AVX512BW, whose packs work within 128 bits,
// one permutation then restores the order.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

namespace detail {

template <class Out>
INTACT_INLINE Out saturate_lane(std::int32_t x) {
  constexpr std::int32_t low = std::is_signed_v<Out> ? -(1 << (8 * sizeof(Out) - 1)) : 0;
  constexpr std::int32_t high = low + static_cast<std::int32_t>((1u << (8 * sizeof(Out))) - 1);
  return static_cast<Out>(x < low ? low : x > high ? high : x);
}

}  // namespace detail

/// Conversions of whole registers. isa::scalar has none.
///
///   store_words<Out>(x, to)   two registers as 16-bit words
///   store_bytes<Out>(x, to)   four registers as bytes
///   widen(from)               a register of u8 or s16 elements
template <class Isa>
struct packer : packer<typename Isa::parent> {};
template <>
struct packer<isa::scalar> {};

/// The interface of packer<Isa> where is_vector<Isa>.
template <class Isa>
concept packer_interface = requires(const s32<Isa>* x, std::int8_t* s8, std::uint8_t* u8, std::int16_t* s16,
                                    std::uint16_t* u16) {
  packer<Isa>::template store_bytes<std::int8_t>(x, s8);
  packer<Isa>::template store_bytes<std::uint8_t>(x, u8);
  packer<Isa>::template store_words<std::int16_t>(x, s16);
  packer<Isa>::template store_words<std::uint16_t>(x, u16);
  s32<Isa>(packer<Isa>::widen(u8));
  s32<Isa>(packer<Isa>::widen(s16));
};

#if INTACT_HAS_SSE2

namespace detail {

template <class Isa>
struct packer_x128 {
  using steps = sse_steps<Isa>;

  template <class Out>
  INTACT_INLINE static __m128i words(__m128i x, __m128i y) {
    return std::is_signed_v<Out> || sizeof(Out) == 1 ? _mm_packs_epi32(x, y) : steps::pack_u16(x, y);
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_words(const Batch* x, Out* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), words<Out>(x[0], x[1]));
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_bytes(const Batch* x, Out* to) {
    const __m128i low = words<Out>(x[0], x[1]);
    const __m128i high = words<Out>(x[2], x[3]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     std::is_signed_v<Out> ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high));
  }
  INTACT_INLINE static __m128i widen(const std::uint8_t* from) {
    std::int32_t bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    return steps::u8_to_s32(_mm_cvtsi32_si128(bytes));
  }
  INTACT_INLINE static __m128i widen(const std::int16_t* from) {
    return steps::s16_to_s32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
};

}  // namespace detail

template <>
struct packer<isa::sse2> : detail::packer_x128<isa::sse2> {};

#endif
#if INTACT_HAS_SSE4_1

template <>
struct packer<isa::sse4_1> : detail::packer_x128<isa::sse4_1> {};

#endif
#if INTACT_HAS_AVX2

template <>
struct packer<isa::avx2> {
  template <class Out>
  INTACT_INLINE static __m256i words(__m256i x, __m256i y) {
    return std::is_signed_v<Out> || sizeof(Out) == 1 ? _mm256_packs_epi32(x, y) : _mm256_packus_epi32(x, y);
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_words(const Batch* x, Out* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_permute4x64_epi64(words<Out>(x[0], x[1]), 0b11'01'10'00));
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_bytes(const Batch* x, Out* to) {
    const __m256i low = words<Out>(x[0], x[1]);
    const __m256i high = words<Out>(x[2], x[3]);
    const __m256i bytes = std::is_signed_v<Out> ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }
  INTACT_INLINE static __m256i widen(const std::uint8_t* from) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  INTACT_INLINE static __m256i widen(const std::int16_t* from) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
};

#endif
#if INTACT_HAS_AVX512BW

template <>
struct packer<isa::avx512bw> {
  template <class Out>
  INTACT_INLINE static __m512i words(__m512i x, __m512i y) {
    return std::is_signed_v<Out> || sizeof(Out) == 1 ? _mm512_packs_epi32(x, y) : _mm512_packus_epi32(x, y);
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_words(const Batch* x, Out* to) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi64(order, words<Out>(x[0], x[1])));
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_bytes(const Batch* x, Out* to) {
    const __m512i low = words<Out>(x[0], x[1]);
    const __m512i high = words<Out>(x[2], x[3]);
    const __m512i bytes = std::is_signed_v<Out> ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, bytes));
  }
  INTACT_INLINE static __m512i widen(const std::uint8_t* from) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  INTACT_INLINE static __m512i widen(const std::int16_t* from) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
};

#endif
#if INTACT_HAS_NEON

template <>
struct packer<isa::neon> {
  template <class Batch>
  INTACT_INLINE static int16x8_t signed_words(const Batch* x) {
    return vqmovn_high_s32(vqmovn_s32(x[0]), x[1]);
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_words(const Batch* x, Out* to) {
    if constexpr (std::is_signed_v<Out>) {
      vst1q_s16(to, signed_words(x));
    } else {
      vst1q_u16(to, vqmovun_high_s32(vqmovun_s32(x[0]), x[1]));
    }
  }
  template <class Out, class Batch>
  INTACT_INLINE static void store_bytes(const Batch* x, Out* to) {
    const int16x8_t low = signed_words(x);
    const int16x8_t high = signed_words(x + 2);
    if constexpr (std::is_signed_v<Out>) {
      vst1q_s8(to, vqmovn_high_s16(vqmovn_s16(low), high));
    } else {
      vst1q_u8(to, vqmovun_high_s16(vqmovun_s16(low), high));
    }
  }
  INTACT_INLINE static int32x4_t widen(const std::uint8_t* from) {
    std::uint32_t bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    const uint16x8_t words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
  }
  INTACT_INLINE static int32x4_t widen(const std::int16_t* from) { return vmovl_s16(vld1_s16(from)); }
};

#endif

namespace detail {

template <class Isa, class Out>
INTACT_INLINE void pack(const s32<Isa>* x, Out* to) {
  if constexpr (sizeof(Out) == 1) {
    packer<Isa>::template store_bytes<Out>(x, to);
  } else {
    packer<Isa>::template store_words<Out>(x, to);
  }
}

}  // namespace detail

template <class Isa, class T>
INTACT_INLINE s32<Isa> widen(const T* from) {
  if constexpr (std::is_same_v<T, std::int32_t>) {
    return load<Isa>(from);
  } else if constexpr (!is_vector<Isa>) {
    return *from;
  } else {
    return s32<Isa>(packer<Isa>::widen(from));
  }
}

template <class Isa, class Out, unsigned N>
INTACT_INLINE void narrow(const s32<Isa> (&x)[N], Out* to) {
  constexpr unsigned per_pack = static_cast<unsigned>(4 / sizeof(Out));  // registers
  constexpr unsigned rest = N % per_pack;
  if constexpr (std::is_same_v<Out, std::int32_t>) {
    INTACT_UNROLL
    for (unsigned i = 0; i < N; ++i) {
      store<Isa>(x[i], to + i * lanes<Isa>);
    }
  } else if constexpr (!is_vector<Isa>) {
    for (unsigned i = 0; i < N; ++i) {
      to[i] = detail::saturate_lane<Out>(x[i]);
    }
  } else {
    if constexpr (N > rest) {
      INTACT_UNROLL
      for (unsigned i = 0; i < N - rest; i += per_pack) {
        detail::pack<Isa>(x + i, to + i * lanes<Isa>);
      }
    }
    if constexpr (rest != 0) {
      s32<Isa> padded[per_pack];
      INTACT_UNROLL
      for (unsigned i = 0; i < per_pack; ++i) {
        padded[i] = x[N - rest + (i < rest ? i : 0)];
      }
      alignas(64) Out all[static_cast<std::size_t>(per_pack * lanes<Isa>)];
      detail::pack<Isa>(padded, all);
      std::memcpy(to + (N - rest) * lanes<Isa>, all, static_cast<std::size_t>(rest * lanes<Isa>) * sizeof(Out));
    }
  }
}

template <class Isa, class Out, unsigned N>
INTACT_INLINE void narrow(const s32<Isa> (&x)[N], Out* to, index_t count) {
  alignas(64) Out all[static_cast<std::size_t>(N * lanes<Isa>)];
  narrow<Isa>(x, all);
  if (count > 0) {  // `to` may be null otherwise, which memcpy does not allow
    std::memcpy(to, all, static_cast<std::size_t>(count) * sizeof(Out));
  }
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
