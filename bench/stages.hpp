#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "intact/build/add.hpp"
#include "intact/build/compat.hpp"
#include "intact/build/scale.hpp"
#include "intact/build/table.hpp"
#include "intact/interop/float_output.hpp"
#include "intact/interop/float_rounding.hpp"
#include "intact/stage/compat.hpp"
#include "intact/stage/fused.hpp"
#include "intact/stage/output_stage.hpp"
#include "layer.hpp"

// Every output stage of gemm, with parameters for a given layer: prepared_stage<Stage>(layer).stage, which refers to
// the rest of the object.

namespace intact_bench {

template <class Stage>
class prepared_stage;

template <>
class prepared_stage<intact::raw_accumulator> {
 public:
  static constexpr const char* name = "s32";
  explicit prepared_stage(const layer&) {}

  intact::raw_accumulator stage;
};

template <>
class prepared_stage<intact::requantize<std::uint8_t>> {
 public:
  static constexpr const char* name = "u8";
  explicit prepared_stage(const layer& of) : scale_(of, 40, 128), stage{scale_.integers()} {}

 private:
  output_scale scale_;

 public:
  intact::requantize<std::uint8_t> stage;
};

template <>
class prepared_stage<intact::requantize<std::int8_t>> {
 public:
  static constexpr const char* name = "s8";
  explicit prepared_stage(const layer& of) : scale_(of, 40, 0), stage{scale_.integers()} {}

 private:
  output_scale scale_;

 public:
  intact::requantize<std::int8_t> stage;
};

template <>
class prepared_stage<intact::requantize_u12> {
 public:
  static constexpr const char* name = "u12";
  explicit prepared_stage(const layer& of) : scale_(of, 600, 2048), stage{scale_.integers()} {}

 private:
  output_scale scale_;

 public:
  intact::requantize_u12 stage;
};

template <>
class prepared_stage<intact::requantize_lut> {
 public:
  static constexpr const char* name = "u8 GELU";
  explicit prepared_stage(const layer& of)
      : scale_(of, 600, 2048),
        table_(intact::build_activation_table(intact::gelu, -4, 4, {4.2 / 255, 11}).codes),
        stage{scale_.integers(), table_} {}

 private:
  output_scale scale_;
  std::array<std::uint8_t, intact::activation_table_size_12> table_;

 public:
  intact::requantize_lut stage;
};

template <>
class prepared_stage<intact::add_to_stream> {
 public:
  static constexpr const char* name = "s16 added";
  explicit prepared_stage(const layer& of)
      : scale_(of, 4000, 0), addend_(static_cast<std::size_t>(of.shape.m * of.shape.n)) {
    for (std::size_t i = 0; i < addend_.size(); ++i) {
      addend_[i] = static_cast<std::int16_t>(static_cast<std::int64_t>(i * 7919 % 40000) - 20000);
    }
    stage = {scale_.integers(), {addend_.data(), of.shape.m, of.shape.n}};
  }

 private:
  output_scale scale_;
  aligned_vector<std::int16_t> addend_;

 public:
  intact::add_to_stream stage;
};

template <>
class prepared_stage<intact::requantize_add> {
 public:
  static constexpr const char* name = "u8 added";
  explicit prepared_stage(const layer& of)
      : scale_(of, 40, 128),
        stream_(static_cast<std::size_t>(of.shape.m * of.shape.n)),
        stream_multiplier_(static_cast<std::size_t>(of.shape.n)),
        branch_multiplier_(stream_multiplier_.size()),
        offset_(stream_multiplier_.size()) {
    for (std::size_t i = 0; i < stream_.size(); ++i) {
      stream_[i] = static_cast<std::uint8_t>(i * 7919 % 251);
    }
    stage = {scale_.integers(), build_addition(), {stream_.data(), of.shape.m, of.shape.n}};
  }

 private:
  /// Different scales for some channels, then the same again: building them takes a while.
  intact::add_parameters build_addition() {
    const std::size_t different = std::min<std::size_t>(16, offset_.size());
    std::vector<intact::add_spec> specs;
    for (std::size_t n = 0; n < different; ++n) {
      specs.push_back({0.6 + 0.02 * static_cast<double>(n), 0.4 + 0.03 * static_cast<double>(n)});
    }
    intact::add_parameters addition =
        intact::build_add(specs, {121, 128, 125}, std::span(stream_multiplier_).first(different),
                          std::span(branch_multiplier_).first(different), std::span(offset_).first(different));
    for (std::size_t n = different; n < offset_.size(); ++n) {
      stream_multiplier_[n] = stream_multiplier_[n - different];
      branch_multiplier_[n] = branch_multiplier_[n - different];
      offset_[n] = offset_[n - different];
    }
    addition.stream_multiplier = stream_multiplier_;
    addition.branch_multiplier = branch_multiplier_;
    addition.offset = offset_;
    return addition;
  }

  output_scale scale_;
  aligned_vector<std::uint8_t> stream_;
  std::vector<std::int32_t> stream_multiplier_;
  std::vector<std::int32_t> branch_multiplier_;
  std::vector<std::int32_t> offset_;

 public:
  intact::requantize_add stage;
};

template <>
class prepared_stage<intact::requantize_per_row<std::uint8_t>> {
 public:
  static constexpr const char* name = "u8 by rows";
  explicit prepared_stage(const layer& of) {
    const std::int64_t largest = std::int64_t{255} * 128 * of.shape.k;
    for (index_t m = 0; m < of.shape.m; ++m) {
      const double factor = (15 + static_cast<double>(m % 13)) / of.deviation();
      intact::realized_scale exact;
      rows_.push_back(intact::build_scale({factor, 128, 0, {-largest, largest}}, exact));
    }
    stage = {rows_};
  }

 private:
  std::vector<intact::tensor_scale> rows_;

 public:
  intact::requantize_per_row<std::uint8_t> stage;
};

/// A layer as another runtime describes it.
class runtime_layer {
 public:
  static constexpr int zero_point = 7;

  explicit runtime_layer(const layer& of)
      : weight_scale_(static_cast<std::size_t>(of.shape.n)),
        row_scale_(static_cast<std::size_t>(of.shape.m), 0.01f),
        layer_(spec(of), of.w(), intact::factor_rule::float32) {}

 protected:
  intact::compat_scale scale() const { return layer_.scale(zero_point); }
  std::span<const std::int32_t> bias() const { return layer_.bias(); }
  std::span<const float> factors() const { return layer_.factors(); }
  std::span<const float> row_scale() const { return row_scale_; }

 private:
  intact::compat_layer_spec spec(const layer& of) {
    for (std::size_t n = 0; n < weight_scale_.size(); ++n) {
      weight_scale_[n] = static_cast<float>((30 + static_cast<double>(n % 20)) / of.deviation());
    }
    return {{1, layer::zero_point}, {1, zero_point}, weight_scale_};
  }

  std::vector<float> weight_scale_;
  std::vector<float> row_scale_;
  intact::compat_layer layer_;
};

template <>
class prepared_stage<intact::round_half_to_even<std::uint8_t>> : runtime_layer {
 public:
  static constexpr const char* name = "u8 half to even";
  explicit prepared_stage(const layer& of) : runtime_layer(of), stage{scale()} {}

  intact::round_half_to_even<std::uint8_t> stage;
};

template <>
class prepared_stage<intact::single_rounding<std::int8_t>> : runtime_layer {
 public:
  static constexpr const char* name = "s8 single rounding";
  explicit prepared_stage(const layer& of) : runtime_layer(of), stage{scale()} {}

  intact::single_rounding<std::int8_t> stage;
};

template <>
class prepared_stage<intact::double_rounding<std::int8_t>> : runtime_layer {
 public:
  static constexpr const char* name = "s8 double rounding";
  explicit prepared_stage(const layer& of) : runtime_layer(of), stage{scale()} {}

  intact::double_rounding<std::int8_t> stage;
};

template <>
class prepared_stage<intact::float_rounding<std::uint8_t>> : runtime_layer {
 public:
  static constexpr const char* name = "u8 float rounding";
  explicit prepared_stage(const layer& of) : runtime_layer(of), stage{bias(), factors(), zero_point} {}

  intact::float_rounding<std::uint8_t> stage;
};

template <>
class prepared_stage<intact::float_output<float>> : runtime_layer {
 public:
  static constexpr const char* name = "float";
  explicit prepared_stage(const layer& of) : runtime_layer(of), stage{row_scale(), factors()} {}

  intact::float_output<float> stage;
};

}  // namespace intact_bench
