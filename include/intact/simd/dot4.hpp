#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "intact/simd/batch.hpp"
#include "intact/simd/sse_steps.hpp"

// Dot products of four bytes, exact on every instruction set. The multiply-add of bytes that SSSE3, AVX2 and AVX512BW
// have (pmaddubsw) saturates at 16 bits and is not used, but with s4 weights (s4_dot.hpp): products are widened
// instead.
//
// dot4<Isa, A>, A being the type of the activations (std::uint8_t or std::int8_t), has
//
//   accumulator        a register of int32 sums
//   columns            output channels of an accumulator: its lanes, or half of them where two neighbouring lanes hold
//                      parts of one sum
//   offset             the number that `broadcast` adds to the activations, 0 or +-128, where the instruction wants the
//                      other signedness: a sum is too large by offset * (the sum of the channel's weights)
//   start(from)        an accumulator of the lanes at an address
//   widens, activation whether activations must be given as 16-bit words, and the type that they must have
//   widen(from, to)    makes them so, `widened_per_step` at a time; if `widens`
//   broadcast(a)       four activations from memory of any alignment, for all columns
//   load(w)            four s8 weights for each of `columns` channels: w[4 * column + k]; of four bits: int4.hpp and
//                      s4_dot.hpp
//   multiply_add(s, a, w)  s + sum_k a[k] * w[column][k]
//   sums(s, out)       the int32 sums of lanes / columns accumulators for each register of `out`, one lane per channel

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa, class A>
struct dot4 : dot4<typename Isa::parent, A> {};

/// The interface of dot4<Isa, A>.
template <class Isa, class A, class D = dot4<Isa, A>>
concept dot4_interface = requires(typename D::accumulator sum, const typename D::activation* a, const std::uint8_t* w,
                                  typename D::accumulator (&sums)[lanes<Isa> / D::columns], s32<Isa> (&out)[1]) {
  requires(D::columns == lanes<Isa> || 2 * D::columns == lanes<Isa>);
  requires(D::offset == 0 || D::offset == 128 || D::offset == -128);
  requires(std::same_as<typename D::activation, std::conditional_t<D::widens, std::int16_t, A>>);
  sum = D::start(static_cast<const std::int32_t*>(nullptr));
  sum = D::multiply_add(sum, D::broadcast(a), D::load(w));
  D::sums(sums, out);
};

namespace detail {

template <class Integer>
INTACT_INLINE Integer load_bytes(const void* from) {
  Integer x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

/// Four activations or weights of one channel, in plain C++.
struct s32_quad {
  std::int32_t values[4];
};

/// For accumulators whose lanes are complete sums.
template <class Accumulator>
struct complete_sums {
  /// The register of 32-bit lanes at an address.
  INTACT_INLINE static Accumulator start(const std::int32_t* from) { return Accumulator::load_unaligned(from); }

  template <unsigned N>
  INTACT_INLINE static void sums(const Accumulator (&accumulators)[N], Accumulator (&out)[N]) {
    INTACT_UNROLL
    for (unsigned i = 0; i < N; ++i) {
      out[i] = accumulators[i];
      optimization_barrier(out[i]);
    }
  }
};

}  // namespace detail

template <class A>
struct dot4<isa::scalar, A> {
  using activation = A;
  using accumulator = std::int32_t;
  using quad = detail::s32_quad;
  static constexpr index_t columns = 1;
  static constexpr int offset = 0;
  static constexpr bool widens = false;

  INTACT_INLINE static accumulator start(const std::int32_t* from) { return *from; }
  INTACT_INLINE static quad broadcast(const A* a) { return {{a[0], a[1], a[2], a[3]}}; }
  INTACT_INLINE static quad load(const std::uint8_t* w) { return {{byte(w[0]), byte(w[1]), byte(w[2]), byte(w[3])}}; }
  /// One addition to `sum`. GCC 12.2 gives wrong sums for a chain of four, of s8 activations, where it may use
  /// AVX512_VNNI's dot products of 16-bit words.
  INTACT_INLINE static accumulator multiply_add(accumulator sum, quad a, quad w) {
    std::int32_t products = 0;
    for (int k = 0; k < 4; ++k) {
      products += a.values[k] * w.values[k];
    }
    return sum + products;
  }
  template <unsigned N>
  INTACT_INLINE static void sums(const accumulator (&accumulators)[N], accumulator (&out)[N]) {
    for (unsigned i = 0; i < N; ++i) {
      out[i] = accumulators[i];
      optimization_barrier(out[i]);
    }
  }

 private:
  INTACT_INLINE static std::int32_t byte(std::uint8_t bits) { return static_cast<std::int8_t>(bits); }
};

#if INTACT_HAS_SSE2

namespace detail {

template <class Isa, class A>
struct dot4_x128 {
  using steps = sse_steps<Isa>;
  using activation = std::int16_t;
  using accumulator = __m128i;
  static constexpr index_t columns = 2;
  static constexpr int offset = 0;
  static constexpr bool widens = true;
  static constexpr index_t widened_per_step = 8;

  INTACT_INLINE static void widen(const A* from, std::int16_t* to) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     std::is_signed_v<A> ? steps::s8_to_s16(bytes) : steps::u8_to_s16(bytes));
  }
  INTACT_INLINE static __m128i start(const std::int32_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  INTACT_INLINE static __m128i broadcast(const std::int16_t* a) { return _mm_set1_epi64x(load_bytes<std::int64_t>(a)); }
  INTACT_INLINE static __m128i load(const std::uint8_t* w) {
    return steps::s8_to_s16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w)));
  }
  INTACT_INLINE static __m128i multiply_add(__m128i sum, __m128i a, __m128i w) {
    return _mm_add_epi32(sum, _mm_madd_epi16(a, w));
  }
  template <unsigned N>
  INTACT_INLINE static void sums(const __m128i (&accumulators)[N], s32<Isa> (&out)[N / 2]) {
    INTACT_UNROLL
    for (unsigned i = 0; i < N / 2; ++i) {
      const __m128 first = _mm_castsi128_ps(accumulators[2 * i]), second = _mm_castsi128_ps(accumulators[2 * i + 1]);
      out[i] = _mm_add_epi32(_mm_castps_si128(_mm_shuffle_ps(first, second, 0b10'00'10'00)),
                             _mm_castps_si128(_mm_shuffle_ps(first, second, 0b11'01'11'01)));
    }
  }
};

}  // namespace detail

template <class A>
struct dot4<isa::sse2, A> : detail::dot4_x128<isa::sse2, A> {};

#endif
#if INTACT_HAS_SSE4_1

template <class A>
struct dot4<isa::sse4_1, A> : detail::dot4_x128<isa::sse4_1, A> {};

#endif
#if INTACT_HAS_AVX2

template <class A>
struct dot4<isa::avx2, A> {
  using activation = std::int16_t;
  using accumulator = __m256i;
  static constexpr index_t columns = 4;
  static constexpr int offset = 0;
  static constexpr bool widens = true;
  static constexpr index_t widened_per_step = 16;

  INTACT_INLINE static void widen(const A* from, std::int16_t* to) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        std::is_signed_v<A> ? _mm256_cvtepi8_epi16(bytes) : _mm256_cvtepu8_epi16(bytes));
  }
  INTACT_INLINE static __m256i start(const std::int32_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  INTACT_INLINE static __m256i broadcast(const std::int16_t* a) {
    return _mm256_set1_epi64x(detail::load_bytes<std::int64_t>(a));
  }
  INTACT_INLINE static __m256i load(const std::uint8_t* w) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  }
  INTACT_INLINE static __m256i multiply_add(__m256i sum, __m256i a, __m256i w) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, w));
  }
  template <unsigned N>
  INTACT_INLINE static void sums(const __m256i (&accumulators)[N], s32<isa::avx2> (&out)[N / 2]) {
    INTACT_UNROLL
    for (unsigned i = 0; i < N / 2; ++i) {
      const __m256i mixed = _mm256_hadd_epi32(accumulators[2 * i], accumulators[2 * i + 1]);
      out[i] = _mm256_permute4x64_epi64(mixed, 0b11'01'10'00);
    }
  }
};

#endif
#if INTACT_HAS_AVX2_VNNI

template <class A>
struct dot4<isa::avx2_vnni, A> : detail::complete_sums<s32<isa::avx2_vnni>> {
  using activation = A;
  using accumulator = s32<isa::avx2_vnni>;
  static constexpr index_t columns = 8;
  static constexpr int offset = std::is_signed_v<A> ? 128 : 0;
  static constexpr bool widens = false;

  INTACT_INLINE static __m256i broadcast(const A* a) {
    const __m256i bytes = _mm256_set1_epi32(detail::load_bytes<std::int32_t>(a));
    return offset == 0 ? bytes : _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
  }
  INTACT_INLINE static __m256i load(const std::uint8_t* w) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  }
  INTACT_INLINE static accumulator multiply_add(accumulator sum, __m256i a, __m256i w) {
    return _mm256_dpbusd_avx_epi32(sum, a, w);
  }
};

#endif
#if INTACT_HAS_AVX512BW

template <class A>
struct dot4<isa::avx512bw, A> {
  using activation = std::int16_t;
  using accumulator = __m512i;
  static constexpr index_t columns = 8;
  static constexpr int offset = 0;
  static constexpr bool widens = true;
  static constexpr index_t widened_per_step = 32;

  INTACT_INLINE static void widen(const A* from, std::int16_t* to) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    _mm512_storeu_si512(to, std::is_signed_v<A> ? _mm512_cvtepi8_epi16(bytes) : _mm512_cvtepu8_epi16(bytes));
  }
  INTACT_INLINE static __m512i start(const std::int32_t* from) { return _mm512_loadu_si512(from); }
  INTACT_INLINE static __m512i broadcast(const std::int16_t* a) {
    return _mm512_set1_epi64(detail::load_bytes<std::int64_t>(a));
  }
  INTACT_INLINE static __m512i load(const std::uint8_t* w) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  }
  INTACT_INLINE static __m512i multiply_add(__m512i sum, __m512i a, __m512i w) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, w));
  }
  template <unsigned N>
  INTACT_INLINE static void sums(const __m512i (&accumulators)[N], s32<isa::avx512bw> (&out)[N / 2]) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    INTACT_UNROLL
    for (unsigned i = 0; i < N / 2; ++i) {
      const __m512i first = accumulators[2 * i];
      const __m512i second = accumulators[2 * i + 1];
      out[i] = _mm512_add_epi32(_mm512_permutex2var_epi32(first, even, second),
                                _mm512_permutex2var_epi32(first, odd, second));
    }
  }
};

#endif
#if INTACT_HAS_AVX512VNNI

template <class A>
struct dot4<isa::avx512vnni, A> : detail::complete_sums<s32<isa::avx512vnni>> {
  using activation = A;
  using accumulator = s32<isa::avx512vnni>;
  static constexpr index_t columns = 16;
  static constexpr int offset = std::is_signed_v<A> ? 128 : 0;
  static constexpr bool widens = false;

  INTACT_INLINE static __m512i broadcast(const A* a) {
    const __m512i bytes = _mm512_set1_epi32(detail::load_bytes<std::int32_t>(a));
    return offset == 0 ? bytes : _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
  }
  INTACT_INLINE static __m512i load(const std::uint8_t* w) { return _mm512_loadu_si512(w); }
  INTACT_INLINE static accumulator multiply_add(accumulator sum, __m512i a, __m512i w) {
    return _mm512_dpbusd_epi32(sum, a, w);
  }
};

#endif
#if INTACT_HAS_NEON

namespace detail {

INTACT_INLINE int8x16_t repeat_quad(const void* a) {
  return vreinterpretq_s8_s32(vdupq_n_s32(load_bytes<std::int32_t>(a)));
}

}  // namespace detail

/// Two columns of four products each; a sum of two products of bytes can pass 16 bits, so products are added in pairs
/// to 32 bits one by one. Unsigned activations are recentred: a - 128.
template <class A>
struct dot4<isa::neon, A> {
  using activation = A;
  using accumulator = int32x4_t;
  static constexpr index_t columns = 2;
  static constexpr int offset = std::is_signed_v<A> ? 0 : -128;
  static constexpr bool widens = false;

  INTACT_INLINE static int32x4_t start(const std::int32_t* from) { return vld1q_s32(from); }
  INTACT_INLINE static int8x8_t broadcast(const A* a) {
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(detail::load_bytes<std::int32_t>(a)));
    return offset == 0 ? bytes : veor_s8(bytes, vdup_n_s8(-128));
  }
  INTACT_INLINE static int8x8_t load(const std::uint8_t* w) { return vreinterpret_s8_u8(vld1_u8(w)); }
  INTACT_INLINE static int32x4_t multiply_add(int32x4_t sum, int8x8_t a, int8x8_t w) {
    return vpadalq_s16(sum, vmull_s8(a, w));
  }
  template <unsigned N>
  INTACT_INLINE static void sums(const int32x4_t (&accumulators)[N], s32<isa::neon> (&out)[N / 2]) {
    INTACT_UNROLL
    for (unsigned i = 0; i < N / 2; ++i) {
      out[i] = vpaddq_s32(accumulators[2 * i], accumulators[2 * i + 1]);
    }
  }
};

#endif
#if INTACT_HAS_NEON_DOTPROD

template <class A>
struct dot4<isa::neon_dotprod, A> : detail::complete_sums<s32<isa::neon_dotprod>> {
  using activation = A;
  using accumulator = s32<isa::neon_dotprod>;
  static constexpr index_t columns = 4;
  static constexpr int offset = std::is_signed_v<A> ? 0 : -128;
  static constexpr bool widens = false;

  INTACT_INLINE static int8x16_t broadcast(const A* a) {
    const int8x16_t bytes = detail::repeat_quad(a);
    return offset == 0 ? bytes : veorq_s8(bytes, vdupq_n_s8(-128));
  }
  INTACT_INLINE static int8x16_t load(const std::uint8_t* w) { return vreinterpretq_s8_u8(vld1q_u8(w)); }
  INTACT_INLINE static accumulator multiply_add(accumulator sum, int8x16_t a, int8x16_t w) {
    return accumulator(vdotq_s32(sum, a, w));
  }
};

#endif
#if INTACT_HAS_NEON_I8MM

template <class A>
struct dot4<isa::neon_i8mm, A> : detail::complete_sums<s32<isa::neon_i8mm>> {
  using activation = A;
  using accumulator = s32<isa::neon_i8mm>;
  static constexpr index_t columns = 4;
  static constexpr int offset = 0;
  static constexpr bool widens = false;

  INTACT_INLINE static int8x16_t broadcast(const A* a) { return detail::repeat_quad(a); }
  INTACT_INLINE static int8x16_t load(const std::uint8_t* w) { return vreinterpretq_s8_u8(vld1q_u8(w)); }
  INTACT_INLINE static accumulator multiply_add(accumulator sum, int8x16_t a, int8x16_t w) {
    if constexpr (std::is_signed_v<A>) {
      return accumulator(vdotq_s32(sum, a, w));
    } else {
      return accumulator(vusdotq_s32(sum, vreinterpretq_u8_s8(a), w));
    }
  }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
