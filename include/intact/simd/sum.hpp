#pragma once

#include <cstdint>

#include "intact/simd/batch.hpp"

// Sums over a register's lanes, for which xsimd's versions have different names.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

namespace detail {

INTACT_INLINE std::int32_t sum_of_lanes(std::int32_t x) {
  return x;
}
#if INTACT_HAS_SSE2
INTACT_INLINE std::int32_t sum_of_lanes(__m128i x) {
  const __m128i pairs = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0b01'00'11'10));
  return _mm_cvtsi128_si32(_mm_add_epi32(pairs, _mm_shuffle_epi32(pairs, 0b10'11'00'01)));
}
/// The sum of two lanes of 64 bits, read from memory: 32-bit processors have no register for it.
INTACT_INLINE std::int64_t sum_of_2_s64(__m128i x) {
  std::int64_t sum;
  _mm_storel_epi64(reinterpret_cast<__m128i*>(&sum), _mm_add_epi64(x, _mm_unpackhi_epi64(x, x)));
  return sum;
}
#endif
#if INTACT_HAS_AVX2
INTACT_INLINE std::int32_t sum_of_lanes(__m256i x) {
  return sum_of_lanes(_mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}
#endif
#if INTACT_HAS_AVX512BW
INTACT_INLINE std::int32_t sum_of_lanes(__m512i x) {
  return sum_of_lanes(_mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1)));
}
#endif
#if INTACT_HAS_NEON
INTACT_INLINE std::int32_t sum_of_lanes(int32x4_t x) {
  return vaddvq_s32(x);
}
#endif

}  // namespace detail

/// The sum of the lanes, modulo 2^32.
template <class Isa>
INTACT_INLINE std::int32_t sum(s32<Isa> x) {
  return detail::sum_of_lanes(x);
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
