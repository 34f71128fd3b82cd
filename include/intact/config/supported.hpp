#pragma once

// Every header includes this one before anything else of the library's, directly or not: a compiler that cannot compile
// them ends with a sentence. A program that defines INTACT_ALLOW_UNSUPPORTED_COMPILER goes on at its own
// risk: nothing is tested with such a compiler.

#if defined(INTACT_ALLOW_UNSUPPORTED_COMPILER)
#define INTACT_COMPILER_ACCEPTED
#elif defined(__clang__) && __clang_major__ < 14
#error "intact needs Clang 14 or newer; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#elif !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 12
#error "intact needs GCC 12 or newer; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#elif !defined(__clang__) && !defined(__GNUC__)
#error "intact needs GCC or Clang; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#elif __cplusplus < 202002L
#error "intact needs C++20: -std=c++20; define INTACT_ALLOW_UNSUPPORTED_COMPILER to go on at your own risk"
#else
#define INTACT_COMPILER_ACCEPTED
#endif

// A compiler goes on after #error, but not after a file that does not exist.
#if !defined(INTACT_COMPILER_ACCEPTED)
#include "intact/config/not_supported_see_the_error_above.hpp"
#endif
