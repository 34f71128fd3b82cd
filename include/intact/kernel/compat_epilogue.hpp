#pragma once

#include <cstdint>
#include <limits>

#include "intact/kernel/epilogue.hpp"
#include "intact/kernel/row.hpp"
#include "intact/simd/lane_shift.hpp"
#include "intact/simd/mul_shift.hpp"
#include "intact/stage/compat.hpp"

// The stages of other runtimes in registers. A corrected accumulator a of 32 bits times a multiplier m of 31 bits is a
// product p of 62 bits, in two registers: high = p >> 32, low = p mod 2^32. With an exponent e <= 0 and n = -e, p is
// divided by 2^(31 + n) and rounded. Two numbers of 32 bits have all that decides:
//
//     q = p >> 31                    the quotient, rounded down, is q >> n
//     w = (p >> 30) mod 2^32         its next bit, of the weight one half, is bit n of w
//
// With an exponent e > 0 the sum is multiplied by 2^e before: the real number, and so the rounded one, is the same.
// Where a corrected accumulator or its multiple leaves 32 bits, the row is computed element by element.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Products of 32-bit lanes with 64 bits.
template <class Isa>
struct wide_product {
  s32<Isa> high, low;

  /// p >> 31.
  INTACT_INLINE s32<Isa> shifted_31() const {
    using mul_shift = simd::mul_shift<Isa>;
    return simd::subtract<Isa>(mul_shift::shift_left(high, 1), mul_shift::shift_right(low, 31));
  }
  /// Bit 30 of p: 0 or 1.
  INTACT_INLINE s32<Isa> bit_30() const {
    return simd::bit_and<Isa>(simd::mul_shift<Isa>::shift_right(low, 30), simd::broadcast<Isa>(1));
  }
  /// p / 2^(31 + n), rounded, halves up.
  INTACT_INLINE s32<Isa> rounded_up(s32<Isa> n) const {
    using shift = simd::lane_shift<Isa>;
    const s32<Isa> q = shifted_31();
    const s32<Isa> w = simd::add<Isa>(simd::add<Isa>(q, q), bit_30());
    return simd::add<Isa>(shift::right(q, n), simd::bit_and<Isa>(shift::right(w, n), simd::broadcast<Isa>(1)));
  }
};

/// p / 2^(31 + n), rounded. One specialization for each stage.
template <class Isa, class Stage>
struct compat_rounding;

template <class Isa, class Out>
struct compat_rounding<Isa, single_rounding<Out>> {
  INTACT_INLINE static s32<Isa> rounded(const wide_product<Isa>& p, s32<Isa> n) { return p.rounded_up(n); }
};

/// Halves up, of p - 1 where the quotient is even: the half then misses by 1.
template <class Isa, class Out>
struct compat_rounding<Isa, round_half_to_even<Out>> {
  INTACT_INLINE static s32<Isa> rounded(const wide_product<Isa>& p, s32<Isa> n) {
    const s32<Isa> one = simd::broadcast<Isa>(1);
    const s32<Isa> quotient = simd::lane_shift<Isa>::right(p.shifted_31(), n);
    const s32<Isa> even = simd::subtract<Isa>(one, simd::bit_and<Isa>(quotient, one));
    const s32<Isa> minus_low = simd::subtract<Isa>(simd::broadcast<Isa>(0), p.low);
    const s32<Isa> low_is_zero =
        simd::add<Isa>(simd::mul_shift<Isa>::shift_right(simd::bit_or<Isa>(p.low, minus_low), 31), one);
    const s32<Isa> borrow = simd::bit_and<Isa>(even, low_is_zero);
    return wide_product<Isa>{simd::subtract<Isa>(p.high, borrow), simd::subtract<Isa>(p.low, even)}.rounded_up(n);
  }
};

/// First p / 2^31, halves up, then x / 2^n, halves away from 0: halves up, of x - 1 where x < 0 and n > 0.
template <class Isa, class Out>
struct compat_rounding<Isa, double_rounding<Out>> {
  INTACT_INLINE static s32<Isa> rounded(const wide_product<Isa>& p, s32<Isa> n) {
    using shift = simd::lane_shift<Isa>;
    const s32<Isa> x = simd::add<Isa>(p.shifted_31(), p.bit_30());
    const s32<Isa> minus_n = simd::subtract<Isa>(simd::broadcast<Isa>(0), n);
    const s32<Isa> minus_one =
        simd::mul_shift<Isa>::shift_right(simd::bit_and<Isa>(x, minus_n), 31);  // where both are negative
    const s32<Isa> moved = simd::add<Isa>(x, minus_one);
    const s32<Isa> half = shift::right(simd::add<Isa>(moved, moved), n);
    return simd::add<Isa>(shift::right(moved, n), simd::bit_and<Isa>(half, simd::broadcast<Isa>(1)));
  }
};

/// sum = x + bias, in 32 bits. Lanes of the result are negative where the sum has 33 bits, in some register.
template <class Isa, unsigned N>
INTACT_INLINE s32<Isa> add_bias(const s32<Isa> (&x)[N], const s32<Isa> (&bias)[N], s32<Isa> (&sum)[N]) {
  s32<Isa> overflow = simd::broadcast<Isa>(0);
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    sum[j] = simd::add<Isa>(x[j], bias[j]);
    const s32<Isa> other_sign =
        simd::bit_and<Isa>(simd::bit_xor<Isa>(x[j], sum[j]), simd::bit_xor<Isa>(bias[j], sum[j]));
    overflow = simd::bit_or<Isa>(overflow, other_sign);
  }
  return overflow;
}

/// sum * 2^exponent, in 32 bits. Lanes of the result are negative where it has more, in some register.
template <class Isa, unsigned N>
INTACT_INLINE s32<Isa> shift_left(s32<Isa> (&sum)[N], const s32<Isa> (&exponent)[N], const std::int32_t* power) {
  const s32<Isa> zero = simd::broadcast<Isa>(0);
  s32<Isa> overflow = zero;
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    const s32<Isa> shifted = simd::multiply<Isa>(sum[j], simd::load<Isa>(power + j * simd::lanes<Isa>));
    const s32<Isa> lost = simd::bit_xor<Isa>(simd::lane_shift<Isa>::right(shifted, exponent[j]), sum[j]);
    overflow = simd::bit_or<Isa>(overflow, simd::bit_or<Isa>(lost, simd::subtract<Isa>(zero, lost)));
    sum[j] = shifted;
  }
  return overflow;
}

/// x + zero_point, limited to low..high. The first limits are so that the sum fits 32 bits.
template <class Isa, class Stage, unsigned N>
INTACT_INLINE void add_zero_point(s32<Isa> (&x)[N], const Stage& stage, int zero_point) {
  const s32<Isa> low = simd::broadcast<Isa>(saturate<std::int32_t>(std::int64_t{stage.low} - zero_point));
  const s32<Isa> high = simd::broadcast<Isa>(saturate<std::int32_t>(std::int64_t{stage.high} - zero_point));
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    x[j] = simd::add<Isa>(simd::min<Isa>(simd::max<Isa>(x[j], low), high), simd::broadcast<Isa>(zero_point));
    if constexpr (sizeof stage.low == sizeof(std::int32_t)) {  // low - zero_point or high - zero_point may have 33 bits
      x[j] = simd::min<Isa>(simd::max<Isa>(x[j], simd::broadcast<Isa>(stage.low)), simd::broadcast<Isa>(stage.high));
    }
  }
}

/// A row of accumulators, element by element.
template <class Isa, class Stage, class Out, unsigned N>
[[gnu::noinline]] void store_unusual_row(const Stage& stage, const s32<Isa> (&x)[N], const tile_place& at,
                                         const matrix_view<Out>& y) noexcept {
  alignas(64) std::int32_t accumulators[static_cast<std::size_t>(N * simd::lanes<Isa>)];
  simd::narrow<Isa>(x, accumulators);
  store_elements(stage, accumulators, at, y);
}

/// The vector form of stages with a compat_scale.
template <class Isa, class Stage>
struct compat_epilogue {
  static constexpr bool takes_stored_sums = true;

  template <class Out, unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const Stage& stage, s32<Isa> (&x)[Rows][N], const tile_place& at, matrix_view<Out> y) {
    constexpr index_t lanes = simd::lanes<Isa>;
    alignas(64) std::int32_t multiplier_copy[static_cast<std::size_t>(N * lanes)];
    s32<Isa> bias[N], exponent[N];
    load_row<Isa>(stage.scale.bias.data() + at.n, at.columns, bias);
    load_row<Isa>(stage.scale.exponent.data() + at.n, at.columns, exponent);
    const std::int32_t* multiplier = stage.scale.multiplier.data() + at.n;
    if (at.columns < N * lanes) {
      copy_prefix<Isa>(multiplier, at.columns, multiplier_copy);
      multiplier = multiplier_copy;
    }
    const s32<Isa> zero = simd::broadcast<Isa>(0);
    s32<Isa> left[N], right[N], positive = zero;
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      right[j] = simd::subtract<Isa>(zero, simd::min<Isa>(exponent[j], zero));
      left[j] = simd::max<Isa>(exponent[j], zero);
      positive = simd::bit_or<Isa>(positive, simd::subtract<Isa>(zero, left[j]));
    }
    const bool any_left = simd::any_negative<Isa>(positive);
    alignas(64) std::int32_t power[static_cast<std::size_t>(N * lanes)];
    if (any_left) [[unlikely]] {
      simd::narrow<Isa>(left, power);
      for (std::int32_t& e : power) {
        e = std::int32_t{1} << e;
      }
    }
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const tile_place row{.m = at.m + static_cast<index_t>(r), .n = at.n, .columns = at.columns};
      s32<Isa> sum[N];
      s32<Isa> unusual = add_bias<Isa>(x[r], bias, sum);
      if (any_left) [[unlikely]] {
        unusual = simd::bit_or<Isa>(unusual, shift_left<Isa>(sum, left, power));
      }
      if (simd::any_negative<Isa>(unusual)) [[unlikely]] {
        store_unusual_row<Isa>(stage, x[r], row, y);
        continue;
      }
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        const std::int32_t* const m = multiplier + j * lanes;
        const wide_product<Isa> product{simd::mul_shift<Isa>::mul_high(sum[j], simd::mul_shift<Isa>::load(m)),
                                        simd::multiply<Isa>(sum[j], simd::load<Isa>(m))};
        sum[j] = compat_rounding<Isa, Stage>::rounded(product, right[j]);
      }
      add_zero_point<Isa>(sum, stage, stage.scale.zero_point);
      store_row<Isa>(sum, y.data + row.m * y.stride + row.n, row.columns);
    }
  }
};

template <class Isa, class Out>
requires(simd::is_vector<Isa>) struct epilogue<Isa, round_half_to_even<Out>>
    : compat_epilogue<Isa, round_half_to_even<Out>> {
};
template <class Isa, class Out>
requires(simd::is_vector<Isa>) struct epilogue<Isa, single_rounding<Out>> : compat_epilogue<Isa, single_rounding<Out>> {
};
template <class Isa, class Out>
requires(simd::is_vector<Isa>) struct epilogue<Isa, double_rounding<Out>> : compat_epilogue<Isa, double_rounding<Out>> {
};

template <class Isa, class Out>
requires(simd::is_vector<Isa>) struct epilogue<Isa, round_power_of_two<Out>> {
  static constexpr bool takes_stored_sums = true;

  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const round_power_of_two<Out>& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<Out> y) {
    using mul_shift = simd::mul_shift<Isa>;
    s32<Isa> bias[N];
    load_row<Isa>(stage.bias.data() + at.n, at.columns, bias);
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const tile_place row{.m = at.m + static_cast<index_t>(r), .n = at.n, .columns = at.columns};
      s32<Isa> sum[N];
      if (simd::any_negative<Isa>(add_bias<Isa>(x[r], bias, sum))) [[unlikely]] {
        store_unusual_row<Isa>(stage, x[r], row, y);
        continue;
      }
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        const s32<Isa> half =
            simd::bit_and<Isa>(mul_shift::shift_right(sum[j], stage.shift - 1), simd::broadcast<Isa>(1));
        sum[j] = simd::add<Isa>(mul_shift::shift_right(sum[j], stage.shift), half);
      }
      add_zero_point<Isa>(sum, stage, stage.zero_point);
      store_row<Isa>(sum, y.data + row.m * y.stride + row.n, row.columns);
    }
  }
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
