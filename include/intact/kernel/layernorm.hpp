#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/arith/integer_math.hpp"
#include "intact/kernel/row.hpp"
#include "intact/simd/rescale.hpp"
#include "intact/simd/sum.hpp"
#include "intact/types/layernorm.hpp"

// LayerNorm in two passes over a block of rows, which stays in the cache: one for each row's sum and sum of squares, in
// 32-bit lanes, and one for the output. In between there are a square root and a division per row. The second pass goes
// through the channels group by group; what belongs to a group is prepared once for all rows of the block.

namespace intact::inline INTACT_ABI::kernel {

/// Rows of a block.
inline constexpr index layernorm_block_rows = 16;

/// The fast body's limits. Up to so many channels |z| is at most about 2^6 * 2^24, and the sums of squares below fit 32
/// bits in every lane; from this shift on the output is the upper half of a 64-bit sum, shifted.
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

/// 2^shift for shifts of 0..3, without a shift by lane: (1 + the lower bit) * (1 + 3 * the upper bit).
template <class Isa>
INTACT_INLINE s32<Isa> power_of_two_factor(s32<Isa> shift) {
  const s32<Isa> one = simd::broadcast<Isa>(1);
  const s32<Isa> upper = simd::rescaler<Isa>::right(shift, 1);
  const s32<Isa> lower = simd::subtract<Isa>(shift, simd::add<Isa>(upper, upper));
  const s32<Isa> three_times = simd::add<Isa>(upper, simd::add<Isa>(upper, upper));
  return simd::multiply<Isa>(simd::add<Isa>(lower, one), simd::add<Isa>(three_times, one));
}

/// Sums of a row by lane, of which each gets 1,024 channels at most.
template <class Isa, class Code>
class lane_sums;

/// |x| <= 2040: squares add up to less than 2^32, so they start from -2^31.
template <class Isa>
class lane_sums<Isa, std::uint8_t> {
  static_assert(std::uint64_t{2040} * 2040 * (layernorm_fast_channels / 4) < std::uint64_t{1} << 32);

 public:
  INTACT_INLINE void add(s32<Isa> x) {
    sum_ = simd::add<Isa>(sum_, x);
    squares_ = simd::add<Isa>(squares_, simd::multiply<Isa>(x, x));
  }
  INTACT_INLINE std::int64_t sum() const { return simd::sum<Isa>(sum_); }
  INTACT_INLINE std::uint64_t squares() const {
    const s32<Isa> high = simd::rescaler<Isa>::right(squares_, 16);
    const s32<Isa> low = simd::subtract<Isa>(squares_, simd::rescaler<Isa>::left(high, 16));
    const std::int64_t total = simd::sum<Isa>(high) * std::int64_t{65536} + simd::sum<Isa>(low);
    return static_cast<std::uint64_t>(total - simd::lanes<Isa> * std::int64_t{start});
  }

 private:
  static constexpr std::int32_t start = std::numeric_limits<std::int32_t>::min();

  s32<Isa> sum_ = simd::broadcast<Isa>(0);
  s32<Isa> squares_ = simd::broadcast<Isa>(start);
};

/// |x| <= 2^18: x = 512 * high + low, and x^2 = 2^18 * high^2 + 2^10 * high * low + low^2, whose three sums stay within
/// 2^18 * 4096 = 2^30 over the whole row.
template <class Isa>
class lane_sums<Isa, std::int16_t> {
 public:
  INTACT_INLINE void add(s32<Isa> x) {
    const s32<Isa> high = simd::rescaler<Isa>::right(x, 9);
    const s32<Isa> low = simd::subtract<Isa>(x, simd::rescaler<Isa>::left(high, 9));
    sum_ = simd::add<Isa>(sum_, x);
    high_ = simd::add<Isa>(high_, simd::multiply<Isa>(high, high));
    mixed_ = simd::add<Isa>(mixed_, simd::multiply<Isa>(high, low));
    low_ = simd::add<Isa>(low_, simd::multiply<Isa>(low, low));
  }
  INTACT_INLINE std::int64_t sum() const { return simd::sum<Isa>(sum_); }
  INTACT_INLINE std::uint64_t squares() const {
    return static_cast<std::uint64_t>(simd::sum<Isa>(high_) * (std::int64_t{1} << 18) +
                                      simd::sum<Isa>(mixed_) * (std::int64_t{1} << 10) + simd::sum<Isa>(low_));
  }

 private:
  s32<Isa> sum_ = simd::broadcast<Isa>(0);
  s32<Isa> high_ = simd::broadcast<Isa>(0);
  s32<Isa> mixed_ = simd::broadcast<Isa>(0);
  s32<Isa> low_ = simd::broadcast<Isa>(0);
};

/// The first pass: what the second one needs to know of `Rows` rows from `first_row` on.
template <class Isa, unsigned Rows, class Code>
INTACT_INLINE void layernorm_statistics(const layernorm_input<Code>& x, std::uint64_t epsilon, index first_row,
                                        layernorm_row* rows) {
  const index channels = x.codes.columns;
  const index whole = channels / simd::lanes<Isa> * simd::lanes<Isa>;
  const s32<Isa> zero_point = simd::broadcast<Isa>(x.zero_point);
  lane_sums<Isa, Code> sums[Rows];
  for (index c = 0; c < whole; c += simd::lanes<Isa>) {
    const s32<Isa> factor = power_of_two_factor<Isa>(simd::widen<Isa>(x.shift + c));
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const s32<Isa> code = simd::widen<Isa>(x.codes.data + (first_row + r) * x.codes.stride + c);
      sums[r].add(simd::multiply<Isa>(simd::subtract<Isa>(code, zero_point), factor));
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
    factor[j] = simd::multiply<Isa>(power_of_two_factor<Isa>(factor[j]), channels);
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
      const s32<Isa> normalized = rescaler::round(simd::subtract<Isa>(scaled, sum), rounding);
      value[j] = rescaler::right(rescaler::high(normalized, scale[j]), p.output_shift - layernorm_fast_output_shift);
    }
    store_row<Isa>(value, y.data + r * y.stride + c, count);
  }
}

/// One block of rows.
template <class Isa, class Code>
INTACT_INLINE void layernorm_block(const layernorm_input<Code>& x, const layernorm_parameters& p,
                                   matrix_view<std::uint8_t> y) {
  constexpr unsigned together = std::is_same_v<Code, std::uint8_t> ? 4 : 2;
  constexpr unsigned registers = 4;
  constexpr index width = registers * simd::lanes<Isa>;
  layernorm_row rows[layernorm_block_rows];
  index r = 0;
  for (; r + together <= x.codes.rows; r += together) {
    layernorm_statistics<Isa, together>(x, p.epsilon, r, rows + r);
  }
  for (; r < x.codes.rows; ++r) {
    layernorm_statistics<Isa, 1>(x, p.epsilon, r, rows + r);
  }
  const index channels = x.codes.columns;
  const index whole = channels / width * width;
  for (index c = 0; c < whole; c += width) {
    layernorm_group<Isa, registers>(x, p, rows, c, width, y);
  }
  if (whole < channels) {
    layernorm_group<Isa, registers>(x, p, rows, whole, channels - whole, y);
  }
}

/// Rows [begin, end).
template <class Isa, class Code>
void layernorm(matrix_view<const Code> codes, const layernorm_parameters& p, matrix_view<std::uint8_t> y, index begin,
               index end) noexcept {
  const auto rows = [&](index first, index count) {
    return layernorm_input<Code>{codes.row_block(first, count), p.zero_point, p.shift.data()};
  };
  if (simd::lanes<Isa> == 1 || codes.columns > layernorm_fast_channels ||
      p.output_shift < layernorm_fast_output_shift) {
    layernorm_plain<Isa>(rows(begin, end - begin), p, y.row_block(begin, end - begin));
    return;
  }
  for (index first = begin; first < end; first += layernorm_block_rows) {
    const index count = end - first < layernorm_block_rows ? end - first : layernorm_block_rows;
    layernorm_block<Isa>(rows(first, count), p, y.row_block(first, count));
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
