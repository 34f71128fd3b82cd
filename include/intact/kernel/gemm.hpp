#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "intact/kernel/gemm_output.hpp"
#include "intact/kernel/gemm_tile.hpp"
#include "intact/simd/dot4.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/row_range.hpp"

// Matrix product with packed weights. A tile of accumulators stays in registers over the whole inner dimension and goes
// through the output stage from there. Panels are the outer loop, so that one panel of weights, which fits the L2
// cache, serves all rows; within a step of the inner dimension the tile's weights are loaded once for all its rows.
//
// Instruction sets that multiply s8 weights as 16-bit words get their activations widened beforehand, a tile's rows at
// a time: else each of a panel's tiles would do it again. Then long inner dimensions go in chunks, to bound that copy;
// between chunks the accumulators are in memory.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Rows of a work unit, and of the largest tile on most instruction sets. Unpacking s4 takes two registers more.
template <class Element>
inline constexpr unsigned gemm_tile_rows = packed_weights<Element>::has_nibbles ? 5 : 6;

/// Rows of the largest tile. With 16-bit sums in 4 x 2 registers, weights in two, and four for unpacking and
/// multiplying, two of 16 are left; accumulators are in memory for the few steps between two additions to them.
template <class Isa, class Element>
inline constexpr unsigned largest_tile_rows = adds_in_16_bits<Isa, Element> ? 4 : gemm_tile_rows<Element>;

template <class Element>
constexpr index_t gemm_row_tiles(index_t rows) {
  constexpr index_t tile_rows = gemm_tile_rows<Element>;
  return (rows + tile_rows - 1) / tile_rows;
}

/// The work units of a product, equal pieces of it: each is a panel times gemm_tile_rows rows.
template <class Element>
constexpr index_t gemm_units(index_t rows, const packed_weights<Element>& w) {
  return gemm_row_tiles<Element>(rows) * w.panels();
}

/// The start of a panel's accumulators: 0 or the caller's numbers, less the sum that the activations' offset adds.
/// It is read from memory in either case: compilers that know it to be 0 move parts of an output stage in front of the
/// loop, and then spill the tile.
template <class Isa, class A, class Element>
class panel_start {
  using dot = product_dot<Isa, A, Element>;
  using packed = packed_weights<Element>;

 public:
  panel_start(const packed& w, index_t panel, const std::int32_t* start) noexcept {
    const index_t first = panel * packed::panel_width;
    const index_t existing = w.rows - first < packed::panel_width ? w.rows - first : packed::panel_width;
    for (index_t n = 0; start != nullptr && n < existing; ++n) {
      lanes_[n * parts] = start[first + n];
    }
    if constexpr (dot::offset != 0) {
      for (index_t n = 0; n < existing; ++n) {
        const std::int32_t sum = w.sums == nullptr ? sum_of(w, first + n) : w.sums[first + n];
        const std::int32_t added = simd::multiply<isa::scalar>(sum, dot::offset);
        lanes_[n * parts] = simd::subtract<isa::scalar>(lanes_[n * parts], added);
      }
    }
  }

  const std::int32_t* of(index_t column) const noexcept { return lanes_ + column * parts; }

 private:
  static constexpr index_t parts = simd::lanes<Isa> / dot::columns;

  /// The sum of a channel's first w.columns weights, for prefixes.
  static std::int32_t sum_of(const packed& w, index_t n) noexcept {
    std::int32_t sum = 0;
    for (index_t k = 0; k < w.columns; ++k) {
      sum += w(n, k);
    }
    return sum;
  }

  alignas(64) std::int32_t lanes_[static_cast<std::size_t>(packed::panel_width * parts)] = {};
};

/// One panel of weights and the data that its tiles share, for any output stage.
template <class Isa, class A, class Element>
struct gemm_panel {
  using packed = packed_weights<Element>;

  const matrix_view<const A>& a;
  const packed& w;
  const std::int32_t* start_of_sums;
  index_t number;
  panel_start<Isa, A, Element> start{w, number, start_of_sums};
  const std::uint8_t* data = w.panel(number);
  index_t step_stride = w.width(number) * packed::step_bytes;  ///< bytes from one step to the next
  index_t first = number * packed::panel_width;                ///< its first output channel
  index_t columns = w.rows - first < packed::panel_width ? w.rows - first : packed::panel_width;

  /// Steps of its weights from `first_step` on, for tiles that begin with a column of the panel.
  INTACT_INLINE panel_steps<Element> steps(index_t first_step, index_t column) const {
    const std::uint8_t* const steps = data + w.panel_shift_bytes();
    const std::uint8_t* const at = steps + first_step * step_stride + column * packed::step_bytes;
    if constexpr (packed::has_shifts) {
      return {.at = at,
              .stride = step_stride,
              .shifts = data,
              .column = column,
              .group_steps = packed::steps(w.group),
              .first = first_step};
    } else {
      return {.at = at, .stride = step_stride};
    }
  }
};

/// Calls `tile` with std::integral_constant N and a column for each of a panel's tiles from `column` on: as many of the
/// largest as fit, then smaller ones. The last register may be filled in part: the panel has been rounded up.
template <class Isa, class A, class Element, class Tile>
INTACT_INLINE void for_each_tile(index_t column, index_t columns, const Tile& tile) {
  constexpr unsigned most = Isa::gemm_accumulators;
  constexpr index_t accumulator_columns = product_dot<Isa, A, Element>::columns;
  const auto all_of = [&]<unsigned N>(std::integral_constant<unsigned, N> size) {
    constexpr index_t width = index_t{N} * accumulator_columns;
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
INTACT_INLINE const A* first_of_row(const matrix_view<const A>& a, index_t m) {
  return a.columns == 0 ? a.data : a.data + m * a.stride;
}

/// The sums of a tile over the whole inner dimension.
template <unsigned Rows, unsigned N, class Isa, class A, class Element>
INTACT_INLINE gemm_tile<Isa, A, Element, Rows, N> summed_tile(const gemm_panel<Isa, A, Element>& panel, index_t m,
                                                              index_t column) {
  using packed = packed_weights<Element>;
  const matrix_view<const A>& a = panel.a;
  const A* const rows = first_of_row(a, m);
  const index_t steps = a.columns / packed::step;
  gemm_tile<Isa, A, Element, Rows, N> tile;
  tile.load(panel.start.of(column), 0);
  if (const index_t done = steps * packed::step; done < a.columns) {
    // Padding with the number that an instruction takes for 0 adds nothing, also to weights of a longer row.
    constexpr A zero = static_cast<A>(-product_dot<Isa, A, Element>::offset);
    A rest[Rows][packed::step];
    for (unsigned r = 0; r < Rows; ++r) {
      for (index_t k = 0; k < packed::step; ++k) {
        rest[r][k] = done + k < a.columns ? rows[static_cast<index_t>(r) * a.stride + done + k] : zero;
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
                                       const gemm_panel<Isa, A, Element>& panel, index_t m, index_t column) noexcept {
  const auto tile = summed_tile<Rows, N>(panel, m, column);
  simd::s32<Isa> sums[Rows][decltype(tile)::registers];
  tile.sums(sums);
  finish<Isa>(product.stage, sums, {.m = m, .n = panel.first + column, .columns = panel.columns - column}, product.y);
}

/// The sums of Rows rows of a panel, from a column on, to memory. It has no output stage, so that all stages share it.
template <unsigned Rows, class Isa, class A, class Element>
[[gnu::noinline]] void gemm_panel_sums(const gemm_panel<Isa, A, Element>& panel, index_t m, index_t begin,
                                       std::int32_t* sums) noexcept {
  for_each_tile<Isa, A, Element>(
      begin, panel.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t column) {
        summed_tile<Rows, N>(panel, m, column).store_sums(sums + (column - begin), panel_sums_stride);
      });
}

/// Columns whose activations are widened at a time, and from one row of them to the next: rows a power of two apart
/// would compete for the same banks of the L1 cache.
inline constexpr index_t gemm_chunk = 1024;
inline constexpr index_t gemm_chunk_stride = gemm_chunk + 16;

/// A row of activations in 16 bits, and zeros up to a step.
template <class Isa, class A>
INTACT_INLINE void widen_row(const A* a, index_t count, index_t step, std::int16_t* to) {
  using dot = simd::dot4<Isa, A>;
  index_t k = 0;
  for (; k + dot::widened_per_step <= count; k += dot::widened_per_step) {
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
inline constexpr index_t gemm_panels_per_pass = 4;

/// The sums of some panels for the Rows rows of a, with widened activations, chunk by chunk: `sums` has them for each
/// panel.
template <unsigned Rows, class Isa, class A, class Element>
[[gnu::noinline]] void gemm_widened_sums(const matrix_view<const A>& a, const packed_weights<Element>& w,
                                         const std::int32_t* start, index_t panel, index_t panels,
                                         panel_sums<gemm_tile_rows<Element>>* sums) noexcept {
  using packed = packed_weights<Element>;
  constexpr index_t parts = simd::lanes<Isa> / simd::dot4<Isa, A>::columns;
  constexpr index_t stride = packed::panel_width * parts;
  alignas(64) std::int16_t wide[Rows][static_cast<std::size_t>(gemm_chunk_stride)];
  alignas(64) std::int32_t partial[gemm_panels_per_pass][Rows][static_cast<std::size_t>(stride)];
  for (index_t k = 0; k == 0 || k < a.columns; k += gemm_chunk) {
    const index_t depth = a.columns - k < gemm_chunk ? a.columns - k : gemm_chunk;
    for (unsigned r = 0; r < Rows; ++r) {
      widen_row<Isa>(first_of_row(a, static_cast<index_t>(r)) + k, depth, packed::step, wide[r]);
    }
    for (index_t p = 0; p < panels; ++p) {
      const gemm_panel<Isa, A, Element> here{.a = a, .w = w, .start_of_sums = start, .number = panel + p};
      for_each_tile<Isa, A, Element>(
          0, here.columns, [&]<unsigned N>(std::integral_constant<unsigned, N>, index_t column) {
            gemm_tile<Isa, A, Element, Rows, N> tile;
            if (k == 0) {
              tile.load(here.start.of(column), 0);
            } else {
              tile.load(partial[p][0] + column * parts, stride);
            }
            tile.add_steps(wide[0], gemm_chunk_stride, packed::steps(depth), here.steps(k / packed::step, column));
            if (k + depth == a.columns) {
              tile.store_sums(sums[p].row(0) + column, panel_sums_stride);
            } else {
              tile.store(partial[p][0] + column * parts, stride);
            }
          });
    }
  }
}

/// Calls `tile` with std::integral_constant Rows and its first row for each tile of a range of rows: the largest ones,
/// then a smaller one.
template <unsigned Most, class Tile>
INTACT_INLINE void for_each_row_tile(row_range rows, const Tile& tile) {
  index_t m = rows.begin;
  for (; m + index_t{Most} <= rows.end; m += index_t{Most}) {
    tile(std::integral_constant<unsigned, Most>{}, m);
  }
  const auto rest = [&]<unsigned... Rows>(std::integer_sequence<unsigned, Rows...>) {
    const index_t count = rows.end - m;
    (void)((count == Rows + 1 && (tile(std::integral_constant<unsigned, Rows + 1>{}, m), true)) || ...);
  };
  rest(std::make_integer_sequence<unsigned, Most - 1>{});
}

/// Whether tiles of Rows rows and N accumulators per row go through the output stage in registers: of wide ones the
/// largest, which are almost all of a large product, and single rows; of those of one accumulator two rows, which are
/// the whole of a small product. The sums of the others go through memory, so that few tiles are compiled for each
/// stage: compiling them is most of the time that a unit with products takes.
template <class Isa, unsigned Rows, unsigned N, class Element, class Stage>
inline constexpr bool finishes_in_registers =
    simd::lanes<Isa> != 1 && !takes_stored_sums<Isa, Stage> &&
    (N == 1 ? Rows == 2 && stage_rows<Stage> <= 2
            : Rows == largest_tile_rows<Isa, Element> || (Rows == 1 && stage_rows<Stage> == 1));

/// The whole of a small product with widened activations: Rows rows, one chunk, and the channels of one register.
template <unsigned Rows, class Isa, class A, class Element, class Stage>
[[gnu::noinline]] void gemm_widened_tile(const gemm_operands<A, Element, Stage>& product, index_t panel,
                                         index_t first) noexcept {
  using packed = packed_weights<Element>;
  constexpr index_t parts = simd::lanes<Isa> / simd::dot4<Isa, A>::columns;
  const index_t depth = product.a.columns;
  alignas(64) std::int16_t wide[Rows][static_cast<std::size_t>(gemm_chunk_stride)];
  for (unsigned r = 0; r < Rows; ++r) {
    widen_row<Isa>(first_of_row(product.a, first + static_cast<index_t>(r)), depth, packed::step, wide[r]);
  }
  const gemm_panel<Isa, A, Element> here{
      .a = product.a, .w = product.w, .start_of_sums = product.start, .number = panel};
  gemm_tile<Isa, A, Element, Rows, static_cast<unsigned>(parts)> tile;
  tile.load(here.start.of(0), 0);
  tile.add_steps(wide[0], gemm_chunk_stride, packed::steps(depth), here.steps(0, 0));
  simd::s32<Isa> sums[Rows][1];
  tile.sums(sums);
  finish<Isa>(product.stage, sums, {.m = first, .n = here.first, .columns = here.columns}, product.y);
}

/// A range of rows of `panels` panels from `panel` on.
template <class Isa, class A, class Element, class Stage>
void gemm_rows(const gemm_operands<A, Element, Stage>& product, index_t panel, index_t panels,
               row_range rows) noexcept {
  constexpr unsigned tile_rows = largest_tile_rows<Isa, Element>;
  if constexpr (product_dot<Isa, A, Element>::widens) {
    constexpr index_t panel_width = packed_weights<Element>::panel_width;
    panel_sums<tile_rows> sums[gemm_panels_per_pass];
    for_each_row_tile<tile_rows>(rows, [&]<unsigned Rows>(std::integral_constant<unsigned, Rows>, index_t first) {
      if constexpr (finishes_in_registers<Isa, Rows, 1, Element, Stage>) {
        const index_t channels = product.w.rows - panel * panel_width;
        if (channels <= simd::lanes<Isa> && product.a.columns <= gemm_chunk) {
          gemm_widened_tile<Rows, Isa>(product, panel, first);
          return;
        }
      }
      gemm_widened_sums<Rows, Isa>(product.a.row_block(first, Rows), product.w, product.start, panel, panels, sums);
      for (index_t p = 0; p < panels; ++p) {
        const index_t n = (panel + p) * panel_width;
        const index_t columns = product.w.rows - n < panel_width ? product.w.rows - n : panel_width;
        constexpr unsigned together = Rows == tile_rows && !takes_stored_sums<Isa, Stage> ? Rows : stage_rows<Stage>;
        finish_panel<together, Isa>(product.stage, sums[p].row(0), Rows, {.m = first, .n = n, .columns = columns},
                                    product.y);
      }
    });
  } else {
    for (index_t p = panel; p < panel + panels; ++p) {
      const gemm_panel<Isa, A, Element> here{
          .a = product.a, .w = product.w, .start_of_sums = product.start, .number = p};
      for_each_row_tile<tile_rows>(rows, [&]<unsigned Rows>(std::integral_constant<unsigned, Rows>, index_t first) {
        index_t column = 0;
        const auto all_of = [&]<unsigned N>(std::integral_constant<unsigned, N>) {
          if constexpr (finishes_in_registers<Isa, Rows, N, Element, Stage>) {
            constexpr index_t width = N * product_dot<Isa, A, Element>::columns;
            for (; here.columns - column > width - simd::lanes<Isa>; column += width) {
              gemm_whole_tile<Rows, N>(product, here, first, column);
            }
          }
        };
        constexpr unsigned most = Isa::gemm_accumulators;
        all_of(std::integral_constant<unsigned, most>{});
        if constexpr (most > 2) {
          all_of(std::integral_constant<unsigned, 2>{});
        }
        if constexpr (product_dot<Isa, A, Element>::columns == simd::lanes<Isa>) {
          all_of(std::integral_constant<unsigned, 1>{});
        }
        if (column < here.columns) {
          panel_sums<Rows> sums;
          gemm_panel_sums<Rows>(here, first, column, sums.row(0));
          finish_panel<stage_rows<Stage>, Isa>(product.stage, sums.row(0), Rows,
                                               {.m = first, .n = here.first + column, .columns = here.columns - column},
                                               product.y);
        }
      });
    }
  }
}

/// Work units [begin, end) of a product: pieces of its panels, from the first panel's first rows on.
template <class Isa, class A, class Element, class Stage>
void gemm(const gemm_operands<A, Element, Stage>& product, index_t begin, index_t end) noexcept {
  if constexpr (prepared_stage<Isa, Stage>::exists) {
    using prepared = prepared_stage<Isa, Stage>;
    const prepared stage(product.stage);
    gemm<Isa>(
        gemm_operands<A, Element, prepared>{
            .a = product.a, .w = product.w, .stage = stage, .y = product.y, .start = product.start},
        begin, end);
    return;
  }
  const index_t rows = product.a.rows;
  const index_t row_tiles = gemm_row_tiles<Element>(rows);
  constexpr index_t tile_rows = gemm_tile_rows<Element>;
  while (begin < end) {
    const index_t panel = begin / row_tiles, first = begin % row_tiles;
    const index_t whole = first == 0 ? (end - begin) / row_tiles : 0;  // panels
    const index_t panels = whole < 1 ? 1 : whole < gemm_panels_per_pass ? whole : gemm_panels_per_pass;
    const index_t stop = end < (panel + panels) * row_tiles ? end : (panel + panels) * row_tiles;
    const index_t row_end = (stop - (panel + panels - 1) * row_tiles) * tile_rows;
    gemm_rows<Isa>(product, panel, panels, {.begin = first * tile_rows, .end = row_end < rows ? row_end : rows});
    begin = stop;
  }
}

/// A product with s8 weights, all of it by the caller's thread.
template <class Isa, class A, class Stage>
INTACT_INLINE void gemm_single_task(const matrix_view<A>& a, const packed_weights<std::int8_t>& w, const Stage& stage,
                                    const matrix_view<typename Stage::output>& y, const std::int32_t* start = nullptr) {
  const gemm_operands<std::uint8_t, std::int8_t, Stage> product{.a = a, .w = w, .stage = stage, .y = y, .start = start};
  gemm<Isa>(product, 0, gemm_units(a.rows, w));
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
