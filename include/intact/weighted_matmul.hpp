#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "intact/kernel/shift_matmul.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/workspace.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Most keys of a row: the sum of its weights, up to 2^15 each, stays below 2^31.
inline constexpr index_t weighted_matmul_max_keys = 65535;

/// Checks the arguments of weighted_matmul.
inline void require_weighted_matmul(const matrix_view<const std::uint8_t>& weights, const quantized_matrix& v,
                                    const row_divisor& normalization, const matrix_view<std::uint8_t>& y) {
  require_view("weighted_matmul", "v", v.codes);
  require_at_most("weighted_matmul", "rows of v", v.codes.rows, weighted_matmul_max_keys);
  require_shape("weighted_matmul", "weights", weights, weights.rows, v.codes.rows);
  require_between("weighted_matmul", "zero point of v", v.zero_point, 0, 255);
  require_row_divisor("weighted_matmul", normalization);
  require_shape("weighted_matmul", "y", y, weights.rows, v.codes.columns);
}

namespace detail {

/// Bytes of workspace for a product with V on kernels.
constexpr std::size_t value_product_bytes(index_t keys, index_t channels, index_t threads) {
  workspace_size memory;
  kernel::value_memory::take(memory, keys, channels);
  for (index_t t = 0; t < std::max<index_t>(threads, 1); ++t) {
    kernel::shift_scratch::take(memory, keys, kernel::attention_band(keys));
  }
  return memory.bytes();
}

/// Prepares V and calls multiply(values, row_range, scratch) for ranges that have all of `rows` rows between them.
template <class Isa, executor Executor, class Multiply>
void multiply_by_values(const quantized_matrix& v, index_t rows, workspace memory, const Executor& run,
                        const Multiply& multiply) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  const index_t keys = v.codes.rows, band = kernel::attention_band(keys), bands = (rows + band - 1) / band;
  const prepared_values values =
      kernel::prepare_values<Isa>(v, kernel::value_memory::take(memory, keys, v.codes.columns));
  const index_t tasks = std::clamp<index_t>(run.threads(), 1, std::max<index_t>(bands, 1));
  run.for_each(tasks, [&](index_t task) {
    const auto scratch =
        take_of_task(memory, task, [&](workspace& rest) { return kernel::shift_scratch::take(rest, keys, band); });
    const row_range mine = units_of_task(bands, task, tasks);
    multiply(values, row_range{.begin = mine.begin * band, .end = std::min(mine.end * band, rows)}, scratch);
  });
}

}  // namespace detail

/// Bytes of workspace for weighted_matmul on an instruction set, for memory of any alignment.
constexpr std::size_t weighted_matmul_workspace_bytes(index_t keys, index_t channels, index_t threads = 1) {
  return detail::value_product_bytes(keys, channels, threads);
}

/// Checks all arguments of weighted_matmul with a number of threads.
inline void require_weighted_matmul(const matrix_view<const std::uint8_t>& weights, const quantized_matrix& v,
                                    const row_divisor& normalization, const matrix_view<std::uint8_t>& y,
                                    const workspace& memory, index_t threads) {
  require_weighted_matmul(weights, v, normalization, y);
  require_workspace("weighted_matmul", memory, weighted_matmul_workspace_bytes(v.codes.rows, v.codes.columns, threads));
}

/// Attention times V with u8 weights, each row divided by the sum of its weights.
///
/// Formula:   P = sum_j w[i, j];  a = sum_j w[i, j] * (v[j, c] - zp_v)
///            y[i, c] = clamp(round(a / P * s_v / s_y + zp_y)), as row_scale in arith/scale.hpp computes it; a row of
///            zeros gives zp_y.
/// Shapes:    weights Tq x Tk, v Tk x C, y Tq x C; row-major, any strides, any alignment; sizes may be 0.
/// Units:     the normalization carries s_v / s_y, below 4; the weights' unit cancels.
/// Range:     Tk <= 65535; zero points 0..255. 64-bit sums.
/// Memory:    at least weighted_matmul_workspace_bytes(Tk, C, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    shapes that do not match, too many keys, values out of range, a workspace that is too small: before
///            anything is written.
/// Aliasing:  y must not overlap the weights or v.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section 6.
template <class Isa = isa::native, executor Executor = sequential>
void weighted_matmul(matrix_view<const std::uint8_t> weights, const quantized_matrix& v,
                     const row_divisor& normalization, matrix_view<std::uint8_t> y, workspace memory,
                     const Executor& run = {}) {
  require_weighted_matmul(weights, v, normalization, y, memory, run.threads());
  detail::multiply_by_values<Isa>(v, y.rows, memory, run, [&](const auto& values, row_range rows, const auto& scratch) {
    kernel::weighted_matmul<Isa>(weights, values, normalization, y, rows, scratch);
  });
}

}  // namespace INTACT_UNIT
}  // namespace intact
