#pragma once

#include <bit>
#include <cstdint>

#include "intact/simd/batch.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/simd/sum.hpp"

// The sum of the entries that bytes select from a table of 256 numbers that do not increase: of
// table[largest - code] >> shift(), over a row of codes.
//
// table_sum<Isa>(table) has shift(), which leaves as many bits of the entries as are added up; covers(count), whether
// it can do it for so many codes; and operator()(codes, visible, count, largest), where all codes are visible or those
// with a number other than 0. Only pairs of registers that can be a table of 64 words or of 128 bytes are worth it:
// elsewhere it covers nothing, and loads are faster. Where there are sixteen_rows, it also has lanes_of_sum(codes,
// visible, count, largest).

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
class table_sum {
 public:
  template <class T>
  INTACT_INLINE explicit table_sum(const T*) {}

  static constexpr int shift() { return 0; }
  static constexpr bool covers(index_t) { return false; }
  std::uint64_t operator()(const std::uint8_t*, const std::uint8_t*, index_t, int) const { return 0; }
};

#if INTACT_HAS_AVX512BW

namespace detail {

/// What leaves so many bits of numbers up to `largest`.
INTACT_INLINE constexpr int shift_to(int bits, std::uint64_t largest) {
  const auto width = static_cast<int>(std::bit_width(largest));
  return width > bits ? width - bits : 0;
}

/// Two tables of 16-bit words, less 2^15, so that pairs of them can be added as signed ones. Products with 1 do that.
template <class Add>
class table_sum_512 {
 public:
  template <class T>
  INTACT_INLINE explicit table_sum_512(const T* table) : shift_(shift_to(32, table[0])) {
    for (int d = 0; d < 256; ++d) {
      const auto entry = static_cast<std::uint32_t>(table[d] >> shift_);
      low_[d] = static_cast<std::uint16_t>(entry ^ 0x8000);
      high_[d] = static_cast<std::uint16_t>((entry >> 16) ^ 0x8000);
    }
  }

  INTACT_INLINE int shift() const { return shift_; }

  /// Sixteen lanes of 32 bits hold the sums of so many words.
  static constexpr bool covers(index_t count) { return count < (index_t{1} << 19); }

  INTACT_INLINE std::uint64_t operator()(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                                         int largest) const {
    constexpr index_t together = 32;
    const __m256i first = _mm256_set1_epi8(static_cast<char>(largest));
    __m512i low = _mm512_setzero_si512(), high = low;
    index_t added = 0;
    for (index_t j = 0; j < count; j += together) {
      __mmask32 these = count - j >= together ? ~__mmask32{0} : (__mmask32{1} << (count - j)) - 1;
      const __m256i some = _mm256_maskz_loadu_epi8(these, codes + j);
      if (visible != nullptr) {
        const __m256i seen = _mm256_maskz_loadu_epi8(these, visible + j);
        these = _mm256_test_epi8_mask(seen, seen);
      }
      added += std::popcount(these);
      const __m512i at = _mm512_cvtepu8_epi16(_mm256_sub_epi8(first, some));
      low = Add::pairs(low, _mm512_maskz_mov_epi16(these, entries(low_, at)));
      high = Add::pairs(high, _mm512_maskz_mov_epi16(these, entries(high_, at)));
    }
    const __m512i sums = _mm512_add_epi64(pairs_of_lanes(low), _mm512_slli_epi64(pairs_of_lanes(high), 16));
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sums) + std::int64_t{0x80008000} * added);
  }

 private:
  INTACT_INLINE static __m512i entries(const std::uint16_t* words, __m512i at) {
    const __mmask32 odd = _mm512_test_epi16_mask(at, _mm512_set1_epi16(64));
    const __mmask32 upper = _mm512_test_epi16_mask(at, _mm512_set1_epi16(128));
    __m512i quarters[4];
    INTACT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::uint16_t* const part = words + 64 * i;
      quarters[i] = _mm512_permutex2var_epi16(_mm512_load_si512(part), at, _mm512_load_si512(part + 32));
    }
    const __m512i low = _mm512_mask_mov_epi16(quarters[0], odd, quarters[1]);
    return _mm512_mask_mov_epi16(low, upper, _mm512_mask_mov_epi16(quarters[2], odd, quarters[3]));
  }

  /// Lanes of 64 bits, the sum of two signed ones of 32 each.
  INTACT_INLINE static __m512i pairs_of_lanes(__m512i x) {
    return _mm512_add_epi64(_mm512_srai_epi64(_mm512_slli_epi64(x, 32), 32), _mm512_srai_epi64(x, 32));
  }

  alignas(64) std::uint16_t low_[256];
  alignas(64) std::uint16_t high_[256];
  int shift_;
};

struct add_pairs_512 {
  INTACT_INLINE static __m512i pairs(__m512i sum, __m512i words) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(words, _mm512_set1_epi16(1)));
  }
};

}  // namespace detail

template <>
class table_sum<isa::avx512bw> : public detail::table_sum_512<detail::add_pairs_512> {
  using detail::table_sum_512<detail::add_pairs_512>::table_sum_512;
};

#endif
#if INTACT_HAS_AVX512VNNI

namespace detail {

struct add_pairs_512_vnni {
  INTACT_INLINE static __m512i pairs(__m512i sum, __m512i words) {
    return _mm512_dpwssd_epi32(sum, words, _mm512_set1_epi16(1));
  }
};

}  // namespace detail

template <>
class table_sum<isa::avx512vnni> : public detail::table_sum_512<detail::add_pairs_512_vnni> {
  using detail::table_sum_512<detail::add_pairs_512_vnni>::table_sum_512;
};

#endif
#if INTACT_HAS_AVX512VBMI

/// Three tables of bytes, which dot products with 1 add up.
template <>
class table_sum<isa::avx512vbmi> {
 public:
  template <class T>
  INTACT_INLINE explicit table_sum(const T* table)
      : shift_(detail::shift_to(8 * planes, table[0])), planes_{plane(table, 0), plane(table, 1), plane(table, 2)} {}

  INTACT_INLINE int shift() const { return shift_; }

  /// A plane's sum is below 2^32.
  static constexpr bool covers(index_t count) { return count < (index_t{1} << 24); }

  INTACT_INLINE std::uint64_t operator()(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                                         int largest) const {
    __m512i sums[planes];
    sums_of_planes(codes, visible, count, static_cast<std::uint8_t>(largest), sums);
    return weighted(sums);
  }

  /// Of up to 256 codes, sixteen lanes of 32 bits that have the sum between them.
  INTACT_INLINE __m512i lanes_of_sum(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                                     std::uint8_t largest) const {
    __m512i sums[planes];
    sums_of_planes(codes, visible, count, largest, sums);
    const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(sums[2], 8), sums[1]);
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), sums[0]);
  }

 private:
  static constexpr int planes = 3;

  template <class T>
  INTACT_INLINE byte_table<isa::avx512vbmi> plane(const T* table, int number) const {
    std::uint8_t entries[256];
    for (int d = 0; d < 256; ++d) {
      entries[d] = static_cast<std::uint8_t>(table[d] >> shift_ >> (8 * number));
    }
    return byte_table<isa::avx512vbmi>(entries);
  }

  INTACT_INLINE void sums_of_planes(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                                    std::uint8_t largest, __m512i (&sums)[planes]) const {
    constexpr index_t together = 64;
    const __m512i first = _mm512_set1_epi8(static_cast<char>(largest));
    INTACT_UNROLL
    for (__m512i& sum : sums) {
      sum = _mm512_setzero_si512();
    }
    const auto add = [&](__mmask64 these, index_t j) {
      const __m512i distances = _mm512_sub_epi8(first, _mm512_maskz_loadu_epi8(these, codes + j));
      if (visible != nullptr) {
        const __m512i seen = _mm512_maskz_loadu_epi8(these, visible + j);
        these = _mm512_test_epi8_mask(seen, seen);
      }
      const __m512i ones = _mm512_maskz_set1_epi8(these, 1);
      const __mmask64 upper = _mm512_movepi8_mask(distances);
      INTACT_UNROLL
      for (int i = 0; i < planes; ++i) {
        sums[i] = _mm512_dpbusd_epi32(sums[i], planes_[i](distances, upper), ones);
      }
    };
    index_t j = 0;
    for (; j + together <= count; j += together) {
      add(~__mmask64{0}, j);
    }
    if (j < count) {
      add((__mmask64{1} << (count - j)) - 1, j);
    }
  }

  /// The sum of all lanes of plane p, times 2^(8 * p).
  INTACT_INLINE static std::uint64_t weighted(const __m512i (&sums)[planes]) {
    const auto add_pairs = [](__m512i x, __m512i y) {
      return _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    };
    const __m512i low = add_pairs(sums[0], sums[1]), high = add_pairs(sums[2], _mm512_setzero_si512());
    const __m512i four = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
    const __m256i two = _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64(four, 1));
    const __m128i one = _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
    const __m256i shifted = _mm256_sllv_epi64(_mm256_cvtepu32_epi64(one), _mm256_setr_epi64x(0, 8, 16, 24));
    const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(shifted), _mm256_extracti128_si256(shifted, 1));
    return static_cast<std::uint64_t>(detail::sum_of_pair(pair));
  }

  int shift_;
  byte_table<isa::avx512vbmi> planes_[planes];
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
