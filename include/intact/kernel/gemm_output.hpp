#pragma once

#include <cstdint>

#include "intact/kernel/compat_epilogue.hpp"
#include "intact/kernel/epilogue.hpp"
#include "intact/types/packed_weights.hpp"

// A product's operands, and how its sums reach the output stage: from registers or, for tiles that are not compiled for
// each stage, from memory.

namespace intact {
inline namespace INTACT_ABI {

/// A product's operands.
template <class A, class Element, class Stage>
struct gemm_operands {
  matrix_view<const A> a;
  packed_weights<Element> w;
  const Stage& stage;
  matrix_view<typename Stage::output> y;
  const std::int32_t* start = nullptr;  ///< per output channel, the start of its sums instead of 0
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {
namespace kernel {

/// Rows of sums that an output stage wants at a time.
template <class Stage>
inline constexpr unsigned stage_rows = 1;
template <class Stage>
requires(Stage::rows_of_sums > 1) inline constexpr unsigned stage_rows<Stage> = Stage::rows_of_sums;

/// From one row of a panel's sums in memory to the next, whatever the kind of weights.
inline constexpr index_t panel_sums_stride = packed_weights<std::int8_t>::panel_width;
static_assert(panel_sums_stride == packed_weights<s4>::panel_width &&
              panel_sums_stride == packed_weights<grouped_s4>::panel_width);

/// The sums of Rows rows of a panel, in memory.
template <unsigned Rows>
struct alignas(64) panel_sums {
  std::int32_t* row(unsigned r) noexcept { return lanes + static_cast<index_t>(r) * panel_sums_stride; }

  std::int32_t lanes[static_cast<std::size_t>(Rows * panel_sums_stride)];
};

/// Puts sums through the output stage. at.columns: those that exist from at.n on.
template <class Isa, class Stage, unsigned Rows, unsigned N>
INTACT_INLINE void finish(const Stage& stage, simd::s32<Isa> (&sums)[Rows][N], tile_place at,
                          const matrix_view<typename Stage::output>& y) {
  constexpr index_t width = index_t{N} * simd::lanes<Isa>;
  at.columns = at.columns < width ? at.columns : width;
  epilogue<Isa, Stage>::run(stage, sums, at, y);
}

/// The same for sums in memory, of Rows rows and N registers.
template <unsigned Rows, unsigned N, class Isa, class Stage>
INTACT_INLINE void finish_stored(const Stage& stage, const std::int32_t* from, const tile_place& at,
                                 const matrix_view<typename Stage::output>& y) {
  simd::s32<Isa> sums[Rows][N];
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      sums[r][j] = simd::load<Isa>(from + static_cast<index_t>(r) * panel_sums_stride +
                                   static_cast<index_t>(j) * simd::lanes<Isa>);
    }
  }
  finish<Isa>(stage, sums, at, y);
}

/// The same for `rows` rows and at.columns columns of a panel, Rows rows at a time. It does not depend on the types of
/// the operands, so that all products with a stage share it.
template <unsigned Rows, class Isa, class Stage>
[[gnu::noinline]] void finish_panel(const Stage& stage, const std::int32_t* sums, index_t rows, const tile_place& at,
                                    const matrix_view<typename Stage::output>& y) noexcept {
  constexpr index_t lanes = simd::lanes<Isa>;
  for (index_t r = 0; r < rows; r += index_t{Rows}) {
    const std::int32_t* const row = sums + r * panel_sums_stride;
    index_t column = 0;
    for (; at.columns - column > 3 * lanes; column += 4 * lanes) {
      finish_stored<Rows, 4, Isa>(stage, row + column,
                                  {.m = at.m + r, .n = at.n + column, .columns = at.columns - column}, y);
    }
    for (; column < at.columns; column += lanes) {
      finish_stored<Rows, 1, Isa>(stage, row + column,
                                  {.m = at.m + r, .n = at.n + column, .columns = at.columns - column}, y);
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
