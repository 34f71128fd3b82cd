#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "intact/simd/batch.hpp"
#include "intact/simd/sse_steps.hpp"

// Registers of bytes, for operations on codes without widening. bytes<Isa> has
//
//   exists                  false for isa::scalar, which has none of the members below
//   batch, width            a register and how many bytes it holds
//   load(from), store(x, to)      of any alignment
//   masked                  whether load_part is one instruction; where it is not, there is no such member
//   load_part(from, count), store_part(x, to, count)  of the first `count` bytes only, 0 < count < width; the others
//                           are loaded as 0
//   broadcast(x)            the same byte everywhere
//   max(x, y)               of unsigned bytes
//   reduce_max(x)           the largest of all bytes, unsigned
//   subtract(x, y)          wrapping
//   lookup_table_16(from)   a table of 16 bytes, where there is a shuffle of bytes: has_byte_lookup<Isa>
//   lookup(table, x)        table[x] of each byte, x < 16; there, too
//   add_where_above(sum, x, bound, step)  sum + step where x > bound, signed, and sum elsewhere
//   select(condition, x, y)  x where the condition is not 0, y elsewhere
//   store_u4(x, to)         bytes below 16 as packed u4, the first of each pair in the low half: width / 2 bytes
//   store_u4_part(x, to, count)  of the first `count` bytes only, 0 < count < width; the last one's pair is 0

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct bytes : bytes<typename Isa::parent> {};
template <>
struct bytes<isa::scalar> {
  static constexpr bool exists = false;
};

/// The interface of bytes<Isa> where it exists.
template <class Isa, class B = bytes<Isa>>
concept bytes_interface = requires(typename B::batch x, const std::uint8_t* from, std::uint8_t* to, index_t count) {
  requires(sizeof(x) == B::width);
  x = B::load(from);
  x = B::load_part(from, count);
  B::store(x, to);
  B::store_part(x, to, count);
  x = B::broadcast(std::uint8_t{255});
  x = B::max(x, x);
  { B::reduce_max(x) } -> std::same_as<int>;
  x = B::subtract(x, x);
  x = B::add_where_above(x, x, x, x);
  x = B::select(x, x, x);
  B::store_u4(x, to);
  B::store_u4_part(x, to, count);
};

/// Whether registers of bytes fill Size bytes, and a load of a part is one instruction.
template <class Isa, std::size_t Size>
concept has_masked_loads = requires {
  requires(bytes<Isa>::masked);
  requires(Size % sizeof(typename bytes<Isa>::batch) == 0);
};

template <class Isa>
concept has_byte_lookup = requires(typename bytes<Isa>::batch x, const std::uint8_t* from) {
  x = bytes<Isa>::lookup(bytes<Isa>::lookup_table_16(from), x);
};

/// Brings memory that is read soon into the nearest cache.
INTACT_INLINE void prefetch(const std::uint8_t* from) {
  __builtin_prefetch(from);
}

namespace detail {

/// memcpy of count < Limit bytes in pieces, which avoids a call. Limit is a power of 2.
template <index_t Limit>
INTACT_INLINE void copy_few(const std::uint8_t* from, std::uint8_t* to, index_t count) {
  INTACT_UNROLL
  for (index_t piece = Limit / 2; piece != 0; piece /= 2) {
    if ((count & piece) != 0) {
      std::memcpy(to, from, static_cast<std::size_t>(piece));
      from += piece;
      to += piece;
    }
  }
}

/// Parts of registers, copied through memory.
template <class Bytes, index_t Width>
struct partial_bytes {
  static constexpr index_t width = Width;

  INTACT_INLINE static auto load_part(const std::uint8_t* from, index_t count) {
    alignas(64) std::uint8_t copy[static_cast<std::size_t>(Width)] = {};
    copy_few<Width>(from, copy, count);
    return Bytes::load(copy);
  }
  template <class Batch>
  INTACT_INLINE static void store_part(Batch x, std::uint8_t* to, index_t count) {
    alignas(64) std::uint8_t copy[static_cast<std::size_t>(Width)];
    Bytes::store(x, copy);
    copy_few<Width>(copy, to, count);
  }
  template <class Batch>
  INTACT_INLINE static void store_u4_part(Batch x, std::uint8_t* to, index_t count) {
    alignas(64) std::uint8_t part[static_cast<std::size_t>(Width)] = {};
    store_part(x, part, count);
    Bytes::store_u4(Bytes::load(part), part);
    copy_few<Width>(part, to, (count + 1) / 2);
  }
};

}  // namespace detail

#if INTACT_HAS_SSE2

namespace detail {

template <class Isa>
struct bytes_x128 : partial_bytes<bytes_x128<Isa>, 16> {
  static constexpr bool exists = true;
  using batch = __m128i;

  INTACT_INLINE static batch load(const std::uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  INTACT_INLINE static void store(batch x, std::uint8_t* to) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), x); }
  INTACT_INLINE static batch broadcast(std::uint8_t x) { return _mm_set1_epi8(static_cast<char>(x)); }
  INTACT_INLINE static batch max(batch x, batch y) { return _mm_max_epu8(x, y); }
  INTACT_INLINE static int reduce_max(batch x) { return sse_steps<Isa>::max_u8(x); }
  INTACT_INLINE static batch subtract(batch x, batch y) { return _mm_sub_epi8(x, y); }
  INTACT_INLINE static batch add_where_above(batch sum, batch x, batch bound, batch step) {
    return _mm_add_epi8(sum, _mm_and_si128(_mm_cmpgt_epi8(x, bound), step));
  }
  INTACT_INLINE static batch select(batch condition, batch x, batch y) {
    const __m128i is_zero = _mm_cmpeq_epi8(condition, _mm_setzero_si128());
    return _mm_or_si128(_mm_and_si128(is_zero, y), _mm_andnot_si128(is_zero, x));
  }
  INTACT_INLINE static void store_u4(batch x, std::uint8_t* to) {
    const __m128i pairs = _mm_and_si128(_mm_or_si128(x, _mm_srli_epi16(x, 4)), _mm_set1_epi16(255));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(pairs, pairs));
  }
};

}  // namespace detail

template <>
struct bytes<isa::sse2> : detail::bytes_x128<isa::sse2> {};

#endif
#if INTACT_HAS_SSE4_1

template <>
struct bytes<isa::sse4_1> : detail::bytes_x128<isa::sse4_1> {
  INTACT_INLINE static batch lookup_table_16(const std::uint8_t* from) { return load(from); }
  INTACT_INLINE static batch lookup(batch table, batch x) { return _mm_shuffle_epi8(table, x); }
};

#endif
#if INTACT_HAS_AVX2

template <>
struct bytes<isa::avx2> : detail::partial_bytes<bytes<isa::avx2>, 32> {
  static constexpr bool exists = true;
  using batch = __m256i;

  INTACT_INLINE static batch load(const std::uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  INTACT_INLINE static void store(batch x, std::uint8_t* to) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x); }
  INTACT_INLINE static batch broadcast(std::uint8_t x) { return _mm256_set1_epi8(static_cast<char>(x)); }
  INTACT_INLINE static batch max(batch x, batch y) { return _mm256_max_epu8(x, y); }
  INTACT_INLINE static int reduce_max(batch x) {
    return bytes<isa::sse4_1>::reduce_max(_mm_max_epu8(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
  }
  INTACT_INLINE static batch subtract(batch x, batch y) { return _mm256_sub_epi8(x, y); }
  INTACT_INLINE static batch lookup_table_16(const std::uint8_t* from) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  INTACT_INLINE static batch lookup(batch table, batch x) { return _mm256_shuffle_epi8(table, x); }
  INTACT_INLINE static batch add_where_above(batch sum, batch x, batch bound, batch step) {
    return _mm256_add_epi8(sum, _mm256_and_si256(_mm256_cmpgt_epi8(x, bound), step));
  }
  INTACT_INLINE static batch select(batch condition, batch x, batch y) {
    // No blendv: GCC 12 takes its mask for characters less than 0, and -funsigned-char has none.
    const __m256i is_zero = _mm256_cmpeq_epi8(condition, _mm256_setzero_si256());
    return _mm256_or_si256(_mm256_and_si256(is_zero, y), _mm256_andnot_si256(is_zero, x));
  }
  INTACT_INLINE static void store_u4(batch x, std::uint8_t* to) {
    const __m256i pairs = _mm256_maddubs_epi16(x, _mm256_set1_epi16(0x1001));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(pairs, pairs), 0b11'01'10'00);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
  }
};

#endif
#if INTACT_HAS_AVX512BW

template <>
struct bytes<isa::avx512bw> {
  static constexpr bool exists = true;
  static constexpr bool masked = true;
  using batch = __m512i;
  static constexpr index_t width = 64;

  INTACT_INLINE static batch load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  INTACT_INLINE static void store(batch x, std::uint8_t* to) { _mm512_storeu_si512(to, x); }
  INTACT_INLINE static batch load_part(const std::uint8_t* from, index_t count) {
    return _mm512_maskz_loadu_epi8(first(count), from);
  }
  INTACT_INLINE static void store_part(batch x, std::uint8_t* to, index_t count) {
    _mm512_mask_storeu_epi8(to, first(count), x);
  }
  INTACT_INLINE static batch broadcast(std::uint8_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
  INTACT_INLINE static batch max(batch x, batch y) { return _mm512_max_epu8(x, y); }
  INTACT_INLINE static int reduce_max(batch x) {
    return bytes<isa::avx2>::reduce_max(_mm256_max_epu8(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1)));
  }
  INTACT_INLINE static batch subtract(batch x, batch y) { return _mm512_sub_epi8(x, y); }
  INTACT_INLINE static batch lookup_table_16(const std::uint8_t* from) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  INTACT_INLINE static batch lookup(batch table, batch x) { return _mm512_shuffle_epi8(table, x); }
  INTACT_INLINE static batch add_where_above(batch sum, batch x, batch bound, batch step) {
    return _mm512_mask_add_epi8(sum, _mm512_cmpgt_epi8_mask(x, bound), sum, step);
  }
  INTACT_INLINE static batch select(batch condition, batch x, batch y) {
    return _mm512_mask_mov_epi8(y, _mm512_test_epi8_mask(condition, condition), x);
  }
  INTACT_INLINE static void store_u4(batch x, std::uint8_t* to) {
    const __m512i pairs = _mm512_maddubs_epi16(x, _mm512_set1_epi16(0x1001));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi16_epi8(pairs));
  }
  INTACT_INLINE static void store_u4_part(batch x, std::uint8_t* to, index_t count) {
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_maskz_mov_epi8(first(count), x), _mm512_set1_epi16(0x1001));
    const auto bytes = static_cast<__mmask32>(first((count + 1) / 2));
    _mm256_mask_storeu_epi8(to, bytes, _mm512_cvtepi16_epi8(pairs));
  }

 private:
  INTACT_INLINE static __mmask64 first(index_t count) { return (std::uint64_t{1} << count) - 1; }
};

#endif
#if INTACT_HAS_NEON

template <>
struct bytes<isa::neon> : detail::partial_bytes<bytes<isa::neon>, 16> {
  static constexpr bool exists = true;
  using batch = uint8x16_t;

  INTACT_INLINE static batch load(const std::uint8_t* from) { return vld1q_u8(from); }
  INTACT_INLINE static void store(batch x, std::uint8_t* to) { vst1q_u8(to, x); }
  INTACT_INLINE static batch broadcast(std::uint8_t x) { return vdupq_n_u8(x); }
  INTACT_INLINE static batch max(batch x, batch y) { return vmaxq_u8(x, y); }
  INTACT_INLINE static int reduce_max(batch x) { return vmaxvq_u8(x); }
  INTACT_INLINE static batch subtract(batch x, batch y) { return vsubq_u8(x, y); }
  INTACT_INLINE static batch lookup_table_16(const std::uint8_t* from) { return load(from); }
  INTACT_INLINE static batch lookup(batch table, batch x) { return vqtbl1q_u8(table, x); }
  INTACT_INLINE static batch add_where_above(batch sum, batch x, batch bound, batch step) {
    const uint8x16_t above = vcgtq_s8(vreinterpretq_s8_u8(x), vreinterpretq_s8_u8(bound));
    return vaddq_u8(sum, vandq_u8(above, step));
  }
  INTACT_INLINE static batch select(batch condition, batch x, batch y) {
    return vbslq_u8(vtstq_u8(condition, condition), x, y);
  }
  INTACT_INLINE static void store_u4(batch x, std::uint8_t* to) {
    const uint16x8_t pairs = vreinterpretq_u16_u8(x);  // first + 256 * second
    vst1_u8(to, vmovn_u16(vorrq_u16(pairs, vshrq_n_u16(pairs, 4))));
  }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
