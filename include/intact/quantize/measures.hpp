#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "intact/config/contract.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/types/view.hpp"

// Measures of how close a model's outputs are to those of a reference.

namespace intact {
inline namespace INTACT_UNIT {

/// Sums of squares of a signal and of its errors.
struct squared_error {
  double signal = 0;  ///< sum of squares
  double noise = 0;   ///< sum of squares of the errors

  /// 10 * log10(signal / noise), the signal to quantization noise ratio in decibels; infinite without noise.
  double sqnr_db() const { return 10 * std::log10(signal / noise); }
};

/// Natural logarithms of the softmax.
///
/// Formula:   x[i] - max(x) - log(sum_k exp(x[k] - max(x))), in double
/// Errors:    no logits.
template <class Real>
std::vector<double> log_probabilities(std::span<const Real> logits) {
  require_at_least("log_probabilities", "number of logits", std::ssize(logits), 1);
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const Real logit : logits) {
    sum += std::exp(static_cast<double>(logit) - largest);
  }
  std::vector<double> logs;
  for (const Real logit : logits) {
    logs.push_back(static_cast<double>(logit) - largest - std::log(sum));
  }
  return logs;
}

/// The classes of the largest logits, in descending order; of equal logits, the first. At most `count` classes.
template <class Real>
std::vector<index_t> top_classes(std::span<const Real> logits, std::size_t count) {
  std::vector<index_t> classes(logits.size());
  std::iota(classes.begin(), classes.end(), index_t{0});
  const auto logit = [&](index_t i) { return logits[static_cast<std::size_t>(i)]; };
  const auto end = classes.begin() + static_cast<std::ptrdiff_t>(std::min(count, classes.size()));
  std::partial_sort(classes.begin(), end, classes.end(),
                    [&](index_t a, index_t b) { return logit(a) > logit(b) || (logit(a) == logit(b) && a < b); });
  classes.erase(end, classes.end());
  return classes;
}

/// How close a model's logits are to those of a reference, over all images.
struct closeness {
  double agreement = 0;  ///< per cent of the images with the same largest logit
  double sqnr_db = 0;    ///< of all logits
  double kl = 0;         ///< mean of sum p * log(p / q), p the reference's probabilities, in nats
};

/// Accumulates the closeness of logits, image by image.
class closeness_meter {
 public:
  /// Errors: no logits, or different numbers of logits.
  template <class Real>
  void add(std::span<const Real> reference, std::span<const Real> found) {
    require_equal("closeness_meter", "number of logits", std::ssize(found), std::ssize(reference));
    const std::vector<double> log_p = log_probabilities(reference), log_q = log_probabilities(found);
    for (std::size_t k = 0; k < reference.size(); ++k) {
      const double expected = static_cast<double>(reference[k]);
      const double difference = static_cast<double>(found[k]) - expected;
      error_.signal += expected * expected;
      error_.noise += difference * difference;
      divergence_ += std::exp(log_p[k]) * (log_p[k] - log_q[k]);
    }
    equal_ += top_classes(reference, 1) == top_classes(found, 1);
    ++images_;
  }

  /// Not a number if nothing was added.
  closeness result() const {
    const double images = static_cast<double>(images_);
    return {.agreement = 100 * static_cast<double>(equal_) / images,
            .sqnr_db = error_.sqnr_db(),
            .kl = divergence_ / images};
  }

 private:
  squared_error error_;
  double divergence_ = 0;
  std::size_t images_ = 0, equal_ = 0;
};

}  // namespace INTACT_UNIT
}  // namespace intact
