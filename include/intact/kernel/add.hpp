#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/row.hpp"
#include "intact/types/scale.hpp"

// Residual addition in 32-bit lanes. As sums wrap and the result fits, both zero points go into the offset.

namespace intact::inline INTACT_ABI::kernel {

/// N registers of channels from `c` on, of which `count` exist, in rows [begin, end).
template <class Isa, unsigned N>
INTACT_INLINE void add_group(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch,
                             const add_scale& scale, matrix_view<std::uint8_t> y, index begin, index end, index c,
                             index count) {
  s32<Isa> stream_multiplier[N], branch_multiplier[N], offset[N];
  load_row<Isa>(scale.stream_multiplier.data() + c, count, stream_multiplier);
  load_row<Isa>(scale.branch_multiplier.data() + c, count, branch_multiplier);
  load_row<Isa>(scale.offset.data() + c, count, offset);
  const s32<Isa> stream_zero_point = simd::broadcast<Isa>(scale.stream_zero_point);
  const s32<Isa> branch_zero_point = simd::broadcast<Isa>(scale.branch_zero_point);
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    offset[j] = simd::subtract<Isa>(offset[j], simd::multiply<Isa>(stream_zero_point, stream_multiplier[j]));
    offset[j] = simd::subtract<Isa>(offset[j], simd::multiply<Isa>(branch_zero_point, branch_multiplier[j]));
  }
  for (index i = begin; i < end; ++i) {
    s32<Isa> first[N], second[N];
    load_row<Isa>(stream.data + i * stream.stride + c, count, first);
    load_row<Isa>(branch.data + i * branch.stride + c, count, second);
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      const s32<Isa> sum = simd::add<Isa>(simd::multiply<Isa>(first[j], stream_multiplier[j]),
                                          simd::multiply<Isa>(second[j], branch_multiplier[j]));
      first[j] = simd::rescaler<Isa>::right(simd::add<Isa>(sum, offset[j]), scale.shift);
    }
    store_row<Isa>(first, y.data + i * y.stride + c, count);
  }
}

/// Rows [begin, end).
template <class Isa>
void add(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch, const add_scale& scale,
         matrix_view<std::uint8_t> y, index begin, index end) noexcept {
  for_each_group<Isa>(y.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index c, index count) {
    add_group<Isa, N>(stream, branch, scale, y, begin, end, c, count);
  });
}

}  // namespace intact::inline INTACT_ABI::kernel
