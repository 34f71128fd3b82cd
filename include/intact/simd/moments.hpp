#pragma once

#include <concepts>
#include <cstdint>

#include "intact/simd/mul_shift.hpp"
#include "intact/simd/narrow.hpp"
#include "intact/simd/sum.hpp"

// Sums of a row's values and of their squares: of (code - zero_point) * 2^shift, with a shift of 0..3 per channel.
//
// moments<Isa, Code>, Code being u8 or s16, has
//
//   exists                   false for isa::scalar, which has none of the members below
//   width                    channels at a time
//   row, broadcast_row(zero_point)       the values that all channels share
//   factors, load_factors(shift)         2^shift of `width` channels, from memory of any alignment
//   add(codes, row, factors) `width` channels; at most 4,096 altogether
//   sum(), squares()         of everything added

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa, class Code>
class moments : public moments<typename Isa::parent, Code> {};
template <class Code>
class moments<isa::scalar, Code> {
 public:
  static constexpr bool exists = false;
};

/// The interface of moments<Isa, Code>, and of moments_unshifted<Isa> for s16 codes.
template <class Moments, class Code>
concept moments_interface = requires(Moments& sums, const Code* codes, const std::uint8_t* shift) {
  requires(Moments::width > 1);
  sums.add(codes, Moments::broadcast_row(0), Moments::load_factors(shift));
  { sums.sum() } -> std::same_as<std::int64_t>;
  { sums.squares() } -> std::same_as<std::uint64_t>;
};

/// 2^shift for shifts of 0..3, without a shift by lane: (1 + the lower bit) * (1 + 3 * the upper bit).
template <class Isa>
INTACT_INLINE s32<Isa> power_of_two(s32<Isa> shift) {
  const s32<Isa> one = broadcast<Isa>(1);
  const s32<Isa> upper = mul_shift<Isa>::shift_right(shift, 1);
  const s32<Isa> lower = subtract<Isa>(shift, add<Isa>(upper, upper));
  const s32<Isa> three_times = add<Isa>(upper, add<Isa>(upper, upper));
  return multiply<Isa>(add<Isa>(lower, one), add<Isa>(three_times, one));
}

namespace detail {

/// Registers of 16-bit words for codes whose values fit them; on x86.
template <class Isa>
struct moment_words : moment_words<typename Isa::parent> {};

/// Sums of the squares of registers of 32-bit lanes, in 64 bits.
template <class Isa>
class square_sum : public square_sum<typename Isa::parent> {};

/// Of u8 codes, whose values fit 16-bit words: |value| <= 2040. A lane of 32 bits takes 512 times two squares:
/// 512 * 2 * 2040^2 < 2^32.
template <class Words>
class word_moments {
 public:
  static constexpr bool exists = true;
  using row = typename Words::type;
  using factors = typename Words::type;
  static constexpr index_t width = Words::width;
  static_assert(std::uint64_t{2040} * 2040 * 2 * (4096 / 8) < std::uint64_t{1} << 32);

  INTACT_INLINE static row broadcast_row(int zero_point) { return Words::broadcast(zero_point); }
  INTACT_INLINE static factors load_factors(const std::uint8_t* shift) {
    return Words::power_of_two(Words::load(shift));
  }

  INTACT_INLINE void add(const std::uint8_t* codes, row zero_point, factors factor) {
    const auto values = Words::multiply(Words::subtract(Words::load(codes), zero_point), factor);
    sum_ = Words::add_pairs(sum_, values, Words::broadcast(1));
    squares_ = Words::add_pairs(squares_, values, values);
  }
  INTACT_INLINE std::int64_t sum() const { return sum_of_lanes(sum_); }
  INTACT_INLINE std::uint64_t squares() const { return static_cast<std::uint64_t>(Words::sum_of_u32(squares_)); }

 private:
  typename Words::type sum_ = Words::broadcast(0);
  typename Words::type squares_ = Words::broadcast(0);
};

/// Of s16 codes: |value| <= 2^18.
template <class Isa>
class lane_moments {
 public:
  static constexpr bool exists = true;
  using row = s32<Isa>;
  using factors = s32<Isa>;
  static constexpr index_t width = lanes<Isa>;

  INTACT_INLINE static row broadcast_row(int zero_point) { return broadcast<Isa>(zero_point); }
  INTACT_INLINE static factors load_factors(const std::uint8_t* shift) { return power_of_two<Isa>(widen<Isa>(shift)); }

  INTACT_INLINE void add(const std::int16_t* codes, row zero_point, factors factor) {
    const s32<Isa> value = multiply<Isa>(subtract<Isa>(widen<Isa>(codes), zero_point), factor);
    sum_ = simd::add<Isa>(sum_, value);
    squares_.add(value);
  }
  INTACT_INLINE std::int64_t sum() const { return simd::sum<Isa>(sum_); }
  INTACT_INLINE std::uint64_t squares() const { return static_cast<std::uint64_t>(squares_.total()); }

 private:
  s32<Isa> sum_ = broadcast<Isa>(0);
  square_sum<Isa> squares_;
};

}  // namespace detail

#if INTACT_HAS_SSE2

namespace detail {

template <class Isa>
struct moment_words_x128 {
  using type = __m128i;
  static constexpr index_t width = 8;

  INTACT_INLINE static type load(const std::uint8_t* from) {
    return sse_steps<Isa>::u8_to_s16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  INTACT_INLINE static type load(const std::int16_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  INTACT_INLINE static type broadcast(int x) { return _mm_set1_epi16(static_cast<short>(x)); }
  INTACT_INLINE static type power_of_two(type x) { return sse_steps<Isa>::powers_of_two(x); }
  INTACT_INLINE static type subtract(type x, type y) { return _mm_sub_epi16(x, y); }
  INTACT_INLINE static type multiply(type x, type y) { return _mm_mullo_epi16(x, y); }
  INTACT_INLINE static type add_pairs(type sums, type x, type y) { return _mm_add_epi32(sums, _mm_madd_epi16(x, y)); }
  /// In lanes of 64 bits.
  INTACT_INLINE static type add_squares(type sums, type x) {
    const type pairs = _mm_madd_epi16(x, x);
    const type even = _mm_and_si128(pairs, _mm_set1_epi64x(0xffffffff));
    return _mm_add_epi64(sums, _mm_add_epi64(even, _mm_srli_epi64(pairs, 32)));
  }
  INTACT_INLINE static std::int64_t sum_of_s64(type x) { return sum_of_2_s64(x); }
  INTACT_INLINE static std::int64_t sum_of_u32(type x) {
    const __m128i zero = _mm_setzero_si128();
    return sum_of_2_s64(_mm_add_epi64(_mm_unpacklo_epi32(x, zero), _mm_unpackhi_epi32(x, zero)));
  }
};

template <class Isa>
class square_sum_x128 {
 public:
  INTACT_INLINE void add(s32<Isa> x) {
    const __m128i even = sse_steps<Isa>::magnitudes(x), odd = _mm_srli_epi64(even, 32);
    sums_ = _mm_add_epi64(sums_, _mm_add_epi64(_mm_mul_epu32(even, even), _mm_mul_epu32(odd, odd)));
  }
  INTACT_INLINE std::int64_t total() const { return sum_of_2_s64(sums_); }

 private:
  __m128i sums_ = _mm_setzero_si128();
};

template <>
struct moment_words<isa::sse2> : moment_words_x128<isa::sse2> {};
template <>
class square_sum<isa::sse2> : public square_sum_x128<isa::sse2> {};

}  // namespace detail

template <>
class moments<isa::sse2, std::uint8_t> : public detail::word_moments<detail::moment_words<isa::sse2>> {};
template <>
class moments<isa::sse2, std::int16_t> : public detail::lane_moments<isa::sse2> {};

#endif
#if INTACT_HAS_SSE4_1

namespace detail {

template <>
struct moment_words<isa::sse4_1> : moment_words_x128<isa::sse4_1> {};
template <>
class square_sum<isa::sse4_1> : public square_sum_x128<isa::sse4_1> {};

}  // namespace detail

template <>
class moments<isa::sse4_1, std::uint8_t> : public detail::word_moments<detail::moment_words<isa::sse4_1>> {};
template <>
class moments<isa::sse4_1, std::int16_t> : public detail::lane_moments<isa::sse4_1> {};

#endif
#if INTACT_HAS_AVX2

namespace detail {

INTACT_INLINE std::int64_t sum_of_4_s64(__m256i x) {
  return sum_of_2_s64(_mm_add_epi64(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}

template <>
struct moment_words<isa::avx2> {
  using type = __m256i;
  static constexpr index_t width = 16;

  INTACT_INLINE static type load(const std::uint8_t* from) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  INTACT_INLINE static type load(const std::int16_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  INTACT_INLINE static type broadcast(int x) { return _mm256_set1_epi16(static_cast<short>(x)); }
  INTACT_INLINE static type power_of_two(type x) {
    const __m128i powers = _mm_setr_epi8(1, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(powers), _mm256_or_si256(x, broadcast(0x8000)));
  }
  INTACT_INLINE static type subtract(type x, type y) { return _mm256_sub_epi16(x, y); }
  INTACT_INLINE static type multiply(type x, type y) { return _mm256_mullo_epi16(x, y); }
  INTACT_INLINE static type add_pairs(type sums, type x, type y) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(x, y));
  }
  /// In lanes of 64 bits.
  INTACT_INLINE static type add_squares(type sums, type x) {
    const type pairs = _mm256_madd_epi16(x, x);
    const type even = _mm256_and_si256(pairs, _mm256_set1_epi64x(0xffffffff));
    return _mm256_add_epi64(sums, _mm256_add_epi64(even, _mm256_srli_epi64(pairs, 32)));
  }
  INTACT_INLINE static std::int64_t sum_of_s64(type x) { return sum_of_4_s64(x); }
  INTACT_INLINE static std::int64_t sum_of_u32(type x) {
    const __m256i zero = _mm256_setzero_si256();
    return sum_of_4_s64(_mm256_add_epi64(_mm256_unpacklo_epi32(x, zero), _mm256_unpackhi_epi32(x, zero)));
  }
};

template <>
class square_sum<isa::avx2> {
 public:
  INTACT_INLINE void add(s32<isa::avx2> x) {
    const __m256i odd = _mm256_srli_epi64(x, 32);
    sums_ = _mm256_add_epi64(sums_, _mm256_add_epi64(_mm256_mul_epi32(x, x), _mm256_mul_epi32(odd, odd)));
  }
  INTACT_INLINE std::int64_t total() const { return sum_of_4_s64(sums_); }

 private:
  __m256i sums_ = _mm256_setzero_si256();
};

}  // namespace detail

template <>
class moments<isa::avx2, std::uint8_t> : public detail::word_moments<detail::moment_words<isa::avx2>> {};
template <>
class moments<isa::avx2, std::int16_t> : public detail::lane_moments<isa::avx2> {};

#endif
#if INTACT_HAS_AVX512BW

namespace detail {

template <>
struct moment_words<isa::avx512bw> {
  using type = __m512i;
  static constexpr index_t width = 32;

  INTACT_INLINE static type load(const std::uint8_t* from) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  INTACT_INLINE static type load(const std::int16_t* from) { return _mm512_loadu_si512(from); }
  INTACT_INLINE static type broadcast(int x) { return _mm512_set1_epi16(static_cast<short>(x)); }
  INTACT_INLINE static type power_of_two(type x) { return _mm512_sllv_epi16(broadcast(1), x); }
  INTACT_INLINE static type subtract(type x, type y) { return _mm512_sub_epi16(x, y); }
  INTACT_INLINE static type multiply(type x, type y) { return _mm512_mullo_epi16(x, y); }
  INTACT_INLINE static type add_pairs(type sums, type x, type y) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(x, y));
  }
  /// In lanes of 64 bits.
  INTACT_INLINE static type add_squares(type sums, type x) {
    const type pairs = _mm512_madd_epi16(x, x);
    const type even = _mm512_and_si512(pairs, _mm512_set1_epi64(0xffffffff));
    return _mm512_add_epi64(sums, _mm512_add_epi64(even, _mm512_srli_epi64(pairs, 32)));
  }
  INTACT_INLINE static std::int64_t sum_of_s64(type x) { return _mm512_reduce_add_epi64(x); }
  INTACT_INLINE static std::int64_t sum_of_u32(type x) {
    const __m512i zero = _mm512_setzero_si512();
    return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_unpacklo_epi32(x, zero), _mm512_unpackhi_epi32(x, zero)));
  }
};

template <>
class square_sum<isa::avx512bw> {
 public:
  INTACT_INLINE void add(s32<isa::avx512bw> x) {
    const __m512i odd = _mm512_srli_epi64(x, 32);
    sums_ = _mm512_add_epi64(sums_, _mm512_add_epi64(_mm512_mul_epi32(x, x), _mm512_mul_epi32(odd, odd)));
  }
  INTACT_INLINE std::int64_t total() const { return _mm512_reduce_add_epi64(sums_); }

 private:
  __m512i sums_ = _mm512_setzero_si512();
};

}  // namespace detail

template <>
class moments<isa::avx512bw, std::uint8_t> : public detail::word_moments<detail::moment_words<isa::avx512bw>> {};
template <>
class moments<isa::avx512bw, std::int16_t> : public detail::lane_moments<isa::avx512bw> {};

#endif
#if INTACT_HAS_AVX512VNNI

namespace detail {

template <>
struct moment_words<isa::avx512vnni> : moment_words<isa::avx512bw> {
  INTACT_INLINE static type add_pairs(type sums, type x, type y) { return _mm512_dpwssd_epi32(sums, x, y); }
};

}  // namespace detail

template <>
class moments<isa::avx512vnni, std::uint8_t> : public detail::word_moments<detail::moment_words<isa::avx512vnni>> {};

#endif
#if INTACT_HAS_NEON

namespace detail {

template <>
class square_sum<isa::neon> {
 public:
  INTACT_INLINE void add(s32<isa::neon> x) {
    const int32x4_t values = x;
    sums_ = vmlal_s32(sums_, vget_low_s32(values), vget_low_s32(values));
    sums_ = vmlal_high_s32(sums_, values, values);
  }
  INTACT_INLINE std::int64_t total() const { return vaddvq_s64(sums_); }

 private:
  int64x2_t sums_ = vdupq_n_s64(0);
};

}  // namespace detail

/// As detail::word_moments; the type of the sums differs from that of the words.
template <>
class moments<isa::neon, std::uint8_t> {
 public:
  static constexpr bool exists = true;
  using row = int16x8_t;
  using factors = int16x8_t;
  static constexpr index_t width = 8;

  INTACT_INLINE static row broadcast_row(int zero_point) { return vdupq_n_s16(static_cast<std::int16_t>(zero_point)); }
  INTACT_INLINE static factors load_factors(const std::uint8_t* shift) { return load(shift); }

  INTACT_INLINE void add(const std::uint8_t* codes, row zero_point, factors shift) {
    const int16x8_t values = vshlq_s16(vsubq_s16(load(codes), zero_point), shift);
    sum_ = vpadalq_s16(sum_, values);
    squares_ = vmlal_s16(squares_, vget_low_s16(values), vget_low_s16(values));
    squares_ = vmlal_high_s16(squares_, values, values);
  }
  INTACT_INLINE std::int64_t sum() const { return vaddlvq_s32(sum_); }
  INTACT_INLINE std::uint64_t squares() const { return vaddlvq_u32(vreinterpretq_u32_s32(squares_)); }

 private:
  INTACT_INLINE static int16x8_t load(const std::uint8_t* from) {
    return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from)));
  }

  int32x4_t sum_ = vdupq_n_s32(0);
  int32x4_t squares_ = vdupq_n_s32(0);
};

template <>
class moments<isa::neon, std::int16_t> : public detail::lane_moments<isa::neon> {};

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
