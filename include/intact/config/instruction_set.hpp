#pragma once

#include "intact/config/supported.hpp"

/// Instruction sets that this translation unit may use.
#if defined(__SSE2__)
#define INTACT_HAS_SSE2 1
#else
#define INTACT_HAS_SSE2 0
#endif
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
// With big-endian bytes the lanes of loaded vectors have another order: it has no kernels.
#if defined(__aarch64__) && !defined(__AARCH64EB__) && defined(__ARM_NEON)
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
#if defined(__x86_64__) || defined(__i386__)
#define INTACT_X86 1
#else
#define INTACT_X86 0
#endif
#if defined(__aarch64__) && !defined(__AARCH64EB__)
#define INTACT_AARCH64 1
#else
#define INTACT_AARCH64 0
#endif
#if INTACT_AARCH64 && defined(__linux__)
#define INTACT_AARCH64_LINUX 1
#else
#define INTACT_AARCH64_LINUX 0
#endif
