#pragma once

#include <cstdint>

#include "intact/simd/batch.hpp"

// Four rows of u8 codes in the order of packed weights, recentred: minus 128. Of `width` columns, a multiple of 16,
//
//   interleave_recentred<Isa>(rows, width, to)           to[4 * c + i] = rows[i][c] - 128
//   transpose_recentred<Isa>(rows, width, to, stride)    to[c / 4 * stride + 4 * i + c % 4] = rows[i][c] - 128

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

/// The same for 16 columns from `column` on.
template <class Isa>
struct recentred_rows : recentred_rows<typename Isa::parent> {};

/// The interface of recentred_rows<Isa>.
template <class Isa>
concept recentred_rows_interface = requires(const std::uint8_t* const (&rows)[4], std::uint8_t* to, index_t stride) {
  recentred_rows<Isa>::interleave(rows, index_t{0}, to);
  recentred_rows<Isa>::transpose(rows, index_t{0}, to, stride);
};

template <>
struct recentred_rows<isa::scalar> {
  INTACT_INLINE static void interleave(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to) {
    for (index_t c = 0; c < 16; ++c) {
      for (index_t i = 0; i < 4; ++i) {
        to[4 * c + i] = rows[i][column + c] ^ 128;
      }
    }
  }
  INTACT_INLINE static void transpose(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to,
                                      index_t stride) {
    for (index_t i = 0; i < 4; ++i) {
      for (index_t c = 0; c < 16; ++c) {
        to[c / 4 * stride + 4 * i + c % 4] = rows[i][column + c] ^ 128;
      }
    }
  }
};

#if INTACT_HAS_SSE2

template <>
struct recentred_rows<isa::sse2> {
  INTACT_INLINE static void interleave(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to) {
    const __m128i x = load(rows[0] + column), y = load(rows[1] + column);
    const __m128i z = load(rows[2] + column), w = load(rows[3] + column);
    const __m128i low_xy = _mm_unpacklo_epi8(x, y), high_xy = _mm_unpackhi_epi8(x, y);
    const __m128i low_zw = _mm_unpacklo_epi8(z, w), high_zw = _mm_unpackhi_epi8(z, w);
    store(_mm_unpacklo_epi16(low_xy, low_zw), to);
    store(_mm_unpackhi_epi16(low_xy, low_zw), to + 16);
    store(_mm_unpacklo_epi16(high_xy, high_zw), to + 32);
    store(_mm_unpackhi_epi16(high_xy, high_zw), to + 48);
  }
  INTACT_INLINE static void transpose(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to,
                                      index_t stride) {
    const __m128i x = load(rows[0] + column), y = load(rows[1] + column);
    const __m128i z = load(rows[2] + column), w = load(rows[3] + column);
    const __m128i low_xy = _mm_unpacklo_epi32(x, y), high_xy = _mm_unpackhi_epi32(x, y);
    const __m128i low_zw = _mm_unpacklo_epi32(z, w), high_zw = _mm_unpackhi_epi32(z, w);
    store(_mm_unpacklo_epi64(low_xy, low_zw), to);
    store(_mm_unpackhi_epi64(low_xy, low_zw), to + stride);
    store(_mm_unpacklo_epi64(high_xy, high_zw), to + 2 * stride);
    store(_mm_unpackhi_epi64(high_xy, high_zw), to + 3 * stride);
  }

 private:
  INTACT_INLINE static __m128i load(const std::uint8_t* from) {
    return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), _mm_set1_epi8(-128));
  }
  INTACT_INLINE static void store(__m128i x, std::uint8_t* to) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), x); }
};

#endif
#if INTACT_HAS_NEON

template <>
struct recentred_rows<isa::neon> {
  INTACT_INLINE static void interleave(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to) {
    vst4q_u8(to, uint8x16x4_t{
                     {load(rows[0] + column), load(rows[1] + column), load(rows[2] + column), load(rows[3] + column)}});
  }
  INTACT_INLINE static void transpose(const std::uint8_t* const (&rows)[4], index_t column, std::uint8_t* to,
                                      index_t stride) {
    const auto row = [&](int i) { return vreinterpretq_u32_u8(load(rows[i] + column)); };
    const uint32x4x2_t xz = vzipq_u32(row(0), row(2)), yw = vzipq_u32(row(1), row(3));
    const uint32x4x2_t low = vzipq_u32(xz.val[0], yw.val[0]), high = vzipq_u32(xz.val[1], yw.val[1]);
    vst1q_u8(to, vreinterpretq_u8_u32(low.val[0]));
    vst1q_u8(to + stride, vreinterpretq_u8_u32(low.val[1]));
    vst1q_u8(to + 2 * stride, vreinterpretq_u8_u32(high.val[0]));
    vst1q_u8(to + 3 * stride, vreinterpretq_u8_u32(high.val[1]));
  }

 private:
  INTACT_INLINE static uint8x16_t load(const std::uint8_t* from) { return veorq_u8(vld1q_u8(from), vdupq_n_u8(128)); }
};

#endif

template <class Isa>
INTACT_INLINE void interleave_recentred(const std::uint8_t* const (&rows)[4], index_t width, std::uint8_t* to) {
  for (index_t c = 0; c < width; c += 16) {
    recentred_rows<Isa>::interleave(rows, c, to + 4 * c);
  }
}

template <class Isa>
INTACT_INLINE void transpose_recentred(const std::uint8_t* const (&rows)[4], index_t width, std::uint8_t* to,
                                       index_t stride) {
  for (index_t c = 0; c < width; c += 16) {
    recentred_rows<Isa>::transpose(rows, c, to + c / 4 * stride, stride);
  }
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
