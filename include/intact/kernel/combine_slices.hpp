#pragma once

#include <cstdint>

#include "intact/kernel/epilogue.hpp"
#include "intact/kernel/gemm.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/scale.hpp"

// Output stages of products with exponent slices of codes (simd/exponent_slices.hpp): the slices of a row are
// neighbouring rows of the product. Their sums, which are in one tile, are combined to one row of accumulators.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Slices of 4-bit codes, of 8-bit codes up to 23, and of all 8-bit codes. A tile has room for all slices of a row.
inline constexpr unsigned u4_slices = 2, short_u8_slices = 3, u8_slices = 6;
static_assert(gemm_tile_rows<std::int8_t> == 6);

/// The output stage of attention times V: combines every `Slices` rows of sums and applies another stage to the result.
template <unsigned Slices, class Stage>
struct combine_slices {
  using output = typename Stage::output;
  static constexpr unsigned rows_of_sums = Slices;
  const Stage& stage;
  const std::int64_t* corrections;  ///< one for each combined row
  index_t first;                    ///< the first combined row's index in the output
};

/// The same for normalized rows, whose accumulators may not fit 32 bits.
struct combine_and_normalize {
  using output = std::uint8_t;
  static constexpr unsigned rows_of_sums = u4_slices;
  const tensor_scale* scales;  ///< one for each combined row
  index_t first;
};

/// Sums of a row's slices, x, as 64 bits: 2^29 * high + low with low in 0..2^29 - 1. Codes 0..15 are multiples of 2^29.
/// `high` has 32 bits: rows' sums of 2^-code are below 257.
template <unsigned Slices, class Isa, unsigned N>
INTACT_INLINE void combine_s64(s32<Isa> (*x)[N], std::int64_t correction, s32<Isa> (&high)[N], s32<Isa> (&low)[N]) {
  using shift = simd::mul_shift<Isa>;
  constexpr std::int32_t fraction = (1 << 29) - 1;
  const auto high_correction = simd::broadcast<Isa>(static_cast<std::int32_t>(correction >> 29));
  const auto low_correction = simd::broadcast<Isa>(static_cast<std::int32_t>(correction & fraction));
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    low[j] = low_correction;
    // The low byte of each slice is added here, the last one's without its three zero bits; the rest is carried.
    INTACT_UNROLL
    for (unsigned p = Slices - 1; p >= 2; --p) {
      const s32<Isa> byte = x[p][j] & simd::broadcast<Isa>(255);
      low[j] = simd::add<Isa>(
          low[j], p == 5 ? shift::shift_right(byte, 3) : shift::shift_left(byte, 37 - 8 * static_cast<int>(p)));
      x[p - 1][j] = simd::add<Isa>(x[p - 1][j], shift::shift_right(x[p][j], 8));
    }
    high[j] = simd::add<Isa>(simd::add<Isa>(x[1][j], shift::shift_left(x[0][j], 8)), high_correction);
    high[j] = simd::add<Isa>(high[j], shift::shift_right(low[j], 29));
    low[j] = low[j] & simd::broadcast<Isa>(fraction);
  }
}

/// Applies a stage to a row of such sums.
template <class Isa, class Stage>
struct s64_epilogue {
  template <unsigned N>
  INTACT_INLINE static void run(const Stage& stage, const s32<Isa> (&high)[N], const s32<Isa> (&low)[N],
                                const tile_place& at, matrix_view<typename Stage::output> y) {
    alignas(64) std::int32_t highs[static_cast<std::size_t>(N * simd::lanes<Isa>)];
    alignas(64) std::int32_t lows[static_cast<std::size_t>(N * simd::lanes<Isa>)];
    simd::narrow<Isa>(high, highs);
    simd::narrow<Isa>(low, lows);
    for (index_t j = 0; j < at.columns; ++j) {
      const std::int64_t accumulator = highs[j] * (std::int64_t{1} << 29) + lows[j];
      y.data[at.m * y.stride + at.n + j] = apply_stage(stage, accumulator, at.m, at.n + j);
    }
  }
};

template <class Isa, class Out>
struct s64_epilogue<Isa, requantize_s64<Out>> {
  static_assert(requantize_s64<Out>::extra_fraction_bits == 29);

  template <unsigned N>
  INTACT_INLINE static void run(const requantize_s64<Out>& stage, const s32<Isa> (&high)[N], const s32<Isa> (&low)[N],
                                const tile_place& at, matrix_view<Out> y) {
    using mul_shift = simd::mul_shift<Isa>;
    const auto factors = mul_shift::broadcast(stage.scale.multiplier, stage.scale.offset);
    s32<Isa> codes[N];
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      codes[j] = mul_shift::shift_right(mul_shift::mul_high_with_fraction(high[j], low[j], factors), stage.scale.shift);
    }
    store_row<Isa>(codes, y.data + at.m * y.stride + at.n, at.columns);
  }
};

template <class Isa, unsigned Slices, class Stage>
struct epilogue<Isa, combine_slices<Slices, Stage>> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const combine_slices<Slices, Stage>& all, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<typename Stage::output> y) {
    const index_t combined_row = at.m / index_t{Slices};
    const std::int64_t* const corrections = all.corrections + combined_row;
    const tile_place combined{.m = all.first + combined_row, .n = at.n, .columns = at.columns};
    static_assert(Rows % Slices == 0);
    if constexpr (takes_64_bits<Stage>) {
      INTACT_UNROLL
      for (unsigned r = 0; r < Rows / Slices; ++r) {
        s32<Isa> high[N], low[N];
        combine_s64<Slices, Isa>(x + r * Slices, corrections[r], high, low);
        s64_epilogue<Isa, Stage>::run(
            all.stage, high, low,
            tile_place{.m = combined.m + static_cast<index_t>(r), .n = combined.n, .columns = combined.columns}, y);
      }
    } else {
      static_assert(Slices == u4_slices);
      s32<Isa> sums[Rows / 2][N];
      INTACT_UNROLL
      for (unsigned r = 0; r < Rows / 2; ++r) {
        const s32<Isa> correction = simd::broadcast<Isa>(static_cast<std::int32_t>(corrections[r]));
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          const s32<Isa> high = simd::mul_shift<Isa>::shift_left(x[2 * r][j], 8);
          sums[r][j] = simd::add<Isa>(simd::add<Isa>(x[2 * r + 1][j], high), correction);
        }
      }
      epilogue<Isa, Stage>::run(all.stage, sums, combined, y);
    }
  }
};

template <class Isa>
struct epilogue<Isa, combine_and_normalize> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const combine_and_normalize& all, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<std::uint8_t> y) {
    using mul_shift = simd::mul_shift<Isa>;
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows / 2; ++r) {
      const index_t row = at.m / 2 + static_cast<index_t>(r);
      const tensor_scale& scale = all.scales[row];
      const auto factors = mul_shift::broadcast(scale.multiplier, scale.offset);
      s32<Isa>(&low)[N] = x[2 * r + 1];
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        const s32<Isa> high = mul_shift::shift_left(x[2 * r][j], scale.left_shift);
        low[j] = mul_shift::shift_left(low[j], scale.left_shift);
        low[j] = mul_shift::shift_right(mul_shift::mul_high_of_slices(high, low[j], factors), scale.shift);
      }
      store_row<Isa>(low, y.data + (all.first + row) * y.stride + at.n, at.columns);
    }
  }
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
