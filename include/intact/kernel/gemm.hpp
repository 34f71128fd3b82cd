#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "intact/kernel/gemm_output.hpp"
#include "intact/kernel/gemm_tile.hpp"
#include "intact/simd/dot4.hpp"
#include "intact/types/packed_weights.hpp"

// Matrix product with packed weights. A tile of accumulators stays in registers over the whole inner dimension and goes
// through the output stage from there. Panels are the outer loop, so that one panel of weights, which fits the L2
// cache, serves all rows; within a step of the inner dimension the tile's weights are loaded once for all its rows.
//
// Instruction sets that multiply 16-bit words get their activations widened beforehand, a tile's rows at a time: else
// each of a panel's tiles would do it again. Then long inner dimensions go in chunks, to bound that copy; between
// chunks the accumulators are in memory.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Rows of the largest tile, on every instruction set. Unpacking s4 takes two registers more.
template <class Element>
inline constexpr unsigned gemm_tile_rows = packed_weights<Element>::has_nibbles ? 5 : 6;

/// Accumulators per row of a tile: 6 x 4 use 24 of 32 registers, 6 x 2 use 12 of 16.
template <class Isa>
inline constexpr unsigned gemm_tile_accumulators =
    std::is_same_v<Isa, isa::scalar>                                                                            ? 1
    : std::is_same_v<Isa, isa::avx2> || std::is_same_v<Isa, isa::avx2_vnni> || std::is_same_v<Isa, isa::sse4_1> ? 2
                                                                                                                : 4;

template <class Element>
constexpr index gemm_row_tiles(index rows) {
  constexpr index tile_rows = gemm_tile_rows<Element>;
  return (rows + tile_rows - 1) / tile_rows;
}

/// The work of a product in equal pieces: a unit is a panel times the rows of a tile.
template <class Element>
constexpr index gemm_units(index rows, const packed_weights<Element>& w) {
  return gemm_row_tiles<Element>(rows) * w.panels();
}

/// What the accumulators of a panel start from: 0 or the caller's numbers, less what the activations' offset will add.
/// It is read from memory in either case: compilers that know it to be 0 move parts of an output stage in front of the
/// loop, and then spill the tile.
template <class Isa, class A, class Element>
class panel_start {
  using dot = simd::dot4<Isa, A>;
  using packed = packed_weights<Element>;

 public:
  panel_start(const packed& w, index panel, const std::int32_t* start) noexcept {
    const index first = panel * packed::panel_width;
    const index existing = w.rows - first < packed::panel_width ? w.rows - first : packed::panel_width;
    for (index n = 0; start != nullptr && n < existing; ++n) {
      lanes_[n * parts] = start[first + n];
    }
    if constexpr (dot::offset != 0) {
      for (index n = 0; n < existing; ++n) {
        const std::int32_t sum = w.sums == nullptr ? sum_of(w, first + n) : w.sums[first + n];
        const std::int32_t added = simd::multiply<isa::scalar>(sum, dot::offset);
        lanes_[n * parts] = simd::subtract<isa::scalar>(lanes_[n * parts], added);
      }
    }
  }

  const std::int32_t* of(index column) const noexcept { return lanes_ + column * parts; }

 private:
  static constexpr index parts = simd::lanes<Isa> / dot::columns;

  /// The sum of a channel's first w.columns weights, for prefixes.
  static std::int32_t sum_of(const packed& w, index n) noexcept {
    std::int32_t sum = 0;
    for (index k = 0; k < w.columns; ++k) {
      sum += w(n, k);
    }
    return sum;
  }

  alignas(64) std::int32_t lanes_[static_cast<std::size_t>(packed::panel_width * parts)] = {};
};

/// One panel of weights, and what its tiles have in common, whatever the output stage.
template <class Isa, class A, class Element>
struct gemm_panel {
  using packed = packed_weights<Element>;

  const matrix_view<const A>& a;
  const packed& w;
  const std::int32_t* start_of_sums;
  index number;
  panel_start<Isa, A, Element> start{w, number, start_of_sums};
  const std::uint8_t* data = w.panel(number);
  index step_stride = w.width(number) * packed::step_bytes;  ///< bytes from one step to the next
  index first = number * packed::panel_width;                ///< its first output channel
  index columns = w.rows - first < packed::panel_width ? w.rows - first : packed::panel_width;

  /// Steps of its weights from `first_step` on, for tiles that begin with a column of the panel.
  INTACT_INLINE panel_steps<Element> steps(index first_step, index column) const {
    const std::uint8_t* const steps = data + w.panel_shift_bytes();
    const std::uint8_t* const at = steps + first_step * step_stride + column * packed::step_bytes;
    if constexpr (packed::has_shifts) {
      return {at, step_stride, data, column, packed::steps(w.group), first_step};
    } else {
      return {at, step_stride};
    }
  }
};

/// Calls `tile` with std::integral_constant N and a column for each of a panel's tiles from `column` on: as many of the
/// largest as fit, then smaller ones. The last register may be filled in part: the panel has been rounded up.
template <class Isa, class A, class Tile>
INTACT_INLINE void for_each_tile(index column, index columns, const Tile& tile) {
  constexpr unsigned most = gemm_tile_accumulators<Isa>;
  constexpr index accumulator_columns = simd::dot4<Isa, A>::columns;
  const auto all_of = [&]<unsigned N>(std::integral_constant<unsigned, N> size) {
    constexpr index width = index{N} * accumulator_columns;
    for (; columns - column > width - simd::lanes<Isa>; column += width) {
      tile(size, column);
    }
  };
  all_of(std::integral_constant<unsigned, most>{});
  if constexpr (most > 2) {
    all_of(std::integral_constant<unsigned, 2>{});
  }
  if constexpr (accumulator_columns == simd::lanes<Isa>) {
    all_of(std::integral_constant<unsigned, 1>{});
  }
}

/// Where a row begins. A matrix without columns may have no memory.
template <class A>
INTACT_INLINE const A* first_of_row(const matrix_view<const A>& a, index m) {
  return a.columns == 0 ? a.data : a.data + m * a.stride;
}

/// The sums of a tile over the whole inner dimension.
template <unsigned Rows, unsigned N, class Isa, class A, class Element>
INTACT_INLINE gemm_tile<Isa, A, Element, Rows, N> summed_tile(const gemm_panel<Isa, A, Element>& panel, index m,
                                                              index column) {
  using packed = packed_weights<Element>;
  const matrix_view<const A>& a = panel.a;
  const A* const rows = first_of_row(a, m);
  const index steps = a.columns / packed::step;
  gemm_tile<Isa, A, Element, Rows, N> tile;
  tile.load(panel.start.of(column), 0);
  if (const index done = steps * packed::step; done < a.columns) {
    // Padding with the number that an instruction takes for 0 adds nothing, be it to weights of a longer row.
    constexpr A zero = static_cast<A>(-simd::dot4<Isa, A>::offset);
    A rest[Rows][packed::step];
    for (unsigned r = 0; r < Rows; ++r) {
      for (index k = 0; k < packed::step; ++k) {
        rest[r][k] = done + k < a.columns ? rows[static_cast<index>(r) * a.stride + done + k] : zero;
      }
    }
    tile.add_step(rest[0], packed::step, panel.steps(steps, column));
  }
  tile.add_steps(rows, a.stride, steps, panel.steps(0, column));
  return tile;
}

/// A tile whose sums go from registers through the output stage.
template <unsigned Rows, unsigned N, class Isa, class A, class Element, class Stage>
[[gnu::noinline]] void gemm_whole_tile(const gemm_operands<A, Element, Stage>& product,
                                       const gemm_panel<Isa, A, Element>& panel, index m, index column) noexcept {
  const auto tile = summed_tile<Rows, N>(panel, m, column);
  simd::s32<Isa> sums[Rows][decltype(tile)::registers];
  tile.sums(sums);
  finish<Isa>(product, sums, tile_place{m, panel.first + column, panel.columns - column});
}

/// The sums of Rows rows of a panel, from a column on, to memory. It has no output stage, so that all stages share it.
template <unsigned Rows, class Isa, class A, class Element>
[[gnu::noinline]] void gemm_panel_sums(const gemm_panel<Isa, A, Element>& panel, index m, index begin,
                                       std::int32_t* sums) noexcept {
  for_each_tile<Isa, A>(begin, panel.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index column) {
    summed_tile<Rows, N>(panel, m, column).store_sums(sums + (column - begin), packed_weights<Element>::panel_width);
  });
}

/// Columns whose activations are widened at a time, and from one row of them to the next: rows a power of two apart
/// would compete for the same banks of the L1 cache.
inline constexpr index gemm_chunk = 1024;
inline constexpr index gemm_chunk_stride = gemm_chunk + 16;

/// A row of activations in 16 bits, and zeros up to a step.
template <class Isa, class A>
INTACT_INLINE void widen_row(const A* a, index count, index step, std::int16_t* to) {
  using dot = simd::dot4<Isa, A>;
  index k = 0;
  for (; k + dot::widened_together <= count; k += dot::widened_together) {
    dot::widen(a + k, to + k);
  }
  for (; k < count; ++k) {
    to[k] = a[k];
  }
  for (; k % step != 0; ++k) {
    to[k] = 0;
  }
}

/// Panels that share a copy of widened activations, at most.
inline constexpr index gemm_panels_together = 4;

/// The sums of some panels for Rows rows, with widened activations, chunk by chunk: `sums` has them for each panel.
template <unsigned Rows, class Isa, class A, class Element>
[[gnu::noinline]] void gemm_widened_sums(const matrix_view<const A>& a, const packed_weights<Element>& w,
                                         const std::int32_t* start, index panel, index panels, index m,
                                         panel_sums<Element, gemm_tile_rows<Element>>* sums) noexcept {
  using packed = packed_weights<Element>;
  constexpr index parts = simd::lanes<Isa> / simd::dot4<Isa, A>::columns;
  constexpr index stride = packed::panel_width * parts;
  alignas(64) std::int16_t wide[Rows][static_cast<std::size_t>(gemm_chunk_stride)];
  alignas(64) std::int32_t partial[gemm_panels_together][Rows][static_cast<std::size_t>(stride)];
  for (index k = 0; k == 0 || k < a.columns; k += gemm_chunk) {
    const index depth = a.columns - k < gemm_chunk ? a.columns - k : gemm_chunk;
    for (unsigned r = 0; r < Rows; ++r) {
      widen_row<Isa>(first_of_row(a, m + static_cast<index>(r)) + k, depth, packed::step, wide[r]);
    }
    for (index p = 0; p < panels; ++p) {
      const gemm_panel<Isa, A, Element> here{a, w, start, panel + p};
      for_each_tile<Isa, A>(0, here.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index column) {
        gemm_tile<Isa, A, Element, Rows, N> tile;
        if (k == 0) {
          tile.load(here.start.of(column), 0);
        } else {
          tile.load(partial[p][0] + column * parts, stride);
        }
        tile.add_steps(wide[0], gemm_chunk_stride, packed::steps(depth), here.steps(k / packed::step, column));
        if (k + depth == a.columns) {
          tile.store_sums(sums[p].row(0) + column, packed::panel_width);
        } else {
          tile.store(partial[p][0] + column * parts, stride);
        }
      });
    }
  }
}

/// Calls `rows` with std::integral_constant Rows and a row for each tile of rows [m, end): the largest ones, then a
/// smaller one.
template <class Element, class Tile>
INTACT_INLINE void for_each_row_tile(index m, index end, const Tile& rows) {
  constexpr unsigned most = gemm_tile_rows<Element>;
  for (; m + index{most} <= end; m += index{most}) {
    rows(std::integral_constant<unsigned, most>{}, m);
  }
  const auto rest = [&]<unsigned... Rows>(std::integer_sequence<unsigned, Rows...>) {
    const index count = end - m;
    (void)((count == Rows && (rows(std::integral_constant<unsigned, Rows>{}, m), true)) || ...);
  };
  rest(std::integer_sequence<unsigned, 1, 2, 3, 4, 5>{});
}

/// Whether tiles of Rows rows go through the output stage in registers: the largest ones, which are almost all of a
/// large product, and single rows. The sums of the others go through memory, so that few tiles are compiled for each
/// stage: that is most of what a unit with products takes to compile.
template <class Isa, unsigned Rows, class Element, class Stage>
inline constexpr bool finishes_in_registers = (simd::lanes<Isa>) != 1 && (Rows == gemm_tile_rows<Element> ||
                                                                          (Rows == 1 && stage_rows<Stage> == 1));

/// Rows [m, end) of `panels` panels from `panel` on.
template <class Isa, class A, class Element, class Stage>
void gemm_rows(const gemm_operands<A, Element, Stage>& product, index panel, index panels, index m,
               index end) noexcept {
  constexpr unsigned tile_rows = gemm_tile_rows<Element>;
  if constexpr (simd::dot4<Isa, A>::widens) {
    constexpr index panel_width = packed_weights<Element>::panel_width;
    panel_sums<Element, tile_rows> sums[gemm_panels_together];
    for_each_row_tile<Element>(m, end, [&]<unsigned Rows>(std::integral_constant<unsigned, Rows>, index first) {
      gemm_widened_sums<Rows, Isa>(product.a, product.w, product.start, panel, panels, first, sums);
      for (index p = 0; p < panels; ++p) {
        const index n = (panel + p) * panel_width;
        const index columns = product.w.rows - n < panel_width ? product.w.rows - n : panel_width;
        constexpr unsigned together = Rows == tile_rows ? Rows : stage_rows<Stage>;
        finish_panel<together, Isa>(product, sums[p].row(0), Rows, tile_place{first, n, columns});
      }
    });
  } else {
    for (index p = panel; p < panel + panels; ++p) {
      const gemm_panel<Isa, A, Element> here{product.a, product.w, product.start, p};
      for_each_row_tile<Element>(m, end, [&]<unsigned Rows>(std::integral_constant<unsigned, Rows>, index first) {
        index column = 0;
        if constexpr (finishes_in_registers<Isa, Rows, Element, Stage>) {
          const auto all_of = [&]<unsigned N>(std::integral_constant<unsigned, N>) {
            constexpr index width = N * simd::dot4<Isa, A>::columns;
            for (; here.columns - column > width - simd::lanes<Isa>; column += width) {
              gemm_whole_tile<Rows, N>(product, here, first, column);
            }
          };
          constexpr unsigned most = gemm_tile_accumulators<Isa>;
          all_of(std::integral_constant<unsigned, most>{});
          if constexpr (most > 2) {
            all_of(std::integral_constant<unsigned, 2>{});
          }
        }
        if (column < here.columns) {
          panel_sums<Element, Rows> sums;
          gemm_panel_sums<Rows>(here, first, column, sums.row(0));
          finish_panel<stage_rows<Stage>, Isa>(product, sums.row(0), Rows,
                                               tile_place{first, here.first + column, here.columns - column});
        }
      });
    }
  }
}

/// Units [begin, end) of a product: pieces of its panels, from the first panel's first rows on.
template <class Isa, class A, class Element, class Stage>
void gemm(const gemm_operands<A, Element, Stage>& product, index begin, index end) noexcept {
  if constexpr (prepared_stage<Isa, Stage>::exists) {
    using prepared = prepared_stage<Isa, Stage>;
    const prepared stage(product.stage);
    gemm<Isa>(gemm_operands<A, Element, prepared>{product.a, product.w, stage, product.y, product.start}, begin, end);
    return;
  }
  const index rows = product.a.rows;
  const index row_tiles = gemm_row_tiles<Element>(rows);
  constexpr index tile_rows = gemm_tile_rows<Element>;
  while (begin < end) {
    const index panel = begin / row_tiles, first = begin % row_tiles;
    const index whole = first == 0 ? (end - begin) / row_tiles : 0;  // panels
    const index panels = whole < 1 ? 1 : whole < gemm_panels_together ? whole : gemm_panels_together;
    const index stop = end < (panel + panels) * row_tiles ? end : (panel + panels) * row_tiles;
    const index row_end = (stop - (panel + panels - 1) * row_tiles) * tile_rows;
    gemm_rows<Isa>(product, panel, panels, first * tile_rows, row_end < rows ? row_end : rows);
    begin = stop;
  }
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
