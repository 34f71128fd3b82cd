#include "wide_integer.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "tensor.hpp"

// The oracles' integers of 128 bits without the compiler's, against the compiler's.

namespace intact_test::wide_integer_test {
namespace {

using wide = wide_integer<true>;
using unsigned_wide = wide_integer<false>;

TEST_CASE("wide_integer: gives known results [every target]", "[wide_integer]") {
  const wide largest = (wide(1) << 126) - 1 + (wide(1) << 126);
  CHECK(largest.high() == 0x7fffffffffffffff);
  CHECK(largest.low() == 0xffffffffffffffff);
  CHECK(largest / 3 * 3 + largest % 3 == largest);
  CHECK(wide(-7) / 2 == -3);
  CHECK(wide(-7) % 2 == -1);
  CHECK((wide(-7) >> 1) == -4);
  CHECK(wide(-1) < 0);
  CHECK(unsigned_wide(-1) > (unsigned_wide(1) << 127));
  CHECK((((wide(1) << 100) * -5) >> 98) == -20);
  CHECK(static_cast<double>((wide(1) << 80) + (wide(1) << 27)) == std::ldexp(1.0, 80));
  CHECK(static_cast<double>((wide(1) << 80) + (wide(1) << 27) + 1) == std::ldexp(1.0, 80) + std::ldexp(1.0, 28));
  CHECK(wide(-std::ldexp(3.0, 90)) == (wide(-3) << 90));
}

#ifdef __SIZEOF_INT128__

/// Numbers of all lengths, and those around powers of two.
std::vector<uint128> numbers() {
  std::vector<uint128> made = {0, 1, 2, 3};
  generator random(128);
  for (int bits = 1; bits < 128; bits += 3) {
    const uint128 power = uint128{1} << bits;
    const uint128 any = (uint128{static_cast<std::uint64_t>(random.between(std::numeric_limits<std::int64_t>::min(),
                                                                           std::numeric_limits<std::int64_t>::max()))}
                         << 64) +
                        static_cast<std::uint64_t>(random.between(0, std::numeric_limits<std::int64_t>::max()));
    for (const uint128 x : {power - 1, power, power + 1, any >> (127 - bits)}) {
      made.push_back(x);
      made.push_back(-x);
    }
  }
  return made;
}

template <class Wide>
bool same(Wide found, uint128 expected) {
  return found.low() == static_cast<std::uint64_t>(expected) &&
         found.high() == static_cast<std::uint64_t>(expected >> 64);
}

template <class Native>
void compare() {
  using tested = wide_integer<std::is_same_v<Native, int128>>;
  const auto to_wide = [](uint128 x) {
    return (tested(static_cast<std::uint64_t>(x >> 64)) << 64) + tested(static_cast<std::uint64_t>(x));
  };
  int wrong = 0;
  for (const uint128 x : numbers()) {
    const tested a = to_wide(x);
    const auto native_a = static_cast<Native>(x);
    wrong += same(a, x) && same(-a, -x) ? 0 : 1;
    for (int n = 0; n < 128; ++n) {
      wrong += same(a << n, x << n) && same(a >> n, static_cast<uint128>(native_a >> n)) ? 0 : 1;
    }
    wrong += static_cast<double>(a) == static_cast<double>(native_a) ? 0 : 1;
    wrong += static_cast<float>(a) == static_cast<float>(native_a) ? 0 : 1;
    wrong += static_cast<long double>(a) == static_cast<long double>(native_a) ? 0 : 1;
    wrong += static_cast<std::int32_t>(a) == static_cast<std::int32_t>(x) ? 0 : 1;
    for (const uint128 y : numbers()) {
      const tested b = to_wide(y);
      const auto native_b = static_cast<Native>(y);
      wrong += same(a + b, x + y) && same(a - b, x - y) && same(a * b, x * y) && same(a & b, x & y) ? 0 : 1;
      wrong += (a < b) == (native_a < native_b) && (a == b) == (x == y) && (a >= b) == (native_a >= native_b) ? 0 : 1;
      const bool overflows = std::is_same_v<Native, int128> && y == ~uint128{0};  // the least number by -1
      if (y != 0 && !overflows) {
        wrong += same(a / b, static_cast<uint128>(native_a / native_b)) &&
                         same(a % b, static_cast<uint128>(native_a % native_b))
                     ? 0
                     : 1;
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("wide_integer: equals the 128-bit integers of the compiler", "[wide_integer]") {
  compare<int128>();
  compare<uint128>();
  for (const double x : {0.0, 0.75, -0.75, 1e10, -1e19, 1.8e19, std::ldexp(-1.7, 125), 12345678.9e20}) {
    CHECK(same(wide(x), static_cast<uint128>(static_cast<int128>(x))));
    const long double y = static_cast<long double>(x) * 1.0000000001L;
    CHECK(same(wide(y), static_cast<uint128>(static_cast<int128>(y))));
  }
}

#endif

}  // namespace
}  // namespace intact_test::wide_integer_test
