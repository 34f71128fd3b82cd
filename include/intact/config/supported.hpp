#pragma once

// Every header includes this one before anything else of the library's, directly or not: a compiler that cannot compile
// them ends with a message of one line. A program that defines INTACT_ALLOW_UNSUPPORTED_COMPILER goes on at its own
// risk: nothing is tested with such a compiler.

#if !defined(INTACT_ALLOW_UNSUPPORTED_COMPILER)
#if defined(__clang__)
#if __clang_major__ < 14
#error "intact needs Clang 14 or newer; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#endif
#elif defined(__GNUC__)
#if __GNUC__ < 12
#error "intact needs GCC 12 or newer; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#endif
#else
#error "intact needs GCC or Clang; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#endif
#if (defined(__clang__) || defined(__GNUC__)) && __cplusplus < 202002L
#error "intact needs C++20: -std=c++20; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#endif
#endif
