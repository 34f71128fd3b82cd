#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "intact/simd/dot4.hpp"
#include "intact/simd/int4.hpp"
#include "intact/simd/sse_steps.hpp"

// Dot products with s4 weights on instruction sets that multiply bytes and have no byte dot product
// (Isa::adds_s4_in_16_bits). Products of codes of 8 bits and weights of 4 are so small that those of several steps are
// added in 16 bits, exactly, before the sums are widened:
//
//   x86    pmaddubsw adds two products a * w, a = 0..255 and w = -8..7: at most 255 * 8 * 2 = 4080 in magnitude. Eight
//          such pairs are at most 32640 < 2^15 in magnitude: four steps of eight columns, of which each adds two pairs
//          to a 16-bit lane. Neither pmaddubsw nor the additions saturate or wrap.
//   NEON   a product is at most 128 * 8 = 1024 in magnitude, as activations are -128..127. 30 of them are at most
//          30720 < 2^15: fifteen steps, of which each adds two products to a 16-bit lane.
//
// s4_dot<Isa, A> has, of dot4's interface, accumulator, columns, offset, widens, activation, start, broadcast and sums,
// and
//
//   partial            a register of int16 sums
//   steps              of eight columns, whose products a partial can hold
//   zero()             a partial without products
//   low(w), high(w)    four weights for each of `columns` channels: those in the low, or in the high halves of bytes
//   multiply_add(p, a, w)     p + a * w, in 16 bits
//   load_shifts(w, column)    the factors of `widen_add`, for `columns` channels from a column of a panel on; see
//                      int4.hpp
//   widen_add(s, p)    s + the sums of p's lanes of a channel, in 32 bits
//   widen_add(s, p, shifts)   s + 2^shift * those

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa, class A>
struct s4_dot : s4_dot<typename Isa::parent, A> {};

/// The interface of s4_dot<Isa, A>.
template <class Isa, class A, class D = s4_dot<Isa, A>>
concept s4_dot_interface = requires(typename D::accumulator sum, typename D::partial partial, const A* a,
                                    const std::uint8_t* w, index_t column,
                                    typename D::accumulator (&sums)[lanes<Isa> / D::columns], s32<Isa> (&out)[1]) {
  requires(D::columns == lanes<Isa> || 2 * D::columns == lanes<Isa>);
  requires(D::offset == 0 || D::offset == 128 || D::offset == -128);
  requires(!D::widens && D::steps >= 1 && std::same_as<typename D::activation, A>);
  sum = D::start(static_cast<const std::int32_t*>(nullptr));
  partial = D::zero();
  partial = D::multiply_add(partial, D::broadcast(a), D::low(w));
  partial = D::multiply_add(partial, D::broadcast(a), D::high(w));
  sum = D::widen_add(sum, partial);
  sum = D::widen_add(sum, partial, D::load_shifts(w, column));
  D::sums(sums, out);
};

#if INTACT_HAS_SSE4_1

namespace detail {

/// Has no effect, but additions to the register are done in the order in which they are written. GCC would add the
/// products of a step to one another first, and spill registers for it.
template <class Register>
INTACT_INLINE Register in_order(Register x) {
  asm("" : "+v"(x));
  return x;
}

/// Steps whose pairs of products a 16-bit lane can hold: two pairs each.
inline constexpr index_t s4_steps = 4;
static_assert(s4_steps * 2 * (2 * 255 * 8) < 1 << 15);

}  // namespace detail

template <class A>
struct s4_dot<isa::sse4_1, A> : detail::complete_sums<s32<isa::sse4_1>> {
  using activation = A;
  using accumulator = s32<isa::sse4_1>;
  using partial = __m128i;
  static constexpr index_t columns = 4;
  static constexpr int offset = std::is_signed_v<A> ? 128 : 0;
  static constexpr bool widens = false;
  static constexpr index_t steps = detail::s4_steps;

  INTACT_INLINE static __m128i zero() { return _mm_setzero_si128(); }
  INTACT_INLINE static __m128i broadcast(const A* a) {
    const __m128i bytes = _mm_set1_epi32(detail::load_bytes<std::int32_t>(a));
    return offset == 0 ? bytes : _mm_xor_si128(bytes, _mm_set1_epi8(-128));
  }
  INTACT_INLINE static __m128i low(const std::uint8_t* w) { return values(load(w)); }
  INTACT_INLINE static __m128i high(const std::uint8_t* w) { return values(_mm_srli_epi16(load(w), 4)); }
  INTACT_INLINE static __m128i multiply_add(__m128i sum, __m128i a, __m128i w) {
    return detail::in_order(_mm_add_epi16(sum, _mm_maddubs_epi16(a, w)));
  }
  /// The powers, in both words of a channel.
  INTACT_INLINE static __m128i load_shifts(const std::uint8_t* w, index_t column) {
    const __m128i channels = _mm_cvtepu8_epi16(_mm_cvtsi32_si128(detail::load_bytes<std::int32_t>(w + column % 16)));
    const __m128i moved = _mm_srl_epi16(channels, detail::bit_of_shifts(column));
    const __m128i powers = detail::sse_steps<isa::sse4_1>::powers_of_two(_mm_and_si128(moved, _mm_set1_epi16(3)));
    return _mm_unpacklo_epi16(powers, powers);
  }
  INTACT_INLINE static accumulator widen_add(accumulator sum, __m128i partial, __m128i powers = _mm_set1_epi16(1)) {
    return _mm_add_epi32(sum, _mm_madd_epi16(partial, powers));
  }

 private:
  INTACT_INLINE static __m128i load(const std::uint8_t* w) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
  }
  /// The shuffle overwrites its table. A volatile one is loaded each time, where it would be copied, and leaves a
  /// register for a sum.
  INTACT_INLINE static __m128i values(__m128i nibbles) {
    alignas(16) static constexpr std::int8_t table[16] = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
    return _mm_shuffle_epi8(*reinterpret_cast<const volatile __m128i*>(table),
                            _mm_and_si128(nibbles, _mm_set1_epi8(15)));
  }
};

#endif
#if INTACT_HAS_AVX2

template <class A>
struct s4_dot<isa::avx2, A> : detail::complete_sums<s32<isa::avx2>> {
  using activation = A;
  using accumulator = s32<isa::avx2>;
  using partial = __m256i;
  static constexpr index_t columns = 8;
  static constexpr int offset = std::is_signed_v<A> ? 128 : 0;
  static constexpr bool widens = false;
  static constexpr index_t steps = detail::s4_steps;

  INTACT_INLINE static __m256i zero() { return _mm256_setzero_si256(); }
  INTACT_INLINE static __m256i broadcast(const A* a) {
    const __m256i bytes = _mm256_set1_epi32(detail::load_bytes<std::int32_t>(a));
    return offset == 0 ? bytes : _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
  }
  INTACT_INLINE static __m256i low(const std::uint8_t* w) { return detail::s4_values(load(w)); }
  INTACT_INLINE static __m256i high(const std::uint8_t* w) { return detail::s4_values(_mm256_srli_epi16(load(w), 4)); }
  INTACT_INLINE static __m256i multiply_add(__m256i sum, __m256i a, __m256i w) {
    return detail::in_order(_mm256_add_epi16(sum, _mm256_maddubs_epi16(a, w)));
  }
  /// The powers, in both words of a channel.
  INTACT_INLINE static __m256i load_shifts(const std::uint8_t* w, index_t column) {
    return _mm256_sllv_epi32(_mm256_set1_epi16(1), detail::shifts_of_8(w, column));
  }
  INTACT_INLINE static accumulator widen_add(accumulator sum, __m256i partial, __m256i powers = _mm256_set1_epi16(1)) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(partial, powers));
  }

 private:
  INTACT_INLINE static __m256i load(const std::uint8_t* w) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  }
};

#endif
#if INTACT_HAS_AVX512BW

template <class A>
struct s4_dot<isa::avx512bw, A> : detail::complete_sums<s32<isa::avx512bw>> {
  using activation = A;
  using accumulator = s32<isa::avx512bw>;
  using partial = __m512i;
  static constexpr index_t columns = 16;
  static constexpr int offset = std::is_signed_v<A> ? 128 : 0;
  static constexpr bool widens = false;
  static constexpr index_t steps = detail::s4_steps;

  INTACT_INLINE static __m512i zero() { return _mm512_setzero_si512(); }
  INTACT_INLINE static __m512i broadcast(const A* a) {
    const __m512i bytes = _mm512_set1_epi32(detail::load_bytes<std::int32_t>(a));
    return offset == 0 ? bytes : _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
  }
  INTACT_INLINE static __m512i low(const std::uint8_t* w) { return detail::s4_values(_mm512_loadu_si512(w)); }
  INTACT_INLINE static __m512i high(const std::uint8_t* w) {
    return detail::s4_values(_mm512_srli_epi16(_mm512_loadu_si512(w), 4));
  }
  INTACT_INLINE static __m512i multiply_add(__m512i sum, __m512i a, __m512i w) {
    return detail::in_order(_mm512_add_epi16(sum, _mm512_maddubs_epi16(a, w)));
  }
  /// The powers, in both words of a channel.
  INTACT_INLINE static __m512i load_shifts(const std::uint8_t* w, index_t column) {
    return _mm512_sllv_epi32(_mm512_set1_epi16(1), detail::shifts_of_16(w, column));
  }
  INTACT_INLINE static accumulator widen_add(accumulator sum, __m512i partial, __m512i powers = _mm512_set1_epi16(1)) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(partial, powers));
  }
};

#endif
#if INTACT_HAS_NEON

/// Two columns of four sums each, as dot4 has them.
template <class A>
struct s4_dot<isa::neon, A> : dot4<isa::neon, A> {
  using partial = int16x8_t;
  static constexpr index_t steps = 15;
  static_assert(steps * 2 * (128 * 8) < 1 << 15);

  INTACT_INLINE static int16x8_t zero() { return vdupq_n_s16(0); }
  INTACT_INLINE static int8x8_t low(const std::uint8_t* w) { return vshr_n_s8(vshl_n_s8(load(w), 4), 4); }
  INTACT_INLINE static int8x8_t high(const std::uint8_t* w) { return vshr_n_s8(load(w), 4); }
  INTACT_INLINE static int16x8_t multiply_add(int16x8_t sum, int8x8_t a, int8x8_t w) { return vmlal_s8(sum, a, w); }

  /// The shifts, in both lanes of a channel.
  INTACT_INLINE static int32x4_t load_shifts(const std::uint8_t* w, index_t column) {
    const std::uint8_t* const two = w + column % 16;
    const uint32x4_t channels = vcombine_u32(vdup_n_u32(two[0]), vdup_n_u32(two[1]));
    const uint32x4_t moved = vshlq_u32(channels, vdupq_n_s32(static_cast<int>(-(column / 16 * 2))));
    return vreinterpretq_s32_u32(vandq_u32(moved, vdupq_n_u32(3)));
  }
  INTACT_INLINE static int32x4_t widen_add(int32x4_t sum, int16x8_t partial) { return vpadalq_s16(sum, partial); }
  INTACT_INLINE static int32x4_t widen_add(int32x4_t sum, int16x8_t partial, int32x4_t shifts) {
    return vaddq_s32(sum, vshlq_s32(vpaddlq_s16(partial), shifts));
  }

 private:
  INTACT_INLINE static int8x8_t load(const std::uint8_t* w) { return vreinterpret_s8_u8(vld1_u8(w)); }
};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
