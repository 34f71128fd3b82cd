#pragma once

#include "intact/config/compiler.hpp"

// The compiler's intrinsics, and xsimd, if the flags allow any instruction set at all.

INTACT_INTRINSICS_BEGIN
#if INTACT_HAS_SSE2
#include <immintrin.h>
#endif
#if INTACT_HAS_NEON
#include <arm_neon.h>
#endif
#if INTACT_HAS_SSE2 || INTACT_HAS_NEON
#include <xsimd/xsimd.hpp>
static_assert(100 * XSIMD_VERSION_MAJOR + XSIMD_VERSION_MINOR >= 801, "intact needs xsimd 8.1 or newer");
#endif
INTACT_INTRINSICS_END
