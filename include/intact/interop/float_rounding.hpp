#pragma once

#include <cstdint>
#include <iterator>
#include <limits>
#include <span>

#include "intact/config/floating_point.hpp"
#include "intact/interop/float_lanes.hpp"
#include "intact/kernel/gemm_output.hpp"
#include "intact/stage/output_stage.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// An output stage: the float32 multiplication of ONNX Runtime and of fbgemm, PyTorch's library, with an int32 bias.
///
/// Formula:   y = rint(clamp(fl(fl(a) * factor[n]), low - zp, high - zp)) + zp, a = acc + bias[n]. fl rounds to
///            float32, rint to the nearest integer, both halves to even.
/// Shapes:    bias and factor per output channel; not owned.
/// Units:     bias in units of the accumulator, the input's zero point being part of it; factor is
///            fl(fl(s_a * s_w[n]) / s_y) in both runtimes (compat_layer::factors).
/// Range:     factors at least 0 and finite; acc + bias wraps, as it does there.
/// Exactness: every bit, on every instruction set and with every compiler flag but those that config/floating_point.hpp
///            refuses; subnormal numbers must not be flushed.
/// Errors:    sizes that do not match, a factor or a zero point out of range, high < low.
/// Runs on:   all instruction sets.
/// Source:    docs/numerics.md, section 14.
template <class Out>
struct float_rounding {
  static_assert(sizeof(Out) <= 2, "codes of 32 bits are not exact in float32");
  using output = Out;  ///< of y

  std::span<const std::int32_t> bias;          ///< in units of the accumulator, with the input's zero point in it
  std::span<const float> factor;               ///< of each output channel
  int zero_point = 0;                          ///< of the output
  Out low = std::numeric_limits<Out>::min();   ///< codes below it become it
  Out high = std::numeric_limits<Out>::max();  ///< codes above it become it

  /// The output of channel n.
  INTACT_INLINE Out operator()(std::int32_t accumulator, index_t n) const {
    const auto channel = static_cast<std::size_t>(n);
    const auto sum = static_cast<std::uint32_t>(accumulator) + static_cast<std::uint32_t>(bias[channel]);
    const float product =
        kernel::rounded_to_float(static_cast<float>(static_cast<std::int32_t>(sum)) * factor[channel]);
    const float least = static_cast<float>(low - zero_point), most = static_cast<float>(high - zero_point);
    const float limited = product < least ? least : product > most ? most : product;
    return static_cast<Out>(kernel::nearest_integer(limited) + zero_point);
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t, index_t channels) const {
    require_equal(operation, "size of bias", std::ssize(bias), channels);
    require_equal(operation, "size of factor", std::ssize(factor), channels);
    require_between(operation, "zero_point", zero_point, std::numeric_limits<Out>::min(),
                    std::numeric_limits<Out>::max());
    require_at_least(operation, "high", high, low);
    require_floats(operation, "factor", factor, 0, "at least 0 and finite");
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {
namespace kernel {

template <class Isa, class Out>
struct epilogue<Isa, float_rounding<Out>> {
  static constexpr bool takes_stored_sums = simd::is_vector<Isa>;

  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const float_rounding<Out>& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<Out> y) {
    s32<Isa> bias[N];
    f32<Isa> factor[N];
    load_row<Isa>(stage.bias.data() + at.n, at.columns, bias);
    load_float_row<Isa>(stage.factor.data() + at.n, at.columns, factor);
    const f32<Isa> least(static_cast<float>(stage.low - stage.zero_point));
    const f32<Isa> most(static_cast<float>(stage.high - stage.zero_point));
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        const f32<Isa> product = rounded_lanes<Isa>(float_of<Isa>(simd::add<Isa>(x[r][j], bias[j])) * factor[j]);
        x[r][j] = simd::add<Isa>(nearest_integers<Isa>(clamp_lanes<Isa>(product, least, most)),
                                 simd::broadcast<Isa>(stage.zero_point));
      }
    }
    store_tile<Isa>(x, at, y);
  }
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
