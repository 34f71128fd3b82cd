#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "intact/build/add.hpp"
#include "intact/build/scale.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/model/attention_parameters.hpp"
#include "intact/quantize/exact_layernorm.hpp"
#include "intact/quantize/wide_integer.hpp"
#include "intact/types/attention_codes.hpp"
#include "intact/types/image.hpp"
#include "intact/types/layernorm.hpp"

// The operations in real arithmetic, from their definitions and not from the integer formulas. The codes must be those
// of the integer operations. Scales are the real numbers that the builders report (realized_scale, realized_add);
// multipliers, offsets and shifts are not used. Sums and products are exact in double. Where double cannot represent
// them, they are integers of up to 128 bits: in Log-Int-Softmax, in LayerNorm, for 8-bit attention codes, and where
// rows of attention are normalized.

namespace intact {
inline namespace INTACT_UNIT {

namespace double_precision {
namespace real {

/// A matrix of codes, row-major without gaps.
struct code_matrix {
  index_t rows = 0;                  ///< number of rows
  index_t columns = 0;               ///< number of columns
  std::vector<std::int32_t> values;  ///< row after row

  code_matrix() = default;
  /// A matrix of zeros.
  code_matrix(index_t rows_, index_t columns_)
      : rows(rows_), columns(columns_), values(static_cast<std::size_t>(rows_ * columns_)) {}
  /// Element (i, j).
  std::int32_t& operator()(index_t i, index_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
  /// Element (i, j).
  std::int32_t operator()(index_t i, index_t j) const { return values[static_cast<std::size_t>(i * columns + j)]; }
};

/// A code for every place (i, j).
template <class Code>
code_matrix make_codes(index_t rows, index_t columns, Code code) {
  code_matrix made(rows, columns);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < columns; ++j) {
      made(i, j) = code(i, j);
    }
  }
  return made;
}

/// Copies the codes of a matrix_view or of a packed_view.
template <class View>
code_matrix copy_codes(const View& view) {
  return make_codes(view.rows, view.columns,
                    [&](index_t i, index_t j) { return static_cast<std::int32_t>(view(i, j)); });
}

/// Columns [first, first + count), for example one head's share of the qkv codes.
inline code_matrix copy_columns(const code_matrix& codes, index_t first, index_t count) {
  return make_codes(codes.rows, count, [&](index_t i, index_t j) { return codes(i, first + j); });
}

/// The smallest and the largest code of an output.
struct code_range {
  double low = 0;   ///< the smallest
  double high = 0;  ///< the largest
};
inline constexpr code_range u8_codes{0, 255};                        ///< u8
inline constexpr code_range u12_codes{0, 4095};                      ///< 12 bits
inline constexpr code_range s16_codes{-32768, 32767};                ///< s16
inline constexpr code_range s32_codes{-2147483648.0, 2147483647.0};  ///< s32

/// The code nearest to a real number, and an addend that is a code: rounded first, as double need not hold the sum.
inline std::int32_t nearest_code(double y, const code_range& range, std::int32_t addend = 0) {
  return static_cast<std::int32_t>(std::clamp(std::rint(y) + addend, range.low, range.high));
}

/// Rows of real numbers that another row is to be multiplied with. Eight rows are interleaved, so that eight sums are
/// computed at a time; rows of zeros complete the last eight.
class packed_rows {
 public:
  static constexpr index_t lanes = 8;  ///< interleaved rows

  /// Element (n, k) is element(n, k).
  template <class Element>
  packed_rows(index_t rows, index_t columns, Element element)
      : rows_(rows),
        columns_(columns),
        values_(static_cast<std::size_t>((rows + lanes - 1) / lanes * lanes * columns)) {
    for (index_t n = 0; n < rows; ++n) {
      for (index_t k = 0; k < columns; ++k) {
        const index_t place = (n / lanes * columns + k) * lanes + n % lanes;
        values_[static_cast<std::size_t>(place)] = static_cast<double>(element(n, k));
      }
    }
  }

  /// The rows of any matrix with rows, columns and (n, k).
  template <class Matrix>
  explicit packed_rows(const Matrix& matrix) : packed_rows(matrix.rows, matrix.columns, matrix) {}

  index_t rows() const { return rows_; }  ///< number of rows

  /// The products of x with rows [first, first + lanes); `first` is a multiple of `lanes`.
  std::array<double, lanes> multiply(std::span<const double> x, index_t first) const {
    std::array<double, lanes> sums{};
    const double* row = values_.data() + first * columns_;
    for (const double factor : x) {
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        sums[lane] += factor * row[lane];
      }
      row += lanes;
    }
    return sums;
  }

 private:
  index_t rows_;
  index_t columns_;
  std::vector<double> values_;
};

/// y[m, n] = finish(factor[n] * sum_k value(a[m, k]) * w[n, k] + offset[n], m, n); one scale for each n, or one for
/// all.
template <class Value, class Finish>
code_matrix multiply(const code_matrix& a, Value value, const packed_rows& w, std::span<const realized_scale> scales,
                     Finish finish) {
  code_matrix y(a.rows, w.rows());
  std::vector<double> row(static_cast<std::size_t>(a.columns));
  for (index_t m = 0; m < a.rows; ++m) {
    const std::int32_t* const codes = a.values.data() + m * a.columns;
    std::transform(codes, codes + a.columns, row.begin(), value);
    for (index_t first = 0; first < w.rows(); first += packed_rows::lanes) {
      const auto sums = w.multiply(row, first);
      for (index_t n = first; n < std::min(first + packed_rows::lanes, w.rows()); ++n) {
        const realized_scale& scale = scales[scales.size() == 1 ? 0 : static_cast<std::size_t>(n)];
        y(m, n) = finish(sums[static_cast<std::size_t>(n - first)] * scale.factor + scale.offset, m, n);
      }
    }
  }
  return y;
}

/// Rounds to codes of a range.
inline auto to_codes(const code_range& range) {
  return [=](double y, index_t, index_t) { return nearest_code(y, range); };
}

/// A code is the number that is multiplied; its zero point is part of the offsets.
inline double code_value(std::int32_t code) {
  return static_cast<double>(code);
}

/// Product with weights, one row per output channel.
template <class Weights>
code_matrix gemm(const code_matrix& a, const Weights& weights, std::span<const realized_scale> scales,
                 const code_range& range = u8_codes) {
  return multiply(a, code_value, packed_rows(weights), scales, to_codes(range));
}

/// The product, rounded, and added to an s16 stream, whose codes saturate.
template <class Weights>
code_matrix add_gemm(const code_matrix& stream, const code_matrix& a, const Weights& weights,
                     std::span<const realized_scale> scales) {
  return multiply(a, code_value, packed_rows(weights), scales,
                  [&](double y, index_t m, index_t n) { return nearest_code(y, s16_codes, stream(m, n)); });
}

/// q * k^T.
inline code_matrix attention_logits(const code_matrix& q, const code_matrix& k, const qkv_zero_points& zero_points,
                                    const realized_scale& scale) {
  const packed_rows keys(k.rows, k.columns, [&](index_t n, index_t c) { return k(n, c) - zero_points.k; });
  const auto value = [&](std::int32_t code) { return static_cast<double>(code - zero_points.q); };
  return multiply(q, value, keys, std::span(&scale, 1), to_codes(u8_codes));
}

/// FQ-ViT's rounded logarithm of a whole number from 1: floor(log2 r), plus 1 from halfway to the next power of two.
inline int log_round(std::uint64_t r) {
  const int floor = 63 - std::countl_zero(r);
  const std::uint64_t power = std::uint64_t{1} << floor;
  return floor + (2 * (r - power) >= power ? 1 : 0);
}

/// The whole number nearest to s / e, the even one of two.
inline std::uint64_t nearest_quotient(std::uint64_t s, std::uint64_t e) {
  const std::uint64_t quotient = s / e;
  const std::uint64_t below = s % e, above = e - below;
  return quotient + (below > above || (below == above && quotient % 2 != 0) ? 1 : 0);
}

/// The code of weight 0; clipped codes have none: 15 is the code of all small probabilities.
inline int zero_level(attention_code policy) {
  return policy == attention_code::u4_clipped ? 15 : policy == attention_code::u8_masked ? 16 : 255;
}

/// The whole number nearest to log2(s / e): the least k for which s / e is below 2^k * sqrt(2), that is, s^2 below
/// 2 * 4^k * e^2. Never halfway: sqrt(2) is no quotient. s below 2^63, so that 128 bits hold the first square above
/// s^2.
inline int nearest_logarithm(std::uint64_t s, std::uint64_t e) {
  const uint128 square = uint128{s} * s;
  int k = 0;
  for (uint128 limit = 2 * uint128{e} * e; limit <= square; limit *= 4) {
    ++k;
  }
  return k;
}

/// The code of the exponential e in a row whose exponentials add up to s.
inline std::int32_t softmax_code(std::uint64_t s, std::uint64_t e, attention_code policy, log2_rounding rounding) {
  const int zero = zero_level(policy);
  if (e == 0) {
    return zero;
  }
  const bool of_quotient = rounding == log2_rounding::round_ratio;
  return std::min(zero, of_quotient ? log_round(nearest_quotient(s, e)) : nearest_logarithm(s, e));
}

/// The distance of every logit from its row's largest.
inline code_matrix distances(const code_matrix& logits) {
  code_matrix distance(logits.rows, logits.columns);
  for (index_t i = 0; i < logits.rows; ++i) {
    std::int32_t largest = 0;
    for (index_t j = 0; j < logits.columns; ++j) {
      largest = std::max(largest, logits(i, j));
    }
    for (index_t j = 0; j < logits.columns; ++j) {
      distance(i, j) = largest - logits(i, j);
    }
  }
  return distance;
}

/// Softmax relative to the row's largest logit: codes or weights by table.
inline code_matrix max_softmax(const code_matrix& logits, std::span<const std::uint8_t> table) {
  const code_matrix distance = distances(logits);
  return make_codes(logits.rows, logits.columns,
                    [&](index_t i, index_t j) { return table[static_cast<std::size_t>(distance(i, j))]; });
}

/// Log-Int-Softmax by its definition, with a division.
inline code_matrix log_softmax(const code_matrix& logits, exp_table<std::uint64_t> table, attention_code policy,
                               log2_rounding rounding = log2_rounding::round_ratio) {
  const code_matrix distance = distances(logits);
  code_matrix codes(logits.rows, logits.columns);
  for (index_t i = 0; i < logits.rows; ++i) {
    const auto exponential = [&](index_t j) { return table[static_cast<std::size_t>(distance(i, j))]; };
    std::uint64_t sum = 0;
    for (index_t j = 0; j < logits.columns; ++j) {
      sum += exponential(j);
    }
    for (index_t j = 0; j < logits.columns; ++j) {
      codes(i, j) = softmax_code(sum, exponential(j), policy, rounding);
    }
  }
  return codes;
}

/// 8-bit codes: probabilities are multiples of 2^-44, smaller ones count as 0, and halves are rounded up.
inline code_matrix shift_matmul_wide(const code_matrix& codes, const code_matrix& v, int zero_point,
                                     const realized_scale& scale) {
  constexpr int probability_bits = 44, scale_bits = 62, bits = probability_bits - 15 + scale_bits;
  const int128 factor = static_cast<int128>(std::ldexp(scale.factor, scale_bits));
  const int128 offset = static_cast<int128>(std::ldexp(scale.offset, scale_bits)) * power_of_two(bits - scale_bits);
  return make_codes(codes.rows, v.columns, [&](index_t i, index_t c) {
    int128 sum = 0;
    for (index_t j = 0; j < codes.columns; ++j) {
      if (codes(i, j) <= probability_bits) {
        sum += power_of_two(probability_bits - codes(i, j)) * (v(j, c) - zero_point);
      }
    }
    const int128 nearest = floor_divide(sum * factor + offset + power_of_two(bits - 1), power_of_two(bits));
    return std::int32_t{clamp_to<std::uint8_t>(nearest)};
  });
}

/// Attention times V: the sum of v * 2^-code. The scale's factor is that of accumulators in units of 2^-15.
inline code_matrix shift_matmul(const code_matrix& codes, const code_matrix& v, int zero_point,
                                const realized_scale& scale, attention_code policy) {
  if (policy == attention_code::u8_full) {
    return shift_matmul_wide(codes, v, zero_point, scale);
  }
  const auto probability = [](std::int32_t code) { return code <= 15 ? std::ldexp(1.0, -code) : 0.0; };
  const packed_rows values(v.columns, v.rows, [&](index_t c, index_t j) { return v(j, c) - zero_point; });
  const realized_scale of_ones{.factor = std::ldexp(scale.factor, 15), .offset = scale.offset};
  return multiply(codes, probability, values, std::span(&of_ones, 1), to_codes(u8_codes));
}

/// Log2 codes as weights in units of 2^-15; codes above 15 have none.
inline code_matrix weights_of_codes(const code_matrix& codes) {
  return make_codes(codes.rows, codes.columns,
                    [&](index_t i, index_t j) { return codes(i, j) <= 15 ? 1 << (15 - codes(i, j)) : 0; });
}

/// Codes as the weights that they are indices of.
inline code_matrix weights_of_codes(const code_matrix& codes, const std::vector<std::uint8_t>& weights) {
  return make_codes(codes.rows, codes.columns,
                    [&](index_t i, index_t j) { return weights[static_cast<std::size_t>(codes(i, j))]; });
}

/// The output code of a sum of weights * (v - zero point), divided by the sum of the weights. The sum is
/// multiplied with is the nearest to factor / weights of as many further fraction bits as the sum of the weights has,
/// at most 24.
inline std::int32_t normalized_code(std::int64_t sum, std::int64_t weights, const row_divisor& normalization) {
  if (weights == 0) {
    return normalization.zero_point;
  }
  int bits = 0;
  while (bits < 24 && power_of_two(bits) <= weights) {
    ++bits;
  }
  const int128 multiplier = floor_divide(normalization.factor * power_of_two(bits) + weights / 2, weights);
  const int128 offset = (2 * normalization.zero_point + 1) * power_of_two(27 + bits);
  return clamp_to<std::uint8_t>(floor_divide(sum * multiplier + offset, power_of_two(28 + bits)));
}

/// Attention times V, each row divided by the sum of its weights.
inline code_matrix weighted_average(const code_matrix& weights, const code_matrix& v, int zero_point,
                                    const row_divisor& normalization) {
  return make_codes(weights.rows, v.columns, [&](index_t i, index_t c) {
    std::int64_t sum = 0, sum_of_weights = 0;
    for (index_t j = 0; j < weights.columns; ++j) {
      sum += std::int64_t{weights(i, j)} * (v(j, c) - zero_point);
      sum_of_weights += weights(i, j);
    }
    return normalized_code(sum, sum_of_weights, normalization);
  });
}

/// LayerNorm: (x - mean) / deviation is rounded to 24 fraction bits, then gain and bias are applied. RMSNorm: the same
/// of x / root mean square.
inline code_matrix layernorm(const code_matrix& codes, const layernorm_parameters& p,
                             normalization kind = normalization::layernorm) {
  code_matrix y(codes.rows, codes.columns);
  std::vector<int128> x(static_cast<std::size_t>(codes.columns));
  for (index_t i = 0; i < codes.rows; ++i) {
    for (std::size_t c = 0; c < x.size(); ++c) {
      x[c] = (codes(i, static_cast<index_t>(c)) - p.zero_point) * power_of_two(p.shift[c]);
    }
    const exact_layernorm_row row(x, p, kind);
    for (std::size_t c = 0; c < x.size(); ++c) {
      y(i, static_cast<index_t>(c)) = exact_layernorm_code(row.normalized(x[c]), p, c);
    }
  }
  return y;
}

/// A function of one code by table.
inline code_matrix activation(const code_matrix& codes, std::span<const std::uint8_t> table) {
  return make_codes(codes.rows, codes.columns,
                    [&](index_t i, index_t j) { return table[static_cast<std::size_t>(codes(i, j))]; });
}

/// Residual addition; the zero point of the output is part of the offsets.
inline code_matrix add(const code_matrix& stream, const code_matrix& branch, std::span<const realized_add> scales,
                       int stream_zero_point, int branch_zero_point) {
  return make_codes(stream.rows, stream.columns, [&](index_t i, index_t c) {
    const realized_add& scale = scales[static_cast<std::size_t>(c)];
    const double y = (stream(i, c) - stream_zero_point) * scale.stream +
                     (branch(i, c) - branch_zero_point) * scale.branch + scale.offset;
    return nearest_code(y, u8_codes);
  });
}

/// The sum of each column, in the scale of all or of the column.
inline code_matrix pool(const code_matrix& x, std::span<const realized_scale> scale, const code_range& range) {
  return make_codes(1, x.columns, [&](index_t, index_t c) {
    double sum = 0;
    for (index_t i = 0; i < x.rows; ++i) {
      sum += x(i, c);
    }
    const realized_scale& of_column = scale[scale.size() == 1 ? 0 : static_cast<std::size_t>(c)];
    return nearest_code(sum * of_column.factor + of_column.offset, range);
  });
}

/// The samples of an image, one row per patch, each (channel, y, x).
inline code_matrix cut_patches(const image_view& image, const patch_size& patch) {
  const index_t across = image.width / patch.width, samples = patch.height * patch.width;
  return make_codes(image.height / patch.height * across, image.channels * samples, [&](index_t i, index_t j) {
    return image(j / samples, i / across * patch.height + j % samples / patch.width,
                 i % across * patch.width + j % patch.width);
  });
}

}  // namespace real
}  // namespace double_precision

}  // namespace INTACT_UNIT
}  // namespace intact
