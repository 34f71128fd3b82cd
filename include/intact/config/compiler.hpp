#pragma once

// The headers of this folder are the only ones that ask the compiler about itself.

#include "intact/config/unit.hpp"

/// Before a loop with a constant number of rounds, at most 32: it must be unrolled completely. An array of registers
/// stays in registers only if every loop that indexes it is. INTACT_UNROLL_4: four rounds at a time, of any number,
/// which GCC wants for the loop over the inner dimension; Clang spills then, and is as fast without. INTACT_NO_UNROLL:
/// one round at a time, even if there are few.
#if defined(__clang__)
#define INTACT_UNROLL _Pragma("clang loop unroll(full)")
#define INTACT_UNROLL_4 _Pragma("clang loop unroll(disable)")
#define INTACT_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define INTACT_UNROLL _Pragma("GCC unroll 32")
#define INTACT_UNROLL_4 _Pragma("GCC unroll 4")
#define INTACT_NO_UNROLL _Pragma("GCC unroll 1")
#endif

/// GCC 12.0 to 12.2 miscompile loops with several sums when they vectorize them (GCC's bug 107212, mended in 12.3 and
/// 13): if a sum is converted between signed and unsigned in the loop and used in both forms after it, one of the forms
/// misses all but one lane's part, also where the other form is only that of the loop's last rounds. With
/// simd::optimization_barrier after each such addition there is nothing to vectorize.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12 && __GNUC_MINOR__ < 3
#define INTACT_GCC_BUG_107212 1
#else
#define INTACT_GCC_BUG_107212 0
#endif

/// Around the headers of intrinsics: GCC 12 takes those of AVX-512 for uses of uninitialized variables (its bug
/// 105593).
#if defined(__clang__)
#define INTACT_INTRINSICS_BEGIN
#define INTACT_INTRINSICS_END
#else
#define INTACT_INTRINSICS_BEGIN                                                        \
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wuninitialized\"") \
      _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"")
#define INTACT_INTRINSICS_END _Pragma("GCC diagnostic pop")
#endif

/// Before a function that must be part of its caller, even without optimization: a piece of a kernel's register tile,
/// or a member of a type that crosses translation units.
#define INTACT_INLINE [[gnu::always_inline]] inline

/// The same for a lambda expression, after its parameters.
#define INTACT_INLINE_LAMBDA __attribute__((always_inline))

/// After `namespace`, before the name: shared objects do not export its functions, whatever the flags of the unit.
#if defined(__ELF__)
#define INTACT_HIDDEN [[gnu::visibility("hidden")]]
#else
#define INTACT_HIDDEN
#endif

/// A program that defines INTACT_REQUIRE_VECTOR_STAGES is told at compile time of output stages that kernels would call
/// element by element.
#if defined(INTACT_REQUIRE_VECTOR_STAGES)
#define INTACT_ALLOW_SCALAR_STAGES 0
#else
#define INTACT_ALLOW_SCALAR_STAGES 1
#endif

// Declares a type of 128-bit integers: the compiler's, or an alternative where it has none.
#ifdef __SIZEOF_INT128__
#define INTACT_DECLARE_INT128(name, sign, alternative) __extension__ typedef sign __int128 name
#else
#define INTACT_DECLARE_INT128(name, sign, alternative) using name = alternative
#endif
