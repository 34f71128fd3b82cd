#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "preprocess.hpp"
#include "simulation.hpp"

// How much error every part of a quantized model makes by itself: each gets what the float model gives it.

namespace intact_deit {

/// The part of a model that ends with a tensor.
struct part_error {
  std::string part;    ///< "embedding", "attention", "mlp" or "head"
  index_t block = -1;  ///< of attention and mlp
  double sqnr_db = 0;  ///< signal to quantization noise of what the part adds to the stream; of the head, of logits

  std::string text() const { return block < 0 ? part : part + " of block " + std::to_string(block); }
};

namespace detail {

/// Sums of squares of a part's outputs and of their errors.
struct signal_and_noise {
  double signal = 0, noise = 0;

  void add(const float_matrix& expected, const float_matrix& difference) {
    signal += expected.cast<double>().squaredNorm();
    noise += difference.cast<double>().squaredNorm();
  }

  /// At most 100, which is also the value without noise, and of a part that adds nothing: its ratio would mean nothing.
  double sqnr_db() const {
    constexpr double most = 100;
    if (signal == 0 || noise == 0 || !std::isfinite(signal) || !std::isfinite(noise)) {
      return most;
    }
    return std::clamp(10 * std::log10(signal / noise), -most, most);
  }
};

/// Where the parts of a model end.
inline bool ends_part(const intact::trace_site& site) {
  return site.name == "tokens" || site.name == "add1" || site.name == "add2" || site.name == "logits";
}

}  // namespace detail

/// The errors of all parts on some images, in the order of the model. `calibrated` has scales that integers compute.
inline std::vector<part_error> part_errors(const intact::float_vit& exact, const calibrated_model& calibrated,
                                           const intact::quantization_recipe& recipe,
                                           std::span<const rgb_image> images) {
  const std::map<std::string_view, std::string> names = {
      {"tokens", "embedding"}, {"add1", "attention"}, {"add2", "mlp"}, {"logits", "head"}};
  const simulated_vit simulated(exact, calibrated, recipe, all_kinds(recipe));
  std::vector<part_error> parts;
  std::vector<detail::signal_and_noise> sums;
  for (const rgb_image& image : images) {
    std::vector<float_matrix> expected;
    intact::forward(exact, image.view(), [&](const intact::trace_site& site, const float_matrix& tensor) {
      if (detail::ends_part(site)) {
        expected.push_back(tensor);
        if (expected.size() > parts.size()) {
          parts.push_back({names.at(site.name), site.block});
        }
      }
    });
    sums.resize(parts.size());
    std::size_t part = 0;
    simulated.trace(image.view(), [&](const intact::trace_site& site, float_matrix& tensor) {
      if (!detail::ends_part(site)) {
        return;
      }
      const bool is_branch = site.name == "add1" || site.name == "add2";
      const float_matrix added = is_branch ? float_matrix(expected[part] - expected[part - 1]) : expected[part];
      sums[part].add(added, tensor - expected[part]);
      tensor = expected[part++];  // what follows starts without error
    });
  }
  for (std::size_t part = 0; part < parts.size(); ++part) {
    parts[part].sqnr_db = sums[part].sqnr_db();
  }
  return parts;
}

/// The median of the parts of one kind, such as attention; of an even number of parts the mean of the middle two.
inline double median_sqnr_db(const std::vector<part_error>& parts, const std::string& kind) {
  std::vector<double> sorted;
  for (const part_error& one : parts) {
    if (one.part == kind) {
      sorted.push_back(one.sqnr_db);
    }
  }
  if (sorted.empty()) {
    return 0;
  }
  std::sort(sorted.begin(), sorted.end());
  return (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
}

/// Parts whose error is far above that of the same parts of other blocks, or large by itself: 10 dB, ten times the
/// noise, below their median, or below 6 dB, noise of a quarter of the signal. docs/accuracy.md has what ordinary
/// models reach.
inline std::vector<part_error> outliers(const std::vector<part_error>& parts) {
  constexpr double below_median = 10, least = 6;
  std::vector<part_error> found;
  std::copy_if(parts.begin(), parts.end(), std::back_inserter(found), [&](const part_error& one) {
    return one.sqnr_db < std::max(median_sqnr_db(parts, one.part) - below_median, least);
  });
  return found;
}

}  // namespace intact_deit
