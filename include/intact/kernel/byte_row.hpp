#pragma once

#include <cstddef>
#include <cstdint>

#include "intact/simd/bytes.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/view.hpp"

// Rows of codes in registers of bytes.

namespace intact::inline INTACT_ABI::kernel {

/// The row's largest code.
template <class Isa>
INTACT_INLINE int largest_code(const std::uint8_t* codes, index count) {
  if constexpr (simd::lanes<Isa> == 1) {
    int largest = 0;
    for (index j = 0; j < count; ++j) {
      largest = codes[j] > largest ? codes[j] : largest;
    }
    return largest;
  } else {
    using bytes = simd::bytes<Isa>;
    auto largest = bytes::broadcast(0);
    index j = 0;
    for (; j + bytes::width <= count; j += bytes::width) {
      largest = bytes::max(largest, bytes::load(codes + j));
    }
    if (j < count) {
      largest = bytes::max(largest, bytes::load_part(codes + j, count - j));
    }
    return bytes::largest(largest);
  }
}

/// Stores a register of codes, or its first `count` ones, as u8.
template <class Isa, class Batch>
INTACT_INLINE void store_codes(Batch codes, const matrix_view<std::uint8_t>& to, index i, index j, index count) {
  using bytes = simd::bytes<Isa>;
  std::uint8_t* const place = to.data + i * to.stride + j;
  if (count >= bytes::width) {
    bytes::store(codes, place);
  } else {
    bytes::store_part(codes, place, count);
  }
}

/// The same as packed u4; what pads an odd row is 0.
template <class Isa, class Batch>
INTACT_INLINE void store_codes(Batch codes, const packed_view<u4, std::uint8_t>& to, index i, index j, index count) {
  using bytes = simd::bytes<Isa>;
  std::uint8_t* const place = to.data + (i * to.stride + j) / 2;
  if (count >= bytes::width) {
    bytes::nibbles(codes, place);
  } else {
    alignas(64) std::uint8_t part[static_cast<std::size_t>(bytes::width)] = {};
    bytes::store_part(codes, part, count);
    bytes::nibbles(bytes::load(part), part);
    simd::detail::copy_few<bytes::width>(part, place, packed_bytes(count));
  }
}

/// Row i of `to` becomes f of the codes, register by register.
template <class Isa, class Function, class Codes>
INTACT_INLINE void transform_row(const std::uint8_t* codes, index count, const Function& f, const Codes& to, index i) {
  using bytes = simd::bytes<Isa>;
  index j = 0;
  for (; j + bytes::width <= count; j += bytes::width) {
    store_codes<Isa>(f(bytes::load(codes + j)), to, i, j, bytes::width);
  }
  if (j < count) {
    store_codes<Isa>(f(bytes::load_part(codes + j, count - j)), to, i, j, count - j);
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
