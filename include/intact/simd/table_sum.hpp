#pragma once

#include <bit>
#include <concepts>
#include <cstdint>

#include "intact/simd/batch.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/simd/sum.hpp"
#include "intact/types/attention_codes.hpp"

// The sum of entries of a table of softmax_distances numbers that do not increase: of table[max_code - code] >>
// shift(), over a row of codes.
//
// table_sum<Isa>(table) has
//
//   exists            only where a pair of registers is a table of 64 words or of 128 bytes: elsewhere loads are faster
//   shift()           leaves the bits of the entries that are added up
//   covers(count)     whether the sums of so many entries fit
//   operator()(codes, visible, count, max_code)  all codes are visible if there is no mask, else those with a number
//                     other than 0
//   sum_lanes(codes, visible, count, max_code)   where reduce_16_registers<Isa> exists

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
class table_sum : public table_sum<typename Isa::parent> {
 public:
  using table_sum<typename Isa::parent>::table_sum;
};
template <>
class table_sum<isa::scalar> {
 public:
  static constexpr bool exists = false;
  explicit table_sum(const void*) {}
};

/// The interface of table_sum<Isa> where it exists.
template <class Isa, class Sum = table_sum<Isa>>
concept table_sum_interface = requires(const Sum& sum, const std::uint8_t* codes, index_t count) {
  Sum(static_cast<const std::uint32_t*>(nullptr));
  Sum(static_cast<const std::uint64_t*>(nullptr));
  { sum.shift() } -> std::same_as<int>;
  { Sum::covers(count) } -> std::same_as<bool>;
  { sum(codes, codes, count, 255) } -> std::same_as<std::uint64_t>;
};

#if INTACT_HAS_AVX512BW

namespace detail {

/// The shift that leaves `bits` bits of numbers up to `max_value`.
INTACT_INLINE constexpr int shift_to(int bits, std::uint64_t max_value) {
  const auto width = static_cast<int>(std::bit_width(max_value));
  return width > bits ? width - bits : 0;
}

/// Two tables of 16-bit words, minus 2^15, so that dot products with 1 add pairs of them as signed words.
template <class Add>
class table_sum_x512 {
 public:
  static constexpr bool exists = true;

  template <class T>
  INTACT_INLINE explicit table_sum_x512(const T* table) : shift_(shift_to(32, table[0])) {
    for (index_t d = 0; d < softmax_distances; ++d) {
      const auto entry = static_cast<std::uint32_t>(table[d] >> shift_);
      low_[d] = static_cast<std::uint16_t>(entry ^ 0x8000);
      high_[d] = static_cast<std::uint16_t>((entry >> 16) ^ 0x8000);
    }
  }

  INTACT_INLINE int shift() const { return shift_; }

  /// Sixteen lanes of 32 bits hold the sums of so many words.
  static constexpr bool covers(index_t count) { return count < (index_t{1} << 19); }

  INTACT_INLINE std::uint64_t operator()(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                                         int max_code) const {
    constexpr index_t width = 32;
    const __m256i first = _mm256_set1_epi8(static_cast<char>(max_code));
    __m512i low = _mm512_setzero_si512(), high = low;
    index_t added = 0;
    for (index_t j = 0; j < count; j += width) {
      __mmask32 these = count - j >= width ? ~__mmask32{0} : (__mmask32{1} << (count - j)) - 1;
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

  /// Lanes of 64 bits, each the sum of two signed lanes of 32.
  INTACT_INLINE static __m512i pairs_of_lanes(__m512i x) {
    return _mm512_add_epi64(_mm512_srai_epi64(_mm512_slli_epi64(x, 32), 32), _mm512_srai_epi64(x, 32));
  }

  alignas(64) std::uint16_t low_[softmax_distances];
  alignas(64) std::uint16_t high_[softmax_distances];
  int shift_;
};

struct add_pairs_x512 {
  INTACT_INLINE static __m512i pairs(__m512i sum, __m512i words) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(words, _mm512_set1_epi16(1)));
  }
};

}  // namespace detail

template <>
class table_sum<isa::avx512bw> : public detail::table_sum_x512<detail::add_pairs_x512> {
  using detail::table_sum_x512<detail::add_pairs_x512>::table_sum_x512;
};

#endif
#if INTACT_HAS_AVX512VNNI

namespace detail {

struct add_pairs_x512_vnni {
  INTACT_INLINE static __m512i pairs(__m512i sum, __m512i words) {
    return _mm512_dpwssd_epi32(sum, words, _mm512_set1_epi16(1));
  }
};

}  // namespace detail

template <>
class table_sum<isa::avx512vnni> : public detail::table_sum_x512<detail::add_pairs_x512_vnni> {
  using detail::table_sum_x512<detail::add_pairs_x512_vnni>::table_sum_x512;
};

#endif
#if INTACT_HAS_AVX512VBMI

/// Three tables of bytes, which dot products with 1 add.
template <>
class table_sum<isa::avx512vbmi> {
 public:
  static constexpr bool exists = true;

  template <class T>
  INTACT_INLINE explicit table_sum(const T* table)
      : shift_(detail::shift_to(8 * entry_bytes, table[0])),
        byte_tables_{table_of_byte(table, 0), table_of_byte(table, 1), table_of_byte(table, 2)} {}

  INTACT_INLINE int shift() const { return shift_; }

  /// The sum of a byte of the entries is below 2^32.
  static constexpr bool covers(index_t count) { return count < (index_t{1} << 24); }

  INTACT_INLINE std::uint64_t operator()(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                                         int max_code) const {
    __m512i sums[entry_bytes];
    add_bytes(codes, visible, count, static_cast<std::uint8_t>(max_code), sums);
    return weighted(sums);
  }

  /// Of up to 256 codes, sixteen lanes of 32 bits whose sum is the result.
  INTACT_INLINE __m512i sum_lanes(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                                  std::uint8_t max_code) const {
    __m512i sums[entry_bytes];
    add_bytes(codes, visible, count, max_code, sums);
    const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(sums[2], 8), sums[1]);
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), sums[0]);
  }

 private:
  static constexpr int entry_bytes = 3;

  template <class T>
  INTACT_INLINE byte_table<isa::avx512vbmi> table_of_byte(const T* table, int number) const {
    std::uint8_t entries[softmax_distances];
    for (index_t d = 0; d < softmax_distances; ++d) {
      entries[d] = static_cast<std::uint8_t>(table[d] >> shift_ >> (8 * number));
    }
    return byte_table<isa::avx512vbmi>(entries);
  }

  INTACT_INLINE void add_bytes(const std::uint8_t* codes, const std::uint8_t* visible, index_t count,
                               std::uint8_t max_code, __m512i (&sums)[entry_bytes]) const {
    constexpr index_t width = 64;
    const __m512i first = _mm512_set1_epi8(static_cast<char>(max_code));
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
      for (int i = 0; i < entry_bytes; ++i) {
        sums[i] = _mm512_dpbusd_epi32(sums[i], byte_tables_[i](distances, upper), ones);
      }
    };
    index_t j = 0;
    for (; j + width <= count; j += width) {
      add(~__mmask64{0}, j);
    }
    if (j < count) {
      add((__mmask64{1} << (count - j)) - 1, j);
    }
  }

  /// The sum of 2^(8 * p) times all lanes of sums[p].
  INTACT_INLINE static std::uint64_t weighted(const __m512i (&sums)[entry_bytes]) {
    const auto add_pairs = [](__m512i x, __m512i y) {
      return _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    };
    const __m512i low = add_pairs(sums[0], sums[1]), high = add_pairs(sums[2], _mm512_setzero_si512());
    const __m512i four = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
    const __m256i two = _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64(four, 1));
    const __m128i one = _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
    const __m256i shifted = _mm256_sllv_epi64(_mm256_cvtepu32_epi64(one), _mm256_setr_epi64x(0, 8, 16, 24));
    const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(shifted), _mm256_extracti128_si256(shifted, 1));
    return static_cast<std::uint64_t>(detail::sum_of_2_s64(pair));
  }

  int shift_;
  byte_table<isa::avx512vbmi> byte_tables_[entry_bytes];
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
