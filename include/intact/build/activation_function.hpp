#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "intact/config/compiler.hpp"
#include "intact/config/floating_point.hpp"

// Activation functions of float models, by name. Integer models have a table of any of them.

namespace intact {
inline namespace INTACT_UNIT {

/// The function between the two layers of a perceptron.
///
///   gelu         x * Phi(x) = x / 2 * (1 + erf(x / sqrt(2)))
///   gelu_tanh    x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))
///   quick_gelu   x / (1 + exp(-1.702 * x))
///   silu         x / (1 + exp(-x))
///   relu         max(x, 0)
///   hard_swish   x * clamp(x + 3, 0, 6) / 6
enum class activation_function { gelu, gelu_tanh, quick_gelu, silu, relu, hard_swish };

/// The Gaussian error linear unit, x * Phi(x).
inline double gelu(double x) {
  return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
}

namespace detail {

/// x / (1 + exp(-slope * x)); far below 0 the exponential is infinite and the value 0.
inline double weighted_logistic(double x, double slope) {
  return x / (1 + std::exp(-slope * x));
}

/// The names of timm and of Hugging Face's transformers, the first of each function for messages.
inline constexpr std::pair<std::string_view, activation_function> activation_names[] = {
    {"gelu", activation_function::gelu},
    {"gelu_python", activation_function::gelu},
    {"gelu_tanh", activation_function::gelu_tanh},
    {"gelu_pytorch_tanh", activation_function::gelu_tanh},
    {"gelu_python_tanh", activation_function::gelu_tanh},
    {"gelu_new", activation_function::gelu_tanh},
    {"gelu_fast", activation_function::gelu_tanh},
    {"gelu_accurate", activation_function::gelu_tanh},
    {"quick_gelu", activation_function::quick_gelu},
    {"silu", activation_function::silu},
    {"swish", activation_function::silu},
    {"relu", activation_function::relu},
    {"hard_swish", activation_function::hard_swish},
    {"hardswish", activation_function::hard_swish}};

}  // namespace detail

/// The value of a function, in double. Errors of at most a few units in the last place of double.
inline double activate(activation_function function, double x) {
  switch (function) {
    case activation_function::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case activation_function::quick_gelu:
      return detail::weighted_logistic(x, 1.702);
    case activation_function::silu:
      return detail::weighted_logistic(x, 1);
    case activation_function::relu:
      return std::max(x, 0.0);
    case activation_function::hard_swish:
      return x * std::clamp(x + 3, 0.0, 6.0) / 6;
    default:
      return gelu(x);
  }
}

/// The function of a name that timm or Hugging Face's transformers give it, such as "gelu_pytorch_tanh"; none for other
/// names.
inline std::optional<activation_function> find_activation(std::string_view name) {
  for (const auto& [known, function] : detail::activation_names) {
    if (known == name) {
      return function;
    }
  }
  return std::nullopt;
}

/// timm's name of a function.
inline std::string_view activation_name(activation_function function) {
  return std::find_if(std::begin(detail::activation_names), std::end(detail::activation_names),
                      [&](const auto& one) { return one.second == function; })
      ->first;
}

/// timm's names of all functions, for messages.
inline std::string known_activations() {
  std::string all;
  for (const auto& [name, function] : detail::activation_names) {
    if (activation_name(function) == name) {
      all += (all.empty() ? "" : ", ") + std::string(name);
    }
  }
  return all;
}

}  // namespace INTACT_UNIT
}  // namespace intact
