#pragma once

#include <cstdint>

#include "intact/simd/bytes.hpp"

// (x * m + y * n + offset) >> shift of u8 codes x and y, in 32 bits that wrap, saturated to u8: a register of bytes at
// a time. Multipliers m and n are split in halves: m = 2^16 * upper + lower, both signed, and so is n. As x and y are
// below 2^8, the sum is that of two sums of pairs of products of 16-bit words,
//
//   (x * lower(m) + y * lower(n) + offset) + 2^16 * (x * upper(m) + y * upper(n)),
//
// of which a shift of at least 16 leaves the upper half: the first sum's upper half plus the second one's lower half.
//
// weighted_sum<Isa>, where it `exists`, has
//
//   width                codes at a time
//   factors              multipliers and offsets of as many channels
//   load(m, n, offset, x0, y0)  from arrays, for (x - x0) * m + (y - y0) * n + offset
//   apply(x, y, factors, shift)  16 <= shift < 32
//
// It is worthwhile where words are shuffled across a register. Elsewhere products of 32-bit lanes are as fast.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct weighted_sum : weighted_sum<typename Isa::parent> {};
template <>
struct weighted_sum<isa::scalar> {
  static constexpr bool exists = false;
};

/// The interface of weighted_sum<Isa> where it exists.
template <class Isa, class Sum = weighted_sum<Isa>>
concept weighted_sum_interface = requires(const std::int32_t* m, typename bytes<Isa>::batch x,
                                          typename Sum::factors f) {
  requires(Sum::width == bytes<Isa>::width);
  f = Sum::load(m, m, m, 0, 0);
  x = Sum::apply(x, x, f, 16);
};

#if INTACT_HAS_AVX512BW

namespace detail {

/// Pairs of products of words, and x, in 32-bit lanes.
struct add_products_x512 {
  INTACT_INLINE static __m512i add(__m512i x, __m512i y, __m512i z) {
    return _mm512_add_epi32(x, _mm512_madd_epi16(y, z));
  }
};

/// Codes are interleaved within each 128 bits: register j has the channels 4 j to 4 j + 3 of every 16.
template <class Products>
struct weighted_sum_x512 {
  static constexpr bool exists = true;
  using batch = __m512i;
  static constexpr index_t width = 64;
  struct factors {
    batch lower[4], upper[4], offset[4];
  };

  INTACT_INLINE static factors load(const std::int32_t* m, const std::int32_t* n, const std::int32_t* offset, int x0,
                                    int y0) {
    factors result;
    INTACT_UNROLL
    for (int j = 0; j < 4; ++j) {
      const batch first = load_quads(m + 4 * j), second = load_quads(n + 4 * j), half = _mm512_set1_epi32(1 << 15);
      result.lower[j] = _mm512_mask_mov_epi16(first, upper_words, _mm512_slli_epi32(second, 16));
      result.upper[j] = _mm512_mask_mov_epi16(_mm512_srli_epi32(_mm512_add_epi32(first, half), 16), upper_words,
                                              _mm512_add_epi32(second, half));
      const batch zero = _mm512_add_epi32(_mm512_mullo_epi32(first, _mm512_set1_epi32(x0)),
                                          _mm512_mullo_epi32(second, _mm512_set1_epi32(y0)));
      result.offset[j] = _mm512_sub_epi32(load_quads(offset + 4 * j), zero);
    }
    return result;
  }

  INTACT_INLINE static batch apply(batch x, batch y, const factors& f, int shift) {
    const batch zero = _mm512_setzero_si512();
    const batch low = _mm512_unpacklo_epi8(x, y), high = _mm512_unpackhi_epi8(x, y);
    const batch pairs[4] = {_mm512_unpacklo_epi8(low, zero), _mm512_unpackhi_epi8(low, zero),
                            _mm512_unpacklo_epi8(high, zero), _mm512_unpackhi_epi8(high, zero)};
    batch words[2];
    INTACT_UNROLL
    for (int j = 0; j < 4; j += 2) {
      const batch lower = words_of<1>(Products::add(f.offset[j], pairs[j], f.lower[j]),
                                      Products::add(f.offset[j + 1], pairs[j + 1], f.lower[j + 1]));
      const batch upper =
          words_of<0>(_mm512_madd_epi16(pairs[j], f.upper[j]), _mm512_madd_epi16(pairs[j + 1], f.upper[j + 1]));
      words[j / 2] = _mm512_sra_epi16(_mm512_add_epi16(lower, upper), _mm_cvtsi32_si128(shift - 16));
    }
    return _mm512_packus_epi16(words[0], words[1]);
  }

 private:
  static constexpr __mmask32 upper_words = 0xaaaaaaaa;

  /// Four elements of every sixteen.
  INTACT_INLINE static batch load_quads(const std::int32_t* from) {
    const auto four = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)); };
    const batch half = _mm512_inserti32x4(_mm512_castsi128_si512(four(0)), four(16), 1);
    return _mm512_inserti32x4(_mm512_inserti32x4(half, four(32), 2), four(48), 3);
  }

  /// The lower words (0) or the upper ones (1) of the 32-bit lanes of x and y: a pack without saturation.
  template <short Upper>
  INTACT_INLINE static batch words_of(batch x, batch y) {
    const batch lower = _mm512_set_epi16(62, 60, 58, 56, 30, 28, 26, 24, 54, 52, 50, 48, 22, 20, 18, 16,  //
                                         46, 44, 42, 40, 14, 12, 10, 8, 38, 36, 34, 32, 6, 4, 2, 0);
    return _mm512_permutex2var_epi16(x, _mm512_add_epi16(lower, _mm512_set1_epi16(Upper)), y);
  }
};

}  // namespace detail

template <>
struct weighted_sum<isa::avx512bw> : detail::weighted_sum_x512<detail::add_products_x512> {};

#endif
#if INTACT_HAS_AVX512VNNI

namespace detail {

struct add_products_x512_vnni {
  INTACT_INLINE static __m512i add(__m512i x, __m512i y, __m512i z) { return _mm512_dpwssd_epi32(x, y, z); }
};

}  // namespace detail

template <>
struct weighted_sum<isa::avx512vnni> : detail::weighted_sum_x512<detail::add_products_x512_vnni> {};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
