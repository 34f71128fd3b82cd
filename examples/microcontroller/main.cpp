// Prints a hash of each operation's output, and of each tensor in the specification's block. Every board prints the
// lines that the host prints, and after them the bytes of stack and workspace that operations use. Parameters are
// constants that export_block.cpp makes on the host; all memory is in the two arrays below.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "block_data.hpp"
#include "board.hpp"
#include "intact/reference/model/block.hpp"
#include "operations.hpp"

namespace {

using intact::index_t;

constexpr intact::block_shape shape = block_data::shape;
constexpr index_t tokens = shape.attention.tokens, width = shape.attention.width, wide = 3 * width;

std::array<std::uint8_t, tokens * wide> output;
std::array<std::byte, std::max(intact::block_workspace_bytes(shape), intact::reference::block_workspace_bytes(shape))>
    scratch;

/// Integers from 0 to `count` - 1 from a linear congruential generator.
template <class T, std::size_t size>
constexpr std::array<T, size> random_integers(std::uint32_t count) {
  std::array<T, size> integers{};
  std::uint32_t state = 1;
  for (T& integer : integers) {
    state = state * 1664525 + 1013904223;
    integer = static_cast<T>((state >> 16) % count);
  }
  return integers;
}
constexpr auto codes = random_integers<std::uint8_t, tokens * wide>(256);
constexpr auto exponents = random_integers<std::uint8_t, tokens * tokens>(17);
constexpr auto taps = random_integers<std::int8_t, 9 * width>(128);

operands all_operands() {
  return {.block = block_data::parameters,
          .shape = shape,
          .codes = {codes.data(), tokens, wide},
          .exponents = {exponents.data(), tokens, tokens},
          .taps = {taps.data(), 9, width},
          .table = {codes.data(), 256},
          .scale = {.multiplier = 1 << 26, .offset = std::int64_t{255} << 31, .shift = 0, .left_shift = 0},
          .y = {output.data(), tokens, wide},
          .memory = {scratch.data(), scratch.size()}};
}

/// FNV-1a over integers of 16 bits.
template <class View>
std::uint64_t hash(const View& view) {
  std::uint64_t value = 14695981039346656037U;
  for (index_t i = 0; i < view.rows; ++i) {
    for (index_t j = 0; j < view.columns; ++j) {
      value = (value ^ static_cast<std::uint16_t>(view(i, j))) * 1099511628211U;
    }
  }
  return value;
}

void print_hash(std::uint64_t value) {
  char digits[18] = " ";
  for (int i = 0; i < 16; ++i) {
    digits[1 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
  }
  print(digits);
  print("\n");
}

void print_number(std::size_t number) {
  char digits[21];
  char* first = digits + sizeof digits - 1;
  *first = '\0';
  do {
    *--first = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  print(first);
}

/// Prints a line with the bytes that an operation's specification and its kernel use.
void print_bytes(const char* what, const char* name, std::size_t specification, std::size_t kernel) {
  print(what);
  print(" ");
  print(name);
  print(" ");
  print_number(specification);
  print(" ");
  print_number(kernel);
  print("\n");
}

struct workspace_use {
  const char* name;
  std::size_t specification, kernel;
};
constexpr workspace_use workspaces[] = {
    {"shift_matmul", 0, intact::shift_matmul_workspace_bytes(tokens, width)},
    {"attention", intact::reference::attention_workspace_bytes(tokens, tokens),
     intact::attention_workspace_bytes(tokens, shape.attention.heads, shape.attention.head_size(), 1)},
    {"block", intact::reference::block_workspace_bytes(shape), intact::block_workspace_bytes(shape)}};

struct call {
  void (*run)(const operands&);
  operands x;
};

/// Runs a kernel or its specification; returns the bytes of stack.
std::size_t run(void (*function)(const operands&)) {
  output.fill(0);
  const call one{function, all_operands()};
  return stack_of(
      [](const void* argument) {
        const call& c = *static_cast<const call*>(argument);
        c.run(c.x);
      },
      &one);
}

/// Prints the hash of each tensor that the specification shows. Its variables are not part of main()'s stack.
[[gnu::noinline]] void print_tensors() {
  const operands x = all_operands();
  const intact::matrix_view<std::uint8_t> stream(output.data(), tokens, width);
  for (index_t i = 0; i < tokens; ++i) {
    std::copy_n(&x.codes(i, 0), width, &stream(i, 0));
  }
  intact::reference::block(stream, x.block, shape, x.memory, [](const intact::trace_site& site, const auto& view) {
    print("block/");
    print(std::string_view(site.name).data());
    print_hash(hash(view));
  });
}

}  // namespace

int main() {
  std::array<std::size_t, std::size(operations)> specification_stack, kernel_stack;
  int status = 0;
  for (std::size_t i = 0; i < std::size(operations); ++i) {
    specification_stack[i] = run(operations[i].specification);
    const std::uint64_t expected = hash(all_operands().y);
    kernel_stack[i] = run(operations[i].kernel);
    const std::uint64_t found = hash(all_operands().y);
    print(operations[i].name);
    print_hash(found);
    if (found != expected) {
      print("the kernel and the specification differ\n");
      status = 1;
    }
  }
  print_tensors();
  if (kernel_stack[0] != 0) {
    for (std::size_t i = 0; i < std::size(operations); ++i) {
      print_bytes("stack", operations[i].name, specification_stack[i], kernel_stack[i]);
    }
    for (const workspace_use& each : workspaces) {
      print_bytes("workspace", each.name, each.specification, each.kernel);
    }
  }
  return status;
}
