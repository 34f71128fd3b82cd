#pragma once

#include <concepts>
#include <cstdint>

#include "intact/simd/bytes.hpp"
#include "intact/simd/sum.hpp"

// byte_sum<Isa>(from, count): the sum of unsigned bytes.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

/// `width` bytes at a time, in lanes of 64 or 32 bits:
///   zero()                 no sums yet
///   add(sums, from)        adds the bytes
///   total(sums)            the sum of all lanes
template <class Isa>
struct byte_sums : byte_sums<typename Isa::parent> {};

/// The interface of byte_sums<Isa>.
template <class Isa, class B = byte_sums<Isa>>
concept byte_sums_interface = requires(typename B::sums s, const std::uint8_t* from) {
  requires(B::width >= 1);
  s = B::zero();
  B::add(s, from);
  { B::total(s) } -> std::same_as<std::int64_t>;
};

template <>
struct byte_sums<isa::scalar> {
  using sums = std::int64_t;
  static constexpr index_t width = 1;

  INTACT_INLINE static sums zero() { return 0; }
  INTACT_INLINE static void add(sums& s, const std::uint8_t* from) { s += *from; }
  INTACT_INLINE static std::int64_t total(sums s) { return s; }
};

#if INTACT_HAS_SSE2

template <>
struct byte_sums<isa::sse2> {
  using sums = __m128i;
  static constexpr index_t width = 16;

  INTACT_INLINE static sums zero() { return _mm_setzero_si128(); }
  INTACT_INLINE static void add(sums& s, const std::uint8_t* from) {
    s = _mm_add_epi64(s, _mm_sad_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), _mm_setzero_si128()));
  }
  INTACT_INLINE static std::int64_t total(sums s) { return detail::sum_of_2_s64(s); }
};

#endif
#if INTACT_HAS_AVX2

template <>
struct byte_sums<isa::avx2> {
  using sums = __m256i;
  static constexpr index_t width = 32;

  INTACT_INLINE static sums zero() { return _mm256_setzero_si256(); }
  INTACT_INLINE static void add(sums& s, const std::uint8_t* from) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    s = _mm256_add_epi64(s, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
  }
  INTACT_INLINE static std::int64_t total(sums s) {
    const __m128i halves = _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    return detail::sum_of_2_s64(halves);
  }
};

#endif
#if INTACT_HAS_AVX512BW

template <>
struct byte_sums<isa::avx512bw> {
  using sums = __m512i;
  static constexpr index_t width = 64;

  INTACT_INLINE static sums zero() { return _mm512_setzero_si512(); }
  INTACT_INLINE static void add(sums& s, const std::uint8_t* from) {
    s = _mm512_add_epi64(s, _mm512_sad_epu8(_mm512_loadu_si512(from), _mm512_setzero_si512()));
  }
  INTACT_INLINE static std::int64_t total(sums s) {
    return byte_sums<isa::avx2>::total(_mm256_add_epi64(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1)));
  }
};

#endif
#if INTACT_HAS_NEON

template <>
struct byte_sums<isa::neon> {
  using sums = uint32x4_t;
  static constexpr index_t width = 16;

  INTACT_INLINE static sums zero() { return vdupq_n_u32(0); }
  INTACT_INLINE static void add(sums& s, const std::uint8_t* from) { s = vpadalq_u16(s, vpaddlq_u8(vld1q_u8(from))); }
  INTACT_INLINE static std::int64_t total(sums s) { return static_cast<std::int64_t>(vaddlvq_u32(s)); }
};

#endif

namespace detail {

/// The last bytes of a row, followed by zeros. Rows of plain C++ have no such rest.
template <class Isa>
struct row_end {
  alignas(64) std::uint8_t bytes[static_cast<std::size_t>(byte_sums<Isa>::width)];

  INTACT_INLINE row_end(const std::uint8_t* from, index_t count) {
    if constexpr (simd::bytes<Isa>::exists) {
      simd::bytes<Isa>::store(simd::bytes<Isa>::load_part(from, count), bytes);
    }
  }
};

}  // namespace detail

template <class Isa>
INTACT_INLINE std::int64_t byte_sum(const std::uint8_t* from, index_t count) {
  using adder = byte_sums<Isa>;
  auto sums = adder::zero();
  index_t i = 0;
  for (; i + adder::width <= count; i += adder::width) {
    adder::add(sums, from + i);
  }
  if (i < count) {
    adder::add(sums, detail::row_end<Isa>(from + i, count - i).bytes);
  }
  return adder::total(sums);
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
