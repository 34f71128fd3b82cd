#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/simd/bytes.hpp"
#include "intact/simd/mul_shift.hpp"
#include "intact/simd/narrow.hpp"

// Pieces of a matrix row in registers of 32-bit lanes.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

using simd::s32;

/// The first `count` elements, followed by zeros. Nothing after them is read. Where loads take masks, whole registers
/// are stored, since a processor cannot forward several short stores to the one load that follows.
template <class Isa, class T, std::size_t Size>
INTACT_INLINE void copy_prefix(const T* from, index_t count, T (&to)[Size]) {
  using bytes = simd::bytes<Isa>;
  if constexpr (simd::has_masked_loads<Isa, sizeof(T) * Size>) {
    const auto* const source = reinterpret_cast<const std::uint8_t*>(from);
    auto* const copy = reinterpret_cast<std::uint8_t*>(to);
    INTACT_UNROLL
    for (index_t i = 0; i < static_cast<index_t>(sizeof(to)); i += bytes::width) {
      const index_t rest = count * static_cast<index_t>(sizeof(T)) - i;
      bytes::store(rest >= bytes::width ? bytes::load(source + i)
                   : rest > 0           ? bytes::load_part(source + i, rest)
                                        : bytes::broadcast(0),
                   copy + i);
    }
  } else {
    for (std::size_t i = 0; i < Size; ++i) {
      to[i] = static_cast<index_t>(i) < count ? from[i] : T{0};
    }
  }
}

/// `count` elements for N registers.
template <class Isa, class T, unsigned N>
INTACT_INLINE void load_row(const T* from, index_t count, s32<Isa> (&to)[N]) {
  alignas(64) T copy[static_cast<std::size_t>(N * simd::lanes<Isa>)];
  if (count < index_t{N} * simd::lanes<Isa>) {
    copy_prefix<Isa>(from, count, copy);
    from = copy;
  }
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    to[j] = simd::widen<Isa>(from + j * simd::lanes<Isa>);
  }
}

/// The same for multipliers and offsets.
template <class Isa, unsigned N>
INTACT_INLINE void load_factors(const std::int32_t* multiplier, const std::int64_t* offset, index_t count,
                                typename simd::mul_shift<Isa>::factors (&to)[N]) {
  constexpr index_t width = index_t{N} * simd::lanes<Isa>;
  alignas(64) std::int32_t multiplier_copy[static_cast<std::size_t>(width)];
  alignas(64) std::int64_t offset_copy[static_cast<std::size_t>(width)];
  if (count < width) {
    copy_prefix<Isa>(multiplier, count, multiplier_copy);
    copy_prefix<Isa>(offset, count, offset_copy);
    multiplier = multiplier_copy;
    offset = offset_copy;
  }
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    to[j] = simd::mul_shift<Isa>::load(multiplier + j * simd::lanes<Isa>, offset + j * simd::lanes<Isa>);
  }
}

template <class Isa, class Out, unsigned N>
INTACT_INLINE void store_row(const s32<Isa> (&from)[N], Out* to, index_t count) {
  if (constexpr index_t all = index_t{N} * simd::lanes<Isa>; all == 1 || count == all) {
    simd::narrow<Isa>(from, to);
  } else {
    simd::narrow<Isa>(from, to, count);
  }
}

/// Calls `group` with std::integral_constant N, a channel and a count for each group of channels: as many of four
/// registers as fit, then of two and of one; of the last one's lanes only `count` may exist.
template <class Isa, class Group>
INTACT_INLINE void for_each_group(index_t channels, const Group& group) {
  index_t c = 0;
  const auto all_of = [&]<unsigned N>(std::integral_constant<unsigned, N> registers) {
    constexpr index_t width = index_t{N} * simd::lanes<Isa>;
    for (; c + width <= channels; c += width) {
      group(registers, c, width);
    }
  };
  all_of(std::integral_constant<unsigned, 4>{});
  if constexpr (simd::is_vector<Isa>) {
    all_of(std::integral_constant<unsigned, 2>{});
  }
  all_of(std::integral_constant<unsigned, 1>{});
  if constexpr (simd::is_vector<Isa>) {  // a plain integer is never filled in part
    if (c < channels) {
      group(std::integral_constant<unsigned, 1>{}, c, channels - c);
    }
  }
}

/// Table entries at codes, at most Most, by scalar loads, which are faster than gathers.
template <index_t Most>
INTACT_INLINE void lookup(const std::uint16_t* codes, index_t count, const std::uint8_t* table, std::uint8_t* to) {
  constexpr index_t unrolled = 8;
  index_t j = 0;
  if constexpr (Most >= unrolled) {
    const index_t whole = count - count % unrolled;
    for (; j < whole; j += unrolled) {
      INTACT_UNROLL
      for (index_t i = 0; i < unrolled; ++i) {
        to[j + i] = table[codes[j + i]];
      }
    }
  }
  for (; j < count; ++j) {
    to[j] = table[codes[j]];
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
