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

/// The sums of Rows rows of a panel, in memory.
template <class Element, unsigned Rows>
struct alignas(64) panel_sums {
  static constexpr index_t stride = packed_weights<Element>::panel_width;

  std::int32_t* row(unsigned r) noexcept { return lanes + r * stride; }

  std::int32_t lanes[static_cast<std::size_t>(Rows * stride)];
};

/// Puts sums through the output stage. at.columns: those that exist from at.n on.
template <class Isa, class A, class Element, class Stage, unsigned Rows, unsigned N>
INTACT_INLINE void finish(const gemm_operands<A, Element, Stage>& product, simd::s32<Isa> (&sums)[Rows][N],
                          tile_place at) {
  constexpr index_t width = index_t{N} * simd::lanes<Isa>;
  at.columns = at.columns < width ? at.columns : width;
  epilogue<Isa, Stage>::run(product.stage, sums, at, product.y);
}

/// The same for sums in memory, of Rows rows and N registers.
template <unsigned Rows, unsigned N, class Isa, class A, class Element, class Stage>
INTACT_INLINE void finish_stored(const gemm_operands<A, Element, Stage>& product, const std::int32_t* from,
                                 index_t stride, const tile_place& at) {
  simd::s32<Isa> sums[Rows][N];
  INTACT_UNROLL
  for (unsigned r = 0; r < Rows; ++r) {
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      sums[r][j] =
          simd::load<Isa>(from + static_cast<index_t>(r) * stride + static_cast<index_t>(j) * simd::lanes<Isa>);
    }
  }
  finish<Isa>(product, sums, at);
}

/// The same for `rows` rows and at.columns columns of a panel, Rows rows at a time.
template <unsigned Rows, class Isa, class A, class Element, class Stage>
[[gnu::noinline]] void finish_panel(const gemm_operands<A, Element, Stage>& product, const std::int32_t* sums,
                                    index_t rows, const tile_place& at) noexcept {
  constexpr index_t stride = panel_sums<Element, Rows>::stride, lanes = simd::lanes<Isa>;
  for (index_t r = 0; r < rows; r += index_t{Rows}) {
    const std::int32_t* const row = sums + r * stride;
    index_t column = 0;
    for (; at.columns - column > 3 * lanes; column += 4 * lanes) {
      finish_stored<Rows, 4, Isa>(product, row + column, stride,
                                  {.m = at.m + r, .n = at.n + column, .columns = at.columns - column});
    }
    for (; column < at.columns; column += lanes) {
      finish_stored<Rows, 1, Isa>(product, row + column, stride,
                                  {.m = at.m + r, .n = at.n + column, .columns = at.columns - column});
    }
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
