#pragma once

#include "intact/config/instruction_set.hpp"
#include "intact/config/version.hpp"

// The inline namespaces of this library. A program may have translation units with different compiler flags, and the
// linker keeps one of several functions of the same name. If two units had a function in common, the one that is kept
// could contain instructions that the processor lacks, or end a failed contract in the other unit's way.
//
// INTACT_ABI    Types that may cross from one unit to another: views, scales, parameters, output stages, packed
//               weights, tags of instruction sets. They are trivially copyable, and their member functions are
//               INTACT_INLINE: they do not exist on their own. The name is the major and the minor version, v0_1:
//               releases between which a type may change share nothing.
// INTACT_UNIT   Everything else: functions, and types that stay within a unit. The name consists of the version, the
//               instruction set, the features beyond it that the unit's flags allow, a letter each, and "_noexcept"
//               in units without exceptions, and "_nostdio" if they define INTACT_NO_STDIO. The instruction set is the
//               one that intact_add_dispatch compiles the unit for, INTACT_DISPATCH_ISA, or else the best that the
//               flags allow:
//
//                   v0_1_sse2_    v0_1_avx2_p    v0_1_avx512vbmi_plbcmfh_noexcept
//
// Features are those by which a compiler emits other instructions on its own, not those that it only has intrinsics
// for. Units of different processor families, or different calling conventions, are never in one program.

#if defined(__cpp_exceptions)
#define INTACT_EXCEPTIONS 1
#define INTACT_EXCEPTION_MODE
#if defined(INTACT_NO_STDIO)
#error "INTACT_NO_STDIO is for programs that are compiled with -fno-exceptions"
#endif
#else
#define INTACT_EXCEPTIONS 0
#if defined(INTACT_NO_STDIO)
#define INTACT_EXCEPTION_MODE _noexcept_nostdio
#else
#define INTACT_EXCEPTION_MODE _noexcept
#endif
#endif

/// The arguments as one token. An argument may be empty.
#define INTACT_JOIN(a, b, c, d, e, f, g, h) INTACT_JOIN_EXPANDED(a, b, c, d, e, f, g, h)
#define INTACT_JOIN_EXPANDED(a, b, c, d, e, f, g, h) a##b##c##d##e##f##g##h

/// `letter` if `macro` is defined as 1, as 3 (MVE with floating point), or as a version of RISC-V's extensions; else
/// nothing.
#define INTACT_IF(macro, letter) INTACT_IF_EXPANDED(macro, letter)
#define INTACT_IF_EXPANDED(value, letter) INTACT_SECOND(INTACT_SKIP_##value letter, , )
#define INTACT_SECOND(...) INTACT_SECOND_EXPANDED(__VA_ARGS__)
#define INTACT_SECOND_EXPANDED(first, second, ...) second
#define INTACT_SKIP_1 ,
#define INTACT_SKIP_3 ,
#define INTACT_SKIP_1000000 ,
#define INTACT_SKIP_2000000 ,
#define INTACT_SKIP_2001000 ,
#define INTACT_SKIP_2002000 ,

#if defined(INTACT_DISPATCH_ISA)
#define INTACT_SET INTACT_DISPATCH_ISA
#elif INTACT_HAS_AVX512VBMI
#define INTACT_SET avx512vbmi
#elif INTACT_HAS_AVX512VNNI
#define INTACT_SET avx512vnni
#elif INTACT_HAS_AVX512BW
#define INTACT_SET avx512bw
#elif INTACT_HAS_AVX2_VNNI
#define INTACT_SET avx2_vnni
#elif INTACT_HAS_AVX2
#define INTACT_SET avx2
#elif defined(__AVX__)
#define INTACT_SET avx
#elif defined(__SSE4_2__)
#define INTACT_SET sse4_2
#elif INTACT_HAS_SSE4_1
#define INTACT_SET sse4_1
#elif defined(__SSSE3__)
#define INTACT_SET ssse3
#elif defined(__SSE3__)
#define INTACT_SET sse3
#elif INTACT_HAS_SSE2
#define INTACT_SET sse2
#elif INTACT_HAS_NEON_I8MM
#define INTACT_SET neon_i8mm
#elif INTACT_HAS_NEON_DOTPROD
#define INTACT_SET neon_dotprod
#elif INTACT_HAS_NEON
#define INTACT_SET neon
#else
#define INTACT_SET scalar
#endif

// clang-format off
#if INTACT_X86
#define INTACT_FEATURES INTACT_JOIN(INTACT_BITS, INTACT_MORE_BITS, INTACT_AVX512_PARTS, INTACT_AVX512, INTACT_AVX, \
                                    INTACT_AMD, INTACT_LATER, )
#define INTACT_BITS INTACT_JOIN(                                                                                  \
    INTACT_IF(__POPCNT__, p), INTACT_IF(__LZCNT__, l), INTACT_IF(__BMI__, b), INTACT_IF(__BMI2__, c),             \
    INTACT_IF(__MOVBE__, m), INTACT_IF(__FMA__, f), INTACT_IF(__F16C__, h), INTACT_IF(__GFNI__, g))
#define INTACT_MORE_BITS INTACT_JOIN(                                                                             \
    INTACT_IF(__ADX__, a), INTACT_IF(__PRFCHW__, w), INTACT_IF(__LAHF_SAHF__, s),                                 \
    INTACT_IF(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16, x), , , , )
#if INTACT_HAS_AVX512BW
#define INTACT_AVX512_PARTS
#else
#define INTACT_AVX512_PARTS INTACT_JOIN(                                                                          \
    INTACT_IF(__AVX512F__, _f), INTACT_IF(__AVX512BW__, _bw), INTACT_IF(__AVX512CD__, _cd),                       \
    INTACT_IF(__AVX512DQ__, _dq), INTACT_IF(__AVX512VL__, _vl), INTACT_IF(__AVX512ER__, _er), , )
#endif
#define INTACT_AVX512 INTACT_JOIN(                                                                                \
    INTACT_IF(__AVX512VNNI__, n), INTACT_IF(__AVX512IFMA__, i), INTACT_IF(__AVX512VBMI__, v),                     \
    INTACT_IF(__AVX512VBMI2__, u), INTACT_IF(__AVX512BITALG__, t), INTACT_IF(__AVX512VPOPCNTDQ__, q),             \
    INTACT_IF(__AVX512BF16__, r), INTACT_IF(__AVX512FP16__, z))
#define INTACT_AVX INTACT_JOIN(                                                                                   \
    INTACT_IF(__AVXVNNI__, d), INTACT_IF(__AVXIFMA__, j), INTACT_IF(__AVXVNNIINT8__, k),                          \
    INTACT_IF(__AVXVNNIINT16__, o), INTACT_IF(__AVXNECONVERT__, e), , , )
#define INTACT_AMD INTACT_JOIN(                                                                                   \
    INTACT_IF(__SSE4A__, _sse4a), INTACT_IF(__XOP__, _xop), INTACT_IF(__FMA4__, _fma4), INTACT_IF(__TBM__, _tbm), \
    INTACT_IF(__3dNOW__, _3dnow), , , )
#define INTACT_LATER INTACT_JOIN(                                                                                 \
    INTACT_IF(__APX_F__, _apx), INTACT_IF(__AVX10_1__, _avx10_1), INTACT_IF(__AVX10_2__, _avx10_2),               \
    INTACT_IF(__CMPCCXADD__, _cmpccxadd), INTACT_IF(__RAOINT__, _raoint), , , )
#elif defined(__aarch64__) || defined(__arm__)
#define INTACT_FEATURES INTACT_JOIN(__ARM_ARCH, INTACT_NEON, INTACT_LATER, INTACT_SVE, INTACT_ARM, , , )
#define INTACT_NEON INTACT_JOIN(                                                                                  \
    INTACT_IF(__ARM_FEATURE_ATOMICS, a), INTACT_IF(__ARM_FEATURE_QRDMX, r),                                       \
    INTACT_IF(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, h), INTACT_IF(__ARM_FEATURE_FP16_FML, f),                     \
    INTACT_IF(__ARM_FEATURE_COMPLEX, c), INTACT_IF(__ARM_FEATURE_DOTPROD, d),                                     \
    INTACT_IF(__ARM_FEATURE_MATMUL_INT8, i), INTACT_IF(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC, b))
#define INTACT_LATER INTACT_JOIN(                                                                                 \
    INTACT_IF(__ARM_FEATURE_JCVT, j), INTACT_IF(__ARM_FEATURE_FRINT, t), INTACT_IF(__ARM_FEATURE_SHA3, x),        \
    INTACT_IF(__ARM_FEATURE_PAUTH, p), INTACT_IF(__ARM_FEATURE_RCPC, l), INTACT_IF(__ARM_FEATURE_MOPS, m),        \
    INTACT_IF(__ARM_FEATURE_CSSC, s), INTACT_IF(__ARM_FEATURE_SVE2, _sve2))
#if defined(__ARM_FEATURE_SVE_BITS)
#define INTACT_SVE INTACT_JOIN(INTACT_IF(__ARM_FEATURE_SVE, _sve), __ARM_FEATURE_SVE_BITS, , , , , , )
#else
#define INTACT_SVE INTACT_IF(__ARM_FEATURE_SVE, _sve)
#endif
#define INTACT_ARM INTACT_JOIN(                                                                                   \
    INTACT_IF(__ARM_NEON__, _neon), INTACT_IF(__ARM_FEATURE_IDIV, g), INTACT_IF(__ARM_FEATURE_FMA, k),            \
    INTACT_IF(__ARM_FEATURE_SIMD32, q), INTACT_IF(__thumb__, u), INTACT_IF(__ARM_FEATURE_MVE, _mve), , )
#elif defined(__riscv)
#define INTACT_FEATURES INTACT_JOIN(                                                                              \
    INTACT_IF(__riscv_c, c), INTACT_IF(__riscv_v, v), INTACT_IF(__riscv_zba, _zba), INTACT_IF(__riscv_zbb, _zbb), \
    INTACT_IF(__riscv_zbc, _zbc), INTACT_IF(__riscv_zbs, _zbs), INTACT_IF(__riscv_zicond, _zicond),               \
    INTACT_IF(__riscv_zfh, _zfh))
#elif defined(__s390x__)
#define INTACT_FEATURES INTACT_JOIN(__ARCH__, INTACT_IF(__VX__, v), , , , , , )
#elif defined(__powerpc64__)
#define INTACT_FEATURES INTACT_JOIN(                                                                              \
    INTACT_IF(__ALTIVEC__, a), INTACT_IF(__VSX__, v), INTACT_IF(_ARCH_PWR6, f), INTACT_IF(_ARCH_PWR7, g),         \
    INTACT_IF(_ARCH_PWR8, h), INTACT_IF(_ARCH_PWR9, i), INTACT_IF(_ARCH_PWR10, j), INTACT_IF(__MMA__, m))
#elif defined(__wasm__)
#define INTACT_FEATURES INTACT_JOIN(                                                                              \
    INTACT_IF(__wasm_simd128__, v), INTACT_IF(__wasm_relaxed_simd__, r), INTACT_IF(__wasm_bulk_memory__, b),      \
    INTACT_IF(__wasm_nontrapping_fptoint__, n), INTACT_IF(__wasm_sign_ext__, s), INTACT_IF(__wasm_atomics__, a),  \
    INTACT_IF(__wasm_tail_call__, t), INTACT_IF(__wasm_multivalue__, m))
#else
#define INTACT_FEATURES
#endif
// clang-format on

#define INTACT_ABI INTACT_JOIN(v, INTACT_VERSION_MAJOR, _, INTACT_VERSION_MINOR, , , , )
#define INTACT_UNIT INTACT_JOIN(INTACT_ABI, _, INTACT_SET, _, INTACT_FEATURES, INTACT_EXCEPTION_MODE, , )
