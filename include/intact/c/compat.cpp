// Layers of other runtimes: their integers, in memory of the caller's.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>

#include "intact/build/compat.hpp"
#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/packed_weights.hpp"
#include "intact/c/status.hpp"
#include "intact/types/workspace.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

/// Memory of a layer, taken from a workspace.
struct compat_memory {
  intact_packed_weights* weights;
  std::int32_t* bias;
  std::int32_t* multiplier;
  std::int32_t* exponent;
  float* factor;
  std::uint8_t* panels;

  template <class Workspace>
  static compat_memory take(Workspace& memory, index_t channels, index_t inputs) {
    return {.weights = memory.template take<intact_packed_weights>(1),
            .bias = memory.template take<std::int32_t>(channels),
            .multiplier = memory.template take<std::int32_t>(channels),
            .exponent = memory.template take<std::int32_t>(channels),
            .factor = memory.template take<float>(channels),
            .panels = memory.template take<std::uint8_t>(packed_weights_bytes<std::int8_t>(channels, inputs))};
  }
};

std::size_t compat_memory_bytes(index_t channels, index_t inputs) {
  workspace_size size;
  compat_memory::take(size, channels, inputs);
  return size.bytes();
}

/// A copy of packed weights that have nothing cut off.
packed_weights<std::int8_t> copy_packed(const packed_weights<std::int8_t>& weights, std::uint8_t* memory) {
  const index_t panels = packed_panel_bytes<std::int8_t>(weights.rows, weights.columns);
  const index_t sums = static_cast<index_t>(sizeof(std::int32_t)) * weights.rows;
  std::copy_n(weights.data, panels, memory);
  std::memcpy(memory + panels, weights.sums, static_cast<std::size_t>(sums));
  packed_weights<std::int8_t> copy = weights;
  copy.data = memory;
  copy.sums = reinterpret_cast<const std::int32_t*>(memory + panels);
  return copy;
}

/// Writes the integers of a layer into memory.
intact_compat_layer store(const compat_layer& layer, const compat_memory& memory) {
  const compat_scale scale = layer.scale(0);
  std::copy(scale.bias.begin(), scale.bias.end(), memory.bias);
  std::copy(scale.multiplier.begin(), scale.multiplier.end(), memory.multiplier);
  std::copy(scale.exponent.begin(), scale.exponent.end(), memory.exponent);
  std::copy(layer.factors().begin(), layer.factors().end(), memory.factor);
  return {.weights = new (memory.weights) intact_packed_weights{copy_packed(layer.weights(), memory.panels)},
          .channels = layer.weights().rows,
          .bias = memory.bias,
          .multiplier = memory.multiplier,
          .exponent = memory.exponent,
          .factor = memory.factor,
          .row_factor = layer.row_factor()};
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_compat_layer_bytes(ptrdiff_t channels, ptrdiff_t inputs, size_t* bytes) {
  return status_of([&] {
    std::size_t& result = object_at({"intact_compat_layer_bytes", "bytes"}, bytes);
    require_at_least("compat_layer", "channels", channels, 0);
    require_at_least("compat_layer", "inputs", inputs, 0);
    result = compat_memory_bytes(channels, inputs);
  });
}

intact_status intact_build_compat(const intact_compat_spec* spec, void* memory, size_t bytes,
                                  intact_compat_layer* layer) {
  constexpr const char* function = "intact_build_compat";
  return status_of([&] {
    intact_compat_layer& result = object_at({function, "layer"}, layer);
    const intact_compat_spec& from = object_at({function, "spec"}, spec);
    require_pointer({function, "memory"}, memory);
    require_choice({function, "rule"}, from.rule, INTACT_FACTOR_TFLITE_PER_TENSOR);
    constexpr factor_rule rules[] = {factor_rule::float32, factor_rule::tflite_per_channel,
                                     factor_rule::tflite_per_tensor};
    visit_matrix<std::int8_t, std::uint8_t>({function, "weights"}, from.weights, [&](const auto& weights) {
      require_view("compat_layer", "weights", weights);
      const compat_layer_spec layer_spec{
          .input = {from.input.scale, from.input.zero_point},
          .output = {from.output_scale, 0},
          .weight_scale = array_at({function, "weight_scale"}, from.weight_scale, from.weight_scales),
          .weight_zero_point = from.weight_zero_point,
          .bias = optional_array_at({function, "bias"}, from.bias, weights.rows)};
      workspace rest(memory, bytes);
      require_workspace("compat_layer", rest, compat_memory_bytes(weights.rows, weights.columns));
      const compat_layer built(layer_spec, weights, rules[from.rule]);
      result = store(built, compat_memory::take(rest, weights.rows, weights.columns));
    });
  });
}

intact_status intact_fused_activation(const intact_scale* output, float smallest, float largest, intact_type type,
                                      int32_t* low, int32_t* high) {
  constexpr const char* function = "intact_fused_activation";
  return status_of([&] {
    const intact_scale& scale = object_at({function, "output"}, output);
    std::int32_t& first = object_at({function, "low"}, low);
    std::int32_t& last = object_at({function, "high"}, high);
    if (type != INTACT_U8 && type != INTACT_S8) [[unlikely]] {
      refuse_type<std::uint8_t, std::int8_t>({function, "codes"}, type);
    }
    const code_range codes = fused_activation_codes({scale.scale, scale.zero_point}, smallest, largest,
                                                    type == INTACT_U8 ? u8_codes : s8_codes);
    first = codes.low;
    last = codes.high;
  });
}
