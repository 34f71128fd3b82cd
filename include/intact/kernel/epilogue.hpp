#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/kernel/masked_row.hpp"
#include "intact/kernel/row.hpp"
#include "intact/simd/lut12.hpp"
#include "intact/simd/mul_shift.hpp"
#include "intact/simd/narrow.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/stage/row_corrected.hpp"

// Output stages in registers. epilogue<Isa, Stage> is called with a tile of accumulators: Rows x N registers, their
// place (m, n) in the output, and how many of the tile's columns exist. It computes the stage's outputs for all of
// them, and stores them. Stages without a specialization, of this library or of others, are called element by element.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// A tile's place.
struct tile_place {
  index_t m, n;
  index_t columns;  ///< that exist
};

template <class Isa, class Out, unsigned Rows, unsigned N>
INTACT_INLINE void store_tile(const s32<Isa> (&x)[Rows][N], const tile_place& at, matrix_view<Out> y) {
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    store_row<Isa>(x[r], y.data + (at.m + static_cast<index_t>(r)) * y.stride + at.n, at.columns);
  }
}

template <class Isa, unsigned Rows, unsigned N>
INTACT_INLINE void clamp_tile(s32<Isa> (&x)[Rows][N], std::int32_t low, std::int32_t high) {
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      x[r][j] = simd::min<Isa>(simd::max<Isa>(x[r][j], simd::broadcast<Isa>(low)), simd::broadcast<Isa>(high));
    }
  }
}

template <class Isa, unsigned Rows, unsigned N>
INTACT_INLINE void shift_tile_left(s32<Isa> (&x)[Rows][N], int shift) {
  if (shift != 0) [[unlikely]] {
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        x[r][j] = simd::mul_shift<Isa>::shift_left(x[r][j], shift);
      }
    }
  }
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      simd::optimization_barrier(x[r][j]);
    }
  }
}

/// Accumulators to codes before clamping. Multipliers and offsets are loaded once for all rows.
template <class Isa, unsigned Rows, unsigned N>
INTACT_INLINE void mul_shift_tile(s32<Isa> (&x)[Rows][N], const channel_scale& scale, const tile_place& at) {
  constexpr index_t width = N * simd::lanes<Isa>;
  using mul_shift = simd::mul_shift<Isa>;
  const std::int32_t* multiplier = scale.multiplier.data() + at.n;
  const std::int64_t* offset = scale.offset.data() + at.n;
  alignas(64) std::int32_t multiplier_copy[static_cast<std::size_t>(width)];
  alignas(64) std::int64_t offset_copy[static_cast<std::size_t>(width)];
  if (at.columns < width) {
    // Tiles of several registers have none left for whole copies.
    using copy_isa = std::conditional_t<Rows * N == 1, Isa, isa::scalar>;
    copy_prefix<copy_isa>(multiplier, at.columns, multiplier_copy);
    copy_prefix<copy_isa>(offset, at.columns, offset_copy);
    multiplier = multiplier_copy;
    offset = offset_copy;
  }
  shift_tile_left<Isa>(x, scale.left_shift);
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    const auto factors = mul_shift::load(multiplier + j * simd::lanes<Isa>, offset + j * simd::lanes<Isa>);
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      x[r][j] = mul_shift::shift_right(mul_shift::mul_high(x[r][j], factors), scale.shift);
    }
  }
}

template <class Isa, unsigned N>
INTACT_INLINE void mul_shift_row(s32<Isa> (&x)[N], const tensor_scale& scale) {
  using mul_shift = simd::mul_shift<Isa>;
  const auto factors = mul_shift::broadcast(scale.multiplier, scale.offset);
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    x[j] = mul_shift::shift_right(mul_shift::mul_high(mul_shift::shift_left(x[j], scale.left_shift), factors),
                                  scale.shift);
  }
}

template <class Isa, unsigned Rows, unsigned N>
INTACT_INLINE void mul_shift_tile(s32<Isa> (&x)[Rows][N], const tensor_scale& scale, const tile_place&) {
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    mul_shift_row<Isa>(x[r], scale);
  }
}

/// One row of accumulators in memory, element by element.
template <class Stage, class Out>
INTACT_INLINE void store_elements(const Stage& stage, const std::int32_t* accumulators, const tile_place& at,
                                  const matrix_view<Out>& y) {
  for (index_t j = 0; j < at.columns; ++j) {
    y.data[at.m * y.stride + at.n + j] = apply_stage(stage, accumulators[j], at.m, at.n + j);
  }
}

template <class Isa, class Stage>
struct epilogue {
  static_assert(INTACT_ALLOW_SCALAR_STAGES || simd::lanes<Isa> == 1,
                "this output stage has no vector form, and INTACT_REQUIRE_VECTOR_STAGES is defined");

  template <class Out, unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const Stage& stage, s32<Isa> (&x)[Rows][N], const tile_place& at, matrix_view<Out> y) {
    alignas(64) std::int32_t accumulators[static_cast<std::size_t>(N * simd::lanes<Isa>)];
    for (unsigned r = 0; r < Rows; ++r) {
      simd::narrow<Isa>(x[r], accumulators);
      store_elements(stage, accumulators, {.m = at.m + static_cast<index_t>(r), .n = at.n, .columns = at.columns}, y);
    }
  }
};

/// Whether the sums of all tiles go to the stage through memory. For long stages that costs little time and saves the
/// compilation of a tile for each of them.
template <class Isa, class Stage>
inline constexpr bool takes_stored_sums = requires {
  requires epilogue<Isa, Stage>::takes_stored_sums;
};

template <class Isa>
struct epilogue<Isa, raw_accumulator> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const raw_accumulator&, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<std::int32_t> y) {
    store_tile<Isa>(x, at, y);
  }
};

template <class Isa, class Out, class Scale, int Bits>
struct epilogue<Isa, requantize<Out, Scale, Bits>> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const requantize<Out, Scale, Bits>& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<Out> y) {
    mul_shift_tile<Isa>(x, stage.scale, at);
    if constexpr (Bits < 8 * sizeof(Out)) {
      clamp_tile<Isa>(x, 0, (1 << Bits) - 1);
    }
    store_tile<Isa>(x, at, y);
  }
};

/// Accumulators as 12-bit codes.
template <class Isa, unsigned Rows, unsigned N>
INTACT_INLINE void activation_codes(const requantize_lut& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                    std::uint16_t (&codes)[Rows][static_cast<std::size_t>(N * simd::lanes<Isa>)]) {
  mul_shift_tile<Isa>(x, stage.scale, at);
  clamp_tile<Isa>(x, 0, (1 << activation_bits) - 1);
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    simd::narrow<Isa>(x[r], codes[r]);
  }
}

template <class Isa>
struct epilogue<Isa, requantize_lut> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const requantize_lut& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<std::uint8_t> y) {
    alignas(64) std::uint16_t codes[Rows][static_cast<std::size_t>(N * simd::lanes<Isa>)];
    activation_codes<Isa>(stage, x, at, codes);
    for (unsigned r = 0; r < Rows; ++r) {
      lookup<index_t{N} * simd::lanes<Isa>>(codes[r], at.columns, stage.table.data(),
                                            y.data + (at.m + static_cast<index_t>(r)) * y.stride + at.n);
    }
  }
};

/// A stage with the values that it prepares once for all tiles of a call. Only some stages prepare any.
template <class Isa, class Stage>
struct prepared_stage {
  static constexpr bool exists = false;
};

template <class Isa>
requires(simd::lut12<Isa>::exists) struct prepared_stage<Isa, requantize_lut> {
  static constexpr bool exists = true;
  using output = requantize_lut::output;

  explicit prepared_stage(const requantize_lut& of) noexcept : stage(of), table(of.table.data()) {}

  const requantize_lut& stage;
  simd::lut12_step<Isa> table;
};

template <class Isa>
struct epilogue<Isa, prepared_stage<Isa, requantize_lut>> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const prepared_stage<Isa, requantize_lut>& prepared, s32<Isa> (&x)[Rows][N],
                                const tile_place& at, matrix_view<std::uint8_t> y) {
    if constexpr (N < 4) {
      epilogue<Isa, requantize_lut>::run(prepared.stage, x, at, y);
    } else {
      alignas(64) std::uint16_t codes[Rows][static_cast<std::size_t>(N * simd::lanes<Isa>)];
      activation_codes<Isa>(prepared.stage, x, at, codes);
      typename simd::bytes<Isa>::batch found[Rows];
      if (prepared.table.fits) {
        prepared.table.lookup(codes[0], found);
      } else {
        simd::lut12<Isa>(prepared.stage.table.data()).lookup(codes[0], found);
      }
      INTACT_UNROLL
      for (unsigned r = 0; r < Rows; ++r) {
        store_codes<Isa>(found[r], y, at.m + r, at.n, at.columns);
      }
    }
  }
};

template <class Isa>
struct epilogue<Isa, add_to_stream> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const add_to_stream& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<std::int16_t> y) {
    mul_shift_tile<Isa>(x, stage.scale, at);
    clamp_tile<Isa>(x, -65536, 65535);  // so that the sum fits 32 bits; larger values saturate with any addend
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      s32<Isa> addend[N];
      load_row<Isa>(stage.addend.data + (at.m + static_cast<index_t>(r)) * stage.addend.stride + at.n, at.columns,
                    addend);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        x[r][j] = simd::add<Isa>(x[r][j], addend[j]);
      }
    }
    store_tile<Isa>(x, at, y);
  }
};

template <class Isa>
struct epilogue<Isa, requantize_add> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const requantize_add& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<std::uint8_t> y) {
    mul_shift_tile<Isa>(x, stage.scale, at);
    clamp_tile<Isa>(x, 0, 255);
    const add_parameters& addition = stage.addition;
    s32<Isa> stream_multiplier[N], branch_multiplier[N], offset[N];
    load_row<Isa>(addition.stream_multiplier.data() + at.n, at.columns, stream_multiplier);
    load_row<Isa>(addition.branch_multiplier.data() + at.n, at.columns, branch_multiplier);
    load_row<Isa>(addition.offset.data() + at.n, at.columns, offset);
    const s32<Isa> stream_zero_point = simd::broadcast<Isa>(addition.stream_zero_point);
    const s32<Isa> branch_zero_point = simd::broadcast<Isa>(addition.branch_zero_point);
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      s32<Isa> stream[N];
      load_row<Isa>(stage.stream.data + (at.m + static_cast<index_t>(r)) * stage.stream.stride + at.n, at.columns,
                    stream);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        const s32<Isa> first =
            simd::multiply<Isa>(simd::subtract<Isa>(stream[j], stream_zero_point), stream_multiplier[j]);
        const s32<Isa> second =
            simd::multiply<Isa>(simd::subtract<Isa>(x[r][j], branch_zero_point), branch_multiplier[j]);
        x[r][j] =
            simd::mul_shift<Isa>::shift_right(simd::add<Isa>(simd::add<Isa>(first, second), offset[j]), addition.shift);
      }
    }
    store_tile<Isa>(x, at, y);
  }
};

template <class Isa, class Out>
struct epilogue<Isa, requantize_per_row<Out>> {
  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const requantize_per_row<Out>& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<Out> y) {
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      mul_shift_row<Isa>(x[r], stage.rows.data()[at.m + static_cast<index_t>(r)]);
    }
    store_tile<Isa>(x, at, y);
  }
};

template <class Isa, class Stage>
struct epilogue<Isa, row_corrected<Stage>> {
  static constexpr bool takes_stored_sums = kernel::takes_stored_sums<Isa, Stage>;

  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const row_corrected<Stage>& corrected, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<typename Stage::output> y) {
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const s32<Isa> correction = simd::broadcast<Isa>(corrected.correction.data()[at.m + static_cast<index_t>(r)]);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        x[r][j] = simd::add<Isa>(x[r][j], correction);
      }
    }
    epilogue<Isa, Stage>::run(corrected.stage, x, at, y);
  }
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
