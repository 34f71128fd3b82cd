#pragma once

#include <cstdint>

#include "intact/simd/batch.hpp"

// Arithmetic shifts to the right, by a count of its own for each lane.
//
//   lane_shift<Isa>::right(x, n)   x[i] >> n[i], 0 <= n[i] < 32
//
// SSE has shifts by one count for all lanes: four of them make one.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct lane_shift : lane_shift<typename Isa::parent> {};

/// The interface of lane_shift<Isa>.
template <class Isa>
concept lane_shift_interface = requires(s32<Isa> x) {
  x = lane_shift<Isa>::right(x, x);
};

template <>
struct lane_shift<isa::scalar> {
  INTACT_INLINE static std::int32_t right(std::int32_t x, std::int32_t n) { return x >> n; }
};

#if INTACT_HAS_SSE2

template <>
struct lane_shift<isa::sse2> {
  INTACT_INLINE static __m128i right(__m128i x, __m128i n) {
    const __m128i even_counts = _mm_and_si128(n, _mm_set1_epi64x(0xffffffff)), odd_counts = _mm_srli_epi64(n, 32);
    const __m128 lane_0 = _mm_castsi128_ps(_mm_sra_epi32(x, even_counts));
    const __m128 lane_1 = _mm_castsi128_ps(_mm_sra_epi32(x, odd_counts));
    const __m128 lane_2 = _mm_castsi128_ps(_mm_sra_epi32(x, _mm_unpackhi_epi64(even_counts, even_counts)));
    const __m128 lane_3 = _mm_castsi128_ps(_mm_sra_epi32(x, _mm_unpackhi_epi64(odd_counts, odd_counts)));
    const __m128 low = _mm_shuffle_ps(lane_0, lane_1, _MM_SHUFFLE(1, 1, 0, 0));
    const __m128 high = _mm_shuffle_ps(lane_2, lane_3, _MM_SHUFFLE(3, 3, 2, 2));
    return _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
  }
};

#endif
#if INTACT_HAS_AVX2

template <>
struct lane_shift<isa::avx2> {
  using batch = s32<isa::avx2>;
  INTACT_INLINE static batch right(batch x, batch n) { return _mm256_srav_epi32(x, n); }
};

#endif
#if INTACT_HAS_AVX512BW

template <>
struct lane_shift<isa::avx512bw> {
  using batch = s32<isa::avx512bw>;
  INTACT_INLINE static batch right(batch x, batch n) { return _mm512_srav_epi32(x, n); }
};

#endif
#if INTACT_HAS_NEON

template <>
struct lane_shift<isa::neon> {
  using batch = s32<isa::neon>;
  INTACT_INLINE static batch right(batch x, batch n) { return batch(vshlq_s32(x, vnegq_s32(n))); }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
