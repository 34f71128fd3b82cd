// A program without exceptions and RTTI. It breaks a contract: called with an argument, with a handler of its own.

#include <cstdint>
#include <cstdio>
#include <span>

#include "intact/activation.hpp"

namespace {

void print_to_stdout(const char* message) {
  std::printf("handler: %s\n", message);
  std::fflush(stdout);
}

}  // namespace

int main(int argument_count, char**) {
  if (argument_count > 1) {
    intact::set_contract_handler(print_to_stdout);
  }
  std::uint8_t codes[4] = {};
  const std::uint8_t table[3] = {};
  intact::activation(intact::matrix_view(codes, 2, 2), std::span(table), intact::matrix_view(codes, 2, 2));
}
