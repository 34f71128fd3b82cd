#pragma once

#include <cstdint>

#include "intact/simd/batch.hpp"

// The sum of the entries that bytes select from a table of 256 numbers: of table[largest - code], over a row of codes.
//
// table_sum<Isa>(table) has covers(count), whether it can do it for so many codes, and operator()(codes, count,
// largest). Only pairs of registers that can be a table of 64 words or of 128 bytes are worth it: elsewhere it covers
// nothing, and loads are faster.

namespace intact::inline INTACT_ABI::simd {

template <class Isa>
class table_sum {
 public:
  template <class T>
  INTACT_INLINE explicit table_sum(const T*) {}

  static constexpr bool covers(index) { return false; }
  std::uint64_t operator()(const std::uint8_t*, index, int) const { return 0; }
};

#if INTACT_HAS_AVX512BW

namespace detail {

/// Numbers below 2^48 as up to three tables of 16-bit words, less 2^15, so that pairs of them can be added as signed
/// ones. Products with 1 do that.
template <class Add>
class table_sum_512 {
 public:
  template <class T>
  INTACT_INLINE explicit table_sum_512(const T* table) {
    std::uint64_t all = 0;
    for (int d = 0; d < 256; ++d) {
      const std::uint64_t entry = table[d];
      all |= entry;
      for (unsigned plane = 0; plane < most_planes; ++plane) {
        words_[plane][d] = static_cast<std::uint16_t>((entry >> (16 * plane)) ^ 0x8000);
      }
    }
    planes_ = (all >> 48) != 0 ? 0 : (all >> 32) != 0 ? 3 : 2;
  }

  /// Sixteen lanes of 32 bits hold the sums of so many words.
  INTACT_INLINE bool covers(index count) const { return planes_ != 0 && count < (index{1} << 19); }

  INTACT_INLINE std::uint64_t operator()(const std::uint8_t* codes, index count, int largest) const {
    return planes_ == 2 ? sum<2>(codes, count, largest) : sum<3>(codes, count, largest);
  }

 private:
  static constexpr unsigned most_planes = 3;
  static constexpr index together = 32;

  template <unsigned Planes>
  INTACT_INLINE std::uint64_t sum(const std::uint8_t* codes, index count, int largest) const {
    const __m256i first = _mm256_set1_epi8(static_cast<char>(largest));
    __m512i sums[Planes];
    INTACT_UNROLL
    for (unsigned plane = 0; plane < Planes; ++plane) {
      sums[plane] = _mm512_setzero_si512();
    }
    index j = 0;
    for (; j + together <= count; j += together) {
      const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + j));
      add<Planes>(_mm256_sub_epi8(first, some), ~__mmask32{0}, sums);
    }
    if (j < count) {
      const __mmask32 rest = (__mmask32{1} << (count - j)) - 1;
      add<Planes>(_mm256_sub_epi8(first, _mm256_maskz_loadu_epi8(rest, codes + j)), rest, sums);
    }
    std::uint64_t total = 0;
    INTACT_UNROLL
    for (unsigned plane = 0; plane < Planes; ++plane) {
      const std::int64_t sum = sum_of_lanes(sums[plane]) + 0x8000 * count;
      total += static_cast<std::uint64_t>(sum) << (16 * plane);
    }
    return total;
  }

  /// Adds the entries at the distances that `these` names.
  template <unsigned Planes>
  INTACT_INLINE void add(__m256i distances, __mmask32 these, __m512i (&sums)[Planes]) const {
    const __m512i at = _mm512_cvtepu8_epi16(distances);
    const __mmask32 odd = _mm512_test_epi16_mask(at, _mm512_set1_epi16(64));
    const __mmask32 upper = _mm512_test_epi16_mask(at, _mm512_set1_epi16(128));
    INTACT_UNROLL
    for (unsigned plane = 0; plane < Planes; ++plane) {
      __m512i quarters[4];
      INTACT_UNROLL
      for (int i = 0; i < 4; ++i) {
        const std::uint16_t* const part = words_[plane] + 64 * i;
        quarters[i] = _mm512_permutex2var_epi16(_mm512_load_si512(part), at, _mm512_load_si512(part + 32));
      }
      const __m512i low = _mm512_mask_mov_epi16(quarters[0], odd, quarters[1]);
      const __m512i high = _mm512_mask_mov_epi16(quarters[2], odd, quarters[3]);
      const __m512i words = _mm512_maskz_mov_epi16(these, _mm512_mask_mov_epi16(low, upper, high));
      sums[plane] = Add::pairs(sums[plane], words);
    }
  }

  INTACT_INLINE static std::int64_t sum_of_lanes(__m512i x) {
    const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x));
    return _mm512_reduce_add_epi64(_mm512_add_epi64(low, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(x, 1))));
  }

  alignas(64) std::uint16_t words_[most_planes][256];
  int planes_;
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

/// Numbers below 2^48 as six tables of bytes, which dot products with 1 add up.
template <>
class table_sum<isa::avx512vbmi> {
 public:
  template <class T>
  INTACT_INLINE explicit table_sum(const T* table) {
    std::uint64_t all = 0;
    for (int d = 0; d < 256; ++d) {
      const std::uint64_t entry = table[d];
      all |= entry;
      for (unsigned plane = 0; plane < most_planes; ++plane) {
        bytes_[plane][d] = static_cast<std::uint8_t>(entry >> (8 * plane));
      }
    }
    planes_ = (all >> 48) != 0 ? 0 : (all >> 32) != 0 ? most_planes : few_planes;
  }

  INTACT_INLINE bool covers(index count) const { return planes_ != 0 && count < (index{1} << 19); }

  INTACT_INLINE std::uint64_t operator()(const std::uint8_t* codes, index count, int largest) const {
    return planes_ == few_planes ? sum<few_planes>(codes, count, largest) : sum<most_planes>(codes, count, largest);
  }

 private:
  static constexpr unsigned few_planes = 4, most_planes = 6;
  static constexpr index together = 64;

  template <unsigned Planes>
  INTACT_INLINE std::uint64_t sum(const std::uint8_t* codes, index count, int largest) const {
    const __m512i first = _mm512_set1_epi8(static_cast<char>(largest));
    __m512i sums[Planes];
    INTACT_UNROLL
    for (unsigned plane = 0; plane < Planes; ++plane) {
      sums[plane] = _mm512_setzero_si512();
    }
    index j = 0;
    for (; j + together <= count; j += together) {
      add<Planes>(_mm512_sub_epi8(first, _mm512_loadu_si512(codes + j)), ~__mmask64{0}, sums);
    }
    if (j < count) {
      const __mmask64 rest = (__mmask64{1} << (count - j)) - 1;
      add<Planes>(_mm512_sub_epi8(first, _mm512_maskz_loadu_epi8(rest, codes + j)), rest, sums);
    }
    std::uint64_t total = 0;
    INTACT_UNROLL
    for (unsigned plane = 0; plane < Planes; ++plane) {
      total += static_cast<std::uint64_t>(_mm512_reduce_add_epi32(sums[plane])) << (8 * plane);
    }
    return total;
  }

  /// Adds the entries at the distances that `these` names.
  template <unsigned Planes>
  INTACT_INLINE void add(__m512i distances, __mmask64 these, __m512i (&sums)[Planes]) const {
    const __mmask64 upper = _mm512_movepi8_mask(distances);
    INTACT_UNROLL
    for (unsigned plane = 0; plane < Planes; ++plane) {
      const std::uint8_t* const table = bytes_[plane];
      const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(table), distances, _mm512_load_si512(table + 64));
      const __m512i high =
          _mm512_permutex2var_epi8(_mm512_load_si512(table + 128), distances, _mm512_load_si512(table + 192));
      const __m512i entries = _mm512_maskz_mov_epi8(these, _mm512_mask_mov_epi8(low, upper, high));
      sums[plane] = _mm512_dpbusd_epi32(sums[plane], entries, _mm512_set1_epi8(1));
    }
  }

  alignas(64) std::uint8_t bytes_[most_planes][256];
  unsigned planes_;
};

#endif

}  // namespace intact::inline INTACT_ABI::simd
