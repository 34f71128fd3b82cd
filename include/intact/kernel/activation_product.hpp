#pragma once

#include <cstdint>
#include <cstring>

#include "intact/kernel/gemm.hpp"
#include "intact/simd/byte_sum.hpp"
#include "intact/simd/transpose_bytes.hpp"
#include "intact/types/packed_weights.hpp"
#include "intact/types/quantized_matrix.hpp"

// Products of two activations. The second operand is packed as weights, recentered by 128:
//
//     sum_k (a - za) * (b - zb) = sum a * (b - 128) + (128 - zb) * sum a - za * sum (b - zb)
//
// The last term depends on the row of b alone: sums start from it. The second depends on the row of a alone: it is
// added before the output stage.

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

namespace detail {

/// Up to four of `count` codes, minus 128, as s8 in a word, followed by zeros.
INTACT_INLINE std::uint32_t recentred(const std::uint8_t* codes, index_t count) {
  std::uint32_t word = 0x80808080u;
  if (count >= 4) {
    std::memcpy(&word, codes, sizeof word);
  } else {
    std::memcpy(&word, codes, static_cast<std::size_t>(count));
  }
  return word ^ 0x80808080u;
}

}  // namespace detail

/// The second operand as packed weights, recentered by 128. `sums`: the sum of each row's recentered codes; `start`:
/// per row, the part of its sums that depends on the row alone, from which they start.
template <class Isa>
packed_weights<std::int8_t> pack_recentred(const quantized_matrix& b, int a_zero_point, std::uint8_t* memory,
                                           std::int32_t* sums, std::int32_t* start) noexcept {
  using packed = packed_weights<std::int8_t>;
  const matrix_view<const std::uint8_t>& codes = b.codes;
  const index_t depth = codes.columns;
  const packed result{.data = memory,
                      .sums = sums,
                      .rows = codes.rows,
                      .columns = depth,
                      .packed_rows = codes.rows,
                      .packed_columns = depth};
  for (index_t p = 0; p < result.panels(); ++p) {
    const index_t first = p * packed::panel_width;
    const index_t existing = codes.rows - first < packed::panel_width ? codes.rows - first : packed::panel_width;
    std::uint8_t* const to = memory + (result.panel(p) - result.data);
    const index_t stride = result.width(p) * packed::step_bytes;
    const index_t blocks = existing / 4 * 4, block_depth = depth / 16 * 16;
    for (index_t n = 0; n < blocks; n += 4) {
      const std::uint8_t* rows[4];
      for (index_t i = 0; i < 4; ++i) {
        rows[i] = codes.data + (first + n + i) * codes.stride;
      }
      simd::transpose_recentred<Isa>(rows, block_depth, to + n * packed::step_bytes, stride);
    }
    for (index_t d = 0; d < depth; d += packed::step) {
      std::uint8_t* const step = to + d / packed::step * stride;
      for (index_t n = d < block_depth ? blocks : 0; n < existing; ++n) {
        const std::uint32_t word = detail::recentred(&codes(first + n, d), depth - d);
        std::memcpy(step + n * packed::step_bytes, &word, sizeof word);
      }
      std::memset(step + existing * packed::step_bytes, 0,
                  static_cast<std::size_t>(stride - existing * packed::step_bytes));
    }
  }
  for (index_t n = 0; n < codes.rows; ++n) {
    const std::int64_t sum = simd::byte_sum<Isa>(codes.data + n * codes.stride, depth);
    if constexpr (simd::dot4<Isa, std::uint8_t>::offset != 0) {
      sums[n] = static_cast<std::int32_t>(sum - 128 * depth);
    }
    start[n] = static_cast<std::int32_t>(-a_zero_point * (sum - b.zero_point * depth));
  }
  return result;
}

/// (128 - zb) * sum a for each row of a.
template <class Isa>
void correct_rows(const matrix_view<const std::uint8_t>& a, int b_zero_point, std::int32_t* corrections) noexcept {
  for (index_t m = 0; m < a.rows; ++m) {
    const std::int64_t sum = simd::byte_sum<Isa>(first_of_row(a, m), a.columns);
    corrections[m] = static_cast<std::int32_t>((128 - b_zero_point) * sum);
  }
}

/// Memory of one product of two activations.
struct activation_product_memory {
  std::uint8_t* panels;
  std::int32_t* sums;
  std::int32_t* start;
  std::int32_t* corrections;

  template <class Workspace>
  static constexpr activation_product_memory take(Workspace& memory, index_t rows, index_t columns, index_t depth) {
    return {.panels = memory.template take<std::uint8_t>(packed_panel_bytes<std::int8_t>(columns, depth)),
            .sums = memory.template take<std::int32_t>(columns),
            .start = memory.template take<std::int32_t>(columns),
            .corrections = memory.template take<std::int32_t>(rows)};
  }
};

/// Packs b and computes the numbers of both operands' rows.
template <class Isa>
packed_weights<std::int8_t> pack_second_operand(const quantized_matrix& a, const quantized_matrix& b,
                                                const activation_product_memory& memory) noexcept {
  correct_rows<Isa>(a.codes, b.zero_point, memory.corrections);
  return pack_recentred<Isa>(b, a.zero_point, memory.panels, memory.sums, memory.start);
}

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
