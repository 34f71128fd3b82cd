#pragma once

#include <cstdint>

#include "intact/simd/batch.hpp"

// What sixteen registers come to, each by itself, in one pass over all of them: their lanes are interleaved pair by
// pair, so that every operation works for several registers. Where it `exists`,
//
//   sixteen_rows<Isa>::largest(load, to)   to[i] = the largest unsigned byte of load(i)
//   sixteen_rows<Isa>::sums(load, to)      to[i] = the sum of the 32-bit lanes of load(i), modulo 2^32

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct sixteen_rows {
  static constexpr bool exists = false;
};

#if INTACT_HAS_AVX512VBMI

template <>
struct sixteen_rows<isa::avx512vbmi> {
  static constexpr bool exists = true;

  template <class Load>
  INTACT_INLINE static void largest(const Load& load, std::uint8_t* to) {
    __m512i fours[4];
    for (int i = 0; i < 4; ++i) {
      const __m512i a = load(4 * i), b = load(4 * i + 1), c = load(4 * i + 2), d = load(4 * i + 3);
      const __m512i x = _mm512_max_epu8(_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
      const __m512i y = _mm512_max_epu8(_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
      fours[i] = _mm512_max_epu8(_mm512_unpacklo_epi16(x, y), _mm512_unpackhi_epi16(x, y));
    }
    const auto of_8 = [](__m512i x, __m512i y) {
      return _mm512_max_epu8(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    };
    const __m512i x = of_8(fours[0], fours[1]), y = of_8(fours[2], fours[3]);
    const __m512i all = _mm512_max_epu8(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
    const __m256i half = _mm256_max_epu8(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    const __m128i quarter = _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), quarter);
  }

  template <class Load>
  INTACT_INLINE static void sums(const Load& load, std::uint32_t* to) {
    __m512i fours[4];
    for (int i = 0; i < 4; ++i) {
      const __m512i a = load(4 * i), b = load(4 * i + 1), c = load(4 * i + 2), d = load(4 * i + 3);
      const __m512i x = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
      const __m512i y = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
      fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
    }
    // From here on, parts of 128 bits.
    const auto of_8 = [](__m512i x, __m512i y) {
      return _mm512_add_epi32(_mm512_shuffle_i64x2(x, y, 0x44), _mm512_shuffle_i64x2(x, y, 0xee));
    };
    const __m512i x = of_8(fours[0], fours[1]), y = of_8(fours[2], fours[3]);
    const __m512i all = _mm512_add_epi32(_mm512_shuffle_i64x2(x, y, 0x88), _mm512_shuffle_i64x2(x, y, 0xdd));
    _mm512_storeu_si512(to, all);
  }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
