#include "intact/quantize/weight_code_search.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "intact/quantize/reconstruction_steps.hpp"
#include "tensor.hpp"

// The search for the weights of 4-bit attention codes, against its formula in plain loops.

namespace intact_test::weight_code_search_test {
namespace {

using table_values = exp_values<std::uint8_t>;

float random_value(generator& random) {
  return static_cast<float>(random.between(-1000, 1000)) / 500;
}

float_matrix random_matrix(index_t rows, index_t columns, generator& random) {
  float_matrix matrix(rows, columns);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < columns; ++j) {
      matrix(i, j) = random_value(random);
    }
  }
  return matrix;
}

/// A value of each distance, for a row of attention.
using of_distances = std::array<double, 256>;

/// The rows of attention in double: E, channel by channel, and N.
struct attention_rows {
  std::vector<of_distances> sums;
  of_distances counts{};

  double error(const table_values& weights) const {
    const auto product = [&](const of_distances& values) {
      double sum = 0;
      for (std::size_t d = 0; d < 256; ++d) {
        sum += values[d] * weights[d];
      }
      return sum;
    };
    double all = 0;
    for (const of_distances& of_channel : sums) {
      all += product(of_channel) * product(of_channel);
    }
    return all / (product(counts) * product(counts));
  }
};

table_values random_weights(generator& random) {
  table_values weights{};
  for (std::uint8_t& weight : weights) {
    weight = static_cast<std::uint8_t>(random.between(0, 255));
  }
  return weights;
}

/// Weights of distances of codes that have the nearest weights.
table_values weights_of_codes(double scale, const code_weight_values& weights) {
  table_values table = weight_code_table(scale, weights);
  for (std::uint8_t& entry : table) {
    entry = weights[entry];
  }
  return table;
}

/// Errors in which small distances have the larger part.
attention_weight_error some_error(std::uint32_t seed) {
  generator random(seed);
  attention_weight_error error;
  for (int row = 0; row < 20; ++row) {
    float_matrix sums = random_matrix(softmax_distances, 8, random);
    float_row counts = float_row::Ones(softmax_distances);
    for (index_t d = 0; d < softmax_distances; ++d) {
      sums.row(d) /= static_cast<float>(1 + d);
    }
    sums.row(0).array() -= 1;
    error.add(sums, counts);
  }
  return error;
}

}  // namespace

TEST_CASE("attention_weight_error: is the formula's") {
  generator random(1);
  attention_weight_error found;
  attention_rows expected;
  for (const index_t columns : {1, 5, 64}) {
    const float_matrix sums = random_matrix(softmax_distances, columns, random);
    const float_row counts = random_matrix(1, softmax_distances, random).cwiseAbs();
    found.add(sums, counts);
    for (index_t c = 0; c < columns; ++c) {
      of_distances& of_channel = expected.sums.emplace_back();
      for (index_t d = 0; d < softmax_distances; ++d) {
        of_channel[static_cast<std::size_t>(d)] = static_cast<double>(sums(d, c));
      }
    }
    for (index_t d = 0; d < softmax_distances; ++d) {
      expected.counts[static_cast<std::size_t>(d)] += static_cast<double>(counts[d]);
    }
  }
  for (int n = 0; n < 10; ++n) {
    const table_values weights = random_weights(random);
    CHECK(found(weights) == Approx(expected.error(weights)).epsilon(1e-4));
  }
}

TEST_CASE("attention_of_images: weight_error is that of every eighth row and, 20-fold, of class tokens") {
  const vit_shape shape{.channels = 1,
                        .height = 4,
                        .image_width = 20,
                        .patch = 2,
                        .width = 6,
                        .heads = 2,
                        .hidden = 4,
                        .depth = 1,
                        .classes = 2};
  const index_t tokens = shape.tokens(), size = 3, images = 2;
  generator random(2);
  const float_matrix qkv = random_matrix(images * tokens, 18, random);
  const affine_scale logits{0.03F, 100};
  attention_rows expected;
  for (index_t image = 0; image < images; ++image) {
    for (index_t head = 0; head < 2; ++head) {
      const auto at = [&](index_t which, index_t token, index_t c) {
        return static_cast<double>(qkv(image * tokens + token, which * 6 + head * size + c));
      };
      for (index_t i = 0; i < tokens; i += 8) {
        std::vector<double> logit, p;
        for (index_t j = 0; j < tokens; ++j) {
          double sum = 0;
          for (index_t c = 0; c < size; ++c) {
            sum += at(0, i, c) * at(1, j, c);
          }
          logit.push_back(sum / std::sqrt(3.0));
        }
        double sum = 0;
        for (const double x : logit) {
          sum += std::exp(x);
        }
        for (const double x : logit) {
          p.push_back(std::exp(x) / sum);
        }
        const double largest = *std::max_element(p.begin(), p.end());
        const double weight = largest * std::sqrt(i == 0 ? 20.0 : 8.0);
        const auto code = [&](std::size_t j) { return std::clamp(std::nearbyint(logit[j] / 0.03) + 100, 0.0, 255.0); };
        double largest_code = 0;
        for (std::size_t j = 0; j < logit.size(); ++j) {
          largest_code = std::max(largest_code, code(j));
        }
        const std::size_t first = expected.sums.size();
        expected.sums.resize(first + static_cast<std::size_t>(size));
        for (std::size_t j = 0; j < logit.size(); ++j) {
          const auto d = static_cast<std::size_t>(largest_code - code(j));
          expected.counts[d] += weight;
          for (index_t c = 0; c < size; ++c) {
            double context = 0;
            for (std::size_t k = 0; k < logit.size(); ++k) {
              context += p[k] * at(2, static_cast<index_t>(k), c);
            }
            expected.sums[first + static_cast<std::size_t>(c)][d] +=
                weight * (at(2, static_cast<index_t>(j), c) - context);
          }
        }
      }
    }
  }
  const sequential run;
  const detail::attention_of_images<sequential> attention{shape, precise_recipe_weight_codes, run};
  const attention_weight_error found = attention.weight_error(qkv, logits);
  for (int n = 0; n < 10; ++n) {
    const table_values weights = random_weights(random);
    CHECK(found(weights) == Approx(expected.error(weights)).epsilon(1e-3));
  }
}

TEST_CASE("search_code_weights: no other number between two weights makes a smaller error") {
  for (const double scale : {0.02, 0.1, 1.0}) {
    for (std::uint32_t seed = 1; seed <= 3; ++seed) {
      const attention_weight_error error = some_error(seed);
      const code_weight_values found = search_code_weights(scale, error);
      const double least = error(weights_of_codes(scale, found));
      CHECK(least <= error(weights_of_codes(scale, geometric_code_weights)));
      CHECK(found.front() == 255);
      CHECK(found.back() == 0);
      for (std::size_t code = 1; code < 15; ++code) {
        CHECK(found[code] < found[code - 1]);
        CHECK(found[code] > found[code + 1]);
        code_weight_values other = found;
        int better = 0;
        for (int weight = found[code + 1] + 1; weight < found[code - 1]; ++weight) {
          other[code] = static_cast<std::uint8_t>(weight);
          better += error(weights_of_codes(scale, other)) < least ? 1 : 0;
        }
        CHECK(better == 0);
      }
      CHECK(search_code_weights(scale, error) == found);
    }
  }
}

}  // namespace intact_test::weight_code_search_test
