#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <cstring>

#include "intact/simd/bytes.hpp"

// Any function of a 12-bit code, in registers of bytes: a table of 4,096 bytes. The low 7 bits of a code index a
// 128-byte shuffle in each of the 32 parts of the table; the upper 5 bits select among the results by blending.
//
// lut12<Isa>(table), where it `exists`, has lookup(codes, to): the entries at u16 codes, in N registers of bytes. The
// table stays in memory, best at a multiple of 64 bytes, and is loaded into registers once for N registers of codes.
// Without AVX512_VBMI one load per code is faster.
//
// lut12_step<Isa>(table), for the same sets, is faster for tables that it `fits`: each group of eight entries, from a
// multiple of 8 on, only rises or only falls, by steps of 1, at most twice. Tables of smooth functions do unless they
// are steep.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
class lut12 : public lut12<typename Isa::parent> {
 public:
  using lut12<typename Isa::parent>::lut12;
};
template <>
class lut12<isa::scalar> {
 public:
  static constexpr bool exists = false;
};

template <class Isa>
class lut12_step : public lut12_step<typename Isa::parent> {
 public:
  using lut12_step<typename Isa::parent>::lut12_step;
};
template <>
class lut12_step<isa::scalar> {};

/// The interface of lut12<Isa> and lut12_step<Isa> where they exist.
template <class Isa>
concept lut12_interface = requires(const std::uint8_t* table, const std::uint16_t* codes,
                                   typename bytes<Isa>::batch (&to)[4]) {
  lut12<Isa>(table).lookup(codes, to);
  lut12_step<Isa>(table).lookup(codes, to);
  { lut12_step<Isa>(table).fits } -> std::convertible_to<bool>;
};

#if INTACT_HAS_AVX512VBMI

template <>
class lut12<isa::avx512vbmi> {
 public:
  static constexpr bool exists = true;

  INTACT_INLINE explicit lut12(const std::uint8_t* table) : entries_(table) {}

  template <unsigned N>
  INTACT_INLINE void lookup(const std::uint16_t* from, __m512i (&to)[N]) const {
    split_codes<N> codes;
    INTACT_UNROLL
    for (unsigned i = 0; i < N; ++i) {
      codes.load(from + 64 * i, i);
    }
    find<12>(codes, entries_, to);
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

  const std::uint8_t* entries_;
};

namespace detail {

constexpr std::array<std::uint8_t, 64> every_second_index(unsigned first) {
  std::array<std::uint8_t, 64> indices{};
  for (unsigned i = 0; i < 64; ++i) {
    indices[i] = static_cast<std::uint8_t>(2 * i + first);
  }
  return indices;
}

}  // namespace detail

template <>
class lut12_step<isa::avx512vbmi> {
 public:
  explicit lut12_step(const std::uint8_t* table) {
    __mmask64 wrong = 0;
    for (index_t i = 0; i < groups; i += 8) {
      wrong |= add_groups(table + 8 * i, i);
    }
    // No step precedes the first entry of a group: its bit says that the group falls.
    for (index_t i = 0; i < groups; i += 64) {
      const __m512i up = _mm512_load_si512(steps_ + i), down = _mm512_load_si512(falling_ + i);
      const __mmask64 falls = _mm512_test_epi8_mask(down, down);
      const __m512i steps = _mm512_or_si512(up, down);
      const __m512i after_first = without_lowest_bit(steps), after_second = without_lowest_bit(after_first);
      wrong |= (falls & _mm512_test_epi8_mask(up, up)) | _mm512_test_epi8_mask(after_second, after_second);
      _mm512_store_si512(steps_ + i, _mm512_mask_add_epi8(steps, falls, steps, _mm512_set1_epi8(1)));
    }
    fits = wrong == 0;
  }

  bool fits;

  template <unsigned N>
  INTACT_INLINE void lookup(const std::uint16_t* from, __m512i (&to)[N]) const {
    INTACT_UNROLL
    for (unsigned i = 0; i < N; ++i) {
      to[i] = entries(_mm512_loadu_si512(from + 64 * i), _mm512_loadu_si512(from + 64 * i + 32));
    }
  }

 private:
  static constexpr index_t groups = 512;

  /// The smallest entry of eight groups, and a bit for each entry that differs from the one before it. Returns the
  /// steps of more than 1.
  INTACT_INLINE __mmask64 add_groups(const std::uint8_t* table, index_t i) {
    constexpr __mmask64 after_first = 0xfefefefefefefefe;
    const __m512i all = _mm512_loadu_si512(table), before = _mm512_slli_epi64(all, 8), one = _mm512_set1_epi8(1);
    const __mmask64 changes = _mm512_mask_cmpneq_epu8_mask(after_first, all, before);
    const __mmask64 up = _mm512_mask_cmpeq_epu8_mask(changes, _mm512_subs_epu8(all, before), one);
    const __mmask64 down = _mm512_mask_cmpeq_epu8_mask(changes, _mm512_subs_epu8(before, all), one);
    std::memcpy(steps_ + i, &up, sizeof up);
    std::memcpy(falling_ + i, &down, sizeof down);
    __m512i smallest = _mm512_min_epu8(all, _mm512_rol_epi64(all, 32));
    smallest = _mm512_min_epu8(smallest, _mm512_rol_epi64(smallest, 16));
    smallest = _mm512_min_epu8(smallest, _mm512_rol_epi64(smallest, 8));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(smallest_ + i), _mm512_cvtepi64_epi8(smallest));
    return changes & ~(up | down);
  }

  INTACT_INLINE static __m512i without_lowest_bit(__m512i x) {
    return _mm512_and_si512(x, _mm512_add_epi8(x, _mm512_set1_epi8(-1)));
  }

  /// Entry `at` of 512; its two highest bits are given as masks.
  INTACT_INLINE static __m512i entry(const std::uint8_t* by_group, __m512i at, __mmask64 bit7, __mmask64 bit8) {
    __m512i quarters[4];
    INTACT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::uint8_t* const part = by_group + 128 * i;
      quarters[i] = _mm512_permutex2var_epi8(_mm512_load_si512(part), at, _mm512_load_si512(part + 64));
    }
    const __m512i low = _mm512_mask_mov_epi8(quarters[0], bit7, quarters[1]);
    return _mm512_mask_mov_epi8(low, bit8, _mm512_mask_mov_epi8(quarters[2], bit7, quarters[3]));
  }

  /// The smallest entry of the code's group, plus the number of steps up to the code, or after it where entries fall.
  INTACT_INLINE __m512i entries(__m512i first, __m512i second) const {
    alignas(64) static constexpr auto even = detail::every_second_index(0), odd = detail::every_second_index(1);
    alignas(16) static constexpr std::uint8_t up_to[16] = {1, 3, 7, 15, 31, 63, 127, 255,
                                                           1, 3, 7, 15, 31, 63, 127, 255};
    const __m512i even_bytes = _mm512_load_si512(even.data());
    const __m512i eight =
        _mm512_permutex2var_epi8(_mm512_srli_epi16(first, 3), even_bytes, _mm512_srli_epi16(second, 3));
    const __m512i upper = _mm512_permutex2var_epi8(first, _mm512_load_si512(odd.data()), second);
    const __m512i place = _mm512_and_si512(_mm512_permutex2var_epi8(first, even_bytes, second), _mm512_set1_epi8(7));
    const __mmask64 bit7 = _mm512_movepi8_mask(eight), bit8 = _mm512_test_epi8_mask(upper, _mm512_set1_epi8(8));
    const __m512i steps = entry(steps_, eight, bit7, bit8);
    const __m512i smallest = entry(smallest_, eight, bit7, bit8);
    const __m512i one = _mm512_set1_epi8(1);
    const __m512i table = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(up_to)));
    const __m512i before = _mm512_shuffle_epi8(table, place);
    const __m512i counted =
        _mm512_mask_sub_epi8(before, _mm512_test_epi8_mask(steps, one), _mm512_set1_epi8(-1), before);
    const __m512i passed = _mm512_and_si512(steps, counted);
    const __m512i more = without_lowest_bit(passed);
    const __m512i once = _mm512_mask_add_epi8(smallest, _mm512_test_epi8_mask(passed, passed), smallest, one);
    return _mm512_mask_add_epi8(once, _mm512_test_epi8_mask(more, more), once, one);
  }

  alignas(64) std::uint8_t smallest_[groups];
  alignas(64) std::uint8_t steps_[groups];  ///< bit i: entry i differs from the one before; bit 0: the group falls
  alignas(64) std::uint8_t falling_[groups];
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
