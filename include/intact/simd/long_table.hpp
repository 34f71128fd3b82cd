#pragma once

#include <cstdint>

#include "intact/simd/bytes.hpp"

// Any function of a 12-bit code, in registers of bytes: a table of 4,096 bytes. A shuffle takes one of 128 entries by 7
// bits of a code; of the 32 parts' entries each further bit of the code chooses one half.
//
// long_table<Isa>, for those that has_long_table<Isa> names, has
//
//   width                codes in a register of bytes
//   look_up(codes, table, to)  entries at N * width codes in u16, in N registers; fastest if the table starts at a
//                        multiple of 64 bytes
//
// The table goes through registers once for N registers of codes. Without AVX512_VBMI one load per code is faster.

namespace intact::inline INTACT_ABI::simd {

template <class Isa>
inline constexpr bool has_long_table = false;

template <class Isa>
struct long_table;

#if INTACT_HAS_AVX512VBMI
template <>
inline constexpr bool has_long_table<isa::avx512vbmi> = true;

template <>
struct long_table<isa::avx512vbmi> {
  static constexpr index width = 64;

  template <unsigned N>
  INTACT_INLINE static void look_up(const std::uint16_t* from, const std::uint8_t* table, __m512i (&to)[N]) {
    split_codes<N> codes;
    INTACT_UNROLL
    for (unsigned i = 0; i < N; ++i) {
      codes.load(from + i * width, i);
    }
    find<12>(codes, table, to);
  }

 private:
  template <unsigned N>
  struct split_codes {
    __m512i lower[N];     ///< lower bytes
    __mmask64 bit[5][N];  ///< bits 7 to 11

    INTACT_INLINE void load(const std::uint16_t* from, unsigned i) {
      const __m512i first = _mm512_loadu_si512(from), second = _mm512_loadu_si512(from + 32);
      const __m512i upper = packed(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8));
      const __m512i byte = _mm512_set1_epi16(0xff);
      lower[i] = packed(_mm512_and_si512(first, byte), _mm512_and_si512(second, byte));
      bit[0][i] = _mm512_movepi8_mask(lower[i]);
      INTACT_UNROLL
      for (int b = 0; b < 4; ++b) {
        bit[b + 1][i] = _mm512_test_epi8_mask(upper, _mm512_set1_epi8(static_cast<char>(1 << b)));
      }
    }
    /// Words below 256 as bytes.
    INTACT_INLINE static __m512i packed(__m512i x, __m512i y) {
      return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packus_epi16(x, y));
    }
  };

  /// Entries at the lower `Bits` bits of the codes.
  template <int Bits, unsigned N>
  INTACT_INLINE static void find(const split_codes<N>& codes, const std::uint8_t* table, __m512i (&to)[N]) {
    if constexpr (Bits == 7) {
      const __m512i first = _mm512_loadu_si512(table), second = _mm512_loadu_si512(table + 64);
      INTACT_UNROLL
      for (unsigned i = 0; i < N; ++i) {
        to[i] = _mm512_permutex2var_epi8(first, codes.lower[i], second);
      }
    } else {
      __m512i upper[N];
      find<Bits - 1>(codes, table, to);
      find<Bits - 1>(codes, table + (1 << (Bits - 1)), upper);
      INTACT_UNROLL
      for (unsigned i = 0; i < N; ++i) {
        to[i] = _mm512_mask_mov_epi8(to[i], codes.bit[Bits - 8][i], upper[i]);
      }
    }
  }
};
#endif

}  // namespace intact::inline INTACT_ABI::simd
