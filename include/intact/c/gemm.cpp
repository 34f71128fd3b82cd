// Products with weights.

#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <variant>

#include "intact/c/intact.h"
#include "intact/c/matrices.hpp"
#include "intact/c/packed_weights.hpp"
#include "intact/c/status.hpp"
#include "intact/dispatch/operations.hpp"
#include "intact/interop/dispatch/operations.hpp"
#include "intact/stage/compat.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/row_corrected.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace c {
namespace {

/// The operands of a product, and its executor.
class product_of_caller {
 public:
  product_of_caller(const char* function, const intact_product* product, const intact_executor* run)
      : function_(function),
        product_(object_at({function, "product"}, product)),
        weights_(object_at({function, "weights"}, product_.weights).weights),
        run_(function, run) {}

  index_t rows() const { return product_.a.rows; }
  index_t channels() const {
    return std::visit([](const auto& w) { return w.rows; }, weights_);
  }

  /// Computes the product with a stage, to a matrix whose elements are the stage's outputs.
  template <class Stage>
  void operator()(const Stage& stage) const {
    const auto y = matrix_of<typename Stage::output>({function_, "y"}, product_.y);
    visit_a([&](const auto& a) { std::visit([&](const auto& w) { dispatch::gemm(a, w, stage, y, run_); }, weights_); });
  }

  /// The same for s8 weights that have a zero point.
  template <class Stage>
  void operator()(const row_corrected<Stage>& stage) const {
    const auto* const w = std::get_if<packed_weights<std::int8_t>>(&weights_);
    if (w == nullptr) [[unlikely]] {
      contract_failed("%s: row_correction is given; weights must be INTACT_S8 then", function_);
    }
    const auto y = matrix_of<typename Stage::output>({function_, "y"}, product_.y);
    visit_a([&](const auto& a) { dispatch::gemm(a, *w, stage, y, run_); });
  }

  /// Calls visit(Out) with an object of y's element type.
  template <class... Outputs, class Visit>
  void visit_output(const Visit& visit) const {
    visit_matrix<Outputs...>({function_, "y"}, product_.y, [&](const auto& y) {
      using output = typename std::remove_cvref_t<decltype(y)>::element;
      visit(output());
    });
  }

 private:
  template <class Visit>
  void visit_a(const Visit& visit) const {
    visit_matrix<std::uint8_t, std::int8_t>({function_, "a"}, product_.a, visit);
  }

  const char* function_;
  const intact_product& product_;
  const any_packed_weights& weights_;
  executor_of_caller run_;
};

channel_scale scale_of(const char* function, const intact_channel_scale* scale) {
  const intact_channel_scale& from = object_at({function, "scale"}, scale);
  return {.multiplier = array_at({function, "multiplier"}, from.multiplier, from.channels),
          .offset = array_at({function, "offset"}, from.offset, from.channels),
          .shift = from.shift,
          .left_shift = from.left_shift};
}

/// The stage of codes of a type, and its limits.
template <class Out>
class compat_stage_of {
 public:
  compat_stage_of(const char* function, const intact_compat_layer& layer, const intact_compat_stage& stage)
      : function_(function), layer_(layer), stage_(stage) {
    constexpr int lowest = std::numeric_limits<Out>::min(), highest = std::numeric_limits<Out>::max();
    require_choice({function, "rounding"}, stage.rounding, INTACT_ROUND_DOUBLE);
    low_ = high_ = 0;
    if (stage.low == stage.high) {
      low_ = lowest;
      high_ = highest;
      return;
    }
    for (const int limit : {stage.low, stage.high}) {
      if (limit < lowest || limit > highest) [[unlikely]] {
        contract_failed("%s: codes are clamped to %d..%d; the output's are %d..%d", function, stage.low, stage.high,
                        lowest, highest);
      }
    }
    low_ = static_cast<Out>(stage.low);
    high_ = static_cast<Out>(stage.high);
  }

  /// Calls run(stage) with the stage of the rounding.
  template <class Run>
  void visit(const Run& run) const {
    const std::span<const std::int32_t> bias = array_at({function_, "bias"}, layer_.bias, layer_.channels);
    if (stage_.rounding == INTACT_ROUND_FLOAT32) {
      run(float_rounding<Out>{.bias = bias,
                              .factor = array_at({function_, "factor"}, layer_.factor, layer_.channels),
                              .zero_point = stage_.zero_point,
                              .low = low_,
                              .high = high_});
      return;
    }
    const compat_scale scale{.bias = bias,
                             .multiplier = array_at({function_, "multiplier"}, layer_.multiplier, layer_.channels),
                             .exponent = array_at({function_, "exponent"}, layer_.exponent, layer_.channels),
                             .zero_point = stage_.zero_point};
    if (stage_.rounding == INTACT_ROUND_HALF_EVEN) {
      run(round_half_to_even<Out>{scale, low_, high_});
    } else if (stage_.rounding == INTACT_ROUND_SINGLE) {
      run(single_rounding<Out>{scale, low_, high_});
    } else {
      run(double_rounding<Out>{scale, low_, high_});
    }
  }

 private:
  const char* function_;
  const intact_compat_layer& layer_;
  const intact_compat_stage& stage_;
  Out low_, high_;
};

}  // namespace
}  // namespace c
}  // namespace INTACT_UNIT
}  // namespace intact

using namespace intact;
using namespace intact::c;

intact_status intact_gemm(const intact_product* product, const intact_executor* run) {
  return status_of([&] { product_of_caller("intact_gemm", product, run)(raw_accumulator{}); });
}

intact_status intact_gemm_requantize(const intact_product* product, const intact_channel_scale* scale,
                                     const intact_executor* run) {
  constexpr const char* function = "intact_gemm_requantize";
  return status_of([&] {
    const product_of_caller mine(function, product, run);
    const channel_scale of_channels = scale_of(function, scale);
    mine.visit_output<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::int32_t>([&](auto code) {
      if constexpr (std::is_same_v<decltype(code), std::uint16_t>) {
        mine(requantize_u12{of_channels});
      } else {
        mine(requantize<decltype(code)>{of_channels});
      }
    });
  });
}

intact_status intact_gemm_activation(const intact_product* product, const intact_channel_scale* scale,
                                     const uint8_t* table, const intact_executor* run) {
  constexpr const char* function = "intact_gemm_activation";
  return status_of([&] {
    const product_of_caller mine(function, product, run);
    mine(requantize_lut{scale_of(function, scale), array_at({function, "table"}, table, INTACT_ACTIVATION_TABLE_SIZE)});
  });
}

intact_status intact_gemm_compat(const intact_product* product, const intact_compat_layer* layer,
                                 const intact_compat_stage* stage, const intact_executor* run) {
  constexpr const char* function = "intact_gemm_compat";
  return status_of([&] {
    const product_of_caller mine(function, product, run);
    const intact_compat_layer& arrays = object_at({function, "layer"}, layer);
    const intact_compat_stage& how = object_at({function, "stage"}, stage);
    mine.visit_output<std::uint8_t, std::int8_t>([&](auto code) {
      compat_stage_of<decltype(code)>(function, arrays, how).visit([&](const auto& rounds) {
        if (how.row_correction == nullptr) {
          mine(rounds);
        } else {
          mine(row_corrected<std::remove_cvref_t<decltype(rounds)>>{
              rounds, array_at({function, "row_correction"}, how.row_correction, mine.rows())});
        }
      });
    });
  });
}

intact_status intact_gemm_float(const intact_product* product, const intact_float_stage* stage,
                                const intact_executor* run) {
  constexpr const char* function = "intact_gemm_float";
  return status_of([&] {
    const product_of_caller mine(function, product, run);
    const intact_float_stage& from = object_at({function, "stage"}, stage);
    const index_t channels = mine.channels();
    mine.visit_output<float, bfloat16>([&](auto number) {
      mine(float_output<decltype(number)>{
          .row_scale = array_at({function, "row_scale"}, from.row_scale, mine.rows()),
          .channel_scale = array_at({function, "channel_scale"}, from.channel_scale, channels),
          .bias = optional_array_at({function, "bias"}, from.bias, channels),
          .offset = optional_array_at({function, "offset"}, from.offset, channels)});
    });
  });
}

intact_status intact_row_sums(const intact_const_matrix* a, int32_t factor, int32_t* sums) {
  constexpr const char* function = "intact_row_sums";
  return status_of([&] {
    visit_matrix<std::uint8_t, std::int8_t>({function, "a"}, object_at({function, "a"}, a), [&](const auto& view) {
      dispatch::row_sums(view, factor, array_at({function, "sums"}, sums, view.rows));
    });
  });
}

intact_status intact_quantize_rows(const intact_const_matrix* x, const intact_matrix* codes, float* scale,
                                   const intact_executor* run) {
  constexpr const char* function = "intact_quantize_rows";
  return status_of([&] {
    const matrix_view<const float> from = matrix_of<float>({function, "x"}, object_at({function, "x"}, x));
    const executor_of_caller executor(function, run);
    visit_matrix<std::uint8_t, std::int8_t>(
        {function, "codes"}, object_at({function, "codes"}, codes), [&](const auto& view) {
          dispatch::quantize_rows(from, view, array_at({function, "scale"}, scale, from.rows), executor);
        });
  });
}
