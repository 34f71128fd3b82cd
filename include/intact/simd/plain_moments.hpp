#pragma once

#include <cstdint>

#include "intact/simd/moments.hpp"

// plain_moments<Isa> is moments<Isa, std::int16_t> for codes whose zero point and shifts are all 0: sums of the codes
// themselves and of their squares. There is none for isa::scalar.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
class plain_moments;

namespace detail {

/// Of s16 codes as they are. Squares of two of them are at most 2^31, without a sign.
template <class Words>
class plain_word_moments {
 public:
  struct row {};
  struct factors {};
  static constexpr index_t width = Words::width;
  static_assert(4096 * (1 << 15) < (std::int64_t{1} << 31));

  INTACT_INLINE static row row_of(int) { return {}; }
  INTACT_INLINE static factors factors_of(const std::uint8_t*) { return {}; }

  INTACT_INLINE void add(const std::int16_t* codes, row, factors) {
    const auto values = Words::load(codes);
    sum_ = Words::add_pairs(sum_, values, Words::broadcast(1));
    squares_ = Words::add_squares(squares_, values);
  }
  INTACT_INLINE std::int64_t sum() const { return sum_of(sum_); }
  INTACT_INLINE std::uint64_t squares() const { return static_cast<std::uint64_t>(Words::sum_of_wide(squares_)); }

 private:
  typename Words::type sum_ = Words::broadcast(0);
  typename Words::type squares_ = Words::broadcast(0);
};

}  // namespace detail

#if INTACT_HAS_SSE4_1
template <>
class plain_moments<isa::sse4_1> : public detail::plain_word_moments<detail::words_of_eight> {};
#endif
#if INTACT_HAS_AVX2
template <>
class plain_moments<isa::avx2> : public detail::plain_word_moments<detail::words_of_sixteen> {};
#endif
#if INTACT_HAS_AVX2_VNNI
template <>
class plain_moments<isa::avx2_vnni> : public detail::plain_word_moments<detail::words_of_sixteen> {};
#endif
#if INTACT_HAS_AVX512BW
template <>
class plain_moments<isa::avx512bw> : public detail::plain_word_moments<detail::words_of_thirty_two> {};
#endif
#if INTACT_HAS_AVX512VNNI
template <>
class plain_moments<isa::avx512vnni> : public detail::plain_word_moments<detail::words_of_thirty_two_vnni> {};
#endif
#if INTACT_HAS_AVX512VBMI
template <>
class plain_moments<isa::avx512vbmi> : public detail::plain_word_moments<detail::words_of_thirty_two_vnni> {};
#endif
#if INTACT_HAS_NEON

namespace detail {

/// As plain_word_moments.
class plain_moments_neon {
 public:
  struct row {};
  struct factors {};
  static constexpr index_t width = 8;

  INTACT_INLINE static row row_of(int) { return {}; }
  INTACT_INLINE static factors factors_of(const std::uint8_t*) { return {}; }

  INTACT_INLINE void add(const std::int16_t* codes, row, factors) {
    const int16x8_t values = vld1q_s16(codes);
    sum_ = vpadalq_s16(sum_, values);
    squares_ = vpadalq_s32(squares_, vmull_s16(vget_low_s16(values), vget_low_s16(values)));
    squares_ = vpadalq_s32(squares_, vmull_high_s16(values, values));
  }
  INTACT_INLINE std::int64_t sum() const { return vaddlvq_s32(sum_); }
  INTACT_INLINE std::uint64_t squares() const { return static_cast<std::uint64_t>(vaddvq_s64(squares_)); }

 private:
  int32x4_t sum_ = vdupq_n_s32(0);
  int64x2_t squares_ = vdupq_n_s64(0);
};

}  // namespace detail

template <>
class plain_moments<isa::neon> : public detail::plain_moments_neon {};
#endif
#if INTACT_HAS_NEON_DOTPROD
template <>
class plain_moments<isa::neon_dotprod> : public detail::plain_moments_neon {};
#endif
#if INTACT_HAS_NEON_I8MM
template <>
class plain_moments<isa::neon_i8mm> : public detail::plain_moments_neon {};
#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
