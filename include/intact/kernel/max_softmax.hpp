#pragma once

#include <cstdint>

#include "intact/kernel/masked_row.hpp"
#include "intact/simd/byte_table.hpp"
#include "intact/types/attention_codes.hpp"
#include "intact/types/key_mask.hpp"
#include "intact/types/row_range.hpp"

// Softmax relative to the row's maximum: a maximum, a difference and a table lookup, in bytes.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// A range of rows. Masked keys become `masked`.
template <class Isa, bool Masked, class Codes>
INTACT_INLINE void max_softmax_rows(matrix_view<const std::uint8_t> logits, const std::uint8_t* table,
                                    const key_mask& mask, std::uint8_t masked, const Codes& y, row_range rows) {
  const auto row = [&](index_t i) {
    return code_row{
        .codes = logits.data + i * logits.stride, .count = logits.columns, .visible = Masked ? mask.row(i) : nullptr};
  };
  if constexpr (!simd::is_vector<Isa>) {
    for (index_t i = rows.begin; i < rows.end; ++i) {
      const code_row x = row(i);
      const int largest = max_code<Isa, Masked>(x);
      for (index_t j = 0; j < logits.columns; ++j) {
        store_code(y, i, j, Masked && x.visible[j] == 0 ? masked : table[largest - x.codes[j]]);
      }
    }
  } else {
    using bytes = simd::bytes<Isa>;
    const simd::byte_table<Isa> entries(table);
    for (index_t i = rows.begin; i < rows.end; ++i) {
      const code_row x = row(i);
      const auto largest = bytes::broadcast(static_cast<std::uint8_t>(max_code<Isa, Masked>(x)));
      const auto entry = [&](auto codes) { return entries(bytes::subtract(largest, codes)); };
      transform_row<Isa, Masked>(x, entry, y, i, masked);
    }
  }
}

template <class Isa, class Codes>
void max_softmax(matrix_view<const std::uint8_t> logits, const std::uint8_t* table, const Codes& y,
                 row_range rows) noexcept {
  max_softmax_rows<Isa, false>(logits, table, {}, 0, y, rows);
}

template <class Isa>
void max_softmax(matrix_view<const std::uint8_t> logits, const std::uint8_t* table, const key_mask& mask,
                 std::uint8_t masked, matrix_view<std::uint8_t> y, row_range rows) noexcept {
  max_softmax_rows<Isa, true>(logits, table, mask, masked, y, rows);
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
