#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/epilogue.hpp"
#include "intact/kernel/row.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Sums of all rows, a group of channels at a time.
template <class Isa, class Code, class Stage>
void average_pool(const matrix_view<const Code>& x, const Stage& stage,
                  const matrix_view<typename Stage::output>& y) noexcept {
  for_each_group<Isa>(x.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t c, index_t count) {
    s32<Isa> sums[1][N];
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      sums[0][j] = simd::broadcast<Isa>(0);
    }
    for (index_t t = 0; t < x.rows; ++t) {
      s32<Isa> codes[N];
      load_row<Isa>(x.data + t * x.stride + c, count, codes);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        sums[0][j] = simd::add<Isa>(sums[0][j], codes[j]);
      }
    }
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      simd::optimization_barrier(sums[0][j]);
    }
    epilogue<Isa, Stage>::run(stage, sums, {.m = 0, .n = c, .columns = count}, y);
  });
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
