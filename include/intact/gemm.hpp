#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "intact/kernel/activation_product.hpp"
#include "intact/kernel/gemm.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/grouped_s4.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/matrix_batch.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/quantized_matrix.hpp"
#include "intact/types/view.hpp"
#include "intact/types/workspace.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// The longest inner dimension whose accumulators fit int32 whatever the codes are: the largest |product| times K
/// stays within 2^31 - 1.
constexpr index_t gemm_max_depth(std::int64_t largest_product) {
  return static_cast<index_t>(std::numeric_limits<std::int32_t>::max() / largest_product);
}
/// u8 codes, s8 weights.
inline constexpr index_t gemm_max_depth_u8_s8 = gemm_max_depth(255 * 128);
/// s8 codes, s8 weights.
inline constexpr index_t gemm_max_depth_s8_s8 = gemm_max_depth(128 * 128);
/// u8 codes, s4 weights.
inline constexpr index_t gemm_max_depth_u8_s4 = gemm_max_depth(255 * 8);
/// s8 codes, s4 weights.
inline constexpr index_t gemm_max_depth_s8_s4 = gemm_max_depth(128 * 8);
/// u8 codes, s4 weights with group factors.
inline constexpr index_t gemm_max_depth_u8_grouped_s4 = gemm_max_depth(255 * 64);
/// u8 codes of two activations, zero points subtracted.
inline constexpr index_t gemm_max_depth_u8_u8 = gemm_max_depth(255 * 255);
static_assert(gemm_max_depth_u8_s8 == 65793 && gemm_max_depth_s8_s8 == 131071 && gemm_max_depth_u8_s4 == 1052688 &&
              gemm_max_depth_u8_grouped_s4 == 131586 && gemm_max_depth_u8_u8 == 33025);

namespace detail {

/// The largest magnitude of a weight.
template <class Weights>
constexpr std::int64_t largest_weight() {
  if constexpr (std::is_same_v<Weights, grouped_s4_view> || std::is_same_v<Weights, packed_weights<grouped_s4>>) {
    return 8 << grouped_s4_view::max_shift;
  } else {
    return std::is_same_v<typename Weights::element, s4> ? 8 : 128;
  }
}

}  // namespace detail

/// The longest inner dimension of a product of codes A with weights, packed or not: gemm_max_depth() of their types.
template <class A, class Weights>
constexpr index_t gemm_depth_limit() {
  return gemm_max_depth((std::is_unsigned_v<A> ? 255 : 128) * detail::largest_weight<Weights>());
}

/// Checks the operands of a product with weights, packed or not. Programs that choose among kernels when they run call
/// it before kernel::gemm of a unit of their own (docs/embedding.md).
///
/// Errors: shapes that do not match, K over its limit, a scale of another size.
template <class A, class Weights, class Stage>
void require_gemm(matrix_view<A> a, const Weights& w, const Stage& stage, matrix_view<typename Stage::output> y) {
  using activation = std::remove_const_t<A>;
  static_assert(std::is_same_v<activation, std::uint8_t> || std::is_same_v<activation, std::int8_t>,
                "gemm takes activations of 8 bits");
  require_view("gemm", "a", a);
  require_at_most("gemm", "columns of a", a.columns, gemm_depth_limit<activation, Weights>());
  if constexpr (requires { w.packed_columns; }) {
    require_equal("gemm", "columns of w", w.columns, a.columns);
  } else {
    static_assert(std::is_same_v<typename Weights::element, s4> ||
                      std::is_same_v<std::remove_const_t<typename Weights::element>, std::int8_t>,
                  "weights are s8 (matrix_view), s4 (packed_view) or s4 with group factors (grouped_s4_view)");
    require_shape("gemm", "w", w, w.rows, a.columns);
  }
  require_stage("gemm", stage, a.rows, w.rows);
  require_shape("gemm", "y", y, a.rows, w.rows);
}

/// Checks the operands of a product of two activations.
template <class Stage>
void require_gemm(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
                  matrix_view<typename Stage::output> y) {
  require_view("gemm", "a", a.codes);
  require_at_most("gemm", "columns of a", a.codes.columns, gemm_max_depth_u8_u8);
  require_shape("gemm", "b", b.codes, b.codes.rows, a.codes.columns);
  require_between("gemm", "zero point of a", a.zero_point, 0, 255);
  require_between("gemm", "zero point of b", b.zero_point, 0, 255);
  require_stage("gemm", stage, a.codes.rows, b.codes.rows);
  require_shape("gemm", "y", y, a.codes.rows, b.codes.rows);
}

namespace detail {

/// How many pieces each thread gets of a product, at most: more would even out threads that differ in speed, but share
/// more of the weights.
inline constexpr index_t gemm_tasks_per_thread = 2;

/// Products of two codes that a piece has at least: fewer are computed while another thread wakes up.
inline constexpr index_t gemm_work_per_task = 1 << 20;

}  // namespace detail

/// gemm() with packed weights, without its checks: the operands must satisfy require_gemm(). Units of intact::dispatch,
/// whose callers have checked them, call it.
template <class Isa, class A, class Element, class Stage, executor Executor>
void gemm_unchecked(const gemm_operands<A, Element, Stage>& product, const Executor& run) {
  const index_t units = kernel::gemm_units(product.a.rows, product.w);
  const index_t worthwhile =
      size_product(size_product(product.a.rows, product.w.rows), product.a.columns) / detail::gemm_work_per_task;
  const index_t threads = std::clamp<index_t>(run.threads(), 1, std::max<index_t>(worthwhile, 1));
  const index_t each = std::clamp<index_t>(worthwhile / threads, 1, detail::gemm_tasks_per_thread);
  const index_t tasks = threads == 1 ? std::min<index_t>(units, 1) : std::min(threads * each, units);
  run.for_each(tasks, [&](index_t task) {
    const row_range mine = units_of_task(units, task, tasks);
    kernel::gemm<Isa>(product, mine.begin, mine.end);
  });
}

/// Matrix product with packed weights, and an output stage per element.
///
/// Formula:   y[m, n] = stage(sum_k a[m, k] * w[n, k], n). raw_accumulator keeps the sums themselves; requantize<Out>
///            makes codes of the output's scale. Zero points of a are part of the stage's offsets.
/// Shapes:    a M x K, w N x K (pack_weights: one row per output channel), y M x N; row-major, any strides of at least
///            the columns, any alignment; sizes may be 0 (K = 0: the sum is 0).
/// Units:     a and w are codes; the stage's scale carries s_a * s_w[n] / s_y.
/// Range:     K <= 65793 (u8 x s8), 131071 (s8 x s8), 1052688 (u8 x s4), 2097151 (s8 x s4), 131586 (u8 x s4 with
///            group factors), 262143 (s8 x s4 with group factors): the sum is exact in int32 and never saturates.
/// Exactness: every bit, on every instruction set, with every executor. Without a byte dot product (SSE2, SSE4.1,
///            AVX2, AVX512BW, NEON) s8 weights are widened, and sums with s4 weights before they can leave 16 bits:
///            nothing saturates.
/// Errors:    shapes that do not match, K over its limit, a scale of another size: before anything is written.
/// Aliasing:  y must not overlap a, w or the stage's arrays, but for an addend or stream, which may be y exactly.
///            Inputs may be shared between threads.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT (arXiv 2111.13824), section 3; docs/numerics.md, sections 2 and 3.
template <class Isa = isa::native, class A, class Element, class Stage, executor Executor = sequential>
void gemm(matrix_view<A> a, const packed_weights<Element>& w, const Stage& stage, matrix_view<typename Stage::output> y,
          const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_gemm(a, w, stage, y);
  gemm_unchecked<Isa>(gemm_operands<std::remove_const_t<A>, Element, Stage>{.a = a, .w = w, .stage = stage, .y = y},
                      run);
}

/// Bytes of workspace for a product of two activations with N rows of b and K columns, for memory of any alignment.
constexpr std::size_t gemm_workspace_bytes(index_t rows, index_t columns, index_t depth, index_t threads = 1) {
  workspace_size memory;
  for (index_t t = 0; t < std::max<index_t>(threads, 1); ++t) {
    kernel::activation_product_memory::take(memory, rows, columns, depth);
  }
  return memory.bytes();
}

/// Checks all arguments of products of two activations with a number of threads.
template <class Stage>
void require_gemm(const quantized_batch& a, const quantized_batch& b, const Stage& stage,
                  const matrix_batch<typename Stage::output>& y, const workspace& memory, index_t threads) {
  require_at_least("gemm", "matrices of a", a.codes.count, 0);
  require_equal("gemm", "matrices of b", b.codes.count, a.codes.count);
  require_equal("gemm", "matrices of y", y.count, a.codes.count);
  if (y.count != 0) {
    require_gemm(a[0], b[0], stage, y[0]);
    require_workspace("gemm", memory,
                      gemm_workspace_bytes(y.first.rows, y.first.columns, a.codes.first.columns, threads));
  }
}

/// Matrix products of two activations, such as q * k^T of all heads.
///
/// Formula:   y[i][m, n] = stage(sum_k (a[i][m, k] - zp_a) * (b[i][n, k] - zp_b), n) for the matrices i of the batches;
///            a stage that takes rows is given m.
/// Shapes:    a[i] M x K, b[i] N x K, y[i] M x N; row-major, any strides, any alignment; sizes may be 0. As many
///            matrices in each batch.
/// Units:     the stage's scale carries s_a * s_b / s_y, and for attention the factor d^-1/2.
/// Range:     K <= 33025; zero points 0..255. Exact in int32.
/// Memory:    at least gemm_workspace_bytes(M, N, K, run.threads()) bytes. Nothing is allocated.
/// Exactness: every bit, on every instruction set, with every executor.
/// Errors:    shapes that do not match, K over its limit, a zero point out of range, a workspace that is too small:
///            before anything is written.
/// Aliasing:  y must not overlap a or b; a and b may be the same. Inputs may be shared between threads.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    FQ-ViT, section 3; docs/numerics.md, section 3.
template <class Isa = isa::native, class Stage, executor Executor = sequential>
void gemm(const quantized_batch& a, const quantized_batch& b, const Stage& stage,
          const matrix_batch<typename Stage::output>& y, workspace memory, const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_gemm(a, b, stage, y, memory, run.threads());
  if (y.count == 0) {
    return;
  }
  const index_t rows = y.first.rows, columns = y.first.columns, depth = a.codes.first.columns, count = y.count;
  const index_t threads = std::max<index_t>(run.threads(), 1);
  if (count >= threads) {
    // Whole products, each by one thread.
    run.for_each(threads, [&](index_t task) {
      const auto mine = take_of_task(memory, task, [&](workspace& rest) {
        return kernel::activation_product_memory::take(rest, rows, columns, depth);
      });
      const row_range products = units_of_task(count, task, threads);
      for (index_t i = products.begin; i < products.end; ++i) {
        const auto b_packed = kernel::pack_second_operand<Isa>(a[i], b[i], mine);
        kernel::gemm_single_task<Isa>(a[i].codes, b_packed,
                                      row_corrected<Stage>{stage, {mine.corrections, static_cast<std::size_t>(rows)}},
                                      y[i], mine.start);
      }
    });
    return;
  }
  const auto mine = kernel::activation_product_memory::take(memory, rows, columns, depth);
  for (index_t i = 0; i < count; ++i) {
    const auto b_packed = kernel::pack_second_operand<Isa>(a[i], b[i], mine);
    const row_corrected<Stage> corrected{stage, {mine.corrections, static_cast<std::size_t>(rows)}};
    gemm_unchecked<Isa>(
        gemm_operands<std::uint8_t, std::int8_t, row_corrected<Stage>>{
            .a = a[i].codes, .w = b_packed, .stage = corrected, .y = y[i], .start = mine.start},
        run);
  }
}

/// The same for one matrix each.
template <class Isa = isa::native, class Stage, executor Executor = sequential>
void gemm(const quantized_matrix& a, const quantized_matrix& b, const Stage& stage,
          matrix_view<typename Stage::output> y, workspace memory, const Executor& run = {}) {
  gemm<Isa>(quantized_batch{{a.codes}, a.zero_point}, quantized_batch{{b.codes}, b.zero_point}, stage,
            matrix_batch<typename Stage::output>{y}, memory, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
