#pragma once

#include <cstdint>

#include "intact/simd/batch.hpp"
#include "intact/simd/sse_steps.hpp"

// ((a << left_shift) * multiplier + offset) >> (32 + shift) in registers: arith/scale.hpp's mul_shift for several
// channels. xsimd has no product of 32-bit lanes with 64-bit results. As the shift is at least 32, the upper half of
// each sum suffices, which takes no 64-bit shift: on x86 even and odd lanes are multiplied separately, and the upper
// halves of the even ones are moved next to those of the odd ones.
//
// mul_shift<Isa> has
//
//   factors                 multipliers and offsets of `lanes` channels
//   load(multiplier, offset)      from arrays in the order of the channels
//   load(multiplier)        the same with offsets of 0
//   broadcast(multiplier, offset) the same for all lanes
//   mul_high(a, factors)    the upper halves of a * multiplier + offset
//   mul_high_of_slices(a, b, factors)  the upper halves of (256 * a + b) * multiplier + offset
//   mul_high_with_fraction(a, b, factors)  the upper halves of a * multiplier + ((b * multiplier) >> 29) + offset, for
//   b
//                           in 0..2^29 - 1 and multipliers of at least 0
//   scaling                 a multiplier, an offset and a shift
//   broadcast_scaling(multiplier, offset, n)  the same for all lanes, 1 <= n < 64
//   mul_high_of_scaled(a, scaling, factors)  mul_high((a * multiplier + offset) >> n, factors), the former in 32 bits
//   shift_left(x, n), shift_right(x, n)  arithmetic shifts of every lane by n, 0 <= n < 32

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct mul_shift : mul_shift<typename Isa::parent> {};

/// The interface of mul_shift<Isa>.
template <class Isa, class M = mul_shift<Isa>>
concept mul_shift_interface = requires(s32<Isa> x, typename M::factors f, typename M::scaling s,
                                       const std::int32_t* multiplier, const std::int64_t* offset) {
  f = M::load(multiplier, offset);
  f = M::load(multiplier);
  f = M::broadcast(*multiplier, *offset);
  x = M::mul_high(x, f);
  x = M::mul_high_of_slices(x, x, f);
  x = M::mul_high_with_fraction(x, x, f);
  s = M::broadcast_scaling(*multiplier, *offset, 1);
  x = M::mul_high_of_scaled(x, s, f);
  x = M::shift_left(x, 1);
  x = M::shift_right(x, 1);
};

template <>
struct mul_shift<isa::scalar> {
  struct factors {
    std::int64_t multiplier, offset;
  };

  INTACT_INLINE static factors load(const std::int32_t* multiplier, const std::int64_t* offset) {
    return {*multiplier, *offset};
  }
  INTACT_INLINE static factors load(const std::int32_t* multiplier) { return {*multiplier, 0}; }
  INTACT_INLINE static factors broadcast(std::int32_t multiplier, std::int64_t offset) { return {multiplier, offset}; }
  INTACT_INLINE static std::int32_t mul_high(std::int32_t a, const factors& f) {
    return static_cast<std::int32_t>((a * f.multiplier + f.offset) >> 32);
  }
  INTACT_INLINE static std::int32_t mul_high_of_slices(std::int32_t a, std::int32_t b, const factors& f) {
    return static_cast<std::int32_t>(((256 * std::int64_t{a} + b) * f.multiplier + f.offset) >> 32);
  }
  INTACT_INLINE static std::int32_t mul_high_with_fraction(std::int32_t a, std::int32_t b, const factors& f) {
    return static_cast<std::int32_t>((a * f.multiplier + ((b * f.multiplier) >> 29) + f.offset) >> 32);
  }
  struct scaling {
    std::int64_t multiplier, offset;
    int shift;
  };
  INTACT_INLINE static scaling broadcast_scaling(std::int32_t multiplier, std::int64_t offset, int n) {
    return {multiplier, offset, n};
  }
  INTACT_INLINE static std::int32_t mul_high_of_scaled(std::int32_t a, const scaling& s, const factors& f) {
    return mul_high(static_cast<std::int32_t>((a * s.multiplier + s.offset) >> s.shift), f);
  }
  INTACT_INLINE static std::int32_t shift_left(std::int32_t x, int n) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) << n);
  }
  INTACT_INLINE static std::int32_t shift_right(std::int32_t x, int n) { return x >> n; }
};

#if INTACT_HAS_SSE2

namespace detail {

/// x + 2^63, modulo 2^64.
INTACT_INLINE std::int64_t biased(std::int64_t x) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(x) + (std::uint64_t{1} << 63));
}

/// The low 32 bits of 2^(63 - n).
INTACT_INLINE std::int32_t bias_after_shift(int n) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(std::uint64_t{1} << (63 - n)));
}

template <class Isa>
struct mul_shift_x128 {
  using batch = s32<Isa>;
  using steps = sse_steps<Isa>;
  struct factors {
    __m128i even, odd, even_offset, odd_offset;
  };

  INTACT_INLINE static factors load(const std::int32_t* multiplier, const std::int64_t* offset) {
    const __m128i m = _mm_loadu_si128(reinterpret_cast<const __m128i*>(multiplier));
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(offset));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(offset + 2));
    return {m, _mm_srli_epi64(m, 32), _mm_unpacklo_epi64(low, high), _mm_unpackhi_epi64(low, high)};
  }
  INTACT_INLINE static factors load(const std::int32_t* multiplier) {
    const __m128i m = _mm_loadu_si128(reinterpret_cast<const __m128i*>(multiplier));
    return {m, _mm_srli_epi64(m, 32), _mm_setzero_si128(), _mm_setzero_si128()};
  }
  INTACT_INLINE static factors broadcast(std::int32_t multiplier, std::int64_t offset) {
    const __m128i m = _mm_set1_epi32(multiplier);
    const __m128i c = _mm_set1_epi64x(offset);
    return {m, m, c, c};
  }
  /// The odd lanes are given in the places of the even ones.
  INTACT_INLINE static batch mul_high_of_halves(__m128i even_lanes, __m128i odd_lanes, const factors& f) {
    const __m128i even = _mm_add_epi64(steps::multiply_even(even_lanes, f.even), f.even_offset);
    const __m128i odd = _mm_add_epi64(steps::multiply_even(odd_lanes, f.odd), f.odd_offset);
    return steps::upper_halves(even, odd);
  }
  INTACT_INLINE static batch mul_high(batch a, const factors& f) {
    return mul_high_of_halves(a, _mm_srli_epi64(a, 32), f);
  }
  /// mul_high(a, factors) with shifted(b * multiplier) added to the offset.
  template <class Shifted>
  INTACT_INLINE static batch mul_high_plus(batch a, batch b, const factors& f, const Shifted& shifted) {
    const __m128i b_odd = _mm_srli_epi64(b, 32);
    return mul_high_of_halves(a, _mm_srli_epi64(a, 32),
                              {f.even, f.odd, _mm_add_epi64(shifted(steps::multiply_even(b, f.even)), f.even_offset),
                               _mm_add_epi64(shifted(steps::multiply_even(b_odd, f.odd)), f.odd_offset)});
  }
  INTACT_INLINE static batch mul_high_of_slices(batch a, batch b, const factors& f) {
    return mul_high_plus(b, a, f, [](__m128i x) { return _mm_slli_epi64(x, 8); });
  }
  INTACT_INLINE static batch mul_high_with_fraction(batch a, batch b, const factors& f) {
    return mul_high_plus(a, b, f, [](__m128i x) { return _mm_srli_epi64(x, 29); });
  }
  /// There is no arithmetic shift of 64 bits: 2^63 is added to the sum, and 2^(63 - n) subtracted from the result.
  struct scaling {
    __m128i multiplier, offset, bias, shift;
  };
  INTACT_INLINE static scaling broadcast_scaling(std::int32_t multiplier, std::int64_t offset, int n) {
    return {_mm_set1_epi32(multiplier), _mm_set1_epi64x(biased(offset)), _mm_set1_epi32(bias_after_shift(n)),
            _mm_cvtsi32_si128(n)};
  }
  INTACT_INLINE static __m128i scale(__m128i a, const scaling& s) {
    const __m128i shifted = _mm_srl_epi64(_mm_add_epi64(steps::multiply_even(a, s.multiplier), s.offset), s.shift);
    return _mm_sub_epi32(shifted, s.bias);
  }
  INTACT_INLINE static batch mul_high_of_scaled(batch a, const scaling& s, const factors& f) {
    return mul_high_of_halves(scale(a, s), scale(_mm_srli_epi64(a, 32), s), f);
  }
  INTACT_INLINE static batch shift_left(batch x, int n) { return _mm_sll_epi32(x, _mm_cvtsi32_si128(n)); }
  INTACT_INLINE static batch shift_right(batch x, int n) { return _mm_sra_epi32(x, _mm_cvtsi32_si128(n)); }
};

}  // namespace detail

template <>
struct mul_shift<isa::sse2> : detail::mul_shift_x128<isa::sse2> {};

#endif
#if INTACT_HAS_SSE4_1

template <>
struct mul_shift<isa::sse4_1> : detail::mul_shift_x128<isa::sse4_1> {};

#endif
#if INTACT_HAS_AVX2

template <>
struct mul_shift<isa::avx2> {
  using batch = s32<isa::avx2>;
  struct factors {
    __m256i even, odd, even_offset, odd_offset;
  };

  INTACT_INLINE static factors load(const std::int32_t* multiplier, const std::int64_t* offset) {
    const __m256i m = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(multiplier));
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offset));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offset + 4));
    const __m256i low = _mm256_permute2x128_si256(first, second, 0x20);
    const __m256i high = _mm256_permute2x128_si256(first, second, 0x31);
    return {m, _mm256_srli_epi64(m, 32), _mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high)};
  }
  INTACT_INLINE static factors load(const std::int32_t* multiplier) {
    const __m256i m = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(multiplier));
    return {m, _mm256_srli_epi64(m, 32), _mm256_setzero_si256(), _mm256_setzero_si256()};
  }
  INTACT_INLINE static factors broadcast(std::int32_t multiplier, std::int64_t offset) {
    const __m256i m = _mm256_set1_epi32(multiplier);
    const __m256i c = _mm256_set1_epi64x(offset);
    return {m, m, c, c};
  }
  INTACT_INLINE static batch mul_high_of_halves(__m256i even_lanes, __m256i odd_lanes, const factors& f) {
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(even_lanes, f.even), f.even_offset);
    const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(odd_lanes, f.odd), f.odd_offset);
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0b10101010);
  }
  INTACT_INLINE static batch mul_high(batch a, const factors& f) {
    return mul_high_of_halves(a, _mm256_srli_epi64(a, 32), f);
  }
  /// mul_high(a, factors) with shifted(b * multiplier) added to the offset.
  template <class Shifted>
  INTACT_INLINE static batch mul_high_plus(batch a, batch b, const factors& f, const Shifted& shifted) {
    const __m256i b_odd = _mm256_srli_epi64(b, 32);
    return mul_high_of_halves(a, _mm256_srli_epi64(a, 32),
                              {f.even, f.odd, _mm256_add_epi64(shifted(_mm256_mul_epi32(b, f.even)), f.even_offset),
                               _mm256_add_epi64(shifted(_mm256_mul_epi32(b_odd, f.odd)), f.odd_offset)});
  }
  INTACT_INLINE static batch mul_high_of_slices(batch a, batch b, const factors& f) {
    return mul_high_plus(b, a, f, [](__m256i x) { return _mm256_slli_epi64(x, 8); });
  }
  INTACT_INLINE static batch mul_high_with_fraction(batch a, batch b, const factors& f) {
    return mul_high_plus(a, b, f, [](__m256i x) { return _mm256_srli_epi64(x, 29); });
  }
  struct scaling {
    __m256i multiplier, offset, bias;
    __m128i shift;
  };
  INTACT_INLINE static scaling broadcast_scaling(std::int32_t multiplier, std::int64_t offset, int n) {
    return {_mm256_set1_epi32(multiplier), _mm256_set1_epi64x(detail::biased(offset)),
            _mm256_set1_epi32(detail::bias_after_shift(n)), _mm_cvtsi32_si128(n)};
  }
  INTACT_INLINE static __m256i scale(__m256i a, const scaling& s) {
    const __m256i shifted = _mm256_srl_epi64(_mm256_add_epi64(_mm256_mul_epi32(a, s.multiplier), s.offset), s.shift);
    return _mm256_sub_epi32(shifted, s.bias);
  }
  INTACT_INLINE static batch mul_high_of_scaled(batch a, const scaling& s, const factors& f) {
    return mul_high_of_halves(scale(a, s), scale(_mm256_srli_epi64(a, 32), s), f);
  }
  INTACT_INLINE static batch shift_left(batch x, int n) { return _mm256_sll_epi32(x, _mm_cvtsi32_si128(n)); }
  INTACT_INLINE static batch shift_right(batch x, int n) { return _mm256_sra_epi32(x, _mm_cvtsi32_si128(n)); }
};

#endif
#if INTACT_HAS_AVX512BW

template <>
struct mul_shift<isa::avx512bw> {
  using batch = s32<isa::avx512bw>;
  struct factors {
    __m512i even, odd, even_offset, odd_offset;
  };

  INTACT_INLINE static factors load(const std::int32_t* multiplier, const std::int64_t* offset) {
    const __m512i m = _mm512_loadu_si512(multiplier);
    const __m512i first = _mm512_loadu_si512(offset);
    const __m512i second = _mm512_loadu_si512(offset + 8);
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    const __m512i odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    return {m, _mm512_srli_epi64(m, 32), _mm512_permutex2var_epi64(first, even, second),
            _mm512_permutex2var_epi64(first, odd, second)};
  }
  INTACT_INLINE static factors load(const std::int32_t* multiplier) {
    const __m512i m = _mm512_loadu_si512(multiplier);
    return {m, _mm512_srli_epi64(m, 32), _mm512_setzero_si512(), _mm512_setzero_si512()};
  }
  INTACT_INLINE static factors broadcast(std::int32_t multiplier, std::int64_t offset) {
    const __m512i m = _mm512_set1_epi32(multiplier);
    const __m512i c = _mm512_set1_epi64(offset);
    return {m, m, c, c};
  }
  INTACT_INLINE static batch mul_high_of_halves(__m512i even_lanes, __m512i odd_lanes, const factors& f) {
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(even_lanes, f.even), f.even_offset);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(odd_lanes, f.odd), f.odd_offset);
    return _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_CDAB);
  }
  /// Odd lanes in the places of the even ones, by a shuffle: on some processors shifts use the units of the multiplier.
  INTACT_INLINE static __m512i odd_lanes(__m512i x) { return _mm512_shuffle_epi32(x, _MM_PERM_DDBB); }
  INTACT_INLINE static batch mul_high(batch a, const factors& f) { return mul_high_of_halves(a, odd_lanes(a), f); }
  /// mul_high(a, factors) with shifted(b * multiplier) added to the offset.
  template <class Shifted>
  INTACT_INLINE static batch mul_high_plus(batch a, batch b, const factors& f, const Shifted& shifted) {
    const __m512i b_odd = _mm512_srli_epi64(b, 32);
    return mul_high_of_halves(a, _mm512_srli_epi64(a, 32),
                              {f.even, f.odd, _mm512_add_epi64(shifted(_mm512_mul_epi32(b, f.even)), f.even_offset),
                               _mm512_add_epi64(shifted(_mm512_mul_epi32(b_odd, f.odd)), f.odd_offset)});
  }
  INTACT_INLINE static batch mul_high_of_slices(batch a, batch b, const factors& f) {
    return mul_high_plus(b, a, f, [](__m512i x) { return _mm512_slli_epi64(x, 8); });
  }
  INTACT_INLINE static batch mul_high_with_fraction(batch a, batch b, const factors& f) {
    return mul_high_plus(a, b, f, [](__m512i x) { return _mm512_srli_epi64(x, 29); });
  }
  struct scaling {
    __m512i multiplier, offset;
    __m128i shift;
  };
  INTACT_INLINE static scaling broadcast_scaling(std::int32_t multiplier, std::int64_t offset, int n) {
    return {_mm512_set1_epi32(multiplier), _mm512_set1_epi64(offset), _mm_cvtsi32_si128(n)};
  }
  INTACT_INLINE static __m512i scale(__m512i a, const scaling& s) {
    return _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(a, s.multiplier), s.offset), s.shift);
  }
  INTACT_INLINE static batch mul_high_of_scaled(batch a, const scaling& s, const factors& f) {
    return mul_high_of_halves(scale(a, s), scale(odd_lanes(a), s), f);
  }
  INTACT_INLINE static batch shift_left(batch x, int n) { return _mm512_sll_epi32(x, _mm_cvtsi32_si128(n)); }
  INTACT_INLINE static batch shift_right(batch x, int n) { return _mm512_sra_epi32(x, _mm_cvtsi32_si128(n)); }
};

#endif
#if INTACT_HAS_NEON

template <>
struct mul_shift<isa::neon> {
  using batch = s32<isa::neon>;
  struct factors {
    int32x4_t multiplier;
    int64x2_t low_offset, high_offset;
  };

  INTACT_INLINE static factors load(const std::int32_t* multiplier, const std::int64_t* offset) {
    return {vld1q_s32(multiplier), vld1q_s64(offset), vld1q_s64(offset + 2)};
  }
  INTACT_INLINE static factors load(const std::int32_t* multiplier) {
    return {vld1q_s32(multiplier), vdupq_n_s64(0), vdupq_n_s64(0)};
  }
  INTACT_INLINE static factors broadcast(std::int32_t multiplier, std::int64_t offset) {
    return {vdupq_n_s32(multiplier), vdupq_n_s64(offset), vdupq_n_s64(offset)};
  }
  INTACT_INLINE static batch mul_high(batch a, const factors& f) {
    const int32x4_t x = a;
    const int64x2_t low = vmlal_s32(f.low_offset, vget_low_s32(x), vget_low_s32(f.multiplier));
    const int64x2_t high = vmlal_high_s32(f.high_offset, x, f.multiplier);
    return batch(vuzp2q_s32(vreinterpretq_s32_s64(low), vreinterpretq_s32_s64(high)));
  }
  INTACT_INLINE static batch mul_high_of_slices(batch a, batch b, const factors& f) {
    const int32x4_t x = a;
    const int64x2_t low = vshlq_n_s64(vmull_s32(vget_low_s32(x), vget_low_s32(f.multiplier)), 8);
    const int64x2_t high = vshlq_n_s64(vmull_high_s32(x, f.multiplier), 8);
    return mul_high(b, {f.multiplier, vaddq_s64(low, f.low_offset), vaddq_s64(high, f.high_offset)});
  }
  INTACT_INLINE static batch mul_high_with_fraction(batch a, batch b, const factors& f) {
    const int32x4_t x = b;
    const int64x2_t low = vsraq_n_s64(f.low_offset, vmull_s32(vget_low_s32(x), vget_low_s32(f.multiplier)), 29);
    const int64x2_t high = vsraq_n_s64(f.high_offset, vmull_high_s32(x, f.multiplier), 29);
    return mul_high(a, {f.multiplier, low, high});
  }
  struct scaling {
    std::int32_t multiplier;
    int64x2_t offset, shift;
  };
  INTACT_INLINE static scaling broadcast_scaling(std::int32_t multiplier, std::int64_t offset, int n) {
    return {multiplier, vdupq_n_s64(offset), vdupq_n_s64(-n)};
  }
  INTACT_INLINE static batch mul_high_of_scaled(batch a, const scaling& s, const factors& f) {
    const int32x4_t x = a;
    const int64x2_t first = vshlq_s64(vmlal_n_s32(s.offset, vget_low_s32(x), s.multiplier), s.shift);
    const int64x2_t second = vshlq_s64(vmlal_high_n_s32(s.offset, x, s.multiplier), s.shift);
    return mul_high(batch(vmovn_high_s64(vmovn_s64(first), second)), f);
  }
  INTACT_INLINE static batch shift_left(batch x, int n) { return batch(vshlq_s32(x, vdupq_n_s32(n))); }
  INTACT_INLINE static batch shift_right(batch x, int n) { return batch(vshlq_s32(x, vdupq_n_s32(-n))); }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
