#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "intact/build/scale.hpp"
#include "intact/reference/gemm.hpp"
#include "intact/stage/output_stage.hpp"
#include "intact/types/grouped_s4.hpp"
#include "intact/types/int4.hpp"
#include "intact/types/view.hpp"
#include "memory.hpp"
#include "shapes.hpp"

// The operands of the measurements, and their exact results.

namespace intact_bench {

/// grouped_int4: with a power of two for every 32 columns of a row.
enum class weight_type { int8, int4, grouped_int4 };

inline const char* name_of(weight_type type) {
  return type == weight_type::int8 ? "int8" : type == weight_type::int4 ? "int4" : "grouped-int4";
}

/// Activations and weights with random codes of the full range, and exact sums of some of the rows.
class layer {
 public:
  static constexpr int zero_point = 131;  ///< of the activations, where codes are the output
  static constexpr index_t group = 32;    ///< columns that share a power of two

  layer(const gemm_shape& shape_, weight_type type_)
      : shape(shape_),
        type(type_),
        a_(static_cast<std::size_t>(shape.m * shape.k)),
        w_(static_cast<std::size_t>(shape.n * shape.k)),
        packed_(type == weight_type::int8 ? 0 : static_cast<std::size_t>(shape.n * intact::packed_bytes(shape.k))),
        shifts_(type == weight_type::grouped_int4
                    ? static_cast<std::size_t>(shape.n * intact::group_count(shape.k, group))
                    : 0) {
    std::mt19937_64 random(1);
    for (std::uint8_t& code : a_) {
      code = static_cast<std::uint8_t>(random());
    }
    for (std::int8_t& weight : w_) {
      weight = static_cast<std::int8_t>(random() >> 8);
      weight = type == weight_type::int8 ? weight : static_cast<std::int8_t>(weight >> 4);
    }
    for (std::uint8_t& shift : shifts_) {
      shift = static_cast<std::uint8_t>(random() >> 62);
    }
    pack();
    shift();
    add_up();
  }

  intact::matrix_view<const std::uint8_t> a() const { return {a_.data(), shape.m, shape.k}; }
  intact::matrix_view<const std::int8_t> w() const { return {w_.data(), shape.n, shape.k}; }
  intact::packed_view<intact::s4, const std::uint8_t> w4() const { return {packed_.data(), shape.n, shape.k}; }

  intact::grouped_s4_view grouped_w4() const {
    return {w4(), {shifts_.data(), shape.n, intact::group_count(shape.k, group)}, group};
  }

  /// The weights of an output channel.
  std::span<const std::int8_t> channel(index_t n) const {
    return std::span(w_).subspan(static_cast<std::size_t>(n * shape.k), static_cast<std::size_t>(shape.k));
  }

  std::int64_t sum_of_weights(index_t n) const {
    std::int64_t sum = 0;
    for (const std::int8_t weight : channel(n)) {
      sum += weight;
    }
    return sum;
  }

  /// About the standard deviation of the sums, zero point subtracted.
  double deviation() const {
    const double of_weights = type == weight_type::int8 ? 74.0 : type == weight_type::int4 ? 4.6 : 21.2;
    return 74.0 * of_weights * std::sqrt(static_cast<double>(std::max<index_t>(1, shape.k)));
  }

  /// The rows that are checked: all of them, or of large layers some, evenly spaced, with the first and the last.
  const std::vector<index_t>& checked_rows() const { return rows_; }
  std::int64_t checked_outputs() const { return std::ssize(rows_) * shape.n; }

  /// The exact sum of the i-th checked row and a channel.
  std::int32_t sum(std::size_t i, index_t n) const {
    return sums_[i * static_cast<std::size_t>(shape.n) + static_cast<std::size_t>(n)];
  }

  const gemm_shape shape;
  const weight_type type;

 private:
  void pack() {
    if (type != weight_type::int8) {
      const intact::packed_view<intact::s4, std::uint8_t> to(packed_.data(), shape.n, shape.k);
      for (index_t n = 0; n < shape.n; ++n) {
        for (index_t k = 0; k < shape.k; ++k) {
          to.set(n, k, w()(n, k));
        }
      }
    }
  }

  /// The weights in s8 become those that the groups' powers make of their codes.
  void shift() {
    if (type == weight_type::grouped_int4) {
      for (index_t n = 0; n < shape.n; ++n) {
        for (index_t k = 0; k < shape.k; ++k) {
          w_[static_cast<std::size_t>(n * shape.k + k)] = static_cast<std::int8_t>(grouped_w4()(n, k));
        }
      }
    }
  }

  void add_up() {
    constexpr index_t multiplications = 100'000'000;  // a fraction of a second
    const index_t count = std::min(shape.m, std::max<index_t>(2, multiplications / (shape.n * shape.k)));
    sums_.resize(static_cast<std::size_t>(count * shape.n));
    for (index_t i = 0; i < count; ++i) {
      rows_.push_back(count == 1 ? 0 : i * (shape.m - 1) / (count - 1));
      const intact::matrix_view<std::int32_t> to(sums_.data() + i * shape.n, 1, shape.n);
      intact::reference::gemm(a().row_block(rows_.back(), 1), w(), intact::raw_accumulator{}, to);
    }
  }

  aligned_vector<std::uint8_t> a_;
  aligned_vector<std::int8_t> w_;
  aligned_vector<std::uint8_t> packed_;
  aligned_vector<std::uint8_t> shifts_;
  std::vector<index_t> rows_;
  std::vector<std::int32_t> sums_;
};

/// The requantization of a layer's sums: y = factor[n] * (sum - zero_point * sum_of_weights(n)) + addend[n], rounded.
/// The real numbers are for the other libraries, the integers built from them for ours.
class output_scale {
 public:
  /// Codes with this standard deviation, around `middle`.
  output_scale(const layer& of, double deviation, double middle) {
    const auto channels = static_cast<std::size_t>(of.shape.n);
    std::vector<intact::scale_spec> specs;
    for (std::size_t n = 0; n < channels; ++n) {
      const double variety = 0.75 + 0.5 * static_cast<double>(n % 17) / 16;
      factor.push_back(variety * deviation / of.deviation());
      addend.push_back(middle + 0.3 * static_cast<double>(n % 11));
      specs.push_back(intact::linear_spec<std::uint8_t>({.weights = of.channel(static_cast<index_t>(n)),
                                                         .factor = factor[n],
                                                         .addend = addend[n],
                                                         .zero_point = layer::zero_point}));
    }
    multiplier_.resize(channels);
    offset_.resize(channels);
    integers_ = intact::build_scale(specs, multiplier_, offset_);
  }
  output_scale(const output_scale&) = delete;

  const intact::channel_scale& integers() const { return integers_; }

  std::vector<double> factor;
  std::vector<double> addend;

 private:
  std::vector<std::int32_t> multiplier_;
  std::vector<std::int64_t> offset_;
  intact::channel_scale integers_;
};

/// How many of the checked outputs differ from the specification, reference::gemm.
template <class Stage>
std::int64_t count_wrong(const layer& of, const Stage& stage, intact::matrix_view<const typename Stage::output> y) {
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < of.checked_rows().size(); ++i) {
    const index_t m = of.checked_rows()[i];
    for (index_t n = 0; n < of.shape.n; ++n) {
      wrong += y(m, n) != intact::apply_stage(stage, of.sum(i, n), m, n) ? 1 : 0;
    }
  }
  return wrong;
}

}  // namespace intact_bench
