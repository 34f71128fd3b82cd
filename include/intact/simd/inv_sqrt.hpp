#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "intact/arith/integer_math.hpp"
#include "intact/simd/batch.hpp"

// floor((2^61 - 1) / floor(sqrt(n))) of numbers 2^60 <= n < 2^62, exact.
//
//   inv_sqrt<Isa>::width             numbers at a time
//   inv_sqrt<Isa>::run(n, to)        of `width` numbers
//   inv_sqrt_all<Isa>(n, count, to)  of `count` numbers, a multiple of these
//
// A processor divides numbers of 64 bits one after the other. With AVX-512 eight are computed at a time, by
// multiplication; no product takes factors of more than 32 bits.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

template <class Isa>
struct inv_sqrt : inv_sqrt<typename Isa::parent> {};
template <>
struct inv_sqrt<isa::scalar> {
  static constexpr index_t width = 1;
  INTACT_INLINE static void run(const std::uint64_t* n, std::int32_t* to) {
    *to = static_cast<std::int32_t>(((std::uint64_t{1} << 61) - 1) / integer_sqrt(*n));
  }
};

/// The interface of inv_sqrt<Isa>.
template <class Isa>
concept inv_sqrt_interface = requires(const std::uint64_t* n, std::int32_t* to) {
  requires(inv_sqrt<Isa>::width >= 1);
  inv_sqrt<Isa>::run(n, to);
};

#if INTACT_HAS_AVX512BW

namespace detail {

/// Entry t, 16 <= t < 64, for numbers n of 62 bits whose upper 6 bits are t: 2^46 / sqrt(m), m being the middle of the
/// interval of these n. 2^46 / sqrt(n) is within a 65th of it.
inline constexpr auto inv_sqrt_by_upper_bits = [] {
  std::array<std::uint16_t, 64> roots{};
  for (std::uint64_t t = 16; t < 64; ++t) {
    roots[t] = static_cast<std::uint16_t>(integer_sqrt((std::uint64_t{1} << 37) / (2 * t + 1)));
  }
  return roots;
}();

}  // namespace detail

/// y estimates 2^61 / sqrt(n). A step of Newton's method turns a relative error e into 3/2 e^2: the table's 2^-6 into
/// 2^-11.4 and then, with the rounding errors, into less than 2^-22. Therefore n / 2^61 * y differs from the root by
/// less than 2^9; adding (n - root^2) / (2 * root), a division that uses y, leaves less than 2^-7. Increased by 2^-6
/// and rounded down, the root is exact or too large by 1. y differs from the quotient by less than 2^9, too; the same
/// correction, decreased by 2^-7, makes it exact or too small by 1. Both remainders, below 2^41 and 2^39, are shifted
/// to 32 bits before they are multiplied.
template <>
struct inv_sqrt<isa::avx512bw> {
  using batch = __m512i;
  static constexpr index_t width = 8;

  INTACT_INLINE static void run(const std::uint64_t* numbers, std::int32_t* to) {
    const batch n = _mm512_loadu_si512(numbers), upper = _mm512_srli_epi64(n, 32);
    const batch y = estimate(n, upper);
    const batch half_y = _mm512_srli_epi64(y, 1);
    const batch one = _mm512_set1_epi64(1), raise = _mm512_set1_epi64(std::int64_t{1} << 45);

    batch root = _mm512_srli_epi64(_mm512_mul_epu32(_mm512_srli_epi64(n, 31), y), 30);
    const batch rest = _mm512_sub_epi64(n, _mm512_mul_epu32(root, root));
    const batch correction = _mm512_mul_epi32(_mm512_srai_epi64(rest, 10), half_y);
    root = _mm512_add_epi64(root, _mm512_srai_epi64(_mm512_add_epi64(correction, raise), 51));
    root = _mm512_mask_sub_epi64(root, _mm512_cmpgt_epi64_mask(_mm512_mul_epu32(root, root), n), root, one);

    const batch dividend = _mm512_set1_epi64((std::int64_t{1} << 61) - 1);
    const batch missing = _mm512_sub_epi64(dividend, _mm512_mul_epu32(y, root));
    const batch more = _mm512_mul_epi32(_mm512_srai_epi64(missing, 8), half_y);
    const batch quotient = _mm512_add_epi64(y, _mm512_srai_epi64(_mm512_sub_epi64(more, raise), 52));
    const batch next = _mm512_add_epi64(quotient, one);
    const __mmask8 fits = _mm512_cmple_epi64_mask(_mm512_mul_epu32(next, root), dividend);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtepi64_epi32(_mm512_mask_mov_epi64(quotient, fits, next)));
  }

 private:
  INTACT_INLINE static batch estimate(batch n, batch upper) {
    const std::uint16_t* const table = detail::inv_sqrt_by_upper_bits.data();
    const batch first =
        _mm512_permutex2var_epi16(_mm512_loadu_si512(table), _mm512_srli_epi64(n, 56), _mm512_loadu_si512(table + 32));
    const batch three = _mm512_set1_epi64(std::int64_t{3} << 30);
    const batch square = _mm512_mul_epu32(upper, _mm512_mul_epu32(first, first));
    const batch y =
        _mm512_srli_epi64(_mm512_mul_epu32(first, _mm512_sub_epi64(three, _mm512_srli_epi64(square, 30))), 16);
    const batch next_square = _mm512_mul_epu32(upper, _mm512_srli_epi64(_mm512_mul_epu32(y, y), 32));
    return _mm512_srli_epi64(_mm512_mul_epu32(y, _mm512_sub_epi64(three, _mm512_srli_epi64(next_square, 28))), 31);
  }
};

#endif

template <class Isa>
INTACT_INLINE void inv_sqrt_all(const std::uint64_t* n, index_t count, std::int32_t* to) {
  for (index_t i = 0; i < count; i += inv_sqrt<Isa>::width) {
    inv_sqrt<Isa>::run(n + i, to + i);
  }
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
