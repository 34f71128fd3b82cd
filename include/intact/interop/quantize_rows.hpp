#pragma once

#include <cmath>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>

#include "intact/config/bits_as.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/interop/float_lanes.hpp"
#include "intact/types/executor.hpp"
#include "intact/types/view.hpp"

// Dynamic quantization: each row of a float matrix gets codes and a scale of its own, when it is known.

namespace intact {
inline namespace INTACT_UNIT {

/// The zero point of the codes that quantize_rows writes.
template <class Code>
inline constexpr int row_codes_zero_point = std::is_unsigned_v<Code> ? 128 : 0;

/// The smallest largest magnitude of a row that has codes: below it, the row is taken for zeros.
inline constexpr float smallest_row_magnitude = bits_as<float>(std::uint32_t{127 - 100} << 23);  // 2^-100

/// Checks the shapes of quantize_rows.
template <class Code>
void require_quantize_rows(matrix_view<const float> x, matrix_view<Code> codes, std::span<float> scale) {
  static_assert(std::is_same_v<Code, std::uint8_t> || std::is_same_v<Code, std::int8_t>, "codes are u8 or s8");
  require_view("quantize_rows", "x", x);
  require_shape("quantize_rows", "codes", codes, x.rows, x.columns);
  require_equal("quantize_rows", "size of scale", std::ssize(scale), x.rows);
}

/// Checks the numbers of a row.
inline void require_finite_row(matrix_view<const float> x, index_t m) {
  for (index_t k = 0; k < x.columns; ++k) {
    if (!std::isfinite(x(m, k))) [[unlikely]] {
      contract_failed("intact::quantize_rows: x has the value %g at row %td, column %td; it must be finite",
                      static_cast<double>(x(m, k)), m, k);
    }
  }
}

namespace kernel {

/// Calls `piece` with a column and a count for each four registers of a row; the last ones may have fewer numbers.
template <class Isa, class Piece>
INTACT_INLINE void for_each_piece(index_t columns, const Piece& piece) {
  constexpr index_t width = 4 * simd::lanes<Isa>;
  for (index_t k = 0; k < columns; k += width) {
    piece(k, columns - k < width ? columns - k : width);
  }
}

/// The bits of infinity; those of NaN are larger.
inline constexpr std::int32_t infinite_magnitude = 0x7f800000;

/// The bits of the largest magnitude of a row, NaN being the largest.
template <class Isa>
std::int32_t largest_magnitude(const float* x, index_t columns) noexcept {
  s32<Isa> largest = simd::broadcast<Isa>(0);
  for_each_piece<Isa>(columns, [&](index_t k, index_t count) {
    f32<Isa> numbers[4];
    load_float_row<Isa>(x + k, count, numbers);
    INTACT_UNROLL
    for (unsigned j = 0; j < 4; ++j) {
      const s32<Isa> magnitude = simd::bit_and<Isa>(bits_as<s32<Isa>>(numbers[j]), simd::broadcast<Isa>(0x7fffffff));
      largest = simd::max<Isa>(largest, magnitude);
    }
  });
  alignas(64) std::int32_t lanes[static_cast<std::size_t>(simd::lanes<Isa>)];
  simd::store<Isa>(largest, lanes);
  std::int32_t result = 0;
  for (const std::int32_t lane : lanes) {
    result = lane > result ? lane : result;
  }
  return result;
}

/// The first row that has a number that is not finite; the number of rows if there is none.
template <class Isa>
index_t first_row_not_finite(matrix_view<const float> x) noexcept {
  for (index_t m = 0; x.columns != 0 && m < x.rows; ++m) {
    if (largest_magnitude<Isa>(x.data + m * x.stride, x.columns) >= infinite_magnitude) [[unlikely]] {
      return m;
    }
  }
  return x.rows;
}

/// Codes of a row of finite numbers, and its scale.
template <class Isa, class Code>
float quantize_row(const float* x, index_t columns, Code* codes) noexcept {
  const auto largest = bits_as<float>(largest_magnitude<Isa>(x, columns));
  const bool has_codes = largest >= smallest_row_magnitude;
  const f32<Isa> inverse(has_codes ? 127 / largest : 0.0f);
  for_each_piece<Isa>(columns, [&](index_t k, index_t count) {
    f32<Isa> numbers[4];
    s32<Isa> code[4];
    load_float_row<Isa>(x + k, count, numbers);
    INTACT_UNROLL
    for (unsigned j = 0; j < 4; ++j) {
      code[j] = simd::add<Isa>(nearest_integers<Isa>(rounded_lanes<Isa>(numbers[j] * inverse)),
                               simd::broadcast<Isa>(row_codes_zero_point<Code>));
    }
    store_row<Isa>(code, codes + k, count);
  });
  return has_codes ? largest / 127 : 0.0f;
}

}  // namespace kernel

namespace detail {

/// Quantizes rows of finite numbers.
template <class Isa, class Code, executor Executor>
void run_quantize_rows(matrix_view<const float> x, matrix_view<Code> codes, std::span<float> scale,
                       const Executor& run) {
  for_each_row_range(run, x.rows, rows_per_task, [&](row_range rows) {
    for (index_t m = rows.begin; m < rows.end; ++m) {
      const float* const from = x.columns == 0 ? nullptr : x.data + m * x.stride;
      Code* const to = x.columns == 0 ? nullptr : codes.data + m * codes.stride;
      scale[static_cast<std::size_t>(m)] = kernel::quantize_row<Isa>(from, x.columns, to);
    }
  });
}

}  // namespace detail

/// Codes of a float matrix, and a scale for each row, from the row's largest magnitude.
///
/// Formula:   scale[m] = fl(t / 127), codes[m, k] = rint(fl(x[m, k] * fl(127 / t))) + zp, t = max_k |x[m, k]|; fl
///            rounds to float32, rint to the nearest integer, both halves to even; zp is 0 for s8, 128 for u8. If t <
///            2^-100 the codes are zp and the scale is 0.
/// Shapes:    x and codes M x K, any strides, any alignment, sizes from 0; scale M.
/// Range:     codes are zp - 127..zp + 127.
/// Exactness: every bit, on every instruction set and with every compiler flag but those that config/floating_point.hpp
///            refuses; subnormal numbers must not be flushed.
/// Errors:    shapes that do not match, NaN and infinite numbers, naming the first: before anything is written.
/// Aliasing:  codes and scale must not overlap x.
/// Runs on:   all instruction sets; threads of the executor.
/// Source:    docs/numerics.md, section 14.
template <class Isa = isa::native, class Code, executor Executor = sequential>
void quantize_rows(matrix_view<const float> x, matrix_view<Code> codes, std::span<float> scale,
                   const Executor& run = {}) {
  static_assert(Isa::compiled, "the compiler flags of this translation unit do not allow this instruction set");
  require_quantize_rows(x, codes, scale);
  if (const index_t m = kernel::first_row_not_finite<Isa>(x); m < x.rows) [[unlikely]] {
    require_finite_row(x, m);
  }
  detail::run_quantize_rows<Isa>(x, codes, scale, run);
}

}  // namespace INTACT_UNIT
}  // namespace intact
