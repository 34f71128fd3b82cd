// A Cortex-M from reset to the end of main(): vectors, memory, output by semihosting, which debuggers and emulators
// understand. There is no heap, and no system call for one.

#include "board.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

int main();

extern "C" {

// Of sections.ld.
extern std::uint32_t data_image[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];

[[noreturn]] void reset();
[[noreturn]] void fault();
[[noreturn]] void abort();
}

namespace {

constexpr int write_text = 0x04, end_program = 0x20;
constexpr std::uint32_t application_exit = 0x20026;

void semihosting(int operation, const void* argument) {
  register int r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

[[noreturn]] void end(std::uint32_t status) {
  const std::uint32_t reason[] = {application_exit, status};
  while (true) {
    semihosting(end_program, reason);
  }
}

struct vector_table {
  std::uint32_t* stack;
  void (*reset)();
  void (*faults[14])();
};

[[gnu::section(".vectors"), gnu::used]] const vector_table vectors = {
    stack_top,
    reset,
    {fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault}};

constexpr std::uint32_t untouched = 0xa5a5a5a5;

}  // namespace

void reset() {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  // Vector registers are off after reset: coprocessor access control.
  *reinterpret_cast<volatile std::uint32_t*>(0xe000ed88) |= 0xfU << 20;
  asm volatile("dsb\n isb");
#endif
  std::memcpy(data_begin, data_image, static_cast<std::size_t>(data_end - data_begin) * sizeof(std::uint32_t));
  std::memset(bss_begin, 0, static_cast<std::size_t>(bss_end - bss_begin) * sizeof(std::uint32_t));
  end(static_cast<std::uint32_t>(main()));
}

void fault() {
  print("a fault\n");
  end(1);
}

void abort() {
  end(1);
}

void print(const char* text) {
  semihosting(write_text, text);
}

std::size_t stack_of(void (*run)(const void*), const void* argument) {
  std::uint32_t* sp;
  asm volatile("mov %0, sp" : "=r"(sp));
  std::uint32_t* const last = sp - 4;
  for (volatile std::uint32_t* word = bss_end; word < last; ++word) {
    *word = untouched;
  }
  run(argument);
  if (*static_cast<volatile std::uint32_t*>(bss_end) != untouched) {
    print("the stack is too small\n");
    end(1);
  }
  const volatile std::uint32_t* word = bss_end;
  while (word < last && *word == untouched) {
    ++word;
  }
  return static_cast<std::size_t>(sp - word) * sizeof *word;
}
