#pragma once

#include <cstdint>

#include "intact/simd/bytes.hpp"

// Any function of a byte, in registers of bytes: a table of 256 bytes. SSE4.1 and AVX2 hold it in registers, as 16
// tables of 16 bytes, of which the upper half of each byte selects one; AVX-512 as two tables of 64 words; AVX512_VBMI
// as two of 128 bytes; NEON as four of 64. SSE2 has no shuffle of bytes, and loads entry by entry.
//
// byte_table<Isa>(entries) has operator()(x): entries[x] of each byte. The entries are in memory, where they stay while
// the table is used, or, with AVX-512, in four registers. isa::scalar has none.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
class byte_table : public byte_table<typename Isa::parent> {
 public:
  using byte_table<typename Isa::parent>::byte_table;
};
template <>
class byte_table<isa::scalar> {};

/// The interface of byte_table<Isa> where bytes<Isa> exists.
template <class Isa>
concept byte_table_interface = requires(const std::uint8_t* entries, typename bytes<Isa>::batch x) {
  x = byte_table<Isa>(entries)(x);
};

#if INTACT_HAS_SSE2

/// The entries stay in memory. Those of four bytes are joined in a register of 32 bits: a load of 128 bits would wait
/// for stores of single bytes.
template <>
class byte_table<isa::sse2> {
 public:
  INTACT_INLINE explicit byte_table(const std::uint8_t* entries) : entries_(entries) {}
  INTACT_INLINE __m128i operator()(__m128i x) const {
    alignas(16) std::uint8_t at[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(at), x);
    const auto low = _mm_unpacklo_epi32(quad(at), quad(at + 4)), high = _mm_unpacklo_epi32(quad(at + 8), quad(at + 12));
    return _mm_unpacklo_epi64(low, high);
  }

 private:
  INTACT_INLINE __m128i quad(const std::uint8_t* at) const {
    const unsigned low = entries_[at[0]] | unsigned{entries_[at[1]]} << 8;
    const unsigned high = entries_[at[2]] | unsigned{entries_[at[3]]} << 8;
    return _mm_cvtsi32_si128(static_cast<int>(low | high << 16));
  }

  const std::uint8_t* entries_;
};

#endif
#if INTACT_HAS_SSE4_1

template <>
class byte_table<isa::sse4_1> {
 public:
  INTACT_INLINE explicit byte_table(const std::uint8_t* entries) {
    INTACT_UNROLL
    for (int i = 0; i < 16; ++i) {
      parts_[i] = bytes<isa::sse4_1>::lookup_table_16(entries + 16 * i);
    }
  }
  /// A shuffle gives 0 where its index has the highest bit set, which a saturating addition sets for all other parts.
  INTACT_INLINE __m128i operator()(__m128i x) const {
    __m128i result = _mm_setzero_si128();
    INTACT_UNROLL
    for (int i = 0; i < 16; ++i) {
      const __m128i place = _mm_xor_si128(x, _mm_set1_epi8(static_cast<char>(16 * i)));
      result = _mm_or_si128(result, _mm_shuffle_epi8(parts_[i], _mm_adds_epu8(place, _mm_set1_epi8(0x70))));
    }
    return result;
  }

 private:
  __m128i parts_[16];
};

#endif
#if INTACT_HAS_AVX2

template <>
class byte_table<isa::avx2> {
 public:
  INTACT_INLINE explicit byte_table(const std::uint8_t* entries) {
    INTACT_UNROLL
    for (int i = 0; i < 16; ++i) {
      parts_[i] = bytes<isa::avx2>::lookup_table_16(entries + 16 * i);
    }
  }
  INTACT_INLINE __m256i operator()(__m256i x) const {
    __m256i result = _mm256_setzero_si256();
    INTACT_UNROLL
    for (int i = 0; i < 16; ++i) {
      const __m256i place = _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(16 * i)));
      result = _mm256_or_si256(result, _mm256_shuffle_epi8(parts_[i], _mm256_adds_epu8(place, _mm256_set1_epi8(0x70))));
    }
    return result;
  }

 private:
  __m256i parts_[16];
};

#endif
#if INTACT_HAS_AVX512BW

/// Bits 1 to 7 of the even and of the odd bytes of x select words of the table, and bit 0 a half of the word.
template <>
class byte_table<isa::avx512bw> {
 public:
  INTACT_INLINE explicit byte_table(const std::uint8_t* entries) {
    INTACT_UNROLL
    for (int i = 0; i < 4; ++i) {
      parts_[i] = _mm512_loadu_si512(entries + 64 * i);
    }
  }
  INTACT_INLINE explicit byte_table(const __m512i (&entries)[4])
      : parts_{entries[0], entries[1], entries[2], entries[3]} {}
  INTACT_INLINE __m512i operator()(__m512i x) const {
    const __m512i even = words(_mm512_srli_epi16(x, 1), _mm512_movepi16_mask(_mm512_slli_epi16(x, 8)));
    const __m512i odd = words(_mm512_srli_epi16(x, 9), _mm512_movepi16_mask(x));
    constexpr __mmask64 odd_bytes = 0xaaaaaaaaaaaaaaaa;
    const __m512i lower = _mm512_mask_mov_epi8(even, odd_bytes, _mm512_slli_epi16(odd, 8));
    const __m512i upper = _mm512_mask_mov_epi8(_mm512_srli_epi16(even, 8), odd_bytes, odd);
    return _mm512_mask_mov_epi8(lower, _mm512_test_epi8_mask(x, _mm512_set1_epi8(1)), upper);
  }

 private:
  /// Word `at` (its low 6 bits) of the first 64 words or of the others.
  INTACT_INLINE __m512i words(__m512i at, __mmask32 others) const {
    const __m512i low = _mm512_permutex2var_epi16(parts_[0], at, parts_[1]);
    return _mm512_mask_mov_epi16(low, others, _mm512_permutex2var_epi16(parts_[2], at, parts_[3]));
  }

  __m512i parts_[4];
};

#endif
#if INTACT_HAS_AVX512VBMI

template <>
class byte_table<isa::avx512vbmi> {
 public:
  INTACT_INLINE explicit byte_table(const std::uint8_t* entries) {
    INTACT_UNROLL
    for (int i = 0; i < 4; ++i) {
      parts_[i] = _mm512_loadu_si512(entries + 64 * i);
    }
  }
  INTACT_INLINE explicit byte_table(const __m512i (&entries)[4])
      : parts_{entries[0], entries[1], entries[2], entries[3]} {}
  INTACT_INLINE __m512i operator()(__m512i x) const { return (*this)(x, _mm512_movepi8_mask(x)); }

  /// The same with the highest bits of x given, which several tables share.
  INTACT_INLINE __m512i operator()(__m512i x, __mmask64 upper) const {
    const __m512i low = _mm512_permutex2var_epi8(parts_[0], x, parts_[1]);
    const __m512i high = _mm512_permutex2var_epi8(parts_[2], x, parts_[3]);
    return _mm512_mask_mov_epi8(low, upper, high);
  }

 private:
  __m512i parts_[4];
};

#endif
#if INTACT_HAS_NEON

template <>
class byte_table<isa::neon> {
 public:
  INTACT_INLINE explicit byte_table(const std::uint8_t* entries)
      : parts_{vld1q_u8_x4(entries), vld1q_u8_x4(entries + 64), vld1q_u8_x4(entries + 128),
               vld1q_u8_x4(entries + 192)} {}
  /// vqtbx4q_u8 keeps its first argument where the index is beyond the 64 entries.
  INTACT_INLINE uint8x16_t operator()(uint8x16_t x) const {
    uint8x16_t result = vqtbl4q_u8(parts_[0], x);
    INTACT_UNROLL
    for (int i = 1; i < 4; ++i) {
      result = vqtbx4q_u8(result, parts_[i], vsubq_u8(x, vdupq_n_u8(static_cast<std::uint8_t>(64 * i))));
    }
    return result;
  }

 private:
  uint8x16x4_t parts_[4];
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
