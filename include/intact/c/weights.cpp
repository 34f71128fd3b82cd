// Packed weights, scales and quantization: before an operation runs.

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <vector>

#include "intact/build/activation_function.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/table.hpp"
#include "intact/build/weights.hpp"
#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/packed_weights.hpp"
#include "intact/c/status.hpp"
#include "intact/pack.hpp"
#include "intact/types/workspace.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

/// Packed weights and their handle, taken from a workspace.
struct packed_memory {
  intact_packed_weights* handle;
  std::byte* panels;

  template <class Workspace>
  static packed_memory take(Workspace& memory, index_t panel_bytes) {
    return {memory.template take<intact_packed_weights>(1), memory.template take<std::byte>(panel_bytes)};
  }
};

/// Bytes of packed panels.
index_t panel_bytes(const char* function, const intact_weights& weights) {
  index_t bytes = 0;
  visit_weights(function, weights, [&](const auto& view) {
    require_at_least("pack_weights", "rows of w", view.rows, 0);
    require_at_least("pack_weights", "columns of w", view.columns, 0);
    bytes = packed_weights_bytes(view);
  });
  return bytes;
}

std::size_t packed_memory_bytes(index_t panels) {
  workspace_size size;
  packed_memory::take(size, panels);
  return size.bytes();
}

/// Quantizes or dequantizes with a scale for all columns or one per column.
template <class Convert>
void with_scale(const char* function, const intact_scale& scale, const Convert& convert) {
  if (scale.shift == nullptr) {
    convert(affine_scale{scale.scale, scale.zero_point});
    return;
  }
  const std::span<const std::uint8_t> shift = array_at({function, "shift"}, scale.shift, scale.channels);
  convert(ptf_scale{.scale = scale.scale, .zero_point = scale.zero_point, .shift = {shift.begin(), shift.end()}});
}

/// Codes of a scale with shifts as numbers; the library's dequantize has one scale.
template <class Code>
void dequantize_matrix(matrix_view<const Code> codes, const ptf_scale& scale, matrix_view<float> x) {
  require_shape("dequantize", "y", x, codes.rows, codes.columns);
  require_equal("dequantize", "size of shift", std::ssize(scale.shift), codes.columns);
  for (const std::uint8_t shift : scale.shift) {
    require_at_most("dequantize", "shift", shift, 3);
  }
  for (index_t c = 0; c < codes.columns; ++c) {
    dequantize(codes.column_block(c, 1), scale.channel(c), x.column_block(c, 1));
  }
}
template <class Code>
void dequantize_matrix(matrix_view<const Code> codes, const affine_scale& scale, matrix_view<float> x) {
  dequantize(codes, scale, x);
}

/// The targets of a layer's channels.
std::vector<scale_spec> linear_specs(const char* function, const intact_linear_spec& spec) {
  std::vector<scale_spec> specs;
  visit_weights(function, object_at({function, "weights"}, spec.weights), [&](const auto& weights) {
    require_shape("linear_spec", "weights", weights, weights.rows, weights.columns);
    const std::span<const double> factor = array_at({function, "factor"}, spec.factor, weights.rows);
    const std::span<const double> addend = array_at({function, "addend"}, spec.addend, weights.rows);
    std::vector<std::int8_t> row(static_cast<std::size_t>(weights.columns));
    for (index_t n = 0; n < weights.rows; ++n) {
      for (index_t k = 0; k < weights.columns; ++k) {
        row[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(weights(n, k));
      }
      const linear_channel channel{.weights = row,
                                   .factor = factor[static_cast<std::size_t>(n)],
                                   .addend = addend[static_cast<std::size_t>(n)],
                                   .zero_point = spec.zero_point};
      if (spec.input == INTACT_U8) {
        specs.push_back(linear_spec<std::uint8_t>(channel));
      } else if (spec.input == INTACT_S8) {
        specs.push_back(linear_spec<std::int8_t>(channel));
      } else {
        refuse_type<std::uint8_t, std::int8_t>({function, "input"}, spec.input);
      }
    }
  });
  return specs;
}

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_packed_weights_bytes(const intact_weights* weights, size_t* bytes) {
  constexpr const char* function = "intact_packed_weights_bytes";
  return status_of([&] {
    std::size_t& result = object_at({function, "bytes"}, bytes);
    result = packed_memory_bytes(panel_bytes(function, object_at({function, "weights"}, weights)));
  });
}

intact_status intact_pack_weights(const intact_weights* weights, void* memory, size_t bytes,
                                  const intact_packed_weights** packed) {
  constexpr const char* function = "intact_pack_weights";
  return status_of([&] {
    object_at({function, "packed"}, packed) = nullptr;
    const intact_weights& from = object_at({function, "weights"}, weights);
    require_pointer({function, "memory"}, memory);
    const index_t panels = panel_bytes(function, from);
    workspace rest(memory, bytes);
    require_workspace("pack_weights", rest, packed_memory_bytes(panels));
    const packed_memory mine = packed_memory::take(rest, panels);
    const std::span<std::byte> panel_memory(mine.panels, static_cast<std::size_t>(panels));
    visit_weights(function, from, [&](const auto& view) {
      const any_packed_weights made = pack_weights(view, panel_memory);
      *packed = new (mine.handle) intact_packed_weights{made};
    });
  });
}

intact_status intact_quantize(const intact_const_matrix* x, const intact_scale* scale, const intact_matrix* codes) {
  constexpr const char* function = "intact_quantize";
  return status_of([&] {
    const matrix_view<const float> from = matrix_of<float>({function, "x"}, object_at({function, "x"}, x));
    const intact_matrix& to = object_at({function, "codes"}, codes);
    with_scale(function, object_at({function, "scale"}, scale), [&](const auto& real_scale) {
      visit_matrix<std::uint8_t, std::int8_t, std::int16_t>(
          {function, "codes"}, to, [&](const auto& view) { quantize_codes(from, real_scale, view); });
    });
  });
}

intact_status intact_dequantize(const intact_const_matrix* codes, const intact_scale* scale, const intact_matrix* x) {
  constexpr const char* function = "intact_dequantize";
  return status_of([&] {
    const intact_const_matrix& from = object_at({function, "codes"}, codes);
    const matrix_view<float> to = matrix_of<float>({function, "x"}, object_at({function, "x"}, x));
    with_scale(function, object_at({function, "scale"}, scale), [&](const auto& real_scale) {
      visit_matrix<std::uint8_t, std::int8_t, std::int16_t>(
          {function, "codes"}, from, [&](const auto& view) { dequantize_matrix(view, real_scale, to); });
    });
  });
}

intact_status intact_scale_of_range(float low, float high, intact_type type, intact_scale* scale) {
  constexpr const char* function = "intact_scale_of_range";
  return status_of([&] {
    intact_scale& result = object_at({function, "scale"}, scale);
    if (type != INTACT_U8 && type != INTACT_S8) [[unlikely]] {
      refuse_type<std::uint8_t, std::int8_t>({function, "codes"}, type);
    }
    const affine_scale built = build_affine_scale({low, high}, type == INTACT_U8 ? u8_codes : s8_codes);
    result = {.scale = built.scale, .zero_point = built.zero_point, .shift = nullptr, .channels = 0};
  });
}

intact_status intact_quantize_weights(const intact_const_matrix* weights, const intact_matrix* codes, float* scale) {
  constexpr const char* function = "intact_quantize_weights";
  return status_of([&] {
    const matrix_view<const float> from =
        matrix_of<float>({function, "weights"}, object_at({function, "weights"}, weights));
    const intact_matrix& to = object_at({function, "codes"}, codes);
    const auto copy = [&](const code_range& range, const auto& view, const auto& set) {
      require_shape("quantize_weights", "codes", view, from.rows, from.columns);
      require_view("quantize_weights", "weights", from);
      const std::span<float> scales = array_at({function, "scale"}, scale, from.rows);
      const quantized_weights quantized = quantize_weights(from, range);
      for (index_t n = 0; n < from.rows; ++n) {
        scales[static_cast<std::size_t>(n)] = quantized.scale[static_cast<std::size_t>(n)];
        for (index_t k = 0; k < from.columns; ++k) {
          set(n, k, quantized.view()(n, k));
        }
      }
    };
    if (to.type == INTACT_S4) {
      const packed_view<s4, std::uint8_t> view(static_cast<std::uint8_t*>(to.data), to.rows, to.columns, to.stride);
      copy(s4_codes, view, [&](index_t n, index_t k, int code) { view.set(n, k, code); });
    } else if (to.type == INTACT_S8) {
      const auto view = matrix_of<std::int8_t>({function, "codes"}, to);
      copy(s8_codes, view, [&](index_t n, index_t k, std::int8_t code) { view(n, k) = code; });
    } else {
      refuse_type<std::int8_t, s4>({function, "codes"}, to.type);
    }
  });
}

intact_status intact_build_linear(const intact_linear_spec* spec, int32_t* multiplier, int64_t* offset,
                                  intact_channel_scale* scale) {
  constexpr const char* function = "intact_build_linear";
  return status_of([&] {
    intact_channel_scale& result = object_at({function, "scale"}, scale);
    const std::vector<scale_spec> specs = linear_specs(function, object_at({function, "spec"}, spec));
    const channel_scale built = build_scale(specs, array_at({function, "multiplier"}, multiplier, std::ssize(specs)),
                                            array_at({function, "offset"}, offset, std::ssize(specs)));
    result = {.multiplier = multiplier,
              .offset = offset,
              .channels = std::ssize(specs),
              .shift = built.shift,
              .left_shift = built.left_shift};
  });
}

intact_status intact_build_activation(const intact_activation_spec* spec, uint8_t* table, double* input_scale,
                                      double* input_zero_point) {
  constexpr const char* function = "intact_build_activation";
  return status_of([&] {
    const intact_activation_spec& from = object_at({function, "spec"}, spec);
    double& scale = object_at({function, "input_scale"}, input_scale);
    double& zero_point = object_at({function, "input_zero_point"}, input_zero_point);
    require_choice({function, "function"}, from.function, INTACT_HARD_SWISH);
    const std::span<std::uint8_t> codes = array_at({function, "table"}, table, INTACT_ACTIVATION_TABLE_SIZE);
    const auto real = static_cast<activation_function>(from.function);
    const activation_table built =
        build_activation_table([=](double x) { return activate(real, x); }, from.low, from.high,
                               {.scale = from.output_scale, .zero_point = static_cast<double>(from.output_zero_point)});
    static_assert(std::tuple_size_v<decltype(built.codes)> == INTACT_ACTIVATION_TABLE_SIZE);
    std::copy(built.codes.begin(), built.codes.end(), codes.begin());
    scale = built.input.scale;
    zero_point = built.input.zero_point;
  });
}
