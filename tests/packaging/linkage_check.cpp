// One program of two translation units, this one with exceptions, the other one without: each keeps its own way of
// reporting a broken contract, whatever the linker meets first.

#include <cstdint>
#include <cstdlib>
#include <span>
#include <stdexcept>

#include "intact/activation.hpp"

/// In the other translation unit: ends the program successfully when its contract handler is called.
void break_contract_without_exceptions();

int main() {
  std::uint8_t codes[4] = {};
  const std::uint8_t table[3] = {};
  try {
    intact::activation(intact::matrix_view(codes, 2, 2), std::span(table), intact::matrix_view(codes, 2, 2));
  } catch (const std::invalid_argument&) {
    break_contract_without_exceptions();
  }
  return EXIT_FAILURE;
}
