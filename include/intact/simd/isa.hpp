#pragma once

#include <string_view>
#include <tuple>
#include <type_traits>

#include "intact/config/compiler.hpp"

// Tags of instruction sets. Everything that can contain SIMD code takes one as a template argument.

namespace intact {
inline namespace INTACT_ABI {
namespace isa {

/// Plain C++, on any processor.
struct scalar {
  static constexpr std::string_view name = "scalar";
  static constexpr bool compiled = true;
};

/// 128-bit registers; products widened to 16 bits. Flags: -msse4.1.
struct sse4_1 {
  static constexpr std::string_view name = "sse4_1";
  static constexpr bool compiled = INTACT_HAS_SSE4_1;
};

/// 256-bit registers; products widened to 16 bits. Flags: -mavx2.
struct avx2 {
  static constexpr std::string_view name = "avx2";
  static constexpr bool compiled = INTACT_HAS_AVX2;
};

/// 256-bit registers with a byte dot product. Flags: -mavx2 -mavxvnni.
struct avx2_vnni {
  static constexpr std::string_view name = "avx2_vnni";
  static constexpr bool compiled = INTACT_HAS_AVX2_VNNI;
};

/// 512-bit registers; products widened to 16 bits. Flags: -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl.
struct avx512bw {
  static constexpr std::string_view name = "avx512bw";
  static constexpr bool compiled = INTACT_HAS_AVX512BW;
};

/// 512-bit registers with a byte dot product. Flags: those of avx512bw and -mavx512vnni.
struct avx512vnni {
  static constexpr std::string_view name = "avx512vnni";
  static constexpr bool compiled = INTACT_HAS_AVX512VNNI;
};

/// The same with tables of 128 bytes in two registers. Flags: those of avx512vnni, -mavx512vbmi, and -mavx512ifma,
/// without which xsimd 13 does not take the former.
struct avx512vbmi {
  static constexpr std::string_view name = "avx512vbmi";
  static constexpr bool compiled = INTACT_HAS_AVX512VBMI;
};

/// AArch64; products widened to 16 bits.
struct neon {
  static constexpr std::string_view name = "neon";
  static constexpr bool compiled = INTACT_HAS_NEON;
};

/// AArch64 with a signed byte dot product. Flags: -march=armv8.2-a+dotprod.
struct neon_dotprod {
  static constexpr std::string_view name = "neon_dotprod";
  static constexpr bool compiled = INTACT_HAS_NEON_DOTPROD;
};

/// AArch64 with an unsigned x signed byte dot product. Flags: -march=armv8.2-a+dotprod+i8mm.
struct neon_i8mm {
  static constexpr std::string_view name = "neon_i8mm";
  static constexpr bool compiled = INTACT_HAS_NEON_I8MM;
};

/// All tags, from the least to the most capable.
using all =
    std::tuple<scalar, sse4_1, avx2, avx2_vnni, avx512bw, avx512vnni, avx512vbmi, neon, neon_dotprod, neon_i8mm>;

namespace detail {

template <class... Isas>
constexpr auto compiled_of(std::tuple<Isas...>) {
  return std::tuple_cat(std::conditional_t<Isas::compiled, std::tuple<Isas>, std::tuple<>>{}...);
}

}  // namespace detail

/// The tags whose code this translation unit may contain. To name another one in a kernel is a compile error.
using compiled = decltype(detail::compiled_of(all{}));

/// The most capable of them: what operations use unless told otherwise.
using native = std::tuple_element_t<std::tuple_size_v<compiled> - 1, compiled>;

}  // namespace isa
}  // namespace INTACT_ABI
}  // namespace intact
