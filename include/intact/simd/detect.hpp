#pragma once

#include <cstdint>
#include <tuple>

#include "intact/simd/isa.hpp"

#if INTACT_X86
#include <cpuid.h>
#endif
#if INTACT_AARCH64_LINUX
#include <sys/auxv.h>
#endif

// For programs that contain the kernels of several instruction sets and choose when they start. Only a translation unit
// that is compiled for the oldest processor may call this: in another one the compiler may use an instruction before
// the answer is known. Every function is inlined, so that none of another unit can take its place.

namespace intact {
inline namespace INTACT_UNIT {
namespace simd {

/// The instruction sets of isa::all, with all their flags, that the processor offers and whose registers the operating
/// system saves. A set without a flag of its own is offered where its parent is.
struct processor {
  bool sse2 = false;          ///< SSE2
  bool sse4_1 = false;        ///< SSE4.1
  bool avx2 = false;          ///< AVX2
  bool avx2_vnni = false;     ///< AVX2 and AVX-VNNI
  bool avx512bw = false;      ///< AVX-512 F, BW, CD, DQ and VL
  bool avx512vnni = false;    ///< those and VNNI
  bool avx512vbmi = false;    ///< those, IFMA and VBMI
  bool neon = false;          ///< of AArch64
  bool neon_dotprod = false;  ///< those of Armv8.2 with dot products
  bool neon_i8mm = false;     ///< those with products of 8-bit matrices

  /// Whether the processor offers a set.
  /// @{
  INTACT_INLINE constexpr bool offers(isa::scalar) const { return true; }
  INTACT_INLINE constexpr bool offers(isa::sse2) const { return sse2; }
  INTACT_INLINE constexpr bool offers(isa::sse4_1) const { return sse4_1; }
  INTACT_INLINE constexpr bool offers(isa::avx2) const { return avx2; }
  INTACT_INLINE constexpr bool offers(isa::avx2_vnni) const { return avx2_vnni; }
  INTACT_INLINE constexpr bool offers(isa::avx512bw) const { return avx512bw; }
  INTACT_INLINE constexpr bool offers(isa::avx512vnni) const { return avx512vnni; }
  INTACT_INLINE constexpr bool offers(isa::avx512vbmi) const { return avx512vbmi; }
  INTACT_INLINE constexpr bool offers(isa::neon) const { return neon; }
  INTACT_INLINE constexpr bool offers(isa::neon_dotprod) const { return neon_dotprod; }
  INTACT_INLINE constexpr bool offers(isa::neon_i8mm) const { return neon_i8mm; }
  /// @}
};

namespace detail {

/// Sets with compiler flags of their own are not mistaken for their parents.
template <class Isa>
concept told_from_parent = requires {
  static_cast<bool (processor::*)(Isa) const>(&processor::offers);
};
template <class... Isas>
INTACT_INLINE constexpr bool all_told_from_parents(const std::tuple<isa::scalar, Isas...>*) {
  return ((Isas::flags == Isas::parent::flags || told_from_parent<Isas>)&&...);
}
static_assert(all_told_from_parents(static_cast<const isa::all*>(nullptr)));

}  // namespace detail

#if INTACT_X86

namespace detail {

/// The registers after cpuid; zeros if the processor does not know the leaf.
struct cpuid_answer {
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
};

INTACT_INLINE cpuid_answer cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  cpuid_answer answer;
  __get_cpuid_count(leaf, subleaf, &answer.a, &answer.b, &answer.c, &answer.d);
  return answer;
}

/// The kinds of registers that the operating system saves, a bit for each. The intrinsic would need a compiler flag.
INTACT_INLINE std::uint32_t saved_registers() {
  std::uint32_t low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

INTACT_INLINE constexpr bool has_bits(std::uint32_t word, std::uint32_t bits) {
  return (word & bits) == bits;
}

INTACT_INLINE processor detect_x86() {
  constexpr std::uint32_t sse2 = 1u << 26;  // leaf 1, d; every processor of x86-64 has it
  constexpr std::uint32_t sse4_1 = 1u << 19, avx = 1u << 28, xgetbv = 1u << 27;  // leaf 1, c
  constexpr std::uint32_t popcnt = 1u << 23;  // the same; compilers take it for a part of AVX2
  constexpr std::uint32_t avx2 = 1u << 5;     // leaf 7, b
  constexpr std::uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // the same: f, dq, cd, bw, vl
  constexpr std::uint32_t avx512ifma = 1u << 21;                                          // the same
  constexpr std::uint32_t avx512vnni = 1u << 11, avx512vbmi = 1u << 1;                    // leaf 7, c
  constexpr std::uint32_t avx_vnni = 1u << 4;                                             // leaf 7, subleaf 1, a
  constexpr std::uint32_t xmm_ymm = 1u << 1 | 1u << 2, masks_zmm = 1u << 5 | 1u << 6 | 1u << 7;
  const cpuid_answer first = cpuid(1, 0);
  const cpuid_answer seventh = cpuid(7, 0);
  const cpuid_answer more = seventh.a >= 1 ? cpuid(7, 1) : cpuid_answer{};
  const std::uint32_t saved = has_bits(first.c, xgetbv) ? saved_registers() : 0;
  processor found;
  found.sse2 = has_bits(first.d, sse2);
  found.sse4_1 = found.sse2 && has_bits(first.c, sse4_1);
  found.avx2 = has_bits(first.c, avx | popcnt) && has_bits(seventh.b, avx2) && has_bits(saved, xmm_ymm);
  found.avx2_vnni = found.avx2 && has_bits(more.a, avx_vnni);
  found.avx512bw = found.avx2 && has_bits(seventh.b, avx512) && has_bits(saved, masks_zmm);
  found.avx512vnni = found.avx512bw && has_bits(seventh.c, avx512vnni);
  found.avx512vbmi = found.avx512vnni && has_bits(seventh.b, avx512ifma) && has_bits(seventh.c, avx512vbmi);
  return found;
}

}  // namespace detail

#endif

/// The sets that this processor offers. On AArch64 other than Linux: only those that every processor has.
INTACT_INLINE processor detect() {
  processor found;
#if INTACT_X86
  found = detail::detect_x86();
#endif
#if INTACT_AARCH64
  found.neon = true;
#endif
#if INTACT_AARCH64_LINUX
  found.neon_dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  found.neon_i8mm = found.neon_dotprod && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#endif
  return found;
}

}  // namespace simd
}  // namespace INTACT_UNIT
}  // namespace intact
