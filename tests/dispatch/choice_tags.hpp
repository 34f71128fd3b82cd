#pragma once

#include "intact/config/instruction_set.hpp"

// The instruction sets of choice_test, for it and for the sources that choose among them: plain C++ and a set that no
// processor of this family has.

#if INTACT_X86
#define INTACT_DISPATCH_TAGS intact::isa::scalar, intact::isa::neon
#else
#define INTACT_DISPATCH_TAGS intact::isa::scalar, intact::isa::avx2
#endif
