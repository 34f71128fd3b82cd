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

#include "intact/quantize/eigen.hpp"
#include "intact/quantize/vit_weights.hpp"

// Rounding of a layer's weights that minimizes the error of the layer's outputs on given inputs. With the inputs'
// second moments H = X^T X, a row of weights that is wrong by e makes the squared error e H e^T.

namespace intact_deit {

using intact::float_matrix;
using intact::index_t;
using double_matrix = intact::row_major_matrix<double>;
using code_matrix = intact::row_major_matrix<std::int8_t>;

/// What the codes of a layer's weights stand for: weight (n, k) is code * scale[n] * 2^shift(n, k / group).
struct weight_steps {
  std::vector<float> scale;
  intact::row_major_matrix<std::uint8_t> shift;
  index_t group = 1;
  intact::code_range codes;

  float step(index_t n, index_t k) const { return std::ldexp(scale[static_cast<std::size_t>(n)], shift(n, k / group)); }
  int code(index_t n, index_t k, float weight) const { return intact::quantize_code(weight, {step(n, k), 0}, codes); }
};

namespace detail {

/// Chooses the power of two of each group of each row: least squared error, each column weighted by its moment.
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

/// Rounds every weight to nearest.
inline code_matrix round_to_nearest(const float_matrix& weight, const weight_steps& steps) {
  code_matrix codes(weight.rows(), weight.cols());
  for (index_t n = 0; n < weight.rows(); ++n) {
    for (index_t k = 0; k < weight.cols(); ++k) {
      codes(n, k) = static_cast<std::int8_t>(steps.code(n, k, weight(n, k)));
    }
  }
  return codes;
}

/// U of H^-1 = U^T U.
inline double_matrix factor_of_inverse(const double_matrix& moments) {
  const index_t columns = moments.rows();
  const double_matrix inverse = Eigen::LDLT<double_matrix>(moments).solve(double_matrix::Identity(columns, columns));
  return Eigen::LLT<double_matrix>(inverse).matrixU();
}

/// Rounds one column after the other, and moves the columns that are still to come so that the outputs change least: an
/// error e of column k moves column j by -e U(k, j) / U(k, k) (GPTQ, arXiv 2210.17323).
inline code_matrix round_compensated(const float_matrix& weight, const double_matrix& factor,
                                     const weight_steps& steps) {
  const index_t columns = weight.cols();
  double_matrix left = weight.cast<double>();
  code_matrix codes(weight.rows(), columns);
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

/// Codes of a layer's weights and what they stand for.
struct rounded_weights {
  weight_steps steps;
  code_matrix codes;
};

/// Rounds a layer's weights for the least squared error of its outputs. Per row, the best of several ranges; with group
/// factors, per group the best power of two. `compensate`: errors of a weight are made good by those after it; else
/// every weight is rounded to nearest.
inline rounded_weights round_weights(const float_matrix& weight, const double_matrix& moments,
                                     const intact::quantization_recipe& recipe, bool compensate) {
  const bool grouped = recipe.weights == intact::weight_kind::grouped_s4;
  const index_t rows = weight.rows();
  weight_steps steps;
  steps.codes = recipe.weights == intact::weight_kind::s8 ? intact::s8_codes : intact::s4_codes;
  steps.group = grouped ? recipe.weight_group : std::max<index_t>(weight.cols(), 1);
  steps.scale.resize(static_cast<std::size_t>(rows), intact::smallest_scale);
  steps.shift.setZero(rows, intact::group_count(weight.cols(), steps.group));
  const Eigen::VectorXf largest = weight.cwiseAbs().rowwise().maxCoeff();
  const float codes_per_range = static_cast<float>(steps.codes.high - steps.codes.low) / 2 * (grouped ? 8.0F : 1.0F);
  const double_matrix factor = compensate ? detail::factor_of_inverse(moments) : double_matrix();

  rounded_weights best{steps, code_matrix::Zero(rows, weight.cols())};
  Eigen::VectorXd least = Eigen::VectorXd::Constant(rows, std::numeric_limits<double>::infinity());
  for (float part = grouped ? 2.0F : 1.0F; part > 0.4F; part -= grouped ? 0.1F : 0.05F) {
    for (index_t n = 0; n < rows; ++n) {
      steps.scale[static_cast<std::size_t>(n)] = std::max(largest[n] * part / codes_per_range, intact::smallest_scale);
    }
    if (grouped) {
      detail::choose_shifts(weight, moments, steps);
    }
    const code_matrix codes =
        compensate ? detail::round_compensated(weight, factor, steps) : detail::round_to_nearest(weight, steps);
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

/// Codes and steps in the form that the integer model takes.
inline intact::scaled_weights pack(const rounded_weights& rounded, intact::weight_kind kind) {
  const auto& [steps, codes] = rounded;
  const std::span<const std::int8_t> all = intact::span_of(codes);
  if (kind == intact::weight_kind::s8) {
    return {intact::owned_weights({all.begin(), all.end()}, codes.rows(), codes.cols()), steps.scale};
  }
  if (kind == intact::weight_kind::s4) {
    return {intact::owned_weights::pack_s4(all, codes.rows(), codes.cols()), steps.scale};
  }
  const std::span<const std::uint8_t> shifts = intact::span_of(steps.shift);
  return {intact::owned_weights::pack_grouped_s4(all, codes.rows(), codes.cols(), {shifts.begin(), shifts.end()},
                                                 steps.group),
          steps.scale};
}

}  // namespace intact_deit
