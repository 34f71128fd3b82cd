#include "consumer_kernels.hpp"

template <>
std::string_view compiled_for<intact::isa::INTACT_DISPATCH_ISA>() {
  return intact::isa::native::name;
}
