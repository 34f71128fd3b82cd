#pragma once

#include <bit>
#include <cstdint>

#include "intact/simd/batch.hpp"
#include "intact/simd/byte_table.hpp"

// Levels of 256 numbers that do not increase: how many limits each does not exceed. Every limit is in the octave,
// [2^n, 2^(n+1)), below that of the one before, so that a number's octave leaves one limit to compare it with. What is
// compared are the 16 bits below the leading one, which do not always decide.
//
// octave_levels<Isa>, where it `exists`, has a constructor from the numbers, of which the first is not 0, and a factor
// of all of them; find(limits, levels, uncertain), which finds all levels in four registers; and where there are
// sixteen_rows, find(limits, places, levels), which finds those of the numbers at 64 places.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

/// The limits of levels 1, 2 and so on: (1 + x) * (1 + y[level]) * 2^(octave + 1 - level), where (1 + x) * (1 + y) < 2.
struct octave_limits {
  std::uint16_t fraction;   ///< floor(2^16 * x)
  int octave;               ///< of the limit of level 1, from 1 below that of the first number to 31 above it
  const std::uint16_t* y;   ///< floor(2^16 * y), 64 levels from 0 on; all bits where there is no limit
  const std::uint16_t* y4;  ///< floor(2^18 * y)
  std::uint8_t last;        ///< the last level that has a limit: all others are this one; at most 16
  std::uint16_t tolerance;  ///< by which, in units of 2^-16, the limits may be larger than reckoned from these
};

template <class Isa>
class octave_levels {
 public:
  static constexpr bool exists = false;
  template <class T>
  INTACT_INLINE octave_levels(const T*, int) {}
};

#if INTACT_HAS_AVX512BW

namespace detail {

/// A template, so that what is not inlined has another name for each instruction set.
template <class Isa>
class octave_levels_512 {
 public:
  static constexpr bool exists = true;
  static constexpr int most_levels = 16;

  template <class T>
  INTACT_INLINE octave_levels_512(const T* numbers, unsigned factor)
      : first_(63 - std::countl_zero(std::uint64_t{numbers[0]} * factor)) {
    const int zeros = 63 - first_;
    for (int d = 0; d < 256; ++d) {
      const std::uint64_t x = std::uint64_t{numbers[d]} * factor;
      const int below = std::countl_zero(x | 1) - zeros;  // the first number's octave
      const int octave = below > 31 || x == 0 ? 31 : below;
      octave_[d] = static_cast<std::uint8_t>(octave);
      octave16_[d] = static_cast<std::uint16_t>(octave);
      fraction_[d] = static_cast<std::uint16_t>((x << std::countl_zero(x | 1) << 1) >> 48);
    }
    several_ = 256;
    while (octave_[several_ - 1] > most_levels) {
      --several_;
    }
  }

  /// The numbers' levels. False if some are not certain: bit i of uncertain[j] is that of number 64 * j + i.
  INTACT_INLINE bool find(const octave_limits& limits, __m512i (&levels)[4], std::uint64_t (&uncertain)[4]) const {
    const int above = limits.octave - first_ + 1;  // the level of the first number's octave
    const __m512i tolerance = _mm512_set1_epi16(static_cast<std::int16_t>(limits.tolerance));
    const __m512i all = limits_by_octave(limits, above, tolerance);
    const __m512i last = _mm512_set1_epi8(static_cast<char>(limits.last));
    __m512i nearest = _mm512_set1_epi16(-1);
    const auto exceed = [&](int d) {
      const __m512i limit = _mm512_permutexvar_epi16(_mm512_load_si512(octave16_ + d), all);
      const __m512i number = _mm512_load_si512(fraction_ + d);
      nearest = _mm512_min_epu16(nearest, _mm512_sub_epi16(number, limit));
      return _mm512_cmpgt_epu16_mask(number, limit);
    };
    INTACT_UNROLL
    for (int d = 0; d < 256; d += 64) {
      if (d >= several_) {
        levels[d / 64] = last;
        continue;
      }
      const __mmask64 lower = _mm512_kunpackd(exceed(d + 32), exceed(d));
      const __m512i octave =
          _mm512_add_epi8(_mm512_load_si512(octave_ + d), _mm512_set1_epi8(static_cast<char>(above)));
      const __m512i level = _mm512_min_epu8(octave, last);
      levels[d / 64] = _mm512_mask_sub_epi8(level, lower, level, _mm512_set1_epi8(1));
    }
    const bool certain = _mm512_cmple_epu16_mask(nearest, tolerance) == 0;
    if (!certain) [[unlikely]] {
      find_uncertain(all, tolerance, uncertain);
    }
    return certain;
  }

 protected:
  /// The 16 bits below the leading one of what is in the first number's octave, and in each of the 31 below it. Where
  /// there is no limit, and nothing is to exceed it, it is so large that only the largest fractions are not certain.
  INTACT_INLINE static __m512i limits_by_octave(const octave_limits& limits, int above, __m512i tolerance) {
    const __m512i fraction = _mm512_set1_epi16(static_cast<std::int16_t>(limits.fraction));
    __m512i all = _mm512_adds_epu16(fraction, _mm512_loadu_si512(limits.y + above));
    if (limits.y4 != nullptr) {
      const __m512i product = _mm512_mulhi_epu16(fraction, _mm512_loadu_si512(limits.y4 + above));
      all = _mm512_adds_epu16(all, _mm512_srli_epi16(product, 2));
    }
    return _mm512_min_epu16(all, _mm512_sub_epi16(_mm512_set1_epi16(-1), tolerance));
  }

  [[gnu::noinline]] void find_uncertain(__m512i limits, __m512i tolerance, std::uint64_t (&uncertain)[4]) const {
    const auto close = [&](int d) {
      const __m512i limit = _mm512_permutexvar_epi16(_mm512_load_si512(octave16_ + d), limits);
      return _mm512_cmple_epu16_mask(_mm512_sub_epi16(_mm512_load_si512(fraction_ + d), limit), tolerance);
    };
    for (int d = 0; d < 256; d += 64) {
      uncertain[d / 64] = d < several_ ? _mm512_kunpackd(close(d + 32), close(d)) : 0;
    }
  }

  alignas(64) std::uint8_t octave_[256];     ///< below that of the first number; at most 31, which 0 has, too
  alignas(64) std::uint16_t octave16_[256];  ///< the same
  alignas(64) std::uint16_t fraction_[256];  ///< the 16 bits below the leading one
  int first_;
  int several_;  ///< from this distance on, all numbers are too many octaves below the first one for any limit
};

}  // namespace detail

template <>
class octave_levels<isa::avx512bw> : public detail::octave_levels_512<isa::avx512bw> {
  using detail::octave_levels_512<isa::avx512bw>::octave_levels_512;
};
#endif
#if INTACT_HAS_AVX512VNNI
template <>
class octave_levels<isa::avx512vnni> : public detail::octave_levels_512<isa::avx512vnni> {
  using detail::octave_levels_512<isa::avx512vnni>::octave_levels_512;
};
#endif
#if INTACT_HAS_AVX512VBMI
template <>
class octave_levels<isa::avx512vbmi> : public detail::octave_levels_512<isa::avx512vbmi> {
  using every = detail::octave_levels_512<isa::avx512vbmi>;

 public:
  template <class T>
  INTACT_INLINE octave_levels(const T* numbers, unsigned factor)
      : every(numbers, factor), octaves_(octave_), low_(bytes_of_fractions(0)), high_(bytes_of_fractions(8)) {}

  using every::find;

  /// The levels of the numbers at 64 places. False if some are not certain.
  INTACT_INLINE bool find(const octave_limits& limits, __m512i places, __m512i& levels) const {
    const __m512i tolerance = _mm512_set1_epi16(static_cast<std::int16_t>(limits.tolerance));
    const __m512i limit_of_level = limits_by_octave(limits, 0, tolerance);
    const __mmask64 upper = _mm512_movepi8_mask(places);
    const __m512i octave = octaves_(places, upper), low = low_(places, upper), high = high_(places, upper);
    const auto above = static_cast<char>(limits.octave - first_ + 1);  // the level of the first number's octave
    const __m512i level =
        _mm512_min_epu8(_mm512_add_epi8(octave, _mm512_set1_epi8(above)), _mm512_set1_epi8(most_levels + 1));
    const __m512i zero = _mm512_setzero_si512();
    __m512i excess[2];
    const auto lower = [&](__m512i level16, __m512i fraction, __m512i& above_limit) {
      const __m512i limit = _mm512_permutexvar_epi16(level16, limit_of_level);
      above_limit = _mm512_sub_epi16(fraction, limit);
      return _mm512_mask_sub_epi16(level16, _mm512_cmpgt_epu16_mask(fraction, limit), level16, _mm512_set1_epi16(1));
    };
    const __m512i even = lower(_mm512_unpacklo_epi8(level, zero), _mm512_unpacklo_epi8(low, high), excess[0]);
    const __m512i odd = lower(_mm512_unpackhi_epi8(level, zero), _mm512_unpackhi_epi8(low, high), excess[1]);
    levels = _mm512_min_epu8(_mm512_packus_epi16(even, odd), _mm512_set1_epi8(static_cast<char>(limits.last)));
    return _mm512_cmple_epu16_mask(_mm512_min_epu16(excess[0], excess[1]), tolerance) == 0;
  }

 private:
  INTACT_INLINE byte_table<isa::avx512vbmi> bytes_of_fractions(int shift) const {
    std::uint8_t entries[256];
    for (int d = 0; d < 256; ++d) {
      entries[d] = static_cast<std::uint8_t>(fraction_[d] >> shift);
    }
    return byte_table<isa::avx512vbmi>(entries);
  }

  byte_table<isa::avx512vbmi> octaves_, low_, high_;
};
#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
