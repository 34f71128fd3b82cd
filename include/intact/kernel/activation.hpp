#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "intact/kernel/masked_row.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/simd/lut12.hpp"
#include "intact/types/row_range.hpp"

// Functions by table. 256 entries: in registers where there is a shuffle of bytes, else by one load per code. 4,096
// entries, which fit the L1 cache: by shuffles or by one load per code.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// One load per code, several codes at a time.
template <class Isa, class Code>
INTACT_INLINE void activation_row(const Code* codes, index_t count, const std::uint8_t* table, std::uint8_t* y) {
  constexpr index_t unrolled = 8;
  const index_t whole = count / unrolled * unrolled;
  for (index_t j = 0; j < whole; j += unrolled) {
    std::uint8_t entries[unrolled];
    INTACT_UNROLL
    for (index_t i = 0; i < unrolled; ++i) {
      entries[i] = table[codes[j + i]];
    }
    std::memcpy(y + j, entries, sizeof entries);
  }
  for (index_t j = whole; j < count; ++j) {
    y[j] = table[codes[j]];
  }
}

/// A range of rows of 8-bit codes.
template <class Isa>
void activation(matrix_view<const std::uint8_t> codes, const std::uint8_t* table, matrix_view<std::uint8_t> y,
                row_range rows) noexcept {
  if constexpr (!simd::has_byte_lookup<Isa>) {
    for (index_t i = rows.begin; i < rows.end; ++i) {
      activation_row<Isa>(codes.data + i * codes.stride, codes.columns, table, y.data + i * y.stride);
    }
  } else {
    const simd::byte_table<Isa> entries(table);
    for (index_t i = rows.begin; i < rows.end; ++i) {
      transform_row<Isa>(code_row{codes.data + i * codes.stride, codes.columns}, entries, y, i);
    }
  }
}

/// The same by shuffles, for as many codes as make N registers of bytes.
template <class Isa, unsigned N, class Table>
INTACT_INLINE void shuffle_activation(const std::uint16_t* codes, const Table& table, std::uint8_t* y) {
  using bytes = simd::bytes<Isa>;
  typename bytes::batch entries[N];
  table.lookup(codes, entries);
  INTACT_UNROLL
  for (unsigned i = 0; i < N; ++i) {
    bytes::store(entries[i], y + i * bytes::width);
  }
}

/// A range of rows of 12-bit codes by shuffles: four registers at a time, then one, and the rest by loads.
template <class Isa, class Table>
INTACT_INLINE void shuffle_activation_rows(matrix_view<const std::uint16_t> codes, const Table& table,
                                           const std::uint8_t* entries, matrix_view<std::uint8_t> y, row_range rows) {
  constexpr index_t width = simd::bytes<Isa>::width;
  for (index_t i = rows.begin; i < rows.end; ++i) {
    const std::uint16_t* const row = codes.data + i * codes.stride;
    std::uint8_t* const to = y.data + i * y.stride;
    index_t j = 0;
    for (; j + 4 * width <= codes.columns; j += 4 * width) {
      shuffle_activation<Isa, 4>(row + j, table, to + j);
    }
    for (; j + width <= codes.columns; j += width) {
      shuffle_activation<Isa, 1>(row + j, table, to + j);
    }
    activation_row<Isa>(row + j, codes.columns - j, entries, to + j);
  }
}

/// A range of rows of 12-bit codes.
template <class Isa>
void activation(matrix_view<const std::uint16_t> codes, const std::uint8_t* table, matrix_view<std::uint8_t> y,
                row_range rows) noexcept {
  if constexpr (simd::lut12<Isa>::exists) {
    const simd::lut12_step<Isa> stepped(table);
    if (stepped.fits) {
      shuffle_activation_rows<Isa>(codes, stepped, table, y, rows);
    } else {
      alignas(64) std::uint8_t aligned[std::size_t{1} << 12];
      std::memcpy(aligned, table, sizeof aligned);
      shuffle_activation_rows<Isa>(codes, simd::lut12<Isa>(aligned), table, y, rows);
    }
  } else {
    for (index_t i = rows.begin; i < rows.end; ++i) {
      activation_row<Isa>(codes.data + i * codes.stride, codes.columns, table, y.data + i * y.stride);
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
