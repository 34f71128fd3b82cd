#pragma once

// The only header that asks the compiler about itself.

#if defined(__cpp_exceptions)
#define INTACT_EXCEPTIONS 1
/// Inline namespace of every declaration. Translation units with and without exceptions differ in what a failed
/// contract does, so their functions must not be merged by the linker: each kind has a namespace of its own.
#define INTACT_ABI v0
#else
#define INTACT_EXCEPTIONS 0
#define INTACT_ABI v0_noexcept
#endif

/// Instruction sets that this translation unit may use.
#if defined(__SSE4_1__)
#define INTACT_HAS_SSE4_1 1
#else
#define INTACT_HAS_SSE4_1 0
#endif
#if defined(__AVX2__)
#define INTACT_HAS_AVX2 1
#else
#define INTACT_HAS_AVX2 0
#endif
#if defined(__AVX2__) && defined(__AVXVNNI__)
#define INTACT_HAS_AVX2_VNNI 1
#else
#define INTACT_HAS_AVX2_VNNI 0
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)
#define INTACT_HAS_AVX512BW 1
#else
#define INTACT_HAS_AVX512BW 0
#endif
#if INTACT_HAS_AVX512BW && defined(__AVX512VNNI__)
#define INTACT_HAS_AVX512VNNI 1
#else
#define INTACT_HAS_AVX512VNNI 0
#endif
#if INTACT_HAS_AVX512VNNI && defined(__AVX512IFMA__) && defined(__AVX512VBMI__)
#define INTACT_HAS_AVX512VBMI 1
#else
#define INTACT_HAS_AVX512VBMI 0
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
#define INTACT_HAS_NEON 1
#else
#define INTACT_HAS_NEON 0
#endif
#if INTACT_HAS_NEON && defined(__ARM_FEATURE_DOTPROD)
#define INTACT_HAS_NEON_DOTPROD 1
#else
#define INTACT_HAS_NEON_DOTPROD 0
#endif
#if INTACT_HAS_NEON_DOTPROD && defined(__ARM_FEATURE_MATMUL_INT8)
#define INTACT_HAS_NEON_I8MM 1
#else
#define INTACT_HAS_NEON_I8MM 0
#endif

/// The processor's family, whatever the unit's flags.
#if defined(__x86_64__)
#define INTACT_X86 1
#else
#define INTACT_X86 0
#endif
#if defined(__aarch64__)
#define INTACT_AARCH64 1
#else
#define INTACT_AARCH64 0
#endif
#if INTACT_AARCH64 && defined(__linux__)
#define INTACT_AARCH64_LINUX 1
#else
#define INTACT_AARCH64_LINUX 0
#endif

/// Before a loop with a constant number of rounds, at most 32: it must be unrolled completely. An array of registers
/// stays in registers only if every loop that indexes it is. INTACT_UNROLL_4: four rounds at a time, of any number,
/// which GCC wants for the loop over the inner dimension; Clang spills then, and is as fast without.
#if defined(__clang__)
#define INTACT_UNROLL _Pragma("clang loop unroll(full)")
#define INTACT_UNROLL_4 _Pragma("clang loop unroll(disable)")
#else
#define INTACT_UNROLL _Pragma("GCC unroll 32")
#define INTACT_UNROLL_4 _Pragma("GCC unroll 4")
#endif

/// GCC 12.0 to 12.2 miscompile loops with several sums when they vectorize them (GCC's bug 107212, mended in 12.3 and
/// 13): if a sum is converted between signed and unsigned in the loop and used in both forms after it, one of the forms
/// misses all but one lane's part. simd::hide_value after the loop leaves one form.
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
/// or one that would otherwise exist once for all instruction sets of a program.
#define INTACT_INLINE [[gnu::always_inline]] inline
