#pragma once

#include <cstdint>
#include <type_traits>

#include "intact/kernel/row.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/rotation.hpp"
#include "intact/types/row_range.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// N registers of rotated codes, from a * x + b * y, rounded.
template <class Isa, unsigned N>
INTACT_INLINE void store_rotated(const s32<Isa> (&sums)[N], s32<Isa> offset, std::uint8_t* to, index_t count) {
  s32<Isa> codes[N];
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    codes[j] = simd::mul_shift<Isa>::shift_right(simd::add<Isa>(sums[j], offset), rotation_bits);
  }
  store_row<Isa>(codes, to, count);
}

/// A range of rows. Both channels of a pair are in registers before either is stored.
template <class Isa>
void rotate(const quantized_matrix& x, const rotation_parameters& p, const matrix_view<std::uint8_t>& y,
            row_range rows) noexcept {
  const index_t half = p.cosine.columns;
  const s32<Isa> zero_point = simd::broadcast<Isa>(x.zero_point);
  const s32<Isa> offset = simd::broadcast<Isa>((x.zero_point << rotation_bits) + (1 << (rotation_bits - 1)));
  for (index_t i = rows.begin; i < rows.end; ++i) {
    for (index_t head = 0; head < y.columns; head += 2 * half) {
      const std::uint8_t* const from = x.codes.data + i * x.codes.stride + head;
      std::uint8_t* const to = y.data + i * y.stride + head;
      for_each_group<Isa>(half, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t c, index_t count) {
        s32<Isa> first[N], second[N], cosine[N], sine[N], first_sum[N], second_sum[N];
        load_row<Isa>(from + c, count, first);
        load_row<Isa>(from + half + c, count, second);
        load_row<Isa>(p.cosine.data + i * p.cosine.stride + c, count, cosine);
        load_row<Isa>(p.sine.data + i * p.sine.stride + c, count, sine);
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          const s32<Isa> a = simd::subtract<Isa>(first[j], zero_point), b = simd::subtract<Isa>(second[j], zero_point);
          first_sum[j] = simd::subtract<Isa>(simd::multiply<Isa>(a, cosine[j]), simd::multiply<Isa>(b, sine[j]));
          second_sum[j] = simd::add<Isa>(simd::multiply<Isa>(b, cosine[j]), simd::multiply<Isa>(a, sine[j]));
        }
        store_rotated<Isa>(first_sum, offset, to + c, count);
        store_rotated<Isa>(second_sum, offset, to + half + c, count);
      });
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
