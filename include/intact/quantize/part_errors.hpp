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

#include "intact/config/floating_point.hpp"
#include "intact/quantize/calibrated_vit.hpp"
#include "intact/quantize/float_vit.hpp"
#include "intact/quantize/measures.hpp"
#include "intact/quantize/simulation.hpp"
#include "intact/reference/model/trace.hpp"

// The error of each part of a quantized model by itself: the inputs of each part are those of the float model.

namespace intact {
inline namespace INTACT_UNIT {

/// The part of a model that ends with a tensor.
struct part_error {
  std::string part;    ///< "embedding", "norm_pre", "attention", "mlp" or "head"
  index_t block = -1;  ///< of attention and mlp
  double sqnr_db = 0;  ///< signal to quantization noise of the part's addition to the stream; of the head, of logits

  /// The name for people.
  std::string text() const { return block < 0 ? part : part + " of block " + std::to_string(block); }
};

namespace detail {

/// The SQNR in [-100, 100] dB: -100 if the noise is not finite; else 100 without noise, and where the ratio has no
/// meaning: without a signal, or with one that is not finite.
inline double limited_sqnr_db(const squared_error& error) {
  constexpr double limit = 100;
  if (!std::isfinite(error.noise)) {
    return -limit;
  }
  if (error.signal == 0 || error.noise == 0 || !std::isfinite(error.signal)) {
    return limit;
  }
  return std::clamp(error.sqnr_db(), -limit, limit);
}

/// Whether a tensor is the last of a part.
inline bool ends_part(const trace_site& site) {
  return site.name == "tokens" || site.name == "norm_pre" || site.name == "add1" || site.name == "add2" ||
         site.name == "logits";
}

}  // namespace detail

/// The errors of all parts on some images, in the order of the model.
///
/// Formula:   10 log10(sum y^2 / sum (y' - y)^2), y the output of the part in float, y' that of the simulated integer
///            model from the same inputs; in [-100, 100].
/// Arguments: calibrated has scales that integers can represent: those of fit_scales().
/// Errors:    as of simulated_vit.
inline std::vector<part_error> part_errors(const float_vit& exact, const calibrated_vit& calibrated,
                                           const quantization_recipe& recipe, std::span<const image_view> images) {
  const std::map<std::string_view, std::string> names = {
      {"tokens", "embedding"}, {"norm_pre", "norm_pre"}, {"add1", "attention"}, {"add2", "mlp"}, {"logits", "head"}};
  const simulated_vit simulated(exact, calibrated, recipe, all_tensor_kinds(recipe));
  std::vector<part_error> parts;
  std::vector<squared_error> sums;
  for (const image_view& image : images) {
    std::vector<float_matrix> expected;
    forward(exact, image, [&](const trace_site& site, const float_matrix& tensor) {
      if (detail::ends_part(site)) {
        expected.push_back(tensor);
        if (expected.size() > parts.size()) {
          parts.push_back({names.at(site.name), site.block});
        }
      }
    });
    sums.resize(parts.size());
    std::size_t part = 0;
    simulated.trace(image, [&](const trace_site& site, float_matrix& tensor) {
      if (!detail::ends_part(site)) {
        return;
      }
      const bool is_branch = site.name == "add1" || site.name == "add2";
      const float_matrix added = is_branch ? float_matrix(expected[part] - expected[part - 1]) : expected[part];
      const float_matrix difference = tensor - expected[part];
      sums[part].signal += added.cast<double>().squaredNorm();
      sums[part].noise += difference.cast<double>().squaredNorm();
      tensor = expected[part++];  // later parts start without error
    });
  }
  for (std::size_t part = 0; part < parts.size(); ++part) {
    parts[part].sqnr_db = detail::limited_sqnr_db(sums[part]);
  }
  return parts;
}

/// The median of the parts of one kind, such as "attention"; of an even number of parts the mean of the middle two; 0
/// without such parts.
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

/// Parts with a large error: an SQNR of less than 6 dB (noise of a quarter of the signal), or 10 dB below the median of
/// the same parts of all blocks (ten times the noise). docs/accuracy.md lists the errors of ordinary models.
inline std::vector<part_error> outlier_parts(const std::vector<part_error>& parts) {
  constexpr double below_median = 10, least = 6;
  std::vector<part_error> found;
  std::copy_if(parts.begin(), parts.end(), std::back_inserter(found), [&](const part_error& one) {
    return one.sqnr_db < std::max(median_sqnr_db(parts, one.part) - below_median, least);
  });
  return found;
}

}  // namespace INTACT_UNIT
}  // namespace intact
