#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "intact/kernel/epilogue.hpp"
#include "intact/simd/dot4.hpp"
#include "intact/types/packed_weights.hpp"

// Matrix product with packed weights. A tile of accumulators stays in registers over the whole inner dimension and goes
// through the output stage from there. Panels are the outer loop, so that one panel of weights, which fits the L2
// cache, serves all rows; within a step of the inner dimension the tile's weights are loaded once for all its rows.

namespace intact::inline INTACT_ABI::kernel {

/// Rows of the largest tile, on every instruction set.
inline constexpr index gemm_tile_rows = 6;

/// The register tile of an instruction set: 6 rows x 4 accumulators of 32 registers, or 6 x 2 of 16.
template <class Isa>
inline constexpr unsigned gemm_tile_accumulators =
    std::is_same_v<Isa, isa::avx2> || std::is_same_v<Isa, isa::avx2_vnni> || std::is_same_v<Isa, isa::sse4_1> ? 2 : 4;

/// The work of a product in equal pieces: a unit is a panel times (up to) gemm_tile_rows rows.
template <class Element>
constexpr index gemm_units(index rows, const packed_weights<Element>& w) {
  return (rows + gemm_tile_rows - 1) / gemm_tile_rows * w.panels();
}

/// Part of a panel: what a tile reads.
struct panel_columns {
  const std::uint8_t* weights;  ///< of the tile's first column
  index step_stride;            ///< bytes from one step to the next
  const std::int32_t* start;    ///< what the accumulators' lanes start from
  index columns;                ///< that exist
};

template <class Isa, class A, class Element, unsigned Rows, unsigned N>
class gemm_tile {
  using dot = simd::dot4<Isa, A>;
  using packed = packed_weights<Element>;

 public:
  /// Registers of complete sums: an accumulator's lanes may be halves of them.
  static constexpr unsigned registers = static_cast<unsigned>(N * dot::columns / simd::lanes<Isa>);

  /// The tile's sums over `depth` columns of a.
  INTACT_INLINE static void run(const A* a, index stride, index depth, const panel_columns& panel,
                                simd::s32<Isa> (&out)[Rows][registers]) {
    accumulator tile[Rows][N];
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        tile[r][j] = dot::start(panel.start + j * simd::lanes<Isa>);
      }
    }
    const index whole_steps = depth / packed::step;
    if (const index whole = whole_steps * packed::step; whole < depth) {
      A rest[Rows][packed::step];
      copy_rest(a + whole, stride, depth - whole, rest);
      step(tile, rest[0], packed::step, panel.weights + whole_steps * panel.step_stride);
    }
    const std::uint8_t* w = panel.weights;
    for (index i = 0; i < whole_steps; ++i) {
      step(tile, a, stride, w);
      a += packed::step;
      w += panel.step_stride;
    }
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      dot::sums(tile[r], out[r]);
    }
  }

 private:
  using accumulator = typename dot::accumulator;

  /// The activation that an instruction sees as 0, so that what rounding the depth up has brought adds nothing, be it
  /// weights of a longer row.
  static constexpr A zero = static_cast<A>(-dot::offset);

  /// Four columns of a, or for s4 eight: first those of the low halves.
  INTACT_INLINE static void step(accumulator (&tile)[Rows][N], const A* a, index stride, const std::uint8_t* w) {
    if constexpr (std::is_same_v<Element, s4>) {
      multiply_add(tile, a, stride, [&](unsigned j) { return dot::load_low(w + j * weights_stride); });
      multiply_add(tile, a + packed::step / 2, stride,
                   [&](unsigned j) { return dot::load_high(w + j * weights_stride); });
    } else {
      multiply_add(tile, a, stride, [&](unsigned j) { return dot::load(w + j * weights_stride); });
    }
  }

  template <class Load>
  INTACT_INLINE static void multiply_add(accumulator (&tile)[Rows][N], const A* a, index stride, const Load& load) {
    decltype(load(0u)) weights[N];
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      weights[j] = load(j);
    }
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const auto activations = dot::broadcast(a + r * stride);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        tile[r][j] = dot::multiply_add(tile[r][j], activations, weights[j]);
      }
    }
  }

  /// Less than a step of each row, and zeros.
  INTACT_INLINE static void copy_rest(const A* a, index stride, index count, A (&rest)[Rows][packed::step]) {
    for (unsigned r = 0; r < Rows; ++r) {
      for (index k = 0; k < packed::step; ++k) {
        rest[r][k] = k < count ? a[r * stride + k] : zero;
      }
    }
  }

  static constexpr index weights_stride = dot::columns * packed::step_bytes;
};

/// What the accumulators of a panel start from: 0, or what takes back the offset that the activations are given. It is
/// read from memory in either case: compilers that know it to be 0 move parts of an output stage in front of the loop,
/// and then spill the tile.
template <class Isa, class A, class Element>
class panel_start {
  using dot = simd::dot4<Isa, A>;
  using packed = packed_weights<Element>;

 public:
  panel_start(const packed& w, index panel) noexcept {
    if constexpr (dot::offset != 0) {
      const index first = panel * packed::panel_width;
      const index width = w.width(panel);
      for (index n = 0; n < width && first + n < w.rows; ++n) {
        const std::int32_t sum = w.sums == nullptr ? sum_of(w, panel, n) : w.sums[first + n];
        lanes_[n * parts] = simd::multiply<isa::scalar>(sum, -dot::offset);
      }
    }
  }

  const std::int32_t* of(index column) const noexcept { return lanes_ + column * parts; }

 private:
  static constexpr index parts = simd::lanes<Isa> / dot::columns;

  /// The sum of a channel's first w.columns weights, for prefixes.
  static std::int32_t sum_of(const packed& w, index panel, index n) noexcept {
    const std::uint8_t* group = w.panel(panel) + n * packed::step_bytes;
    std::int32_t sum = 0;
    for (index k = 0; k < w.columns; ++k) {
      const std::uint8_t byte = group[k / packed::step * w.width(panel) * packed::step_bytes + k % packed::step_bytes];
      if constexpr (std::is_same_v<Element, s4>) {
        sum += (((k % packed::step < packed::step_bytes ? byte : byte >> 4) & 15) ^ 8) - 8;
      } else {
        sum += static_cast<std::int8_t>(byte);
      }
    }
    return sum;
  }

  alignas(64) std::int32_t lanes_[static_cast<std::size_t>(packed::panel_width * parts)] = {};
};

/// A product's operands.
template <class A, class Element, class Stage>
struct gemm_operands {
  matrix_view<const A> a;
  packed_weights<Element> w;
  const Stage& stage;
  matrix_view<typename Stage::output> y;
};

template <class Isa, unsigned Rows, unsigned N, class A, class Element, class Stage>
[[gnu::noinline]] void gemm_one_tile(const gemm_operands<A, Element, Stage>& product, const panel_columns& panel,
                                     index m, index n) noexcept {
  using tile = gemm_tile<Isa, A, Element, Rows, N>;
  simd::s32<Isa> sums[Rows][tile::registers];
  tile::run(product.a.data + m * product.a.stride, product.a.stride, product.a.columns, panel, sums);
  epilogue<Isa, Stage>::run(product.stage, sums, tile_place{m, n, panel.columns}, product.y);
}

/// All rows from `m` to `rows_end` of a tile's columns, in tiles of 6, 3, 2 and 1 rows.
template <class Isa, unsigned N, class A, class Element, class Stage>
void gemm_rows(const gemm_operands<A, Element, Stage>& product, const panel_columns& panel, index m, index rows_end,
               index n) noexcept {
  for (; m + 6 <= rows_end; m += 6) {
    gemm_one_tile<Isa, 6, N>(product, panel, m, n);
  }
  if (m + 3 <= rows_end) {
    gemm_one_tile<Isa, 3, N>(product, panel, m, n);
    m += 3;
  }
  if (m + 2 <= rows_end) {
    gemm_one_tile<Isa, 2, N>(product, panel, m, n);
    m += 2;
  }
  if (m < rows_end) {
    gemm_one_tile<Isa, 1, N>(product, panel, m, n);
  }
}

/// As many tiles of N accumulators as a panel's columns from `done` on fill; returns where they end. The last register
/// of a panel may be filled in part: the panel has been rounded up.
template <class Isa, unsigned N, class A, class Element, class Stage>
index gemm_columns(const gemm_operands<A, Element, Stage>& product, const panel_start<Isa, A, Element>& start,
                   index panel, index done, index row_begin, index row_end) noexcept {
  using packed = packed_weights<Element>;
  constexpr index width = N * simd::dot4<Isa, A>::columns;
  const packed& w = product.w;
  const index first = panel * packed::panel_width;
  const index end = w.rows - first < packed::panel_width ? w.rows - first : packed::panel_width;
  for (; end - done > width - simd::lanes<Isa>; done += width) {
    const panel_columns columns{w.panel(panel) + done * packed::step_bytes, w.width(panel) * packed::step_bytes,
                                start.of(done), end - done < width ? end - done : width};
    gemm_rows<Isa, N>(product, columns, row_begin, row_end, first + done);
  }
  return done;
}

/// Units [begin, end) of a product: pieces of its panels, from the first panel's first rows on.
template <class Isa, class A, class Element, class Stage>
void gemm(const gemm_operands<A, Element, Stage>& product, index begin, index end) noexcept {
  constexpr unsigned most = gemm_tile_accumulators<Isa>;
  constexpr bool halves = simd::lanes<Isa> != simd::dot4<Isa, A>::columns;
  const index rows = product.a.rows;
  const index row_tiles = (rows + gemm_tile_rows - 1) / gemm_tile_rows;
  while (begin < end) {
    const index panel = begin / row_tiles;
    const index panel_end = (panel + 1) * row_tiles;
    const index stop = end < panel_end ? end : panel_end;
    const index row_begin = (begin - panel * row_tiles) * gemm_tile_rows;
    const index row_stop = (stop - panel * row_tiles) * gemm_tile_rows;
    const index row_end = row_stop < rows ? row_stop : rows;
    const panel_start<Isa, A, Element> start(product.w, panel);
    index done = gemm_columns<Isa, most>(product, start, panel, 0, row_begin, row_end);
    if constexpr (most > 2) {
      done = gemm_columns<Isa, 2>(product, start, panel, done, row_begin, row_end);
    }
    if constexpr (!halves) {
      gemm_columns<Isa, 1>(product, start, panel, done, row_begin, row_end);
    }
    begin = stop;
  }
}

}  // namespace intact::inline INTACT_ABI::kernel
