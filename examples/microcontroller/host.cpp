#include <cstddef>
#include <cstdio>

#include "board.hpp"

void print(const char* text) {
  std::fputs(text, stdout);
}

std::size_t stack_of(void (*run)(const void*), const void* argument) {
  run(argument);
  return 0;
}
