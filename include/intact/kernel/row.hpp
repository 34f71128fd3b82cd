#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "intact/simd/narrow.hpp"
#include "intact/simd/rescale.hpp"

// Pieces of a matrix row in registers of 32-bit lanes.

namespace intact::inline INTACT_ABI::kernel {

using simd::s32;

/// `count` elements for N registers; what lies behind them is not read.
template <class Isa, class T, unsigned N>
INTACT_INLINE void load_row(const T* from, index count, s32<Isa> (&to)[N]) {
  alignas(64) T copy[static_cast<std::size_t>(N * simd::lanes<Isa>)];
  if (count < N * simd::lanes<Isa>) {
    std::memset(copy, 0, sizeof copy);
    std::memcpy(copy, from, static_cast<std::size_t>(count) * sizeof(T));
    from = copy;
  }
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    to[j] = simd::widen<Isa>(from + j * simd::lanes<Isa>);
  }
}

/// The same for multipliers and offsets.
template <class Isa, unsigned N>
INTACT_INLINE void load_factors(const std::int32_t* multiplier, const std::int64_t* offset, index count,
                                typename simd::rescaler<Isa>::factors (&to)[N]) {
  constexpr index width = N * simd::lanes<Isa>;
  alignas(64) std::int32_t multiplier_copy[static_cast<std::size_t>(width)];
  alignas(64) std::int64_t offset_copy[static_cast<std::size_t>(width)];
  if (count < width) {
    std::memset(multiplier_copy, 0, sizeof multiplier_copy);
    std::memset(offset_copy, 0, sizeof offset_copy);
    std::memcpy(multiplier_copy, multiplier, static_cast<std::size_t>(count) * sizeof *multiplier);
    std::memcpy(offset_copy, offset, static_cast<std::size_t>(count) * sizeof *offset);
    multiplier = multiplier_copy;
    offset = offset_copy;
  }
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    to[j] = simd::rescaler<Isa>::load(multiplier + j * simd::lanes<Isa>, offset + j * simd::lanes<Isa>);
  }
}

template <class Isa, class Out, unsigned N>
INTACT_INLINE void store_row(const s32<Isa> (&from)[N], Out* to, index count) {
  if (N * simd::lanes<Isa> == 1 || count == N * simd::lanes<Isa>) {
    simd::narrow<Isa>(from, to);
  } else {
    simd::narrow<Isa>(from, to, count);
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
