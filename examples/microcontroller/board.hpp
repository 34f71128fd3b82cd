#pragma once

#include <cstddef>

// Everything that main.cpp needs of the machine: board.cpp has it for microcontrollers, host.cpp for the host.

/// Prints a text.
void print(const char* text);

/// Bytes of stack that run(argument) uses, as far as it writes to them; 0 where that is not measured.
std::size_t stack_of(void (*run)(const void*), const void* argument);
