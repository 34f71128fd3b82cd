// Checks, numbers and executors of the tests of the C interface.

#ifndef INTACT_TESTS_C_CHECK_H
#define INTACT_TESTS_C_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "intact/c/intact.h"

/// Ends the program if a condition does not hold.
#define CHECK(condition)                                        \
  do {                                                          \
    if (!(condition)) {                                         \
      printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
      printf("the last message: %s\n", intact_error_message()); \
      exit(1);                                                  \
    }                                                           \
  } while (0)

#define CHECK_OK(call) CHECK((call) == INTACT_OK)

/// Checks that a call is refused, and the message.
#define CHECK_REFUSED(call, expected)                                                                                \
  do {                                                                                                               \
    const intact_status refused = (call);                                                                            \
    if (refused != INTACT_INVALID_ARGUMENT || strcmp(intact_error_message(), (expected)) != 0) {                     \
      printf("%s:%d: %s\nstatus %d, message %s\n", __FILE__, __LINE__, #call, (int)refused, intact_error_message()); \
      exit(1);                                                                                                       \
    }                                                                                                                \
  } while (0)

/// Numbers that look random.
static inline uint32_t next_number(void) {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33);
}

/// Memory of so many bytes that begins at an odd address, for a test of any alignment; free_odd frees it.
static inline void* allocate_odd(size_t bytes) {
  char* const memory = malloc(bytes + 1);
  CHECK(memory != NULL);
  return memory + 1;
}
static inline void free_odd(void* memory) {
  free((char*)memory - 1);
}

static inline int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/// x / 2^shift, rounded down.
static inline int64_t shifted_right(int64_t x, int shift) {
  const int64_t one = (int64_t)1 << shift;
  return x >= 0 ? x / one : -(-(x + 1) / one) - 1;
}

/// Bits of a number.
static inline int bit_length(uint64_t x) {
  int bits = 0;
  for (; x != 0; x /= 2) {
    ++bits;
  }
  return bits;
}

/// An executor that begins with the last task, and counts them.
static inline void run_backwards(void* context, ptrdiff_t tasks, intact_task task, const void* argument) {
  for (ptrdiff_t i = tasks; i-- > 0;) {
    task(argument, i);
    ++*(ptrdiff_t*)context;
  }
}

#endif  // INTACT_TESTS_C_CHECK_H
