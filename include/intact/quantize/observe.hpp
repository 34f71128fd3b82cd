#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "intact/build/rounded_product.hpp"
#include "intact/build/weights.hpp"
#include "intact/config/floating_point.hpp"

// The observers of FQ-ViT: ranges of float tensors over many batches, and the scales that are scored on the last batch.
// Tensors are matrices whose columns are the channels. Float32 arithmetic, as in the original. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// The tensors that one batch of inputs makes of one place in a model: one matrix or several, of the same columns.
using float_batch = std::span<const matrix_view<const float>>;

namespace detail {

/// Refuses a batch without values, and values that are not finite.
inline void require_batch(const char* operation, const char* argument, float_batch batch) {
  index_t values = 0;
  for (std::size_t n = 0; n < batch.size(); ++n) {
    const std::string name = std::string(argument) + '[' + std::to_string(n) + ']';
    require_view(operation, name.c_str(), batch[n]);
    require_equal(operation, ("columns of " + name).c_str(), batch[n].columns, batch[0].columns);
    require_finite(operation, name.c_str(), batch[n]);
    values += batch[n].rows * batch[n].columns;
  }
  if (values == 0) [[unlikely]] {
    contract_failed("intact::%s: %s has %zu matrices and no values; it must have some", operation, argument,
                    batch.size());
  }
}

/// The value at position q * (n - 1) of the sorted values, interpolated as torch.quantile does in float and
/// numpy.percentile in double. Reorders the values.
template <class Real>
float quantile(std::span<float> values, Real q) {
  const Real position = q * static_cast<Real>(values.size() - 1);
  const std::size_t below = static_cast<std::size_t>(position);
  const Real weight = position - static_cast<Real>(below);
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), middle, values.end());
  if (weight == 0) {
    return *middle;
  }
  const Real low = *middle;
  const Real high = *std::min_element(middle + 1, values.end());
  return static_cast<float>(weight < Real{0.5} ? std::fma(weight, high - low, low)
                                               : std::fma(weight - 1, high - low, high));
}

}  // namespace detail

/// How the ranges of batches become one: the smallest and the largest value of all; their moving averages; moving
/// averages of the 0.001 % and the 99.999 % quantile, which leaves outliers out.
enum class range_rule { minmax, ema, percentile };

/// One range for the whole tensor, or one per channel.
enum class granularity { tensor, channel };

/// Follows the range of a tensor over batches.
///
/// Formula:   minmax: minimum and maximum;  ema: the first batch's, then r + fl(0.01 * (batch - r));  percentile: the
///            same, of quantiles.
/// Exactness: float32, rounded after every operation; the quantiles, as torch.quantile for up to 16,000,000 values, are
///            interpolated with one fused multiply-add, and for more values, which that refuses, in double.
/// Errors:    batches without values, of other columns than those before (channel), or with values that are not
///            finite, naming the position; percentile ranges per channel. The ranges are unchanged then.
/// Source:    docs/numerics.md, section 1.
class range_observer {
 public:
  /// An observer without a range. Errors: percentile ranges per channel.
  explicit range_observer(range_rule rule, intact::granularity granularity = granularity::tensor)
      : rule_(rule), granularity_(granularity) {
    if (rule == range_rule::percentile && granularity == granularity::channel) {
      contract_failed("intact::range_observer: granularity is channel; with the rule percentile it must be tensor");
    }
  }

  /// Takes a batch: matrices of the same columns.
  void update(float_batch batch) {
    detail::require_batch("range_observer", "batch", batch);
    const std::vector<value_range> now = ranges_of(batch);
    if (ranges_.empty()) {
      ranges_ = now;
      return;
    }
    require_equal("range_observer", "columns of batch[0]", std::ssize(now), std::ssize(ranges_));
    for (std::size_t c = 0; c < ranges_.size(); ++c) {
      ranges_[c] = merged(ranges_[c], now[c]);
    }
  }
  /// Takes a batch of one matrix.
  void update(matrix_view<const float> batch) { update(float_batch(&batch, 1)); }

  /// The range of the tensor, or of channel c, after at least one batch.
  const value_range& range(index_t c = 0) const {
    if (c < 0 || c >= std::ssize(ranges_)) [[unlikely]] {
      contract_failed("intact::range_observer: channel is %td; %td channels have a range", c, std::ssize(ranges_));
    }
    return ranges_[static_cast<std::size_t>(c)];
  }

  /// One range, or one per channel; none before the first batch.
  std::span<const value_range> ranges() const { return ranges_; }

 private:
  std::vector<value_range> ranges_of(float_batch batch) const {
    if (rule_ == range_rule::percentile) {
      return {quantiles_of(batch)};
    }
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const index_t channels = granularity_ == granularity::channel ? batch[0].columns : 1;
    std::vector<value_range> ranges(static_cast<std::size_t>(channels), {infinity, -infinity});
    for (const matrix_view<const float>& x : batch) {
      for (index_t i = 0; i < x.rows; ++i) {
        for (index_t j = 0; j < x.columns; ++j) {
          value_range& range = ranges[static_cast<std::size_t>(channels == 1 ? 0 : j)];
          range = {std::min(range.low, x(i, j)), std::max(range.high, x(i, j))};
        }
      }
    }
    return ranges;
  }

  static value_range quantiles_of(float_batch batch) {
    std::vector<float> values;
    for (const matrix_view<const float>& x : batch) {
      for (index_t i = 0; i < x.rows; ++i) {
        for (index_t j = 0; j < x.columns; ++j) {
          values.push_back(x(i, j));
        }
      }
    }
    constexpr std::size_t float_limit = 16'000'000;
    constexpr double high = 0.99999;
    constexpr double low = 1 - high;
    if (values.size() > float_limit) {
      return {detail::quantile<double>(values, low), detail::quantile<double>(values, high)};
    }
    return {detail::quantile(std::span(values), static_cast<float>(low)),
            detail::quantile(std::span(values), static_cast<float>(high))};
  }

  value_range merged(const value_range& known, const value_range& now) const {
    if (rule_ == range_rule::minmax) {
      return {std::min(known.low, now.low), std::max(known.high, now.high)};
    }
    constexpr float sigma = 0.01f;
    return {known.low + rounded_product(sigma, now.low - known.low),
            known.high + rounded_product(sigma, now.high - known.high)};
  }

  range_rule rule_;
  intact::granularity granularity_;
  std::vector<value_range> ranges_;
};

namespace detail {

/// The same codes with a zero point chosen from the whole range, also if they are symmetric.
inline code_range asymmetric(const code_range& codes) {
  return {.low = codes.low, .high = codes.high, .symmetric = false};
}

/// The squared error of quantizing values with one scale.
class quantization_error {
 public:
  quantization_error(const affine_scale& scale, const code_range& codes) : scale_(scale), codes_(codes) {
    for (int code = codes.low; code <= codes.high; ++code) {
      values_.push_back(dequantize_code(code, scale));
    }
  }

  /// The difference is rounded to float, as in the original. Its square is exact in double.
  double operator()(float x) const {
    const std::size_t position = static_cast<std::size_t>(quantize_code(x, scale_, codes_) - codes_.low);
    const double difference = x - values_[position];
    return difference * difference;
  }

 private:
  affine_scale scale_;
  code_range codes_;
  std::vector<float> values_;
};

}  // namespace detail

/// The scale of least squared error on the last batch among 90: those of the range times 1, 0.99, ... 0.11.
///
/// Formula:   s = (high - low) / (codes.high - codes.low), at least 2^-23, zero point codes.low - rne(low / s),
///            clamped, for symmetric codes, too; the first of the best.
/// Exactness: float32, rounded after every operation, but for the sums of squared errors: they are summed in double.
///            The original rounds them to float in an order of PyTorch's own, so that scales whose errors differ by
///            less than that rounding may rank differently.
/// Errors:    as of build_affine_scale and range_observer.
/// Source:    docs/numerics.md, section 1.
inline affine_scale build_omse_scale(const value_range& range, const code_range& codes, float_batch last) {
  require_value_range("build_omse_scale", range);
  require_at_least("build_omse_scale", "codes.high", codes.high, std::int64_t{codes.low} + 1);
  detail::require_batch("build_omse_scale", "last", last);
  affine_scale best;
  double least = std::numeric_limits<double>::infinity();
  for (int percent = 100; percent > 10; --percent) {
    const float factor = static_cast<float>(percent) / 100;
    const affine_scale scale = build_affine_scale(
        {rounded_product(range.low, factor), rounded_product(range.high, factor)}, detail::asymmetric(codes));
    const detail::quantization_error error_of(scale, codes);
    double error = 0;
    for (const matrix_view<const float>& x : last) {
      for (index_t i = 0; i < x.rows; ++i) {
        for (index_t j = 0; j < x.columns; ++j) {
          error += error_of(x(i, j));
        }
      }
    }
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

/// A scale with a power of two per channel, by squared error on the last batch.
///
/// Formula:   8 s = (high - low) / (codes.high - codes.low), at least 2^-23, zero point codes.low - rne(low / 8 s),
///            clamped; each channel takes the scale of least squared error of s, 2 s, 4 s, 8 s, the smallest on ties.
/// Shapes:    one shift per column of the batch.
/// Exactness: as of build_omse_scale.
/// Errors:    as of build_omse_scale.
/// Source:    FQ-ViT, section 3.2; docs/numerics.md, section 1.
inline ptf_scale build_ptf_scale(const value_range& range, const code_range& codes, float_batch last) {
  require_value_range("build_ptf_scale", range);
  require_at_least("build_ptf_scale", "codes.high", codes.high, std::int64_t{codes.low} + 1);
  detail::require_batch("build_ptf_scale", "last", last);
  const affine_scale coarse = build_affine_scale(range, detail::asymmetric(codes));
  std::vector<detail::quantization_error> error_of;
  for (const float factor : {0.125f, 0.25f, 0.5f, 1.0f}) {
    error_of.emplace_back(affine_scale{coarse.scale * factor, coarse.zero_point}, codes);
  }
  std::vector<std::array<double, 4>> errors(static_cast<std::size_t>(last[0].columns));
  for (const matrix_view<const float>& x : last) {
    for (index_t i = 0; i < x.rows; ++i) {
      for (std::size_t c = 0; c < errors.size(); ++c) {
        for (std::size_t shift = 0; shift < error_of.size(); ++shift) {
          errors[c][shift] += error_of[shift](x(i, static_cast<index_t>(c)));
        }
      }
    }
  }
  ptf_scale scale{.scale = coarse.scale / 8, .zero_point = coarse.zero_point, .shift = {}};
  for (const std::array<double, 4>& error : errors) {
    scale.shift.push_back(static_cast<std::uint8_t>(std::min_element(error.begin(), error.end()) - error.begin()));
  }
  return scale;
}

}  // namespace INTACT_UNIT
}  // namespace intact
