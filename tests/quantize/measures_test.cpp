#include "intact/quantize/measures.hpp"

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "refusal.hpp"

namespace intact_test::measures_test {
namespace {

using namespace intact;

/// The Kullback-Leibler divergence of two classes with the logits 0, p from 0, q.
double divergence(double p, double q) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  return sigmoid(p) * std::log(sigmoid(p) / sigmoid(q)) + sigmoid(-p) * std::log(sigmoid(-p) / sigmoid(-q));
}

}  // namespace

TEST_CASE("top_classes: gives descending logits, of equal ones the first") {
  const std::vector<float> logits = {1, 5, 5, -2};
  CHECK(top_classes(std::span(logits), 5) == std::vector<index_t>{1, 2, 0, 3});
  CHECK(top_classes(std::span(logits), 1) == std::vector<index_t>{1});
  CHECK(top_classes(std::span(logits), 0).empty());
  CHECK(top_classes(std::span<const float>(), 3).empty());
}

TEST_CASE("log_probabilities: gives logarithms of the softmax, also of large logits") {
  const std::vector<double> logits = {1000, 1000 + std::log(3.0)};
  const std::vector<double> logs = log_probabilities(std::span(logits));
  CHECK(std::fabs(logs[0] - std::log(0.25)) < 1e-12);
  CHECK(std::fabs(logs[1] - std::log(0.75)) < 1e-12);
  CHECK(mentions(refusal([] { log_probabilities(std::span<const double>()); }),
                 "intact::log_probabilities: number of logits is 0"));
}

TEST_CASE("closeness_meter: measures agreement, SQNR and divergence over all images") {
  closeness_meter meter;
  const std::vector<float> reference = {0, 5}, near = {0, 4}, far = {3, 0};
  meter.add(std::span(reference), std::span(near));
  meter.add(std::span(reference), std::span(far));
  const closeness close = meter.result();
  CHECK(close.agreement == 50);
  CHECK(std::fabs(close.sqnr_db - 10 * std::log10(50.0 / 35)) < 1e-12);  // 25 + 25 over 1 + 9 + 25
  CHECK(std::fabs(close.kl - (divergence(5, 4) + divergence(5, -3)) / 2) < 1e-12);
  closeness_meter same;
  same.add(std::span(reference), std::span(reference));
  CHECK(same.result().kl == 0);
  CHECK(std::isinf(same.result().sqnr_db));
  CHECK(std::isnan(closeness_meter().result().agreement));
  CHECK(mentions(refusal([&] { same.add(std::span(reference), std::span(reference).first(1)); }),
                 "intact::closeness_meter: number of logits is 1"));
}

}  // namespace intact_test::measures_test
