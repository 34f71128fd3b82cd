#pragma once

#include <concepts>
#include <cstdint>

#include "intact/simd/byte_sum.hpp"
#include "intact/simd/bytes.hpp"

// Attention codes as weights for byte dot products. A slice holds eight exponents as powers of two, one byte per key:
// slice p has 2^(7 - (code - 8 * p)) for the codes from 8 * p to 8 * p + 7, and 0 for the others and for those above
// 44. So 2^(15 - code) is 2^8 * slice 0 + slice 1, and 2^(44 - code) is the sum of 2^(37 - 8 * p) * slice p for p =
// 0..5.
//
//   split_exponents<Isa, Slices>(codes, count, max_code, to, stride)  the slices, `stride` bytes apart. Codes above
//                                 `max_code` count as `max_code`. Returns the sum of the weights: 2^(15 - code) of two
//                                 slices, else 2^(44 - code). Each slice has room for the next multiple of
//                                 slice_padding bytes; those after `count` are unspecified
//   max_weighted_code<Isa>(codes, count)  the largest of the codes 0..44, below 0 if there is none
//
// isa::scalar has neither.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

inline constexpr index_t slice_padding = 64;

namespace detail {

/// Weights within a slice, and within the last one, which ends with code 44.
alignas(16) inline constexpr std::uint8_t slice_weights[16] = {128, 64, 32, 16, 8, 4, 2, 1};
alignas(16) inline constexpr std::uint8_t last_slice_weights[16] = {128, 64, 32, 16, 8};

INTACT_INLINE const std::uint8_t* weights_of_slice(unsigned slice) {
  return slice == 5 ? last_slice_weights : slice_weights;
}

}  // namespace detail

/// byte_sums<Isa>::width codes at a time:
///   load(codes, max_code)  codes, those above `max_code` as `max_code`
///   select(codes, slice, to)   the bytes of a slice, to memory
template <class Isa>
struct exponent_slices : exponent_slices<typename Isa::parent> {};
template <>
struct exponent_slices<isa::scalar> {};

/// The interface of exponent_slices<Isa> where bytes<Isa> exists.
template <class Isa, class Slices = exponent_slices<Isa>>
concept exponent_slices_interface = requires(const std::uint8_t* codes, std::uint8_t code, std::uint8_t* to) {
  requires(byte_sums<Isa>::width == bytes<Isa>::width);
  Slices::select(Slices::load(codes, code), 0, to);
};

#if INTACT_HAS_SSE2

/// The weight of a code is a function of its lower three bits; the others are its slice.
template <>
struct exponent_slices<isa::sse2> {
  struct batch {
    __m128i weights, slices;
  };

  INTACT_INLINE static batch load(const std::uint8_t* codes, std::uint8_t max_code) {
    const __m128i x = _mm_min_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)),
                                   _mm_set1_epi8(static_cast<char>(max_code)));
    // 2 if bit 0 is not set, times 4 if bit 1 is not, times 16 if bit 2 is not.
    const __m128i of_bit_0 = _mm_sub_epi8(_mm_set1_epi8(1), is_not_set(x, 1));
    const __m128i of_bits_0_1 = replace(is_not_set(x, 2), of_bit_0, _mm_slli_epi16(of_bit_0, 2));
    const __m128i of_bits_0_2 = replace(is_not_set(x, 4), of_bits_0_1, _mm_slli_epi16(of_bits_0_1, 4));
    const __m128i has_weight = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(44)), x);
    return {_mm_and_si128(of_bits_0_2, has_weight), _mm_and_si128(_mm_srli_epi16(x, 3), _mm_set1_epi8(31))};
  }
  INTACT_INLINE static void select(const batch& codes, unsigned slice, std::uint8_t* to) {
    const __m128i here = _mm_cmpeq_epi8(codes.slices, _mm_set1_epi8(static_cast<char>(slice)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_and_si128(codes.weights, here));
  }

 private:
  INTACT_INLINE static __m128i is_not_set(__m128i x, char bit) {
    return _mm_cmpeq_epi8(_mm_and_si128(x, _mm_set1_epi8(bit)), _mm_setzero_si128());
  }
  /// y where the condition holds, else x.
  INTACT_INLINE static __m128i replace(__m128i condition, __m128i x, __m128i y) {
    return _mm_or_si128(_mm_and_si128(condition, y), _mm_andnot_si128(condition, x));
  }
};

#endif
#if INTACT_HAS_SSE4_1

template <>
struct exponent_slices<isa::sse4_1> {
  INTACT_INLINE static __m128i load(const std::uint8_t* codes, std::uint8_t max_code) {
    return _mm_min_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)),
                        _mm_set1_epi8(static_cast<char>(max_code)));
  }
  /// The shuffle gives 0 where the top bit is set, which adding 112 does for all but 0..15.
  INTACT_INLINE static void select(__m128i codes, unsigned slice, std::uint8_t* to) {
    const __m128i distance = _mm_sub_epi8(codes, _mm_set1_epi8(static_cast<char>(8 * slice)));
    const __m128i at = _mm_adds_epu8(distance, _mm_set1_epi8(112));
    const __m128i weights = _mm_load_si128(reinterpret_cast<const __m128i*>(detail::weights_of_slice(slice)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(weights, at));
  }
};

#endif
#if INTACT_HAS_AVX2

template <>
struct exponent_slices<isa::avx2> {
  INTACT_INLINE static __m256i load(const std::uint8_t* codes, std::uint8_t max_code) {
    return _mm256_min_epu8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)),
                           _mm256_set1_epi8(static_cast<char>(max_code)));
  }
  INTACT_INLINE static void select(__m256i codes, unsigned slice, std::uint8_t* to) {
    const __m256i distance = _mm256_sub_epi8(codes, _mm256_set1_epi8(static_cast<char>(8 * slice)));
    const __m256i at = _mm256_adds_epu8(distance, _mm256_set1_epi8(112));
    const __m256i weights =
        _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(detail::weights_of_slice(slice))));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_shuffle_epi8(weights, at));
  }
};

#endif
#if INTACT_HAS_AVX512BW

template <>
struct exponent_slices<isa::avx512bw> {
  INTACT_INLINE static __m512i load(const std::uint8_t* codes, std::uint8_t max_code) {
    return _mm512_min_epu8(_mm512_loadu_si512(codes), _mm512_set1_epi8(static_cast<char>(max_code)));
  }
  INTACT_INLINE static void select(__m512i codes, unsigned slice, std::uint8_t* to) {
    const __m512i distance = _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(8 * slice)));
    const __m512i at = _mm512_adds_epu8(distance, _mm512_set1_epi8(112));
    const __m512i weights =
        _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(detail::weights_of_slice(slice))));
    _mm512_storeu_si512(to, _mm512_shuffle_epi8(weights, at));
  }
};

#endif
#if INTACT_HAS_NEON

template <>
struct exponent_slices<isa::neon> {
  INTACT_INLINE static uint8x16_t load(const std::uint8_t* codes, std::uint8_t max_code) {
    return vminq_u8(vld1q_u8(codes), vdupq_n_u8(max_code));
  }
  INTACT_INLINE static void select(uint8x16_t codes, unsigned slice, std::uint8_t* to) {
    const uint8x16_t first = vdupq_n_u8(static_cast<std::uint8_t>(8 * slice));
    vst1q_u8(to, vqtbl1q_u8(vld1q_u8(detail::weights_of_slice(slice)), vsubq_u8(codes, first)));
  }
};

#endif

template <class Isa, unsigned Slices>
INTACT_INLINE std::int64_t split_exponents(const std::uint8_t* codes, index_t count, std::uint8_t max_code,
                                           std::uint8_t* to, index_t stride) {
  using slices = exponent_slices<Isa>;
  using adder = byte_sums<Isa>;
  constexpr index_t width = adder::width;
  typename adder::sums sums[Slices];
  for (unsigned p = 0; p < Slices; ++p) {
    sums[p] = adder::zero();
  }
  const auto split = [&](const std::uint8_t* from, index_t i) {
    const auto loaded = slices::load(from, max_code);
    INTACT_UNROLL
    for (unsigned p = 0; p < Slices; ++p) {
      slices::select(loaded, p, to + static_cast<index_t>(p) * stride + i);
      adder::add(sums[p], to + static_cast<index_t>(p) * stride + i);
    }
  };
  index_t i = 0;
  for (; i + width <= count; i += width) {
    split(codes + i, i);
  }
  index_t padding = 0;
  if (i < count) {
    split(detail::row_end<Isa>(codes + i, count - i).bytes, i);
    padding = i + width - count;
  }
  std::int64_t sum = (adder::total(sums[0]) - padding * 128) * 256 + adder::total(sums[1]);  // codes 0 after the end
  if constexpr (Slices > 2) {
    sum *= std::int64_t{1} << 29;
    for (unsigned p = 2; p < Slices; ++p) {
      const std::int64_t slice_sum = adder::total(sums[p]);
      sum += p == 5 ? slice_sum / 8 : slice_sum * (std::int64_t{1} << (37 - 8 * p));
    }
  }
  return sum;
}

template <class Isa>
INTACT_INLINE int max_weighted_code(const std::uint8_t* codes, index_t count) {
  // Modulo 256, codes 0..44 minus 45 are above all others.
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
  return registers::reduce_max(largest) + 45 - 256;
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
