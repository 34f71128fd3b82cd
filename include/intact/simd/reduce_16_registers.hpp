#pragma once

#include <cstdint>

#include "intact/simd/bytes.hpp"

// Horizontal reductions of 16 registers at once; the result has one number per register. Lanes are interleaved pair by
// pair, so that each operation works for several registers. Where it `exists`,
//
//   reduce_16_registers<Isa>::max_u8(load, to)   to[i] = the largest unsigned byte of load(i)
//   reduce_16_registers<Isa>::sum_s32(load, to)  to[i] = the sum of the 32-bit lanes of load(i), modulo 2^32

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct reduce_16_registers : reduce_16_registers<typename Isa::parent> {};
template <>
struct reduce_16_registers<isa::scalar> {
  static constexpr bool exists = false;
};

/// The interface of reduce_16_registers<Isa> where it exists.
template <class Isa>
concept reduce_16_registers_interface = requires(typename bytes<Isa>::batch (&load)(int), std::uint8_t* maxima,
                                                 std::uint32_t* sums) {
  reduce_16_registers<Isa>::max_u8(load, maxima);
  reduce_16_registers<Isa>::sum_s32(load, sums);
};

#if INTACT_HAS_AVX512VBMI

template <>
struct reduce_16_registers<isa::avx512vbmi> {
  static constexpr bool exists = true;

  template <class Load>
  INTACT_INLINE static void max_u8(const Load& load, std::uint8_t* to) {
    __m512i quads[4];
    for (int i = 0; i < 4; ++i) {
      const __m512i a = load(4 * i), b = load(4 * i + 1), c = load(4 * i + 2), d = load(4 * i + 3);
      const __m512i x = _mm512_max_epu8(_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
      const __m512i y = _mm512_max_epu8(_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
      quads[i] = _mm512_max_epu8(_mm512_unpacklo_epi16(x, y), _mm512_unpackhi_epi16(x, y));
    }
    const auto merge = [](__m512i x, __m512i y) {
      return _mm512_max_epu8(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    };
    const __m512i x = merge(quads[0], quads[1]), y = merge(quads[2], quads[3]);
    const __m512i all = _mm512_max_epu8(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
    const __m256i half = _mm256_max_epu8(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    const __m128i quarter = _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), quarter);
  }

  template <class Load>
  INTACT_INLINE static void sum_s32(const Load& load, std::uint32_t* to) {
    __m512i quads[4];
    for (int i = 0; i < 4; ++i) {
      const __m512i a = load(4 * i), b = load(4 * i + 1), c = load(4 * i + 2), d = load(4 * i + 3);
      const __m512i x = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
      const __m512i y = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
      quads[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
    }
    // From here on, parts of 128 bits.
    const auto merge = [](__m512i x, __m512i y) {
      return _mm512_add_epi32(_mm512_shuffle_i64x2(x, y, 0x44), _mm512_shuffle_i64x2(x, y, 0xee));
    };
    const __m512i x = merge(quads[0], quads[1]), y = merge(quads[2], quads[3]);
    const __m512i all = _mm512_add_epi32(_mm512_shuffle_i64x2(x, y, 0x88), _mm512_shuffle_i64x2(x, y, 0xdd));
    _mm512_storeu_si512(to, all);
  }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
