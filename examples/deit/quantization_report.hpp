#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "calibration.hpp"
#include "checkpoint.hpp"
#include "intact/build/tensor_place.hpp"
#include "intact/quantize/part_errors.hpp"
#include "recipe_arguments.hpp"

// A report of a quantized model: the assumptions, the raised scales, the error of every part, and the options that
// would help.

namespace intact_deit {

/// An option, and the SQNR of the part with the largest error with it, measured with ranges as they are observed.
struct measured_option {
  std::string option;
  double sqnr_db = 0;
};

/// Prints which scales were raised, and how much that costs.
inline void print_changes(const std::string& weights, const std::vector<intact::scale_change>& changes) {
  for (const intact::scale_change& change : changes) {
    const std::string place = intact::tensor_place{change.tensor, change.block}.text();
    std::printf("  %s: the scale of %s is raised from %g to %g, so that integers compute it; its rounding errors",
                weights.c_str(), place.substr(place.find(' ') + 1).c_str(), change.observed, change.raised);
    std::printf(" are %.3g times as large\n", change.raised / change.observed);
  }
}

class quantization_report {
 public:
  quantization_report(std::vector<assumption> assumptions, std::vector<intact::scale_change> changes)
      : assumptions_(std::move(assumptions)), changes_(std::move(changes)) {}

  /// The errors of all parts, of a model that has them.
  void set_parts(std::vector<intact::part_error> parts) {
    parts_ = std::move(parts);
    outliers_ = intact::outlier_parts(parts_);
  }

  /// Of the integer model's logits, of a model whose parts are not measured.
  void set_logits_sqnr_db(double sqnr_db) { logits_sqnr_db_ = sqnr_db; }

  /// Measures, if a part is an outlier, what other options would make of the part with the largest error; keeps those
  /// that halve its noise. They are measured with the method observe, which takes seconds.
  void try_options(const intact::float_vit& model, const calibration_arguments& calibration,
                   const recipe_arguments& arguments, std::span<const intact::image_view> images, std::size_t threads) {
    if (outliers_.empty()) {
      return;
    }
    const std::size_t worst =
        static_cast<std::size_t>(std::min_element(parts_.begin(), parts_.end(), less_sqnr) - parts_.begin());
    const auto measure = [&](const std::string& option, bool equalize, const recipe_arguments& other) {
      try {
        const intact::quantization_recipe recipe = other.recipe();
        const intact::calibrated_vit calibrated =
            calibration.quick(equalize).calibrate(model, images, recipe, threads).model;
        const double sqnr_db = intact::part_errors(model, calibrated, recipe, images)[worst].sqnr_db;
        if (sqnr_db > parts_[worst].sqnr_db + 3) {
          options_.push_back({option, sqnr_db});
        }
      } catch (const std::invalid_argument&) {  // an option that this model cannot have does not help
      }
    };
    if (!calibration.equalizes()) {
      measure("--equalize", true, arguments);
    }
    if (arguments.name() == "paper") {
      measure("--profile precise", calibration.equalizes(), arguments.with("precise", arguments.bits()));
    }
    const std::string wide = "8/8/8";
    if (arguments.bits() != wide) {
      measure("--bits " + wide, calibration.equalizes(), arguments.with(arguments.name(), wide));
    }
    std::sort(options_.begin(), options_.end(),
              [](const measured_option& a, const measured_option& b) { return a.sqnr_db > b.sqnr_db; });
  }

  void print(const std::string& weights) const {
    for (const assumption& one : assumptions_) {
      std::printf("  %-13s %s (%s)\n", one.what.c_str(), one.value.c_str(), one.source.c_str());
    }
    print_changes(weights, changes_);
    if (logits_sqnr_db_) {
      std::printf("  SQNR of the logits: %.1f dB\n", *logits_sqnr_db_);
    }
    for (const char* separator = "  SQNR of each part by itself: "; const std::string& kind : kinds()) {
      std::printf("%s%s %.1f dB", std::exchange(separator, ", "), kind.c_str(), intact::median_sqnr_db(parts_, kind));
    }
    std::printf("%s", parts_.empty() ? "" : "\n");
    for (const intact::part_error& one : outliers_) {
      std::printf("warning: %s: %s has much error: SQNR %.1f dB; the median of the same parts is %.1f dB\n",
                  weights.c_str(), one.text().c_str(), one.sqnr_db, intact::median_sqnr_db(parts_, one.part));
    }
    for (const measured_option& one : options_) {
      std::printf("warning: %s: where the error is largest, %s gives %.1f dB, measured with --method %s\n",
                  weights.c_str(), one.option.c_str(), one.sqnr_db, measuring_method);
    }
    if (!outliers_.empty() && options_.empty()) {
      std::printf("warning: %s: no option that was tried halves the noise\n", weights.c_str());
    }
  }

  nlohmann::json json() const {
    nlohmann::json all = {{"assumptions", nlohmann::json::object()}, {"raised_scales", nlohmann::json::array()},
                          {"parts", nlohmann::json::array()},        {"median_sqnr_db", nlohmann::json::object()},
                          {"warnings", nlohmann::json::array()},     {"better_options", nlohmann::json::array()}};
    for (const std::string& kind : kinds()) {
      all["median_sqnr_db"][kind] = intact::median_sqnr_db(parts_, kind);
    }
    for (const assumption& one : assumptions_) {
      all["assumptions"][one.what] = {{"value", one.value}, {"source", one.source}};
    }
    for (const intact::scale_change& change : changes_) {
      all["raised_scales"].push_back({{"tensor", change.tensor},
                                      {"block", change.block},
                                      {"observed", change.observed},
                                      {"raised", change.raised}});
    }
    const auto part = [](const intact::part_error& one) {
      return nlohmann::json{{"part", one.part}, {"block", one.block}, {"sqnr_db", one.sqnr_db}};
    };
    if (logits_sqnr_db_) {
      all["logits_sqnr_db"] = *logits_sqnr_db_;
    }
    std::transform(parts_.begin(), parts_.end(), std::back_inserter(all["parts"]), part);
    std::transform(outliers_.begin(), outliers_.end(), std::back_inserter(all["warnings"]), part);
    for (const measured_option& one : options_) {
      all["better_options"].push_back({{"option", one.option}, {"method", measuring_method}, {"sqnr_db", one.sqnr_db}});
    }
    return all;
  }

 private:
  static constexpr const char* measuring_method = "observe";  // of calibration_arguments::quick
  /// The kinds of parts that the model has, each once.
  std::vector<std::string> kinds() const {
    std::vector<std::string> found;
    for (const intact::part_error& one : parts_) {
      if (std::find(found.begin(), found.end(), one.part) == found.end()) {
        found.push_back(one.part);
      }
    }
    return found;
  }

  static bool less_sqnr(const intact::part_error& a, const intact::part_error& b) { return a.sqnr_db < b.sqnr_db; }

  std::vector<assumption> assumptions_;
  std::vector<intact::scale_change> changes_;
  std::vector<intact::part_error> parts_, outliers_;
  std::optional<double> logits_sqnr_db_;
  std::vector<measured_option> options_;
};

}  // namespace intact_deit
