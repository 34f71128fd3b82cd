#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "intact/build/recipe.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/eigen.hpp"
#include "intact/quantize/vit_weights.hpp"

// Rounding of a layer's weights for the least error of the layer's outputs on given inputs. With the second moments
// H = X^T X of the inputs, an error e of a row of weights makes the squared error e H e^T.

namespace intact {
inline namespace INTACT_UNIT {

/// A row-major matrix of double.
using double_matrix = row_major_matrix<double>;

/// The steps of a layer's weights: weight (n, k) is code * scale[n] * 2^shift(n, k / group).
struct weight_steps {
  std::vector<float> scale;              ///< one per output channel
  row_major_matrix<std::uint8_t> shift;  ///< N x ceil(K / group); zeros if there are none
  index_t group = 1;                     ///< columns that share a shift
  code_range codes = s8_codes;           ///< that weights can take

  /// The step of a weight.
  float step(index_t n, index_t k) const { return std::ldexp(scale[static_cast<std::size_t>(n)], shift(n, k / group)); }
  /// The nearest code of a weight.
  int code(index_t n, index_t k, float weight) const { return quantize_code(weight, {step(n, k), 0}, codes); }
};

namespace detail {

using s8_matrix = row_major_matrix<std::int8_t>;

/// Chooses the power of two of each group of each row for the least squared error, weighted by the moments of the
/// columns.
inline void choose_shifts(const float_matrix& weight, const double_matrix& moments, weight_steps& steps) {
  for (index_t n = 0; n < weight.rows(); ++n) {
    for (index_t first = 0; first < weight.cols(); first += steps.group) {
      const index_t end = std::min(first + steps.group, weight.cols());
      double least = std::numeric_limits<double>::infinity();
      std::uint8_t best = 0;
      for (std::uint8_t shift = 0; shift <= 3; ++shift) {
        steps.shift(n, first / steps.group) = shift;
        double error = 0;
        for (index_t k = first; k < end; ++k) {
          const float rounded = static_cast<float>(steps.code(n, k, weight(n, k))) * steps.step(n, k);
          const double difference = static_cast<double>(weight(n, k) - rounded);
          error += difference * difference * moments(k, k);
        }
        if (error < least) {
          least = error;
          best = shift;
        }
      }
      steps.shift(n, first / steps.group) = best;
    }
  }
}

/// Refuses second moments that are not finite.
inline void require_finite_moments(const double_matrix& moments) {
  if (!moments.allFinite()) [[unlikely]] {
    contract_failed("intact::round_weights: moments have a value that is not finite; all must be finite");
  }
}

/// Rounds every weight to nearest.
inline s8_matrix nearest_codes(const float_matrix& weight, const weight_steps& steps) {
  s8_matrix codes(weight.rows(), weight.cols());
  for (index_t n = 0; n < weight.rows(); ++n) {
    for (index_t k = 0; k < weight.cols(); ++k) {
      codes(n, k) = static_cast<std::int8_t>(steps.code(n, k, weight(n, k)));
    }
  }
  return codes;
}

/// The upper triangular U of H^-1 = U^T U.
inline double_matrix factor_of_inverse(const double_matrix& moments) {
  const index_t columns = moments.rows();
  const double_matrix inverse = Eigen::LDLT<double_matrix>(moments).solve(double_matrix::Identity(columns, columns));
  return Eigen::LLT<double_matrix>(inverse).matrixU();
}

/// Rounds one column after the other. An error e of column k moves each later column j by -e U(k, j) / U(k, k), which
/// changes the outputs least.
inline s8_matrix round_compensated(const float_matrix& weight, const double_matrix& factor, const weight_steps& steps) {
  const index_t columns = weight.cols();
  double_matrix left = weight.cast<double>();
  s8_matrix codes(weight.rows(), columns);
  for (index_t k = 0; k < columns; ++k) {
    Eigen::VectorXd error(weight.rows());
    for (index_t n = 0; n < weight.rows(); ++n) {
      const int code = steps.code(n, k, static_cast<float>(left(n, k)));
      codes(n, k) = static_cast<std::int8_t>(code);
      error[n] = (left(n, k) - code * static_cast<double>(steps.step(n, k))) / factor(k, k);
    }
    left.rightCols(columns - k).noalias() -= error * factor.row(k).rightCols(columns - k);
  }
  return codes;
}

}  // namespace detail

/// Codes of a layer's weights and their steps.
struct rounded_weights {
  weight_steps steps;                   ///< their steps
  row_major_matrix<std::int8_t> codes;  ///< N x K
};

/// How weights become codes: each to the nearest; or so that later weights of a row compensate the errors of earlier
/// ones (GPTQ).
enum class weight_rounding { nearest, compensated };

/// Rounds a layer's weights for the least squared error of its outputs.
///
/// Formula:   per row, the scale of least e H e^T among f * max|w| / ((codes.high - codes.low) / 2), f from 1 in steps
///            of 0.05 while above 0.4. With group factors, the scale is an eighth of that, and f begins at 2 in steps
///            of 0.1; each group has the shift of 0..3 of least squared error, weighted by the diagonal of H.
///            Compensated: column k is rounded after the errors e of earlier columns j have moved it by
///            -e U(j, k) / U(j, j), with H^-1 = U^T U.
/// Shapes:    weight N x K; moments H K x K, symmetric and positive definite.
/// Errors:    shapes that do not match, values that are not finite, naming the position; a group below 1.
/// Source:    GPTQ (arXiv 2210.17323); docs/accuracy.md.
inline rounded_weights round_weights(const float_matrix& weight, const double_matrix& moments,
                                     const quantization_recipe& recipe, weight_rounding rounding) {
  require_equal("round_weights", "rows of moments", moments.rows(), weight.cols());
  require_equal("round_weights", "columns of moments", moments.cols(), weight.cols());
  require_at_least("round_weights", "weight_group", recipe.weight_group, 1);
  require_finite("round_weights", "weights", view_of(weight));
  detail::require_finite_moments(moments);
  const bool compensate = rounding == weight_rounding::compensated;
  const bool grouped = recipe.weights == weight_kind::grouped_s4;
  const index_t rows = weight.rows();
  weight_steps steps;
  steps.codes = recipe.weights == weight_kind::s8 ? s8_codes : s4_codes;
  steps.group = grouped ? recipe.weight_group : std::max<index_t>(weight.cols(), 1);
  steps.scale.resize(static_cast<std::size_t>(rows), smallest_scale);
  steps.shift.setZero(rows, group_count(weight.cols(), steps.group));
  const Eigen::VectorXf largest = weight.cwiseAbs().rowwise().maxCoeff();
  const float codes_per_range = static_cast<float>(steps.codes.high - steps.codes.low) / 2 * (grouped ? 8.0F : 1.0F);
  const double_matrix factor = compensate ? detail::factor_of_inverse(moments) : double_matrix();

  rounded_weights best{steps, detail::s8_matrix::Zero(rows, weight.cols())};
  Eigen::VectorXd least = Eigen::VectorXd::Constant(rows, std::numeric_limits<double>::infinity());
  for (float part = grouped ? 2.0F : 1.0F; part > 0.4F; part -= grouped ? 0.1F : 0.05F) {
    for (index_t n = 0; n < rows; ++n) {
      steps.scale[static_cast<std::size_t>(n)] = std::max(largest[n] * part / codes_per_range, smallest_scale);
    }
    if (grouped) {
      detail::choose_shifts(weight, moments, steps);
    }
    const detail::s8_matrix codes =
        compensate ? detail::round_compensated(weight, factor, steps) : detail::nearest_codes(weight, steps);
    double_matrix errors(rows, weight.cols());
    for (index_t n = 0; n < rows; ++n) {
      for (index_t k = 0; k < weight.cols(); ++k) {
        errors(n, k) = static_cast<double>(weight(n, k)) - codes(n, k) * static_cast<double>(steps.step(n, k));
      }
    }
    const Eigen::VectorXd error = (errors * moments).cwiseProduct(errors).rowwise().sum();
    for (index_t n = 0; n < rows; ++n) {
      if (error[n] < least[n]) {
        least[n] = error[n];
        best.steps.scale[static_cast<std::size_t>(n)] = steps.scale[static_cast<std::size_t>(n)];
        best.steps.shift.row(n) = steps.shift.row(n);
        best.codes.row(n) = codes.row(n);
      }
    }
  }
  return best;
}

/// Rounded weights as build_vit takes them; `kind` is that of the recipe.
inline scaled_weights pack_rounded_weights(const rounded_weights& rounded, weight_kind kind) {
  const auto& [steps, codes] = rounded;
  const std::span<const std::int8_t> all = span_of(codes);
  if (kind == weight_kind::s8) {
    return {owned_weights({all.begin(), all.end()}, codes.rows(), codes.cols()), steps.scale};
  }
  if (kind == weight_kind::s4) {
    return {owned_weights::pack_s4(all, codes.rows(), codes.cols()), steps.scale};
  }
  const std::span<const std::uint8_t> shifts = span_of(steps.shift);
  return {owned_weights::pack_grouped_s4(all, codes.rows(), codes.cols(), {shifts.begin(), shifts.end()}, steps.group),
          steps.scale};
}

}  // namespace INTACT_UNIT
}  // namespace intact
