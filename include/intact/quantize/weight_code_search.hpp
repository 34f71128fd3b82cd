#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "intact/build/table.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/quantize/eigen.hpp"

// A search for the 16 weights of 4-bit attention codes that make the least error of attention times V.

namespace intact {
inline namespace INTACT_UNIT {

/// The error of attention times V as a function of the weights of the distances to the maximum.
///
/// Formula:   error(w) = sum over the rows of |sum_d w[d] E[d]|^2 / (sum over the rows of sum_d w[d] N[d])^2. With
///            p[j] the true probabilities of a row and c its true context, E[d] is the sum of max(p) (v[j] - c) over
///            the keys j at distance d, and N[d] is max(p) times the number of these keys.
class attention_weight_error {
 public:
  attention_weight_error()
      : moments_(float_matrix::Zero(softmax_distances, softmax_distances)),
        counts_(float_row::Zero(softmax_distances)) {}

  /// Adds rows of attention. `sums`: softmax_distances x any number of columns, E of one row beside E of the next.
  void add(const float_matrix& sums, const float_row& counts) {
    moments_.selfadjointView<Eigen::Lower>().rankUpdate(sums);
    counts_ += counts;
  }

  /// The error of attention times V with these weights.
  double operator()(const exp_values<std::uint8_t>& weights) const {
    double error = 0, sum = 0;
    for (std::size_t a = 0; a < weights.size(); ++a) {
      const index_t row = static_cast<index_t>(a);
      double products = static_cast<double>(moments_(row, row)) * weights[a];
      for (std::size_t b = 0; b < a; ++b) {
        products += 2 * static_cast<double>(moments_(row, static_cast<index_t>(b))) * weights[b];
      }
      error += products * weights[a];
      sum += static_cast<double>(counts_[row]) * weights[a];
    }
    return error / (sum * sum);
  }

 private:
  float_matrix moments_;  ///< the lower triangle of the sum of E * E^T
  float_row counts_;
};

/// The weights of codes that make the least error at a scale of the logits, each distance having the nearest weight.
///
/// Formula:   beginning with geometric_code_weights, each weight but the first and the last in turn becomes the number
///            between its neighbours of least error, until no weight changes.
/// Errors:    as of weight_code_table.
/// Source:    docs/accuracy.md.
inline code_weight_values search_code_weights(double scale, const attention_weight_error& error) {
  const auto error_of = [&](const code_weight_values& weights) {
    exp_values<std::uint8_t> of_distances = weight_code_table(scale, weights);
    for (std::uint8_t& entry : of_distances) {
      entry = weights[entry];
    }
    return error(of_distances);
  };
  code_weight_values best = geometric_code_weights;
  double least = error_of(best);
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t code = 1; code + 1 < best.size(); ++code) {
      code_weight_values tried = best;
      for (int weight = best[code + 1] + 1; weight < best[code - 1]; ++weight) {
        tried[code] = static_cast<std::uint8_t>(weight);
        const double now = error_of(tried);
        if (now < least) {
          least = now;
          best[code] = tried[code];
          changed = true;
        }
      }
    }
  }
  return best;
}

}  // namespace INTACT_UNIT
}  // namespace intact
