#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/arith/integer_math.hpp"
#include "intact/kernel/row.hpp"
#include "intact/simd/moments.hpp"
#include "intact/simd/rescale.hpp"
#include "intact/types/layernorm.hpp"

// LayerNorm in two passes over a block of rows, which stays in the cache: one for each row's sum and sum of squares,
// and one for the output. In between there are a square root and a division per row. The second pass goes through the
// channels group by group; what belongs to a group is prepared once for all rows of the block.

namespace intact::inline INTACT_ABI::kernel {

/// Rows of a block.
inline constexpr index layernorm_block_rows = 16;

/// The fast body's limits. Up to so many channels |z| is at most about 2^6 * 2^24, and simd::moments hold their sums;
/// from this shift on the output is the upper half of a 64-bit sum, shifted.
inline constexpr index layernorm_fast_channels = 4096;
inline constexpr int layernorm_fast_output_shift = 32;

/// What a row's values go through: z = ((C * x - sum) * reciprocal + (1 << (shift - 1))) >> shift.
struct layernorm_row {
  std::int64_t sum;
  std::int32_t reciprocal;
  int shift;
};

template <class Isa>
INTACT_INLINE layernorm_row layernorm_row_of(index channels, std::int64_t sum, std::uint64_t squares,
                                             std::uint64_t epsilon) {
  const std::uint64_t variance =
      static_cast<std::uint64_t>(channels) * squares - static_cast<std::uint64_t>(sum * sum) + epsilon;
  const int half_length = (bit_length(variance) + 1) / 2;
  const std::uint64_t deviation = integer_sqrt(variance << (62 - 2 * half_length));
  const std::uint64_t reciprocal = ((std::uint64_t{1} << 61) - 1) / deviation;
  return {sum, static_cast<std::int32_t>(reciprocal), 6 + half_length};
}

/// Channels of the input: (code - zero_point) * 2^shift.
template <class Code>
struct layernorm_input {
  matrix_view<const Code> codes;
  int zero_point;
  const std::uint8_t* shift;

  INTACT_INLINE std::int64_t operator()(index row, index c) const {
    return (std::int64_t{codes.data[row * codes.stride + c]} - zero_point) << shift[c];
  }
};

/// Sums of a row, channel by channel from `first` on.
template <class Isa, class Code>
INTACT_INLINE void add_to_sums(const layernorm_input<Code>& x, index row, index first, std::int64_t& sum,
                               std::uint64_t& squares) {
  for (index c = first; c < x.codes.columns; ++c) {
    const std::int64_t value = x(row, c);
    sum += value;
    squares += static_cast<std::uint64_t>(value * value);
  }
}

/// The operation for all channel counts and output shifts, in plain integers.
template <class Isa, class Code>
void layernorm_plain(const layernorm_input<Code>& x, const layernorm_parameters& p, matrix_view<std::uint8_t> y) {
  const index channels = x.codes.columns;
  const std::int32_t* const gain = p.gain.data();
  const std::int64_t* const bias = p.bias.data();
  for (index row = 0; row < x.codes.rows; ++row) {
    std::int64_t sum = 0;
    std::uint64_t squares = 0;
    add_to_sums<Isa>(x, row, 0, sum, squares);
    const layernorm_row r = layernorm_row_of<Isa>(channels, sum, squares, p.epsilon);
    const std::int64_t half = std::int64_t{1} << (r.shift - 1);
    for (index c = 0; c < channels; ++c) {
      const std::int64_t z = ((channels * x(row, c) - sum) * r.reciprocal + half) >> r.shift;
      const std::int64_t code = (z * gain[c] + bias[c]) >> p.output_shift;
      y.data[row * y.stride + c] = static_cast<std::uint8_t>(code < 0 ? 0 : code > 255 ? 255 : code);
    }
  }
}

/// The first pass: what the second one needs to know of `Rows` rows from `first_row` on.
template <class Isa, unsigned Rows, class Code>
INTACT_INLINE void layernorm_statistics(const layernorm_input<Code>& x, std::uint64_t epsilon, index first_row,
                                        layernorm_row* rows) {
  using moments = simd::moments<Isa, Code>;
  const index channels = x.codes.columns;
  const index whole = channels / moments::width * moments::width;
  const typename moments::row row = moments::row_of(x.zero_point);
  moments sums[Rows];
  for (index c = 0; c < whole; c += moments::width) {
    const typename moments::factors factors = moments::factors_of(x.shift + c);
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      sums[r].add(x.codes.data + (first_row + r) * x.codes.stride + c, row, factors);
    }
  }
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    std::int64_t sum = sums[r].sum();
    std::uint64_t squares = sums[r].squares();
    add_to_sums<Isa>(x, first_row + r, whole, sum, squares);
    rows[r] = layernorm_row_of<Isa>(channels, sum, squares, epsilon);
  }
}

/// The second pass, for all rows of a block and N registers of channels from `c` on, of which `count` exist.
template <class Isa, unsigned N, class Code>
INTACT_INLINE void layernorm_group(const layernorm_input<Code>& x, const layernorm_parameters& p,
                                   const layernorm_row* rows, index c, index count, matrix_view<std::uint8_t> y) {
  using rescaler = simd::rescaler<Isa>;
  const s32<Isa> zero_point = simd::broadcast<Isa>(x.zero_point);
  const s32<Isa> channels = simd::broadcast<Isa>(static_cast<std::int32_t>(x.codes.columns));
  s32<Isa> factor[N];
  load_row<Isa>(x.shift + c, count, factor);
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    factor[j] = simd::multiply<Isa>(simd::power_of_two<Isa>(factor[j]), channels);
  }
  typename rescaler::factors scale[N];
  load_factors<Isa>(p.gain.data() + c, p.bias.data() + c, count, scale);
  for (index r = 0; r < x.codes.rows; ++r) {
    const auto rounding = rescaler::rounding_by(rows[r].reciprocal, rows[r].shift);
    const s32<Isa> sum = simd::broadcast<Isa>(static_cast<std::int32_t>(rows[r].sum));
    s32<Isa> value[N];
    load_row<Isa>(x.codes.data + r * x.codes.stride + c, count, value);
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      const s32<Isa> scaled = simd::multiply<Isa>(simd::subtract<Isa>(value[j], zero_point), factor[j]);
      const s32<Isa> high = rescaler::round_high(simd::subtract<Isa>(scaled, sum), rounding, scale[j]);
      value[j] = rescaler::right(high, p.output_shift - layernorm_fast_output_shift);
    }
    store_row<Isa>(value, y.data + r * y.stride + c, count);
  }
}

/// One block of rows.
template <class Isa, class Code>
INTACT_INLINE void layernorm_block(const layernorm_input<Code>& x, const layernorm_parameters& p,
                                   matrix_view<std::uint8_t> y) {
  constexpr unsigned together = std::is_same_v<Code, std::uint8_t> ? 4 : 2;
  layernorm_row rows[layernorm_block_rows];
  index r = 0;
  for (; r + together <= x.codes.rows; r += together) {
    layernorm_statistics<Isa, together>(x, p.epsilon, r, rows + r);
  }
  for (; r < x.codes.rows; ++r) {
    layernorm_statistics<Isa, 1>(x, p.epsilon, r, rows + r);
  }
  for_each_group<Isa>(x.codes.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index c, index count) {
    layernorm_group<Isa, N>(x, p, rows, c, count, y);
  });
}

/// Rows [begin, end).
template <class Isa, class Code>
void layernorm(matrix_view<const Code> codes, const layernorm_parameters& p, matrix_view<std::uint8_t> y, index begin,
               index end) noexcept {
  const auto rows = [&](index first, index count) {
    return layernorm_input<Code>{codes.row_block(first, count), p.zero_point, p.shift.data()};
  };
  if constexpr (simd::lanes < Isa >> 1) {
    if (codes.columns <= layernorm_fast_channels && p.output_shift >= layernorm_fast_output_shift) {
      for (index first = begin; first < end; first += layernorm_block_rows) {
        const index count = end - first < layernorm_block_rows ? end - first : layernorm_block_rows;
        layernorm_block<Isa>(rows(first, count), p, y.row_block(first, count));
      }
      return;
    }
  }
  layernorm_plain<Isa>(rows(begin, end - begin), p, y.row_block(begin, end - begin));
}

}  // namespace intact::inline INTACT_ABI::kernel
