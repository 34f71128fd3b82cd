#pragma once

#include <cstdint>

#include "intact/simd/intrinsics.hpp"
#include "intact/simd/isa.hpp"

// Steps in 128-bit registers for which SSSE3 or SSE4.1 has an instruction and SSE2 takes several. Primitives of
// isa::sse2 and isa::sse4_1 that differ in such steps alone are a template over sse_steps<Isa>, <primitive>_x128.
//
//   multiply_even(x, y)     the products of even signed lanes of 32 bits, in 64 bits
//   upper_halves(even, odd) the upper halves of 64-bit lanes, in even and in odd lanes of 32 bits
//   magnitudes(x)           the absolute values of 32-bit lanes, which are above -2^31
//   u8_to_s16(x), s8_to_s16(x)    the first eight bytes as words
//   u8_to_s32(x), s16_to_s32(x)   the first four elements as 32-bit lanes
//   pack_u16(x, y)          32-bit lanes as words, saturated to u16
//   powers_of_two(x)        2^x of words 0..3
//   max_u8(x)               the largest byte, unsigned

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {
namespace detail {

template <class Isa>
struct sse_steps;

#if INTACT_HAS_SSE2

template <>
struct sse_steps<isa::sse2> {
  /// Unsigned products. A negative factor is taken as 2^32 more: the other factor is subtracted from the upper half.
  INTACT_INLINE static __m128i multiply_even(__m128i x, __m128i y) {
    const __m128i y_excess = _mm_and_si128(_mm_srai_epi32(x, 31), y);
    const __m128i x_excess = _mm_and_si128(_mm_srai_epi32(y, 31), x);
    return _mm_sub_epi64(_mm_mul_epu32(x, y), _mm_slli_epi64(_mm_add_epi32(x_excess, y_excess), 32));
  }
  INTACT_INLINE static __m128i upper_halves(__m128i even, __m128i odd) {
    return _mm_or_si128(_mm_srli_epi64(even, 32), _mm_and_si128(odd, _mm_set_epi32(-1, 0, -1, 0)));
  }
  INTACT_INLINE static __m128i magnitudes(__m128i x) {
    const __m128i sign = _mm_srai_epi32(x, 31);
    return _mm_sub_epi32(_mm_xor_si128(x, sign), sign);
  }
  INTACT_INLINE static __m128i u8_to_s16(__m128i x) { return _mm_unpacklo_epi8(x, _mm_setzero_si128()); }
  INTACT_INLINE static __m128i s8_to_s16(__m128i x) { return _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8); }
  INTACT_INLINE static __m128i u8_to_s32(__m128i x) { return _mm_unpacklo_epi16(u8_to_s16(x), _mm_setzero_si128()); }
  INTACT_INLINE static __m128i s16_to_s32(__m128i x) { return _mm_srai_epi32(_mm_unpacklo_epi16(x, x), 16); }
  /// max(x, 0) - 2^15 is packed with signed saturation.
  INTACT_INLINE static __m128i pack_u16(__m128i x, __m128i y) {
    const __m128i middle = _mm_set1_epi32(1 << 15);
    const __m128i low = _mm_sub_epi32(_mm_andnot_si128(_mm_srai_epi32(x, 31), x), middle);
    const __m128i high = _mm_sub_epi32(_mm_andnot_si128(_mm_srai_epi32(y, 31), y), middle);
    return _mm_xor_si128(_mm_packs_epi32(low, high), _mm_set1_epi16(-(1 << 15)));
  }
  /// (1 + the lower bit) * (1 + 3 * the upper bit).
  INTACT_INLINE static __m128i powers_of_two(__m128i x) {
    const __m128i one = _mm_set1_epi16(1);
    const __m128i lower = _mm_and_si128(x, one), upper = _mm_srli_epi16(x, 1);
    const __m128i three_times = _mm_add_epi16(upper, _mm_add_epi16(upper, upper));
    return _mm_mullo_epi16(_mm_add_epi16(lower, one), _mm_add_epi16(three_times, one));
  }
  INTACT_INLINE static int max_u8(__m128i x) {
    __m128i largest = _mm_max_epu8(x, _mm_srli_si128(x, 8));
    largest = _mm_max_epu8(largest, _mm_srli_si128(largest, 4));
    largest = _mm_max_epu8(largest, _mm_srli_si128(largest, 2));
    largest = _mm_max_epu8(largest, _mm_srli_si128(largest, 1));
    return _mm_cvtsi128_si32(largest) & 255;
  }
};

#endif
#if INTACT_HAS_SSE4_1

template <>
struct sse_steps<isa::sse4_1> {
  INTACT_INLINE static __m128i multiply_even(__m128i x, __m128i y) { return _mm_mul_epi32(x, y); }
  INTACT_INLINE static __m128i upper_halves(__m128i even, __m128i odd) {
    return _mm_blend_epi16(_mm_srli_epi64(even, 32), odd, 0b11001100);
  }
  INTACT_INLINE static __m128i magnitudes(__m128i x) { return _mm_abs_epi32(x); }
  INTACT_INLINE static __m128i u8_to_s16(__m128i x) { return _mm_cvtepu8_epi16(x); }
  INTACT_INLINE static __m128i s8_to_s16(__m128i x) { return _mm_cvtepi8_epi16(x); }
  INTACT_INLINE static __m128i u8_to_s32(__m128i x) { return _mm_cvtepu8_epi32(x); }
  INTACT_INLINE static __m128i s16_to_s32(__m128i x) { return _mm_cvtepi16_epi32(x); }
  INTACT_INLINE static __m128i pack_u16(__m128i x, __m128i y) { return _mm_packus_epi32(x, y); }
  /// The shuffle gives 0 for bytes with the top bit set.
  INTACT_INLINE static __m128i powers_of_two(__m128i x) {
    return _mm_shuffle_epi8(_mm_setr_epi8(1, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
                            _mm_or_si128(x, _mm_set1_epi16(-(1 << 15))));
  }
  /// There is an instruction for the smallest of eight words.
  INTACT_INLINE static int max_u8(__m128i x) {
    const __m128i from_top = _mm_xor_si128(x, _mm_set1_epi8(-1));
    const __m128i pairs = _mm_min_epu8(from_top, _mm_srli_epi16(from_top, 8));
    return 255 - _mm_extract_epi16(_mm_minpos_epu16(pairs), 0);
  }
};

#endif

}  // namespace detail
}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
