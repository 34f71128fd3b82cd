#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>

#include "intact/config/unit.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Formats a message as vsnprintf does, without the C library, into `size` bytes, at least one. It knows the
/// conversions of the messages of integer operations: %s, and %lld, %llu, %td and %zu without flags. Another one ends
/// the message.
inline void format_message(char* message, std::size_t size, const char* format, std::va_list arguments) {
  char* const last = message + size - 1;
  const auto put = [&](char character) {
    if (message != last) {
      *message++ = character;
    }
  };
  for (; *format != '\0'; ++format) {
    if (*format != '%') {
      put(*format);
      continue;
    }
    ++format;
    if (*format == 's') {
      for (const char* text = va_arg(arguments, const char*); *text != '\0'; ++text) {
        put(*text);
      }
      continue;
    }
    std::uint64_t number = 0;
    if (*format == 't') {
      number = static_cast<std::uint64_t>(va_arg(arguments, std::ptrdiff_t));
    } else if (*format == 'z') {
      number = va_arg(arguments, std::size_t);
    } else if (*format == 'l' && *++format == 'l') {
      number = static_cast<std::uint64_t>(va_arg(arguments, long long));
    } else {
      break;
    }
    ++format;
    if (*format == 'd' && number >> 63 != 0) {
      put('-');
      number = 0 - number;
    }
    char digits[20];
    int count = 0;
    for (; number != 0 || count == 0; number /= 10) {
      digits[count++] = static_cast<char>('0' + number % 10);
    }
    while (count > 0) {
      put(digits[--count]);
    }
  }
  *message = '\0';
}

}  // namespace INTACT_UNIT
}  // namespace intact
