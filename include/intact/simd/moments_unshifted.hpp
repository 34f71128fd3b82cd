#pragma once

#include <cstdint>

#include "intact/simd/moments.hpp"

// moments_unshifted<Isa> is moments<Isa, std::int16_t> for a zero point and shifts of 0: sums of the codes and of their
// squares.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
class moments_unshifted : public moments_unshifted<typename Isa::parent> {};
template <>
class moments_unshifted<isa::scalar> {};

namespace detail {

/// The sum of two squares is at most 2^31, which fits an unsigned word of 32 bits.
template <class Words>
class unshifted_word_moments {
 public:
  struct row {};
  struct factors {};
  static constexpr index_t width = Words::width;
  static_assert(4096 * (1 << 15) < (std::int64_t{1} << 31));

  INTACT_INLINE static row broadcast_row(int) { return {}; }
  INTACT_INLINE static factors load_factors(const std::uint8_t*) { return {}; }

  INTACT_INLINE void add(const std::int16_t* codes, row, factors) {
    const auto values = Words::load(codes);
    sum_ = Words::add_pairs(sum_, values, Words::broadcast(1));
    squares_ = Words::add_squares(squares_, values);
  }
  INTACT_INLINE std::int64_t sum() const { return sum_of_lanes(sum_); }
  INTACT_INLINE std::uint64_t squares() const { return static_cast<std::uint64_t>(Words::sum_of_s64(squares_)); }

 private:
  typename Words::type sum_ = Words::broadcast(0);
  typename Words::type squares_ = Words::broadcast(0);
};

}  // namespace detail

#if INTACT_HAS_SSE2
template <>
class moments_unshifted<isa::sse2> : public detail::unshifted_word_moments<detail::moment_words<isa::sse2>> {};
#endif
#if INTACT_HAS_SSE4_1
template <>
class moments_unshifted<isa::sse4_1> : public detail::unshifted_word_moments<detail::moment_words<isa::sse4_1>> {};
#endif
#if INTACT_HAS_AVX2
template <>
class moments_unshifted<isa::avx2> : public detail::unshifted_word_moments<detail::moment_words<isa::avx2>> {};
#endif
#if INTACT_HAS_AVX512BW
template <>
class moments_unshifted<isa::avx512bw> : public detail::unshifted_word_moments<detail::moment_words<isa::avx512bw>> {};
#endif
#if INTACT_HAS_AVX512VNNI
template <>
class moments_unshifted<isa::avx512vnni>
    : public detail::unshifted_word_moments<detail::moment_words<isa::avx512vnni>> {};
#endif
#if INTACT_HAS_NEON

/// As detail::unshifted_word_moments.
template <>
class moments_unshifted<isa::neon> {
 public:
  struct row {};
  struct factors {};
  static constexpr index_t width = 8;

  INTACT_INLINE static row broadcast_row(int) { return {}; }
  INTACT_INLINE static factors load_factors(const std::uint8_t*) { return {}; }

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

#endif

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
