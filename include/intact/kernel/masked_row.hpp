#pragma once

#include <cstddef>
#include <cstdint>

#include "intact/simd/bytes.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/view.hpp"

// Loads, masks and stores a row of u8 codes in registers of bytes.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// A row of codes and its mask; all are visible without one.
struct code_row {
  const std::uint8_t* codes;
  index_t count;
  const std::uint8_t* visible = nullptr;
};

/// A register of codes from j on, or the rest of the row.
template <class Isa>
INTACT_INLINE auto load_codes(const std::uint8_t* row, index_t count, index_t j) {
  using bytes = simd::bytes<Isa>;
  return j + bytes::width <= count ? bytes::load(row + j) : bytes::load_part(row + j, count - j);
}

/// A register of which the largest byte is the row's largest visible code; 0 if there is none.
template <class Isa, bool Masked = false>
INTACT_INLINE auto max_codes(const code_row& row) {
  using bytes = simd::bytes<Isa>;
  auto largest = bytes::broadcast(0);
  const auto include = [&](index_t j) {
    auto codes = load_codes<Isa>(row.codes, row.count, j);
    if constexpr (Masked) {
      codes = bytes::select(load_codes<Isa>(row.visible, row.count, j), codes, bytes::broadcast(0));
    }
    largest = bytes::max(largest, codes);
  };
  index_t j = 0;
  for (; j + bytes::width <= row.count; j += bytes::width) {
    include(j);
  }
  if (j < row.count) {
    include(j == 0 ? 0 : row.count - bytes::width);  // overlaps the last register, instead of a partial one
  }
  return largest;
}

/// The row's largest visible code; 0 if there is none.
template <class Isa, bool Masked = false>
INTACT_INLINE int max_code(const code_row& row) {
  if constexpr (!simd::is_vector<Isa>) {
    int largest = 0;
    for (index_t j = 0; j < row.count; ++j) {
      largest = (!Masked || row.visible[j] != 0) && row.codes[j] > largest ? row.codes[j] : largest;
    }
    return largest;
  } else {
    return simd::bytes<Isa>::reduce_max(max_codes<Isa, Masked>(row));
  }
}

/// Stores a register of codes, or its first `count` ones, as u8.
template <class Isa, class Batch>
INTACT_INLINE void store_codes(Batch codes, const matrix_view<std::uint8_t>& to, index_t i, index_t j, index_t count) {
  using bytes = simd::bytes<Isa>;
  std::uint8_t* const place = to.data + i * to.stride + j;
  if (count >= bytes::width) {
    bytes::store(codes, place);
  } else {
    bytes::store_part(codes, place, count);
  }
}

/// The same as packed u4; the padding of an odd row is 0.
template <class Isa, class Batch>
INTACT_INLINE void store_codes(Batch codes, const packed_view<u4, std::uint8_t>& to, index_t i, index_t j,
                               index_t count) {
  using bytes = simd::bytes<Isa>;
  std::uint8_t* const place = to.data + (i * to.stride + j) / 2;
  if (count >= bytes::width) {
    bytes::store_u4(codes, place);
  } else {
    bytes::store_u4_part(codes, place, count);
  }
}

/// Row i of `to` becomes f of the codes, register by register, and `masked` where they are not visible.
template <class Isa, bool Masked = false, class Function, class Codes>
INTACT_INLINE void transform_row(const code_row& row, const Function& f, const Codes& to, index_t i,
                                 std::uint8_t masked = 0) {
  using bytes = simd::bytes<Isa>;
  for (index_t j = 0; j < row.count; j += bytes::width) {
    auto result = f(load_codes<Isa>(row.codes, row.count, j));
    if constexpr (Masked) {
      result = bytes::select(load_codes<Isa>(row.visible, row.count, j), result, bytes::broadcast(masked));
    }
    store_codes<Isa>(result, to, i, j, row.count - j);
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
