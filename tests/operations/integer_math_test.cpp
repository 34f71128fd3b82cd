#include "intact/arith/integer_math.hpp"

#include <cstdint>
#include <limits>

#include "catch.hpp"
#include "tensor.hpp"

namespace intact_test::integer_math_test {
namespace {

constexpr std::uint64_t largest_u64 = std::numeric_limits<std::uint64_t>::max();

TEST_CASE("bit_length, integer_sqrt, saturate: compute at compile time") {
  STATIC_REQUIRE((bit_length(0) == 0 && bit_length(1) == 1 && bit_length(largest_u64) == 64));
  STATIC_REQUIRE((integer_sqrt(0) == 0 && integer_sqrt(15) == 3 && integer_sqrt(16) == 4));
  STATIC_REQUIRE((saturate<std::uint8_t>(-1) == 0 && saturate<std::int8_t>(128) == 127));
}

/// root = floor(sqrt(x)), by its definition.
bool is_root(std::uint64_t root, std::uint64_t x) {
  const uint128 next = uint128{root} + 1;
  return uint128{root} * root <= x && x < next * next;
}

TEST_CASE("bit_length: is the number of binary digits") {
  for (int digits = 1; digits <= 64; ++digits) {
    const std::uint64_t smallest = std::uint64_t{1} << (digits - 1);
    CAPTURE(digits);
    CHECK(bit_length(smallest) == digits);
    CHECK(bit_length(smallest + (smallest - 1)) == digits);
  }
  CHECK(bit_length(0) == 0);
}

TEST_CASE("integer_sqrt: is exact [all numbers below 2^20]") {
  std::uint64_t root = 0;
  std::uint64_t wrong = 0;
  for (std::uint64_t x = 0; x < (std::uint64_t{1} << 20); ++x) {
    if ((root + 1) * (root + 1) <= x) {
      ++root;
    }
    if (integer_sqrt(x) != root) {
      ++wrong;
    }
  }
  CHECK(wrong == 0);
  CHECK(root == 1023);
}

TEST_CASE("integer_sqrt: is exact next to squares [all sizes, all starts of its iteration]") {
  std::uint64_t wrong = 0;
  std::uint64_t roots = 0;
  for (std::uint64_t root = std::uint64_t{1} << 31; root < std::uint64_t{1} << 32; root += 1021) {
    for (int shift = 0; shift < 31; shift += 5) {
      const std::uint64_t r = root >> shift;
      wrong += integer_sqrt(r * r) != r ? 1u : 0u;
      wrong += integer_sqrt(r * r - 1) != r - 1 ? 1u : 0u;
      wrong += integer_sqrt(r * r + 2 * r) != r ? 1u : 0u;
    }
    ++roots;
  }
  CHECK(roots > 2'000'000);
  CHECK(wrong == 0);
}

TEST_CASE("integer_sqrt: is exact next to squares near a power of two") {
  for (int exponent = 0; exponent <= 32; ++exponent) {
    for (std::int64_t distance = -3; distance <= 3; ++distance) {
      const std::int64_t root = (std::int64_t{1} << exponent) + distance;
      if (root < 1 || root > std::numeric_limits<std::uint32_t>::max()) {
        continue;
      }
      const std::uint64_t square = static_cast<std::uint64_t>(root) * static_cast<std::uint64_t>(root);
      CAPTURE(root);
      CHECK(integer_sqrt(square - 1) == root - 1);
      CHECK(integer_sqrt(square) == root);
      CHECK(integer_sqrt(square + 1) == root);
      CHECK(integer_sqrt(square + 2 * static_cast<std::uint64_t>(root)) == root);
    }
  }
}

TEST_CASE("integer_sqrt: is exact [the largest numbers, random numbers]") {
  CHECK(integer_sqrt(largest_u64) == std::numeric_limits<std::uint32_t>::max());
  generator random(1);
  for (int bits = 1; bits <= 64; ++bits) {
    const std::int64_t high = bits == 64 ? -1 : static_cast<std::int64_t>((std::uint64_t{1} << bits) - 1);
    for (int i = 0; i < 1000; ++i) {
      const std::uint64_t x = static_cast<std::uint64_t>(random.between(0, high));
      if (!is_root(integer_sqrt(x), x)) {
        FAIL_CHECK("integer_sqrt(" << x << ") is " << integer_sqrt(x));
      }
    }
  }
}

template <class T>
void check_saturate() {
  constexpr std::int64_t low = std::numeric_limits<T>::min();
  constexpr std::int64_t high = std::numeric_limits<T>::max();
  for (const std::int64_t limit : {low, std::int64_t{0}, high}) {
    for (std::int64_t x = limit - 2; x <= limit + 2; ++x) {
      CAPTURE(x);
      CHECK(saturate<T>(x) == (x < low ? low : x > high ? high : x));
    }
  }
  CHECK(saturate<T>(std::numeric_limits<std::int64_t>::min()) == low);
  CHECK(saturate<T>(std::numeric_limits<std::int64_t>::max()) == high);
}

TEST_CASE("saturate: keeps values that fit and stops at both ends [every type]") {
  check_saturate<std::uint8_t>();
  check_saturate<std::int8_t>();
  check_saturate<std::uint16_t>();
  check_saturate<std::int16_t>();
  check_saturate<std::uint32_t>();
  check_saturate<std::int32_t>();
}

}  // namespace
}  // namespace intact_test::integer_math_test
