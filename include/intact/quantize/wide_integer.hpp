#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/config/compiler.hpp"
#include "intact/config/floating_point.hpp"

// Integers of 128 bits: the compiler's, or a class where it has none, as on 32-bit targets. The evaluation in double
// precision uses them where double cannot represent a number.

namespace intact {
inline namespace INTACT_UNIT {

namespace double_precision {

/// A two's complement integer of two 64-bit halves. Operators are those of built-in integers; sums, differences,
/// products and shifts to the left keep the low 128 bits.
template <bool Signed>
class wide_integer {
 public:
  constexpr wide_integer() = default;
  /// The same number.
  template <std::integral T>
  constexpr wide_integer(T x)
      : low_(static_cast<std::uint64_t>(x)), high_(std::is_signed_v<T> && x < T{0} ? ~std::uint64_t{0} : 0) {}
  /// The same bits.
  constexpr explicit wide_integer(const wide_integer<!Signed>& x) : low_(x.low()), high_(x.high()) {}

  /// Rounds towards zero.
  template <std::floating_point T>
  explicit wide_integer(T x) {
    const T magnitude = std::trunc(std::fabs(x));
    const T upper = std::floor(std::ldexp(magnitude, -64));
    high_ = static_cast<std::uint64_t>(upper);
    low_ = static_cast<std::uint64_t>(magnitude - std::ldexp(upper, 64));
    *this = x < 0 ? -*this : *this;
  }

  /// The low bits; of bool, whether the number is not 0.
  template <std::integral T>
  constexpr explicit operator T() const {
    return std::is_same_v<T, bool> ? (low_ | high_) != 0 : static_cast<T>(low_);
  }

  /// Rounds to nearest, halves to even, once.
  template <std::floating_point T>
  explicit operator T() const {
    const wide_integer<false> number(magnitude());
    T rounded = 0;
    if constexpr (std::numeric_limits<T>::digits >= 64) {
      rounded = std::ldexp(static_cast<T>(number.high()), 64) + static_cast<T>(number.low());  // halves are exact
    } else {
      static_assert(std::numeric_limits<T>::digits <= 62, "64 bits hold the digits and two bits that round them");
      const int exponent = 64 - std::countl_zero(number.high());
      const bool inexact = exponent != 0 && (number << (128 - exponent)) != 0;
      rounded = std::ldexp(static_cast<T>((number >> exponent).low() | (inexact ? 1U : 0U)), exponent);
    }
    return is_negative() ? -rounded : rounded;
  }

  constexpr std::uint64_t low() const { return low_; }    ///< the low half
  constexpr std::uint64_t high() const { return high_; }  ///< the high half
  /// Whether the number is below 0.
  constexpr bool is_negative() const { return Signed && high_ >> 63 != 0; }

  constexpr wide_integer operator+() const { return *this; }                   ///< the number
  constexpr wide_integer operator-() const { return wide_integer() - *this; }  ///< the negative

  friend constexpr wide_integer operator+(wide_integer a, wide_integer b) {
    const std::uint64_t low = a.low_ + b.low_;
    return of_halves(low, a.high_ + b.high_ + (low < a.low_ ? 1 : 0));
  }
  friend constexpr wide_integer operator-(wide_integer a, wide_integer b) {
    return of_halves(a.low_ - b.low_, a.high_ - b.high_ - (a.low_ < b.low_ ? 1 : 0));
  }
  friend constexpr wide_integer operator*(wide_integer a, wide_integer b) {
    constexpr std::uint64_t half = 0xffffffff;
    const std::uint64_t a0 = a.low_ & half, a1 = a.low_ >> 32, b0 = b.low_ & half, b1 = b.low_ >> 32;
    const std::uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & half);
    return of_halves((other << 32) | (low & half),
                     a1 * b1 + (middle >> 32) + (other >> 32) + a.low_ * b.high_ + a.high_ * b.low_);
  }
  friend constexpr wide_integer operator/(wide_integer a, wide_integer b) {
    const wide_integer quotient = divide(a.magnitude(), b.magnitude()).quotient;
    return a.is_negative() == b.is_negative() ? quotient : -quotient;
  }
  friend constexpr wide_integer operator%(wide_integer a, wide_integer b) {
    const wide_integer remainder = divide(a.magnitude(), b.magnitude()).remainder;
    return a.is_negative() ? -remainder : remainder;
  }
  friend constexpr wide_integer operator&(wide_integer a, wide_integer b) {
    return of_halves(a.low_ & b.low_, a.high_ & b.high_);
  }
  friend constexpr wide_integer operator<<(wide_integer a, int n) {
    return n == 0    ? a
           : n >= 64 ? of_halves(0, a.low_ << (n - 64))
                     : of_halves(a.low_ << n, (a.high_ << n) | (a.low_ >> (64 - n)));
  }
  friend constexpr wide_integer operator>>(wide_integer a, int n) {
    const std::uint64_t sign = a.is_negative() ? ~std::uint64_t{0} : 0;
    const auto shifted = [&](int bits) { return bits == 0 ? a.high_ : (a.high_ >> bits) | (sign << (64 - bits)); };
    return n == 0    ? a
           : n >= 64 ? of_halves(shifted(n - 64), sign)
                     : of_halves((a.low_ >> n) | (a.high_ << (64 - n)), shifted(n));
  }

  friend constexpr wide_integer& operator+=(wide_integer& a, wide_integer b) { return a = a + b; }
  friend constexpr wide_integer& operator-=(wide_integer& a, wide_integer b) { return a = a - b; }
  friend constexpr wide_integer& operator*=(wide_integer& a, wide_integer b) { return a = a * b; }
  friend constexpr wide_integer& operator/=(wide_integer& a, wide_integer b) { return a = a / b; }
  friend constexpr wide_integer& operator<<=(wide_integer& a, int n) { return a = a << n; }
  friend constexpr wide_integer& operator>>=(wide_integer& a, int n) { return a = a >> n; }
  constexpr wide_integer& operator++() { return *this += 1; }  ///< adds 1

  friend constexpr bool operator==(wide_integer a, wide_integer b) { return a.low_ == b.low_ && a.high_ == b.high_; }
  friend constexpr std::strong_ordering operator<=>(wide_integer a, wide_integer b) {
    constexpr std::uint64_t sign = Signed ? std::uint64_t{1} << 63 : 0;
    const std::strong_ordering of_high = (a.high_ ^ sign) <=> (b.high_ ^ sign);
    return of_high != 0 ? of_high : a.low_ <=> b.low_;
  }

 private:
  struct division;

  static constexpr wide_integer of_halves(std::uint64_t low, std::uint64_t high) {
    wide_integer made;
    made.low_ = low;
    made.high_ = high;
    return made;
  }

  constexpr wide_integer magnitude() const { return is_negative() ? -*this : *this; }

  constexpr bool below_unsigned(wide_integer other) const {
    return high_ != other.high_ ? high_ < other.high_ : low_ < other.low_;
  }

  /// Of numbers without sign, bit by bit where they are longer than 64 bits.
  static constexpr division divide(wide_integer a, wide_integer b) {
    if ((a.high_ | b.high_) == 0) {
      return {of_halves(a.low_ / b.low_, 0), of_halves(a.low_ % b.low_, 0)};
    }
    division made;
    for (int bit = 127; bit >= 0; --bit) {
      const std::uint64_t half = bit >= 64 ? a.high_ : a.low_;
      const bool carry = made.remainder.high_ >> 63 != 0;
      made.remainder = (made.remainder << 1) + of_halves((half >> (bit % 64)) & 1, 0);
      made.quotient = made.quotient << 1;
      if (carry || !made.remainder.below_unsigned(b)) {
        made.remainder = made.remainder - b;
        made.quotient.low_ |= 1;
      }
    }
    return made;
  }

  std::uint64_t low_ = 0;
  std::uint64_t high_ = 0;
};

/// The result of a division.
template <bool Signed>
struct wide_integer<Signed>::division {
  /// Rounded towards zero, and what remains.
  wide_integer quotient, remainder;
};

/// 128 bits with a sign: the compiler's type, if it has one.
INTACT_DECLARE_INT128(int128, signed, wide_integer<true>);
/// 128 bits without a sign.
INTACT_DECLARE_INT128(uint128, unsigned, wide_integer<false>);

/// 2^exponent.
constexpr int128 power_of_two(int exponent) {
  return int128{1} << exponent;
}

/// floor(numerator / denominator) for a positive denominator, by division.
constexpr int128 floor_divide(int128 numerator, int128 denominator) {
  const int128 quotient = numerator / denominator;
  return numerator % denominator < 0 ? quotient - 1 : quotient;
}

/// The value of T that is nearest to x.
template <class T>
constexpr T clamp_to(int128 x) {
  return static_cast<T>(
      std::clamp<int128>(x, int128{std::numeric_limits<T>::min()}, int128{std::numeric_limits<T>::max()}));
}

}  // namespace double_precision

}  // namespace INTACT_UNIT
}  // namespace intact
