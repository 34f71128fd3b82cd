#pragma once

#include <cstdint>

#include "intact/kernel/byte_row.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/types/attention_codes.hpp"

// Softmax relative to the row's maximum: the maximum, a difference and a table, all in bytes.

namespace intact::inline INTACT_ABI::kernel {

/// Rows [begin, end).
template <class Isa, class Codes>
void max_softmax(matrix_view<const std::uint8_t> logits, const std::uint8_t* table, const Codes& y, index begin,
                 index end) noexcept {
  const auto row = [&](index i) { return logits.data + i * logits.stride; };
  if constexpr (simd::lanes<Isa> == 1) {
    for (index i = begin; i < end; ++i) {
      const int largest = largest_code<Isa>(row(i), logits.columns);
      for (index j = 0; j < logits.columns; ++j) {
        store_code(y, i, j, table[largest - row(i)[j]]);
      }
    }
  } else {
    using bytes = simd::bytes<Isa>;
    const simd::byte_table<Isa> entries(table);
    for (index i = begin; i < end; ++i) {
      const auto largest = bytes::broadcast(static_cast<std::uint8_t>(largest_code<Isa>(row(i), logits.columns)));
      const auto entry = [&](auto codes) { return entries(bytes::subtract(largest, codes)); };
      transform_row<Isa>(row(i), logits.columns, entry, y, i);
    }
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
