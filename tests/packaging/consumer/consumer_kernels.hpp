#pragma once

#include <intact/simd/isa.hpp>

/// The most capable instruction set of a unit of kernels.
template <class Isa>
std::string_view compiled_for();
