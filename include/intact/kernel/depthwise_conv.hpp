#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/epilogue.hpp"
#include "intact/kernel/row.hpp"
#include "intact/types/depthwise_weights.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/row_range.hpp"
#include "intact/types/token_grid.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// s8 weights, read as bytes, as registers widen those; the shifts restore their signs.
template <class Isa, unsigned N>
INTACT_INLINE void load_weights(const std::int8_t* from, index_t count, s32<Isa> (&to)[N]) {
  load_row<Isa>(reinterpret_cast<const std::uint8_t*>(from), count, to);
  INTACT_UNROLL
  for (unsigned n = 0; n < N; ++n) {
    to[n] = simd::mul_shift<Isa>::shift_right(simd::mul_shift<Isa>::shift_left(to[n], 24), 24);
  }
}

template <class Isa, unsigned N>
INTACT_INLINE void multiply_add(const s32<Isa> (&codes)[N], const s32<Isa> (&weights)[N], s32<Isa> (&sums)[N]) {
  INTACT_UNROLL
  for (unsigned n = 0; n < N; ++n) {
    sums[n] = simd::add<Isa>(sums[n], simd::multiply<Isa>(codes[n], weights[n]));
  }
}

/// The sums of token at.m for at.columns channels from at.n on.
template <class Isa, unsigned N>
INTACT_INLINE void depthwise_sums(const quantized_matrix& x, const token_grid& grid, const depthwise_weights& w,
                                  const tile_place& at, s32<Isa> (&sums)[N]) {
  const index_t i = at.m / grid.width, j = at.m % grid.width;
  const index_t reach = w.size / 2;
  INTACT_UNROLL
  for (unsigned n = 0; n < N; ++n) {
    sums[n] = simd::broadcast<Isa>(0);
  }
  for (index_t dy = 0; dy < w.size; ++dy) {
    for (index_t dx = 0; dx < w.size; ++dx) {
      const index_t row = i + dy - reach, column = j + dx - reach;
      s32<Isa> weights[N], codes[N];
      load_weights<Isa>(w.taps.data + (dy * w.size + dx) * w.taps.stride + at.n, at.columns, weights);
      if (row >= 0 && row < grid.height && column >= 0 && column < grid.width) {
        load_row<Isa>(x.codes.data + (row * grid.width + column) * x.codes.stride + at.n, at.columns, codes);
      } else {
        INTACT_UNROLL
        for (unsigned n = 0; n < N; ++n) {
          codes[n] = simd::broadcast<Isa>(x.zero_point);
        }
      }
      multiply_add<Isa>(codes, weights, sums);
    }
  }
  INTACT_UNROLL
  for (unsigned n = 0; n < N; ++n) {
    simd::optimization_barrier(sums[n]);
  }
}

/// A range of tokens, a group of channels at a time.
template <class Isa, class Stage>
void depthwise_conv(const quantized_matrix& x, const token_grid& grid, const depthwise_weights& w, const Stage& stage,
                    const matrix_view<typename Stage::output>& y, row_range tokens) noexcept {
  for_each_group<Isa>(x.codes.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t c, index_t count) {
    for (index_t token = tokens.begin; token < tokens.end; ++token) {
      const tile_place at{.m = token, .n = c, .columns = count};
      s32<Isa> sums[1][N];
      depthwise_sums<Isa>(x, grid, w, at, sums[0]);
      epilogue<Isa, Stage>::run(stage, sums, at, y);
    }
  });
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
