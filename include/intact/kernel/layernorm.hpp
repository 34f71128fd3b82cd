#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/arith/integer_math.hpp"
#include "intact/kernel/row.hpp"
#include "intact/simd/inv_sqrt.hpp"
#include "intact/simd/moments.hpp"
#include "intact/simd/moments_unshifted.hpp"
#include "intact/simd/mul_shift.hpp"
#include "intact/types/layernorm.hpp"
#include "intact/types/row_range.hpp"

// LayerNorm in two passes over a block of rows, which stays in the cache: the first computes each row's sum and sum of
// squares, the second the output. Between them is a square root and a division per row. The second pass iterates over
// groups of channels; the parameters of a group are loaded once for all rows of the block. RMSNorm is the same with a
// sum of 0.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Rows of a block.
inline constexpr index_t layernorm_block_rows = 16;

/// Limits of the vector form. Up to layernorm_fast_channels, |z| is at most about 2^6 * 2^24, and simd::moments hold
/// the sums; from layernorm_fast_output_shift on, the output is the shifted upper half of a 64-bit sum.
inline constexpr index_t layernorm_fast_channels = 4096;
inline constexpr int layernorm_fast_output_shift = 32;

/// The normalization of a row: z = ((C * x - sum) * reciprocal + (1 << (shift - 1))) >> shift. The offset holds the
/// terms that do not depend on x: z = (C * x * reciprocal + offset) >> shift.
struct layernorm_row {
  std::int64_t offset;
  std::int32_t reciprocal;
  int shift;
};

/// Sums of a row's values and of their squares.
struct layernorm_sums {
  std::int64_t sum;
  std::uint64_t squares;
};

/// A row's shift minus half the length of its variance.
inline constexpr int layernorm_base_shift = 6;

/// Adds the fraction of epsilon to small variances, which have been shifted to 61 or 62 bits.
template <class Isa>
INTACT_INLINE void add_epsilon_fraction(std::int64_t fraction, index_t count, std::uint64_t* variance,
                                        layernorm_row* rows) {
  constexpr std::int64_t one = std::int64_t{1} << layernorm_epsilon_fraction_bits;
  for (index_t r = 0; r < count; ++r) {
    const int half_length = rows[r].shift - layernorm_base_shift;
    if (2 * half_length <= layernorm_small_variance_bits) {
      const std::int64_t sum = static_cast<std::int64_t>(variance[r] >> (62 - 2 * half_length)) * one + fraction;
      const std::uint64_t v = static_cast<std::uint64_t>(sum < one ? one : sum);  // less only if all x are equal
      const int new_half_length = (bit_length(v) + 1) / 2;
      variance[r] = v << (62 - 2 * new_half_length);
      rows[r].shift = layernorm_base_shift + new_half_length - layernorm_epsilon_fraction_bits / 2;
    }
  }
}

/// The normalizations of up to layernorm_block_rows rows, from their sums.
template <class Isa>
INTACT_INLINE void layernorm_scales(index_t channels, const layernorm_parameters& p, const layernorm_sums* sums,
                                    index_t count, layernorm_row* rows) {
  constexpr index_t width = simd::inv_sqrt<Isa>::width;
  static_assert(layernorm_block_rows % width == 0);
  std::uint64_t variance[layernorm_block_rows];
  std::int32_t reciprocal[layernorm_block_rows];
  int least_shift = std::numeric_limits<int>::max();
  for (index_t r = 0; r < count; ++r) {
    const std::int64_t sum = sums[r].sum;
    const std::uint64_t v =
        static_cast<std::uint64_t>(channels) * sums[r].squares - static_cast<std::uint64_t>(sum * sum) + p.epsilon;
    const int half_length = (bit_length(v) + 1) / 2;
    variance[r] = v << (62 - 2 * half_length);
    rows[r].shift = layernorm_base_shift + half_length;
    least_shift = rows[r].shift < least_shift ? rows[r].shift : least_shift;
  }
  if (least_shift <= layernorm_base_shift + layernorm_small_variance_bits / 2) [[unlikely]] {
    add_epsilon_fraction<Isa>(p.epsilon_fraction, count, variance, rows);
  }
  const index_t padded = (count + width - 1) / width * width;
  for (index_t r = count; r < padded; ++r) {
    variance[r] = std::uint64_t{1} << 60;
  }
  simd::inv_sqrt_all<Isa>(variance, padded, reciprocal);
  for (index_t r = 0; r < count; ++r) {
    rows[r].reciprocal = reciprocal[r];
    rows[r].offset = (std::int64_t{1} << (rows[r].shift - 1)) - sums[r].sum * reciprocal[r];
  }
}

/// Channels of the input: (code - zero_point) * 2^shift.
template <class Code>
struct layernorm_input {
  using code = Code;

  matrix_view<const Code> codes;
  int zero_point;
  const std::uint8_t* shift;

  INTACT_INLINE std::int64_t operator()(index_t row, index_t c) const {
    return (std::int64_t{codes.data[row * codes.stride + c]} - zero_point) << shift[c];
  }
};

/// Sums of a row, channel by channel from `first` on.
template <class Isa, class Input>
INTACT_INLINE void add_to_sums(const Input& x, index_t row, index_t first, layernorm_sums& sums) {
  for (index_t c = first; c < x.codes.columns; ++c) {
    const std::int64_t value = x(row, c);
    sums.sum += value;
    sums.squares += static_cast<std::uint64_t>(value * value);
  }
}

/// The operation for all channel counts and output shifts, in plain integers.
template <class Isa, class Input>
void layernorm_general(const Input& x, normalization kind, const layernorm_parameters& p, matrix_view<std::uint8_t> y) {
  const index_t channels = x.codes.columns;
  const std::int32_t* const gain = p.gain.data();
  const std::int64_t* const bias = p.bias.data();
  for (index_t row = 0; row < x.codes.rows; ++row) {
    layernorm_sums sums{0, 0};
    add_to_sums<Isa>(x, row, 0, sums);
    if (kind == normalization::rmsnorm) {
      sums.sum = 0;
    }
    layernorm_row r;
    layernorm_scales<Isa>(channels, p, &sums, 1, &r);
    for (index_t c = 0; c < channels; ++c) {
      const std::int64_t z = (channels * x(row, c) * r.reciprocal + r.offset) >> r.shift;
      const std::int64_t code = (z * gain[c] + bias[c]) >> p.output_shift;
      y.data[row * y.stride + c] = static_cast<std::uint8_t>(code < 0 ? 0 : code > 255 ? 255 : code);
    }
  }
}

/// The first pass: the sums of `Rows` rows from `first_row` on.
template <class Isa, class Moments, unsigned Rows, class Input>
INTACT_INLINE void layernorm_moments(const Input& x, index_t first_row, layernorm_sums* sums) {
  const index_t whole = x.codes.columns / Moments::width * Moments::width;
  const typename Moments::row row = Moments::broadcast_row(x.zero_point);
  Moments moments[Rows];
  for (index_t c = 0; c < whole; c += Moments::width) {
    const typename Moments::factors factors = Moments::load_factors(x.shift + c);
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      moments[r].add(x.codes.data + (first_row + static_cast<index_t>(r)) * x.codes.stride + c, row, factors);
    }
  }
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    sums[r] = {moments[r].sum(), moments[r].squares()};
    add_to_sums<Isa>(x, first_row + static_cast<index_t>(r), whole, sums[r]);
  }
}

/// The same for all rows of a block, `Rows` at a time.
template <class Isa, class Moments, unsigned Rows, class Input>
INTACT_INLINE void layernorm_moments_of_block(const Input& x, layernorm_sums* sums) {
  index_t r = 0;
  for (; r + index_t{Rows} <= x.codes.rows; r += index_t{Rows}) {
    layernorm_moments<Isa, Moments, Rows>(x, r, sums + r);
  }
  for (; r < x.codes.rows; ++r) {
    layernorm_moments<Isa, Moments, 1>(x, r, sums + r);
  }
}

/// The second pass, for all rows of a block and N registers of channels from `c` on, of which `count` exist.
template <class Isa, unsigned N, class Input>
INTACT_INLINE void layernorm_group(const Input& x, const layernorm_parameters& p, const layernorm_row* rows, index_t c,
                                   index_t count, matrix_view<std::uint8_t> y) {
  using mul_shift = simd::mul_shift<Isa>;
  [[maybe_unused]] const s32<Isa> zero_point = simd::broadcast<Isa>(x.zero_point);
  const s32<Isa> channels = simd::broadcast<Isa>(static_cast<std::int32_t>(x.codes.columns));
  s32<Isa> factor[N];
  load_row<Isa>(x.shift + c, count, factor);
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    factor[j] = simd::multiply<Isa>(simd::power_of_two<Isa>(factor[j]), channels);
  }
  typename mul_shift::factors scale[N];
  load_factors<Isa>(p.gain.data() + c, p.bias.data() + c, count, scale);
  const int output_shift = p.output_shift - layernorm_fast_output_shift;
  for (index_t r = 0; r < x.codes.rows; ++r) {
    const auto scaling = mul_shift::broadcast_scaling(rows[r].reciprocal, rows[r].offset, rows[r].shift);
    s32<Isa> value[N];
    load_row<Isa>(x.codes.data + r * x.codes.stride + c, count, value);
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      if constexpr (std::is_same_v<typename Input::code, std::uint8_t>) {  // otherwise it is 0
        value[j] = simd::subtract<Isa>(value[j], zero_point);
      }
      const s32<Isa> scaled = simd::multiply<Isa>(value[j], factor[j]);
      value[j] = mul_shift::shift_right(mul_shift::mul_high_of_scaled(scaled, scaling, scale[j]), output_shift);
    }
    store_row<Isa>(value, y.data + r * y.stride + c, count);
  }
}

/// One block of rows. `unshifted`: the shifts are all 0.
template <class Isa, class Input>
INTACT_INLINE void layernorm_block(const Input& x, normalization kind, const layernorm_parameters& p, bool unshifted,
                                   matrix_view<std::uint8_t> y) {
  layernorm_sums sums[layernorm_block_rows];
  layernorm_row rows[layernorm_block_rows];
  using Code = typename Input::code;
  if constexpr (std::is_same_v<Code, std::uint8_t>) {
    layernorm_moments_of_block<Isa, simd::moments<Isa, Code>, 4>(x, sums);
  } else if (unshifted) {
    layernorm_moments_of_block<Isa, simd::moments_unshifted<Isa>, 4>(x, sums);
  } else {
    layernorm_moments_of_block<Isa, simd::moments<Isa, Code>, 2>(x, sums);
  }
  if (kind == normalization::rmsnorm) {
    for (index_t r = 0; r < x.codes.rows; ++r) {
      sums[r].sum = 0;
    }
  }
  layernorm_scales<Isa>(x.codes.columns, p, sums, x.codes.rows, rows);
  for_each_group<Isa>(x.codes.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t c, index_t count) {
    layernorm_group<Isa, N>(x, p, rows, c, count, y);
  });
}

/// Whether a shift is not 0.
template <class Isa>
INTACT_INLINE bool is_shifted(const std::uint8_t* shift, index_t channels) {
  unsigned bits = 0;
  for (index_t c = 0; c < channels; ++c) {
    bits |= shift[c];
  }
  return bits != 0;
}

/// A range of rows.
template <class Isa, class Code>
void layernorm(matrix_view<const Code> codes, normalization kind, const layernorm_parameters& p,
               matrix_view<std::uint8_t> y, row_range range) noexcept {
  const auto rows = [&](index_t first, index_t count) {
    return layernorm_input<Code>{codes.row_block(first, count), p.zero_point, p.shift.data()};
  };
  if constexpr (simd::is_vector<Isa>) {
    if (codes.columns <= layernorm_fast_channels && p.output_shift >= layernorm_fast_output_shift) {
      const bool unshifted = !is_shifted<Isa>(p.shift.data(), codes.columns);
      for (index_t first = range.begin; first < range.end; first += layernorm_block_rows) {
        const index_t count = range.end - first < layernorm_block_rows ? range.end - first : layernorm_block_rows;
        layernorm_block<Isa>(rows(first, count), kind, p, unshifted, y.row_block(first, count));
      }
      return;
    }
  }
  layernorm_general<Isa>(rows(range.begin, range.size()), kind, p, y.row_block(range.begin, range.size()));
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
