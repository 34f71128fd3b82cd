#pragma once

#include <cstdint>
#include <cstring>

#include "intact/simd/bytes.hpp"
#include "intact/simd/sum.hpp"

// Sums of bytes, and attention codes as weights for byte dot products.
//
//   byte_sum<Isa>(from, count)    the sum of unsigned bytes
//   code_planes<Isa, Planes>(codes, count, most, to, stride)  the planes of the codes' weights, one behind the other:
//                                 2^(7 - (code - 8 * p)) for the eight codes from 8 * p on, 0 for the others and for
//                                 those above 44. Codes above `most` count as `most`. Returns the sum of the weights,
//                                 2^(15 - code) of two planes, else 2^(44 - code). Each plane has room for the next
//                                 multiple of planes_room bytes, of which those behind `count` become anything
//   largest_weighted_code<Isa>(codes, count)  the largest of the codes 0..44, below 0 if there is none
//
// So 2^(15 - code) is 2^8 * plane 0 + plane 1, and 2^(44 - code) is the sum of 2^(37 - 8 * p) * plane p for p = 0..5.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

inline constexpr index_t planes_room = 64;

/// Per instruction set: `width` bytes at a time,
///   sum(sums, from)        adds the bytes to 64-bit or 32-bit lanes
///   total(sums)            all lanes together
/// and for code_planes, which isa::scalar does not have,
///   load(codes, most)      codes, those above `most` as `most`
///   select(codes, first, table, to)   table[code - first], 0 if that is not in 0..15
template <class Isa>
struct planes;

namespace detail {

/// Weights within a plane, and within the one that ends with code 44.
alignas(16) inline constexpr std::uint8_t plane_weights[16] = {128, 64, 32, 16, 8, 4, 2, 1};
alignas(16) inline constexpr std::uint8_t last_plane_weights[16] = {128, 64, 32, 16, 8};

}  // namespace detail

template <>
struct planes<isa::scalar> {
  using sums = std::int64_t;
  static constexpr index_t width = 1;

  INTACT_INLINE static sums zero() { return 0; }
  INTACT_INLINE static void sum(sums& s, const std::uint8_t* from) { s += *from; }
  INTACT_INLINE static std::int64_t total(sums s) { return s; }
};

#if INTACT_HAS_SSE4_1 || INTACT_HAS_NEON

namespace detail {

struct interleaver {
#if INTACT_HAS_SSE4_1
  INTACT_INLINE static __m128i recentred(const std::uint8_t* from) {
    return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), _mm_set1_epi8(-128));
  }
  INTACT_INLINE static void store(__m128i x, std::uint8_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), x);
  }
#endif

  /// Sixteen columns of four rows, minus 128, column by column.
  INTACT_INLINE static void interleave(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to) {
#if INTACT_HAS_SSE4_1
    const __m128i x = recentred(rows[0] + column), y = recentred(rows[1] + column);
    const __m128i z = recentred(rows[2] + column), w = recentred(rows[3] + column);
    const __m128i low_xy = _mm_unpacklo_epi8(x, y), high_xy = _mm_unpackhi_epi8(x, y);
    const __m128i low_zw = _mm_unpacklo_epi8(z, w), high_zw = _mm_unpackhi_epi8(z, w);
    store(_mm_unpacklo_epi16(low_xy, low_zw), to);
    store(_mm_unpackhi_epi16(low_xy, low_zw), to + 16);
    store(_mm_unpacklo_epi16(high_xy, high_zw), to + 32);
    store(_mm_unpackhi_epi16(high_xy, high_zw), to + 48);
#endif
#if INTACT_HAS_NEON
    const uint8x16_t middle = vdupq_n_u8(128);
    const auto recentred = [&](int i) { return veorq_u8(vld1q_u8(rows[i] + column), middle); };
    vst4q_u8(to, uint8x16x4_t{{recentred(0), recentred(1), recentred(2), recentred(3)}});
#endif
  }

  /// Sixteen columns of four rows, minus 128: four columns of every row at a time, `stride` bytes apart.
  INTACT_INLINE static void transpose(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to,
                                      index_t stride) {
#if INTACT_HAS_SSE4_1
    const __m128i x = recentred(rows[0] + column), y = recentred(rows[1] + column);
    const __m128i z = recentred(rows[2] + column), w = recentred(rows[3] + column);
    const __m128i low_xy = _mm_unpacklo_epi32(x, y), high_xy = _mm_unpackhi_epi32(x, y);
    const __m128i low_zw = _mm_unpacklo_epi32(z, w), high_zw = _mm_unpackhi_epi32(z, w);
    store(_mm_unpacklo_epi64(low_xy, low_zw), to);
    store(_mm_unpackhi_epi64(low_xy, low_zw), to + stride);
    store(_mm_unpacklo_epi64(high_xy, high_zw), to + 2 * stride);
    store(_mm_unpackhi_epi64(high_xy, high_zw), to + 3 * stride);
#endif
#if INTACT_HAS_NEON
    const uint8x16_t middle = vdupq_n_u8(128);
    const auto recentred = [&](int i) { return vreinterpretq_u32_u8(veorq_u8(vld1q_u8(rows[i] + column), middle)); };
    const uint32x4x2_t xz = vzipq_u32(recentred(0), recentred(2)), yw = vzipq_u32(recentred(1), recentred(3));
    const uint32x4x2_t low = vzipq_u32(xz.val[0], yw.val[0]), high = vzipq_u32(xz.val[1], yw.val[1]);
    vst1q_u8(to, vreinterpretq_u8_u32(low.val[0]));
    vst1q_u8(to + stride, vreinterpretq_u8_u32(low.val[1]));
    vst1q_u8(to + 2 * stride, vreinterpretq_u8_u32(high.val[0]));
    vst1q_u8(to + 3 * stride, vreinterpretq_u8_u32(high.val[1]));
#endif
  }
};

}  // namespace detail

#endif
#if INTACT_HAS_SSE4_1

template <>
struct planes<isa::sse4_1> : detail::interleaver {
  using sums = __m128i;
  static constexpr index_t width = 16;

  INTACT_INLINE static sums zero() { return _mm_setzero_si128(); }
  INTACT_INLINE static void sum(sums& s, const std::uint8_t* from) {
    s = _mm_add_epi64(s, _mm_sad_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), _mm_setzero_si128()));
  }
  INTACT_INLINE static std::int64_t total(sums s) { return detail::sum_of_pair(s); }
  INTACT_INLINE static __m128i load(const std::uint8_t* codes, std::uint8_t most) {
    return _mm_min_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)),
                        _mm_set1_epi8(static_cast<char>(most)));
  }
  // The shuffle gives 0 where the top bit is set: outside of 0..15, once 112 has been added.
  INTACT_INLINE static void select(__m128i codes, std::uint8_t first, const std::uint8_t* table, std::uint8_t* to) {
    const __m128i distance = _mm_sub_epi8(codes, _mm_set1_epi8(static_cast<char>(first)));
    const __m128i at = _mm_adds_epu8(distance, _mm_set1_epi8(112));
    const __m128i weights = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(weights, at));
  }
};

#endif
#if INTACT_HAS_AVX2

namespace detail {

struct planes_of_32 : interleaver {
  using sums = __m256i;
  static constexpr index_t width = 32;

  INTACT_INLINE static sums zero() { return _mm256_setzero_si256(); }
  INTACT_INLINE static void sum(sums& s, const std::uint8_t* from) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    s = _mm256_add_epi64(s, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
  }
  INTACT_INLINE static std::int64_t total(sums s) {
    const __m128i halves = _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    return detail::sum_of_pair(halves);
  }
  INTACT_INLINE static __m256i load(const std::uint8_t* codes, std::uint8_t most) {
    return _mm256_min_epu8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)),
                           _mm256_set1_epi8(static_cast<char>(most)));
  }
  INTACT_INLINE static void select(__m256i codes, std::uint8_t first, const std::uint8_t* table, std::uint8_t* to) {
    const __m256i distance = _mm256_sub_epi8(codes, _mm256_set1_epi8(static_cast<char>(first)));
    const __m256i at = _mm256_adds_epu8(distance, _mm256_set1_epi8(112));
    const __m256i weights = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_shuffle_epi8(weights, at));
  }
};

}  // namespace detail

template <>
struct planes<isa::avx2> : detail::planes_of_32 {};
#endif
#if INTACT_HAS_AVX2_VNNI
template <>
struct planes<isa::avx2_vnni> : detail::planes_of_32 {};
#endif
#if INTACT_HAS_AVX512BW

namespace detail {

struct planes_of_64 : interleaver {
  using sums = __m512i;
  static constexpr index_t width = 64;

  INTACT_INLINE static sums zero() { return _mm512_setzero_si512(); }
  INTACT_INLINE static void sum(sums& s, const std::uint8_t* from) {
    s = _mm512_add_epi64(s, _mm512_sad_epu8(_mm512_loadu_si512(from), _mm512_setzero_si512()));
  }
  INTACT_INLINE static std::int64_t total(sums s) {
    return planes_of_32::total(_mm256_add_epi64(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1)));
  }
  INTACT_INLINE static __m512i load(const std::uint8_t* codes, std::uint8_t most) {
    return _mm512_min_epu8(_mm512_loadu_si512(codes), _mm512_set1_epi8(static_cast<char>(most)));
  }
  INTACT_INLINE static void select(__m512i codes, std::uint8_t first, const std::uint8_t* table, std::uint8_t* to) {
    const __m512i distance = _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(first)));
    const __m512i at = _mm512_adds_epu8(distance, _mm512_set1_epi8(112));
    const __m512i weights = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    _mm512_storeu_si512(to, _mm512_shuffle_epi8(weights, at));
  }
};

}  // namespace detail

template <>
struct planes<isa::avx512bw> : detail::planes_of_64 {};
#endif
#if INTACT_HAS_AVX512VNNI
template <>
struct planes<isa::avx512vnni> : detail::planes_of_64 {};
#endif
#if INTACT_HAS_AVX512VBMI
template <>
struct planes<isa::avx512vbmi> : detail::planes_of_64 {};
#endif
#if INTACT_HAS_NEON

namespace detail {

struct planes_of_16 : interleaver {
  using sums = uint32x4_t;
  static constexpr index_t width = 16;

  INTACT_INLINE static sums zero() { return vdupq_n_u32(0); }
  INTACT_INLINE static void sum(sums& s, const std::uint8_t* from) { s = vpadalq_u16(s, vpaddlq_u8(vld1q_u8(from))); }
  INTACT_INLINE static std::int64_t total(sums s) { return static_cast<std::int64_t>(vaddlvq_u32(s)); }
  INTACT_INLINE static uint8x16_t load(const std::uint8_t* codes, std::uint8_t most) {
    return vminq_u8(vld1q_u8(codes), vdupq_n_u8(most));
  }
  INTACT_INLINE static void select(uint8x16_t codes, std::uint8_t first, const std::uint8_t* table, std::uint8_t* to) {
    vst1q_u8(to, vqtbl1q_u8(vld1q_u8(table), vsubq_u8(codes, vdupq_n_u8(first))));
  }
};

}  // namespace detail

template <>
struct planes<isa::neon> : detail::planes_of_16 {};
#endif
#if INTACT_HAS_NEON_DOTPROD
template <>
struct planes<isa::neon_dotprod> : detail::planes_of_16 {};
#endif
#if INTACT_HAS_NEON_I8MM
template <>
struct planes<isa::neon_i8mm> : detail::planes_of_16 {};
#endif

namespace detail {

/// The last bytes of a row, and zeros.
template <class Isa>
struct row_end {
  alignas(64) std::uint8_t bytes[static_cast<std::size_t>(planes<Isa>::width)];

  INTACT_INLINE row_end(const std::uint8_t* from, index_t count) {
    using registers = simd::bytes<Isa>;
    registers::store(registers::load_part(from, count), bytes);
  }
};
template <>
struct row_end<isa::scalar> {
  std::uint8_t bytes[1] = {};

  INTACT_INLINE row_end(const std::uint8_t*, index_t) {}
};

}  // namespace detail

template <class Isa>
INTACT_INLINE std::int64_t byte_sum(const std::uint8_t* from, index_t count) {
  using lanes = planes<Isa>;
  auto sums = lanes::zero();
  index_t i = 0;
  for (; i + lanes::width <= count; i += lanes::width) {
    lanes::sum(sums, from + i);
  }
  if (i < count) {
    lanes::sum(sums, detail::row_end<Isa>(from + i, count - i).bytes);
  }
  return lanes::total(sums);
}

template <class Isa, unsigned Planes>
INTACT_INLINE std::int64_t code_planes(const std::uint8_t* codes, index_t count, std::uint8_t most, std::uint8_t* to,
                                       index_t stride) {
  using lanes = planes<Isa>;
  typename lanes::sums sums[Planes];
  for (unsigned p = 0; p < Planes; ++p) {
    sums[p] = lanes::zero();
  }
  const auto split = [&](const std::uint8_t* from, index_t i) {
    const auto loaded = lanes::load(from, most);
    INTACT_UNROLL
    for (unsigned p = 0; p < Planes; ++p) {
      const std::uint8_t* const table = p == 5 ? detail::last_plane_weights : detail::plane_weights;
      lanes::select(loaded, static_cast<std::uint8_t>(8 * p), table, to + static_cast<index_t>(p) * stride + i);
      lanes::sum(sums[p], to + static_cast<index_t>(p) * stride + i);
    }
  };
  index_t i = 0;
  for (; i + lanes::width <= count; i += lanes::width) {
    split(codes + i, i);
  }
  index_t behind = 0;
  if (i < count) {
    split(detail::row_end<Isa>(codes + i, count - i).bytes, i);
    behind = i + lanes::width - count;
  }
  std::int64_t sum = (lanes::total(sums[0]) - behind * 128) * 256 + lanes::total(sums[1]);  // codes 0 behind the end
  if constexpr (Planes > 2) {
    sum *= std::int64_t{1} << 29;
    for (unsigned p = 2; p < Planes; ++p) {
      const std::int64_t of_plane = lanes::total(sums[p]);
      sum += p == 5 ? of_plane / 8 : of_plane * (std::int64_t{1} << (37 - 8 * p));
    }
  }
  return sum;
}

template <class Isa>
INTACT_INLINE int largest_weighted_code(const std::uint8_t* codes, index_t count) {
  // 45 less, modulo 256, codes 0..44 are above all others.
  using registers = simd::bytes<Isa>;
  const auto bound = registers::broadcast(45);
  auto largest = registers::broadcast(0);
  index_t i = 0;
  for (; i + registers::width <= count; i += registers::width) {
    largest = registers::max(largest, registers::subtract(registers::load(codes + i), bound));
  }
  if (i < count) {
    largest = registers::max(largest, registers::subtract(registers::load_part(codes + i, count - i), bound));
  }
  return registers::largest(largest) + 45 - 256;
}

/// to[4 * c + i] = rows[i][c] - 128 for the first `width` columns, a multiple of 16.
template <class Isa>
INTACT_INLINE void interleave_recentred(const std::uint8_t* const (&rows)[4], index_t width, std::uint8_t* to) {
  if constexpr (lanes<Isa> == 1) {
    for (index_t c = 0; c < width; ++c) {
      for (index_t i = 0; i < 4; ++i) {
        to[4 * c + i] = rows[i][c] ^ 128;
      }
    }
  } else {
    for (index_t c = 0; c < width; c += 16) {
      planes<Isa>::interleave(rows, c, to + 4 * c);
    }
  }
}

/// to[c / 4 * stride + 4 * i + c % 4] = rows[i][c] - 128 for the first `width` columns, a multiple of 16.
template <class Isa>
INTACT_INLINE void transpose_recentred(const std::uint8_t* const (&rows)[4], index_t width, std::uint8_t* to,
                                       index_t stride) {
  if constexpr (lanes<Isa> == 1) {
    for (index_t i = 0; i < 4; ++i) {
      for (index_t c = 0; c < width; ++c) {
        to[c / 4 * stride + 4 * i + c % 4] = rows[i][c] ^ 128;
      }
    }
  } else {
    for (index_t c = 0; c < width; c += 16) {
      planes<Isa>::transpose(rows, c, to + c / 4 * stride, stride);
    }
  }
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
