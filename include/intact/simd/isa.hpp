#pragma once

#include <string_view>
#include <tuple>
#include <type_traits>

#include "intact/config/compiler.hpp"

// Tags of instruction sets. Everything that can contain SIMD code takes one as a template argument. This is the list:
// cmake/isas.cmake, the tests and the documents are checked against it.
//
// A tag inherits from the set that it extends. A primitive of simd/ without a specialization for a set is that of its
// parent, and so is each constant of the tag that it does not define itself; isa::scalar describes the constants.
// Tiles have up to 6 rows: of 4 accumulators they use 24 of 32 registers, of 2 they use 12 of 16. Sets that add
// products with s4 weights in 16 bits (s4_dot.hpp) multiply bytes and add pairs of products, but have no byte dot
// product.

namespace intact {
inline namespace INTACT_ABI {
namespace isa {

/// A set that extends another one.
template <class Parent>
struct extends : Parent {
  using parent = Parent;  ///< the set that it extends; isa::scalar has none
};

/// Plain C++, on any processor.
struct scalar {
  static constexpr std::string_view name = "scalar";  ///< the tag's own name
  static constexpr std::string_view family = "any";   ///< processors that may have it: "any", "x86" or "aarch64"
  static constexpr std::string_view flags = "";       ///< compiler flags that allow it
  static constexpr bool compiled = true;              ///< whether the flags of this translation unit do
  static constexpr int register_bits = 32;            ///< of the registers that kernels use
  static constexpr unsigned gemm_accumulators = 1;    ///< per row in the largest tile of a matrix product
  static constexpr bool adds_s4_in_16_bits = false;   ///< whether products with s4 weights are, for some steps
};

/// 128-bit registers; products widened to 16 bits. Every processor of x86-64 has it.
struct sse2 : extends<scalar> {
  static constexpr std::string_view name = "sse2";
  static constexpr std::string_view family = "x86";
  static constexpr std::string_view flags = "-msse2";
  static constexpr bool compiled = INTACT_HAS_SSE2;
  static constexpr int register_bits = 128;
  static constexpr unsigned gemm_accumulators = 2;
};

/// The same with signed products of 32 bits, conversions between widths and shuffles of bytes.
struct sse4_1 : extends<sse2> {
  static constexpr std::string_view name = "sse4_1";
  static constexpr std::string_view flags = "-msse4.1";
  static constexpr bool compiled = INTACT_HAS_SSE4_1;
  static constexpr bool adds_s4_in_16_bits = true;
};

/// 256-bit registers; products widened to 16 bits.
struct avx2 : extends<sse4_1> {
  static constexpr std::string_view name = "avx2";
  static constexpr std::string_view flags = "-mavx2";
  static constexpr bool compiled = INTACT_HAS_AVX2;
  static constexpr int register_bits = 256;
};

/// The same with a byte dot product.
struct avx2_vnni : extends<avx2> {
  static constexpr std::string_view name = "avx2_vnni";
  static constexpr std::string_view flags = "-mavx2 -mavxvnni";
  static constexpr bool compiled = INTACT_HAS_AVX2_VNNI;
  static constexpr bool adds_s4_in_16_bits = false;
};

/// 512-bit registers; products widened to 16 bits.
struct avx512bw : extends<avx2> {
  static constexpr std::string_view name = "avx512bw";
  static constexpr std::string_view flags = "-mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl";
  static constexpr bool compiled = INTACT_HAS_AVX512BW;
  static constexpr int register_bits = 512;
  static constexpr unsigned gemm_accumulators = 4;
  static constexpr bool adds_s4_in_16_bits = true;
};

/// The same with a byte dot product.
struct avx512vnni : extends<avx512bw> {
  static constexpr std::string_view name = "avx512vnni";
  static constexpr std::string_view flags = "-mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mavx512vnni";
  static constexpr bool compiled = INTACT_HAS_AVX512VNNI;
  static constexpr bool adds_s4_in_16_bits = false;
};

/// The same with tables of 128 bytes in two registers. xsimd 13 accepts -mavx512vbmi only with -mavx512ifma.
struct avx512vbmi : extends<avx512vnni> {
  static constexpr std::string_view name = "avx512vbmi";
  static constexpr std::string_view flags =
      "-mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mavx512vnni -mavx512ifma -mavx512vbmi";
  static constexpr bool compiled = INTACT_HAS_AVX512VBMI;
};

/// AArch64; products widened to 16 bits.
struct neon : extends<scalar> {
  static constexpr std::string_view name = "neon";
  static constexpr std::string_view family = "aarch64";
  static constexpr bool compiled = INTACT_HAS_NEON;
  static constexpr int register_bits = 128;
  static constexpr unsigned gemm_accumulators = 4;
  static constexpr bool adds_s4_in_16_bits = true;
};

/// The same with a signed byte dot product.
struct neon_dotprod : extends<neon> {
  static constexpr std::string_view name = "neon_dotprod";
  static constexpr std::string_view flags = "-march=armv8.2-a+dotprod";
  static constexpr bool compiled = INTACT_HAS_NEON_DOTPROD;
  static constexpr bool adds_s4_in_16_bits = false;
};

/// The same with an unsigned x signed byte dot product.
struct neon_i8mm : extends<neon_dotprod> {
  static constexpr std::string_view name = "neon_i8mm";
  static constexpr std::string_view flags = "-march=armv8.2-a+dotprod+i8mm";
  static constexpr bool compiled = INTACT_HAS_NEON_I8MM;
};

/// All tags, parents before children: from the least to the most capable of a family.
using all =
    std::tuple<scalar, sse2, sse4_1, avx2, avx2_vnni, avx512bw, avx512vnni, avx512vbmi, neon, neon_dotprod, neon_i8mm>;

namespace detail {

template <class... Isas>
constexpr auto compiled_of(std::tuple<Isas...>) {
  return std::tuple_cat(std::conditional_t<Isas::compiled, std::tuple<Isas>, std::tuple<>>{}...);
}

template <class Isa>
inline constexpr bool is_of_this_family = Isa::family == "any" || (INTACT_X86 && Isa::family == "x86") ||
                                          (INTACT_AARCH64 && Isa::family == "aarch64");
template <class... Isas>
constexpr auto of_this_family(std::tuple<Isas...>) {
  return std::tuple_cat(std::conditional_t<is_of_this_family<Isas>, std::tuple<Isas>, std::tuple<>>{}...);
}

}  // namespace detail

/// The tags that processors of the target's family may have.
using of_this_family = decltype(detail::of_this_family(all{}));

/// The tags whose code this translation unit may contain. A kernel for another one is a compile error.
using compiled = decltype(detail::compiled_of(all{}));

/// The most capable of them, the default of all operations.
using native = std::tuple_element_t<std::tuple_size_v<compiled> - 1, compiled>;

}  // namespace isa
}  // namespace INTACT_ABI
}  // namespace intact
