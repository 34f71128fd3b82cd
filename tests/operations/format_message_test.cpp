#include "intact/config/format_message.hpp"

#include <array>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

#include "catch.hpp"
#include "tensor.hpp"

namespace intact_test::format_message_test {
namespace {

/// The message in `size` of 64 bytes; the bytes after them must stay as they are.
[[gnu::format(printf, 2, 3)]] std::string formatted(std::size_t size, const char* format, ...) {
  std::array<char, 64> message;
  message.fill('#');
  std::va_list arguments;
  va_start(arguments, format);
  format_message(message.data(), size, format, arguments);
  va_end(arguments);
  for (std::size_t i = size; i < message.size(); ++i) {
    CHECK(message[i] == '#');
  }
  return message.data();
}

/// The C library's.
[[gnu::format(printf, 2, 3)]] std::string expected(std::size_t size, const char* format, ...) {
  std::array<char, 64> message;
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message.data(), size, format, arguments);
  va_end(arguments);
  return message.data();
}

TEST_CASE("format_message: writes as vsnprintf does") {
  CHECK(formatted(64, "nothing") == "nothing");
  CHECK(formatted(64, "%s", "") == "");
  CHECK(formatted(64, "intact::%s: %s is %lld; %zu of %td", "gemm", "K", 65794LL, std::size_t{7}, std::ptrdiff_t{-5}) ==
        "intact::gemm: K is 65794; 7 of -5");
}

TEST_CASE("format_message: numbers are those of std::to_string [extremes]") {
  for (const long long n : {std::numeric_limits<long long>::min(), -10LL, -1LL, 0LL, 9LL, 10LL, 1234567890LL,
                            std::numeric_limits<long long>::max()}) {
    CHECK(formatted(64, "%lld", n) == std::to_string(n));
    const auto u = static_cast<unsigned long long>(n);
    CHECK(formatted(64, "%llu", u) == std::to_string(u));
    const auto t = static_cast<std::ptrdiff_t>(n);
    CHECK(formatted(64, "%td", t) == std::to_string(t));
    const auto z = static_cast<std::size_t>(n);
    CHECK(formatted(64, "%zu", z) == std::to_string(z));
  }
}

TEST_CASE("format_message: a message is cut where its memory ends [every size]") {
  for (std::size_t size = 1; size <= 40; ++size) {
    CHECK(formatted(size, "%s is %lld; most %s", "a size", -1234567890123LL, "is 7") ==
          expected(size, "%s is %lld; most %s", "a size", -1234567890123LL, "is 7"));
  }
}

TEST_CASE("format_message: another conversion ends the message") {
  CHECK(formatted(64, "the value %g is wrong", 1.5) == "the value ");
  CHECK(formatted(64, "the value %d is wrong", 1) == "the value ");
  CHECK(formatted(64, "the value %ld is wrong", 1L) == "the value ");
}

}  // namespace
}  // namespace intact_test::format_message_test
