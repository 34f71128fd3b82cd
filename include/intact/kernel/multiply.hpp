#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/epilogue.hpp"
#include "intact/kernel/row.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/row_range.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// A range of rows: products in the place of accumulators.
template <class Isa, class Stage>
void multiply(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
              const matrix_view<typename Stage::output>& y, row_range rows) noexcept {
  const s32<Isa> a_zero_point = simd::broadcast<Isa>(a.zero_point);
  const s32<Isa> b_zero_point = simd::broadcast<Isa>(b.zero_point);
  for (index_t i = rows.begin; i < rows.end; ++i) {
    for_each_group<Isa>(y.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t c, index_t count) {
      s32<Isa> products[1][N], factors[N];
      load_row<Isa>(a.codes.data + i * a.codes.stride + c, count, products[0]);
      load_row<Isa>(b.codes.data + i * b.codes.stride + c, count, factors);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        products[0][j] = simd::multiply<Isa>(simd::subtract<Isa>(products[0][j], a_zero_point),
                                             simd::subtract<Isa>(factors[j], b_zero_point));
      }
      epilogue<Isa, Stage>::run(stage, products, {.m = i, .n = c, .columns = count}, y);
    });
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
