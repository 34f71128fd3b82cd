#include "deit_data_kernels.hpp"

// Compiled once per instruction set, as a library of its own that shows one function: none of the others can take the
// place of one of another library.

extern "C" __attribute__((visibility("default"))) void intact_vit(const intact_test::vit_call& call) {
  intact::vit<intact::isa::INTACT_TEST_ISA>(call.images, call.parameters, call.shape, call.y, call.memory);
}
