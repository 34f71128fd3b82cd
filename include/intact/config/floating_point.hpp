#pragma once

#include <cfloat>

#include "intact/config/supported.hpp"

// Every header that computes in floating point includes this one. Builders and loaders refuse NaN and infinite numbers,
// and count on sums and quotients that are rounded as they are written. GCC and Clang also have options that allow such
// changes one by one and define nothing that could be asked for here; see docs/embedding.md.

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error "this header needs IEEE arithmetic: no -ffast-math, -ffinite-math-only or -funsafe-math-optimizations"
#endif

static_assert(FLT_EVAL_METHOD == 0,
              "this header needs float and double arithmetic that rounds every result to its type: on 32-bit x86, "
              "-msse2 -mfpmath=sse");
