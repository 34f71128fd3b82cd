// LayerNorm and RMSNorm.

#include <cstdint>
#include <span>

#include "intact/build/layernorm.hpp"
#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/status.hpp"
#include "intact/dispatch/operations.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

/// The arrays that are filled.
struct norm_arrays {
  std::int32_t* gain;
  std::int64_t* bias;
};

/// Builds the parameters with one of the builders.
template <class Build>
intact_status build_norm(const char* function, const intact_norm_spec* spec, const norm_arrays& arrays,
                         intact_norm* norm, const Build& build) {
  return status_of([&] {
    intact_norm& result = object_at({function, "norm"}, norm);
    const intact_norm_spec& from = object_at({function, "spec"}, spec);
    const layernorm_parameters built =
        build(layernorm_spec{.gamma = array_at({function, "gamma"}, from.gamma, from.channels),
                             .beta = optional_array_at({function, "beta"}, from.beta, from.channels),
                             .epsilon = from.epsilon,
                             .input_scale = from.input_scale,
                             .input_zero_point = from.input_zero_point,
                             .shift = array_at({function, "shift"}, from.shift, from.channels),
                             .output_scale = from.output_scale,
                             .output_zero_point = from.output_zero_point},
              array_at({function, "gain"}, arrays.gain, from.channels),
              array_at({function, "bias"}, arrays.bias, from.channels));
    result = {.channels = from.channels,
              .shift = from.shift,
              .gain = arrays.gain,
              .bias = arrays.bias,
              .zero_point = built.zero_point,
              .output_shift = built.output_shift,
              .epsilon = built.epsilon,
              .epsilon_fraction = built.epsilon_fraction};
  });
}

layernorm_parameters parameters_of(const char* function, const intact_norm* norm) {
  const intact_norm& from = object_at({function, "norm"}, norm);
  return {.zero_point = from.zero_point,
          .shift = array_at({function, "shift"}, from.shift, from.channels),
          .epsilon = from.epsilon,
          .gain = array_at({function, "gain"}, from.gain, from.channels),
          .bias = array_at({function, "bias"}, from.bias, from.channels),
          .output_shift = from.output_shift,
          .epsilon_fraction = from.epsilon_fraction};
}

/// Calls normalize(x, y) with matrices of the codes' types.
template <class Normalize>
void with_codes(const char* function, const intact_const_matrix* x, const intact_matrix* y,
                const Normalize& normalize) {
  const auto to = matrix_of<std::uint8_t>({function, "y"}, object_at({function, "y"}, y));
  visit_matrix<std::uint8_t, std::int16_t>({function, "x"}, object_at({function, "x"}, x),
                                           [&](const auto& from) { normalize(from, to); });
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_build_layernorm(const intact_norm_spec* spec, int32_t* gain, int64_t* bias, intact_norm* norm) {
  const auto build = [](const auto& target, const auto& gains, const auto& biases) {
    return build_layernorm(target, gains, biases);
  };
  return build_norm("intact_build_layernorm", spec, {gain, bias}, norm, build);
}

intact_status intact_build_rmsnorm(const intact_norm_spec* spec, int32_t* gain, int64_t* bias, intact_norm* norm) {
  const auto build = [](const auto& target, const auto& gains, const auto& biases) {
    return build_rmsnorm(target, gains, biases);
  };
  return build_norm("intact_build_rmsnorm", spec, {gain, bias}, norm, build);
}

intact_status intact_layernorm(const intact_const_matrix* x, const intact_norm* norm, const intact_matrix* y,
                               const intact_executor* run) {
  constexpr const char* function = "intact_layernorm";
  return status_of([&] {
    const layernorm_parameters parameters = parameters_of(function, norm);
    const executor_of_caller executor(function, run);
    with_codes(function, x, y,
               [&](const auto& from, const auto& to) { dispatch::layernorm(from, parameters, to, executor); });
  });
}

intact_status intact_rmsnorm(const intact_const_matrix* x, const intact_norm* norm, const intact_matrix* y,
                             const intact_executor* run) {
  constexpr const char* function = "intact_rmsnorm";
  return status_of([&] {
    const layernorm_parameters parameters = parameters_of(function, norm);
    const executor_of_caller executor(function, run);
    with_codes(function, x, y,
               [&](const auto& from, const auto& to) { dispatch::rmsnorm(from, parameters, to, executor); });
  });
}
