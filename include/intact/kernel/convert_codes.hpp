#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/epilogue.hpp"
#include "intact/kernel/row.hpp"
#include "intact/types/row_range.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// A range of rows: codes in the place of accumulators.
template <class Isa, class Stage>
void convert_codes(const matrix_view<const std::uint8_t>& x, const Stage& stage,
                   const matrix_view<typename Stage::output>& y, row_range rows) noexcept {
  for_each_group<Isa>(x.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t c, index_t count) {
    for (index_t i = rows.begin; i < rows.end; ++i) {
      s32<Isa> codes[1][N];
      load_row<Isa>(x.data + i * x.stride + c, count, codes[0]);
      epilogue<Isa, Stage>::run(stage, codes, {.m = i, .n = c, .columns = count}, y);
    }
  });
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
