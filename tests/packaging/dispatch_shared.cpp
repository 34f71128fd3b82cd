// A shared object that exports functions of its own.

#include "intact/dispatch/operations.hpp"

extern "C" [[gnu::visibility("default")]] const char* engine_isa() {
  return intact::dispatch::isa_name();
}

extern "C" [[gnu::visibility("default")]] void engine_activation(const unsigned char* codes, const unsigned char* table,
                                                                 unsigned char* y) {
  intact::dispatch::activation(intact::matrix_view(codes, 1, 4), std::span(table, 256), intact::matrix_view(y, 1, 4));
}
