#pragma once

#include <cstdint>

#include "intact/simd/dot4.hpp"

// Weights of four bits, two groups of four columns at a time: each byte holds a weight of an even group in its low
// half, and one of the following odd group in its high half.
//
// int4<Isa> has, but for sets with Isa::adds_s4_in_16_bits, whose products with such weights are s4_dot's,
//
//   low(w), high(w)  the weights of the even and of the odd group, as dot4<Isa, A>::load returns those of s8
//   load_shifts(w, column)  a shift of 0..3 for each of dot4's `columns` channels from a column of a panel on. w: 16
//                    bytes, each with the two bits of four channels that are 16 apart, see packed_weights
//   low(w, shifts)   the weights times 2^shift of their channel
//   high(w, shifts)

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct int4 : int4<typename Isa::parent> {};

/// The interface of int4<Isa>.
template <class Isa>
concept int4_interface = requires(decltype(dot4<Isa, std::uint8_t>::load(nullptr)) weights, const std::uint8_t* w,
                                  index_t column) {
  weights = int4<Isa>::low(w);
  weights = int4<Isa>::high(w);
  weights = int4<Isa>::low(w, int4<Isa>::load_shifts(w, column));
  weights = int4<Isa>::high(w, int4<Isa>::load_shifts(w, column));
};

template <>
struct int4<isa::scalar> {
  using quad = detail::s32_quad;

  INTACT_INLINE static quad low(const std::uint8_t* w) { return low(w, 0); }
  INTACT_INLINE static quad high(const std::uint8_t* w) { return high(w, 0); }
  INTACT_INLINE static int load_shifts(const std::uint8_t* w, index_t column) {
    return w[column % 16] >> column / 16 * 2 & 3;
  }
  INTACT_INLINE static quad low(const std::uint8_t* w, int shift) {
    return {{value(w[0], shift), value(w[1], shift), value(w[2], shift), value(w[3], shift)}};
  }
  INTACT_INLINE static quad high(const std::uint8_t* w, int shift) {
    return {{value(w[0] >> 4, shift), value(w[1] >> 4, shift), value(w[2] >> 4, shift), value(w[3] >> 4, shift)}};
  }

 private:
  INTACT_INLINE static std::int32_t value(int bits, int shift) { return (((bits & 15) ^ 8) - 8) * (1 << shift); }
};

#if INTACT_HAS_SSE2

namespace detail {

/// The first bit of a column's shifts in their byte, as the count of an instruction that shifts all lanes alike.
INTACT_INLINE __m128i bit_of_shifts(index_t column) {
  return _mm_cvtsi32_si128(static_cast<int>(column / 16 * 2));
}

}  // namespace detail

template <>
struct int4<isa::sse2> {
  INTACT_INLINE static __m128i low(const std::uint8_t* w) { return _mm_srai_epi16(_mm_slli_epi16(words(w), 12), 12); }
  INTACT_INLINE static __m128i high(const std::uint8_t* w) { return _mm_srai_epi16(words(w), 4); }

  /// The powers, in each of a channel's words.
  INTACT_INLINE static __m128i load_shifts(const std::uint8_t* w, index_t column) {
    const __m128i two =
        _mm_unpacklo_epi8(_mm_cvtsi32_si128(detail::load_bytes<std::uint16_t>(w + column % 16)), _mm_setzero_si128());
    const __m128i pairs = _mm_unpacklo_epi16(two, two);
    const __m128i moved = _mm_srl_epi16(_mm_unpacklo_epi32(pairs, pairs), detail::bit_of_shifts(column));
    return detail::sse_steps<isa::sse2>::powers_of_two(_mm_and_si128(moved, _mm_set1_epi16(3)));
  }
  INTACT_INLINE static __m128i low(const std::uint8_t* w, __m128i powers) { return _mm_mullo_epi16(low(w), powers); }
  INTACT_INLINE static __m128i high(const std::uint8_t* w, __m128i powers) { return _mm_mullo_epi16(high(w), powers); }

 private:
  INTACT_INLINE static __m128i words(const std::uint8_t* w) { return dot4<isa::sse2, std::uint8_t>::load(w); }
};

#endif
#if INTACT_HAS_AVX2

namespace detail {

/// The weights of 16 codes of four bits.
INTACT_INLINE __m128i s4_table() {
  return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
}

/// The weights in the low halves of bytes.
INTACT_INLINE __m256i s4_values(__m256i nibbles) {
  const __m256i table = _mm256_broadcastsi128_si256(s4_table());
  return _mm256_shuffle_epi8(table, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)));
}

/// The shifts of eight columns of a panel, in 32-bit lanes.
INTACT_INLINE __m256i shifts_of_8(const std::uint8_t* w, index_t column) {
  const __m256i channels = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w + column % 16)));
  return _mm256_and_si256(_mm256_srl_epi32(channels, bit_of_shifts(column)), _mm256_set1_epi32(3));
}

}  // namespace detail

#endif
#if INTACT_HAS_AVX2_VNNI

template <>
struct int4<isa::avx2_vnni> {
  INTACT_INLINE static __m256i low(const std::uint8_t* w) { return detail::s4_values(load(w)); }
  INTACT_INLINE static __m256i high(const std::uint8_t* w) { return detail::s4_values(_mm256_srli_epi16(load(w), 4)); }
  INTACT_INLINE static __m256i load_shifts(const std::uint8_t* w, index_t column) {
    return detail::shifts_of_8(w, column);
  }
  INTACT_INLINE static __m256i low(const std::uint8_t* w, __m256i shifts) { return values(load(w), shifts); }
  INTACT_INLINE static __m256i high(const std::uint8_t* w, __m256i shifts) {
    return values(_mm256_srli_epi16(load(w), 4), shifts);
  }

 private:
  INTACT_INLINE static __m256i load(const std::uint8_t* w) { return dot4<isa::avx2_vnni, std::uint8_t>::load(w); }
  /// ((n ^ 8) << s) - (8 << s): n ^ 8 is 0..15, whose shifted bits stay within the byte.
  INTACT_INLINE static __m256i values(__m256i nibbles, __m256i shifts) {
    const __m256i positive = _mm256_xor_si256(_mm256_and_si256(nibbles, _mm256_set1_epi8(15)), _mm256_set1_epi8(8));
    return _mm256_sub_epi8(_mm256_sllv_epi32(positive, shifts), _mm256_sllv_epi32(_mm256_set1_epi8(8), shifts));
  }
};

#endif
#if INTACT_HAS_AVX512BW

namespace detail {

/// The weights in the low halves of bytes.
INTACT_INLINE __m512i s4_values(__m512i nibbles) {
  const __m512i table = _mm512_broadcast_i32x4(s4_table());
  return _mm512_shuffle_epi8(table, _mm512_and_si512(nibbles, _mm512_set1_epi8(15)));
}

/// The shifts of 16 columns of a panel, in 32-bit lanes.
INTACT_INLINE __m512i shifts_of_16(const std::uint8_t* w, index_t column) {
  const __m512i channels = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  return _mm512_and_si512(_mm512_srl_epi32(channels, bit_of_shifts(column)), _mm512_set1_epi32(3));
}

}  // namespace detail

#endif
#if INTACT_HAS_AVX512VNNI

template <>
struct int4<isa::avx512vnni> {
  INTACT_INLINE static __m512i low(const std::uint8_t* w) { return detail::s4_values(load(w)); }
  INTACT_INLINE static __m512i high(const std::uint8_t* w) { return detail::s4_values(_mm512_srli_epi16(load(w), 4)); }
  INTACT_INLINE static __m512i load_shifts(const std::uint8_t* w, index_t column) {
    return detail::shifts_of_16(w, column);
  }
  INTACT_INLINE static __m512i low(const std::uint8_t* w, __m512i shifts) { return values(load(w), shifts); }
  INTACT_INLINE static __m512i high(const std::uint8_t* w, __m512i shifts) {
    return values(_mm512_srli_epi16(load(w), 4), shifts);
  }

 private:
  INTACT_INLINE static __m512i load(const std::uint8_t* w) { return dot4<isa::avx512vnni, std::uint8_t>::load(w); }
  /// ((n ^ 8) << s) - (8 << s): n ^ 8 is 0..15, whose shifted bits stay within the byte.
  INTACT_INLINE static __m512i values(__m512i nibbles, __m512i shifts) {
    constexpr int and_then_xor = 0x6a;
    const __m512i positive =
        _mm512_ternarylogic_epi32(nibbles, _mm512_set1_epi8(15), _mm512_set1_epi8(8), and_then_xor);
    return _mm512_sub_epi8(_mm512_sllv_epi32(positive, shifts), _mm512_sllv_epi32(_mm512_set1_epi8(8), shifts));
  }
};

#endif
#if INTACT_HAS_NEON_DOTPROD

template <>
struct int4<isa::neon_dotprod> {
  INTACT_INLINE static int8x16_t low(const std::uint8_t* w) { return vshrq_n_s8(vshlq_n_s8(load(w), 4), 4); }
  INTACT_INLINE static int8x16_t high(const std::uint8_t* w) { return vshrq_n_s8(load(w), 4); }

  /// Left shifts of bytes whose upper half is the weight; negative ones shift to the right.
  INTACT_INLINE static int8x16_t load_shifts(const std::uint8_t* w, index_t column) {
    const uint8x8_t four = vreinterpret_u8_u32(vdup_n_u32(detail::load_bytes<std::uint32_t>(w + column % 16)));
    const uint32x4_t channels = vmovl_u16(vget_low_u16(vmovl_u8(four)));
    const uint32x4_t moved = vshlq_u32(channels, vdupq_n_s32(static_cast<int>(-(column / 16 * 2))));
    const uint32x4_t in_bytes = vmulq_n_u32(vandq_u32(moved, vdupq_n_u32(3)), 0x01010101);
    return vsubq_s8(vreinterpretq_s8_u32(in_bytes), vdupq_n_s8(4));
  }
  INTACT_INLINE static int8x16_t low(const std::uint8_t* w, int8x16_t shifts) {
    return vshlq_s8(vshlq_n_s8(load(w), 4), shifts);
  }
  INTACT_INLINE static int8x16_t high(const std::uint8_t* w, int8x16_t shifts) {
    return vshlq_s8(vandq_s8(load(w), vdupq_n_s8(-16)), shifts);
  }

 private:
  INTACT_INLINE static int8x16_t load(const std::uint8_t* w) { return vreinterpretq_s8_u8(vld1q_u8(w)); }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
