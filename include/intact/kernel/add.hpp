#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <type_traits>

#include "intact/kernel/row.hpp"
#include "intact/simd/bytes.hpp"
#include "intact/simd/weighted_sum.hpp"
#include "intact/types/row_range.hpp"
#include "intact/types/scale.hpp"

// Residual addition in 32-bit lanes. As sums wrap and the result fits, both zero points go into the offset.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Channels from `first` on.
struct channel_group {
  index_t first;
  index_t count;
};

/// N registers of channels, of which channels.count exist, in a range of rows.
template <class Isa, unsigned N>
INTACT_INLINE void add_group(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch,
                             const add_parameters& scale, matrix_view<std::uint8_t> y, row_range rows,
                             channel_group channels) {
  const index_t c = channels.first, count = channels.count;
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
  for (index_t i = rows.begin; i < rows.end; ++i) {
    s32<Isa> first[N], second[N];
    load_row<Isa>(stream.data + i * stream.stride + c, count, first);
    load_row<Isa>(branch.data + i * branch.stride + c, count, second);
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      const s32<Isa> sum = simd::add<Isa>(simd::multiply<Isa>(first[j], stream_multiplier[j]),
                                          simd::multiply<Isa>(second[j], branch_multiplier[j]));
      first[j] = simd::mul_shift<Isa>::shift_right(simd::add<Isa>(sum, offset[j]), scale.shift);
    }
    store_row<Isa>(first, y.data + i * y.stride + c, count);
  }
}

// With weighted sums of codes, factors of a block of channels are prepared on the stack.

/// Channels of a block.
inline constexpr index_t add_block_channels = 1024;

/// The factors of a register of channels from `first` on; the last channel is followed by the first one.
template <class Isa>
INTACT_INLINE auto add_factors(const add_parameters& scale, index_t first) {
  using sum = simd::weighted_sum<Isa>;
  const index_t channels = std::ssize(scale.offset);
  const std::int32_t* arrays[] = {scale.stream_multiplier.data(), scale.branch_multiplier.data(), scale.offset.data()};
  alignas(64) std::int32_t copies[3][static_cast<std::size_t>(sum::width)];
  for (int a = 0; a < 3; ++a) {
    if (first + sum::width <= channels) {
      arrays[a] += first;
      continue;
    }
    index_t c = first;
    for (std::int32_t& copy : copies[a]) {
      copy = arrays[a][c];
      c = c + 1 == channels ? 0 : c + 1;
    }
    arrays[a] = copies[a];
  }
  return sum::load(arrays[0], arrays[1], arrays[2], scale.stream_zero_point, scale.branch_zero_point);
}

/// All rows, at least one, of a register of channels, or of the y.columns ones that exist. Rows `ahead` below are
/// prefetched.
template <class Isa, bool Whole>
INTACT_INLINE void add_columns(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch,
                               const typename simd::weighted_sum<Isa>::factors& factors, int shift,
                               matrix_view<std::uint8_t> y, index_t ahead) {
  using bytes = simd::bytes<Isa>;
  using sum = simd::weighted_sum<Isa>;
  const std::uint8_t* first = stream.data;
  const std::uint8_t* second = branch.data;
  std::uint8_t* to = y.data;
  for (index_t left = y.rows;;) {
    simd::prefetch(first + ahead * stream.stride);
    simd::prefetch(second + ahead * branch.stride);
    if constexpr (Whole) {
      bytes::store(sum::apply(bytes::load(first), bytes::load(second), factors, shift), to);
    } else {
      const auto codes =
          sum::apply(bytes::load_part(first, y.columns), bytes::load_part(second, y.columns), factors, shift);
      bytes::store_part(codes, to, y.columns);
    }
    if (--left == 0) {
      return;
    }
    first += stream.stride;
    second += branch.stride;
    to += y.stride;
  }
}

/// All rows, and up to add_block_channels channels from `first` on. As many rows as 4,096 bytes hold go through a
/// register of channels before the next one: of rows that are as far as that from each other processors make loads wait
/// for stores, because they compare the lower 12 bits of the addresses.
template <class Isa>
INTACT_INLINE void add_block(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch,
                             const add_parameters& scale, matrix_view<std::uint8_t> y, index_t first) {
  constexpr index_t width = simd::weighted_sum<Isa>::width;
  const int shift = scale.shift;  // a store to y might change what `scale` refers to
  const index_t left = y.columns - first;
  const index_t channels = left < add_block_channels ? left : add_block_channels;
  typename simd::weighted_sum<Isa>::factors factors[static_cast<std::size_t>(add_block_channels / width)];
  for (index_t c = 0; c < channels; c += width) {
    factors[c / width] = add_factors<Isa>(scale, (first + c) % std::ssize(scale.offset));
  }
  const index_t step = y.stride > 1024 ? 4 : 4096 / y.stride;
  for (index_t i = 0; i < y.rows; i += step) {
    const index_t rows = y.rows - i < step ? y.rows - i : step;
    const index_t ahead = y.rows - i < 2 * step ? 0 : step;
    const auto x = stream.row_block(i, rows), z = branch.row_block(i, rows);
    const auto to = y.row_block(i, rows);
    index_t c = 0;
    const auto columns = [&](const auto& all, index_t count) { return all.column_block(first + c, count); };
    for (; c + width <= channels; c += width) {
      const auto in_registers = factors[c / width];
      add_columns<Isa, true>(columns(x, width), columns(z, width), in_registers, shift, columns(to, width), ahead);
    }
    if (const index_t rest = channels - c; rest > 0) {
      add_columns<Isa, false>(columns(x, rest), columns(z, rest), factors[c / width], shift, columns(to, rest), ahead);
    }
  }
}

/// All rows; the channel arrays repeat with period `channels`.
template <class Isa>
INTACT_INLINE void add_blocks(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch,
                              const add_parameters& scale, matrix_view<std::uint8_t> y) {
  for (index_t c = 0; c < y.columns; c += add_block_channels) {
    add_block<Isa>(stream, branch, scale, y, c);
  }
}

/// A range of rows in registers of codes. Where two rows without a gap fill whole registers, but one does not, pairs of
/// rows are taken for one.
template <class Isa>
INTACT_INLINE void add_codes(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch,
                             const add_parameters& scale, matrix_view<std::uint8_t> y, row_range rows) {
  constexpr index_t width = simd::weighted_sum<Isa>::width;
  const index_t c = y.columns;
  if (c % width == width / 2 && stream.stride == c && branch.stride == c && y.stride == c) {
    const index_t pairs = rows.size() / 2;
    const auto paired = [&](auto* data) { return matrix_view(data + rows.begin * c, pairs, 2 * c); };
    add_blocks<Isa>(paired(stream.data), paired(branch.data), scale, paired(y.data));
    rows.begin += 2 * pairs;
  }
  if (rows.size() > 0) {
    const auto rest = [&](const auto& x) { return x.row_block(rows.begin, rows.size()); };
    add_blocks<Isa>(rest(stream), rest(branch), scale, rest(y));
  }
}

/// A range of rows.
template <class Isa>
void add(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch, const add_parameters& scale,
         matrix_view<std::uint8_t> y, row_range rows) noexcept {
  if constexpr (simd::weighted_sum<Isa>::exists) {
    add_codes<Isa>(stream, branch, scale, y, rows);
  } else {
    for_each_group<Isa>(
        y.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t c, index_t count) INTACT_INLINE_LAMBDA {
          add_group<Isa, N>(stream, branch, scale, y, rows, {.first = c, .count = count});
        });
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
