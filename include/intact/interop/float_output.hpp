#pragma once

#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <span>
#include <type_traits>

#include "intact/config/bits_as.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/interop/float_lanes.hpp"
#include "intact/kernel/gemm_output.hpp"
#include "intact/stage/output_stage.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// The bits of the upper half of a float32.
enum class bfloat16 : std::uint16_t {};

/// An output stage: real numbers for engines that keep float between layers, from products of dynamically quantized
/// activations (interop/quantize_rows.hpp).
///
/// Formula:   y = fl(fl(fl(fl(a) * row_scale[m]) * channel_scale[n]) + bias[n]), a = acc + offset[n]; each fl rounds to
///            float32, halves to even. bfloat16: then rounded to 8 bits, halves to even. Without a bias the sum is left
///            out.
/// Shapes:    row_scale per row, channel_scale per output channel, offset and bias per output channel or empty; not
///            owned.
/// Units:     offset in units of the accumulator: with u8 activations of the zero point za and weights of the zero
///            point zw, -za * sum_k (w[n, k] - zw), which is the bias of a compat_layer without one. Where its
///            row_factor() is not 0, the stage is row_corrected<float_output>.
/// Range:     row scales at least 0, channel scales above 0, all finite. Results beyond float32 are infinite; none is
///            NaN. acc + offset fits int32; it wraps otherwise.
/// Exactness: every bit, on every instruction set and with every compiler flag, -mfma included, but those that
///            config/floating_point.hpp refuses; subnormal numbers must not be flushed.
/// Errors:    sizes that do not match, scales out of range, a bias that is not finite.
/// Runs on:   all instruction sets.
/// Source:    docs/numerics.md, section 14.
template <class Out = float>
struct float_output {
  static_assert(std::is_same_v<Out, float> || std::is_same_v<Out, bfloat16>, "float or bfloat16");
  using output = Out;  ///< of y

  std::span<const float> row_scale;           ///< of each row of the inputs
  std::span<const float> channel_scale;       ///< of each output channel
  std::span<const float> bias = {};           ///< of each output channel; empty: none
  std::span<const std::int32_t> offset = {};  ///< of each output channel, added to the accumulator; empty: none

  /// The output of row m and channel n.
  INTACT_INLINE Out operator()(std::int32_t accumulator, index_t m, index_t n) const {
    const auto channel = static_cast<std::size_t>(n);
    const std::uint32_t added = offset.empty() ? 0 : static_cast<std::uint32_t>(offset[channel]);
    const auto sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(accumulator) + added);
    float x = static_cast<float>(sum) * row_scale[static_cast<std::size_t>(m)];
    x = kernel::rounded_to_float(x * channel_scale[channel]);
    x = bias.empty() ? x : x + bias[channel];
    if constexpr (std::is_same_v<Out, float>) {
      return x;
    } else {
      const auto bits = bits_as<std::uint32_t>(x);
      return static_cast<bfloat16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  }
  /// Refuses parameters that do not fit the rows and output channels; messages name the operation.
  INTACT_INLINE void require(const char* operation, index_t rows, index_t channels) const {
    require_equal(operation, "size of row_scale", std::ssize(row_scale), rows);
    require_equal(operation, "size of channel_scale", std::ssize(channel_scale), channels);
    require_equal(operation, "size of bias", std::ssize(bias), bias.empty() ? 0 : channels);
    require_equal(operation, "size of offset", std::ssize(offset), offset.empty() ? 0 : channels);
    require_floats(operation, "row_scale", row_scale, 0, "at least 0 and finite");
    require_floats(operation, "channel_scale", channel_scale, std::numeric_limits<float>::denorm_min(),
                   "above 0 and finite");
    require_floats(operation, "bias", bias, std::numeric_limits<float>::lowest(), "finite");
  }
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {
namespace kernel {

/// Stores registers of numbers that are no NaN.
template <class Isa, unsigned N>
INTACT_INLINE void store_float_row(const f32<Isa> (&x)[N], float* to, index_t count) {
  constexpr index_t width = index_t{N} * simd::lanes<Isa>;
  alignas(64) float copy[static_cast<std::size_t>(width)];
  float* const place = count < width ? copy : to;
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    store_floats<Isa>(x[j], place + j * simd::lanes<Isa>);
  }
  if (count < width) {
    std::memcpy(to, copy, static_cast<std::size_t>(count) * sizeof(float));
  }
}

template <class Isa, unsigned N>
INTACT_INLINE void store_float_row(const f32<Isa> (&x)[N], bfloat16* to, index_t count) {
  using mul_shift = simd::mul_shift<Isa>;
  constexpr index_t width = index_t{N} * simd::lanes<Isa>;
  alignas(64) std::uint16_t codes[static_cast<std::size_t>(width)];
  s32<Isa> rounded[N];
  INTACT_UNROLL
  for (unsigned j = 0; j < N; ++j) {
    const auto bits = bits_as<s32<Isa>>(x[j]);
    const s32<Isa> odd = simd::bit_and<Isa>(mul_shift::shift_right(bits, 16), simd::broadcast<Isa>(1));
    const s32<Isa> sum = simd::add<Isa>(simd::add<Isa>(bits, odd), simd::broadcast<Isa>(0x7fff));
    rounded[j] = simd::bit_and<Isa>(mul_shift::shift_right(sum, 16), simd::broadcast<Isa>(0xffff));
  }
  simd::narrow<Isa>(rounded, codes);
  std::memcpy(to, codes, static_cast<std::size_t>(count < width ? count : width) * sizeof codes[0]);
}

template <class Isa, class Out>
struct epilogue<Isa, float_output<Out>> {
  static constexpr bool takes_stored_sums = simd::is_vector<Isa>;

  template <unsigned Rows, unsigned N>
  INTACT_INLINE static void run(const float_output<Out>& stage, s32<Isa> (&x)[Rows][N], const tile_place& at,
                                matrix_view<Out> y) {
    f32<Isa> scale[N];
    load_float_row<Isa>(stage.channel_scale.data() + at.n, at.columns, scale);
    if (!stage.offset.empty()) {
      s32<Isa> offset[N];
      load_row<Isa>(stage.offset.data() + at.n, at.columns, offset);
      INTACT_UNROLL
      for (unsigned r = 0; r < Rows; ++r) {
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          x[r][j] = simd::add<Isa>(x[r][j], offset[j]);
        }
      }
    }
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const index_t m = at.m + static_cast<index_t>(r);
      const f32<Isa> row_scale(stage.row_scale.data()[m]);
      f32<Isa> product[N];
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        product[j] = rounded_lanes<Isa>(float_of<Isa>(x[r][j]) * row_scale * scale[j]);
      }
      if (!stage.bias.empty()) {
        f32<Isa> bias[N];
        load_float_row<Isa>(stage.bias.data() + at.n, at.columns, bias);
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          product[j] = product[j] + bias[j];
        }
      }
      store_float_row<Isa>(product, y.data + m * y.stride + at.n, at.columns);
    }
  }
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
