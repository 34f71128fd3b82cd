#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "intact/build/integer_vit.hpp"
#include "intact/config/floating_point.hpp"
#include "intact/io/safetensors_header.hpp"

// Conditions between the numbers of a model file that make a model of any file safe to run: nothing overflows,
// whatever the image is. The limits of single numbers are with the fields (model_file_fields.hpp).

namespace intact {
inline namespace INTACT_UNIT {

/// The largest size that a model in a file may have. Products of three sizes fit 64 bits.
inline constexpr index_t model_file_max_size = 1 << 20;

namespace detail {

/// The least and the largest value of a number.
struct limits {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

/// A file in whose tensors something may be wrong.
class model_archive {
 public:
  model_archive(std::string file, int version) : file_(std::move(file)), version_(version) {}

  const std::string& file() const { return file_; }
  int version() const { return version_; }

  [[noreturn]] void refuse(const std::string& tensor, const std::string& problem) const {
    throw file_error(file_, "tensor " + in_quotes(tensor) + " " + problem);
  }

  void require(const std::string& tensor, std::int64_t value, const limits& allowed) const {
    if (value < allowed.low || value > allowed.high) {
      refuse(tensor, "is " + std::to_string(value) + rule(allowed));
    }
  }

  template <class T>
  void require_all(const std::string& tensor, const std::vector<T>& values, const limits& allowed) const {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] < allowed.low || values[i] > allowed.high) {
        refuse(tensor, "is " + std::to_string(values[i]) + " at position " + std::to_string(i) + rule(allowed));
      }
    }
  }

 private:
  static std::string rule(const limits& allowed) {
    return "; it must be in " + std::to_string(allowed.low) + ".." + std::to_string(allowed.high);
  }

  std::string file_;
  int version_;
};

/// A text from which the number can be told.
inline std::string text_of(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", number);
  return text;
}

inline void require_multiple(const model_archive& archive, const std::string& name, index_t size, const char* of,
                             index_t divisor) {
  if (size % divisor != 0) {
    archive.refuse(name, "is " + std::to_string(size) + "; it must be a multiple of " + of + ", which is " +
                             std::to_string(divisor));
  }
}

/// Checks that patches fill an image.
template <class Shape>
void check_patches(const model_archive& archive, const Shape& shape) {
  const patch_size patch = shape.patch;
  require_multiple(archive, "shape.height", shape.height, "shape.patch", patch.height);
  require_multiple(archive, "shape.width_pixels", shape.image_width,
                   patch.width == patch.height ? "shape.patch" : "shape.patch_width", patch.width);
}

/// Checks that heads fill a width, and that int32 holds their products.
inline void check_heads(const model_archive& archive, const std::string& name, index_t width, index_t heads) {
  require_multiple(archive, name + ".width", width, (name + ".heads").c_str(), heads);
  if (width / heads > gemm_max_depth_u8_u8) {
    archive.refuse(name + ".heads", "makes heads of " + std::to_string(width / heads) +
                                        " channels; they must have at most " + std::to_string(gemm_max_depth_u8_u8));
  }
}

/// Patches of an image, in 64 bits.
template <class Shape>
constexpr std::int64_t patch_count(const Shape& shape) {
  const patch_size patch = shape.patch;
  return std::int64_t{shape.height / patch.height} * (shape.image_width / patch.width);
}

/// Checks that this machine can count a product of a shape's sizes, which 64 bits hold.
inline void check_countable(const model_archive& archive, const std::string& name, std::int64_t count,
                            const char* what) {
  if (count > max_size) {
    archive.refuse(name, "makes " + std::to_string(count) + " " + what + "; this machine counts to at most " +
                             std::to_string(max_size));
  }
}

/// The same for the samples of a patch.
template <class Shape>
void check_patch_samples(const model_archive& archive, const Shape& shape) {
  check_countable(archive, "shape.patch",
                  std::int64_t{shape.channels} * patch_size(shape.patch).height * patch_size(shape.patch).width,
                  "samples of a patch");
}

inline void check_shape(const model_archive& archive, const vit_shape& shape) {
  check_patches(archive, shape);
  check_patch_samples(archive, shape);
  const bool wide = shape.stream == stream_codes::s16 || shape.pooling == vit_pooling::normalized_mean;
  archive.require("shape.width", shape.width, {1, wide ? layernorm_max_channels_s16 : layernorm_max_channels});
  if (shape.has_class_features() && shape.class_tokens == 0) {
    archive.refuse("shape.class_tokens", "is 0; the features that shape.pooling names are those of class tokens");
  }
  if (shape.pooling == vit_pooling::normalized_mean && patch_count(shape) > average_pool_max_tokens_s16) {
    archive.refuse("shape.pooling", "is that of a mean of s16 codes, of at most " +
                                        std::to_string(average_pool_max_tokens_s16) + " patches; the shape makes " +
                                        std::to_string(patch_count(shape)));
  }
  const std::int64_t tokens = patch_count(shape) + shape.class_tokens + shape.registers;
  if (tokens > shift_matmul_max_keys) {
    archive.refuse("shape.patch", "makes " + std::to_string(tokens) + " tokens; they must be at most " +
                                      std::to_string(shift_matmul_max_keys));
  }
  check_countable(archive, "shape.width", std::int64_t{shape.width} * tokens, "codes of all tokens");
  check_heads(archive, "shape", shape.width, shape.heads);
}

/// Checks that int32 holds the sums of a layer of so many inputs, whatever its weights are.
inline void check_columns(const model_archive& archive, const std::string& name, weight_kind kind, index_t columns) {
  const index_t limit = kind == weight_kind::s8   ? gemm_max_depth_u8_s8
                        : kind == weight_kind::s4 ? gemm_max_depth_u8_s4
                                                  : gemm_max_depth_u8_grouped_s4;
  if (columns > limit) {
    archive.refuse(name + ".kind", "is that of weights with at most " + std::to_string(limit) +
                                       " columns; the shape calls for " + std::to_string(columns));
  }
}

/// Checks that the unused half of each row's last byte is 0.
inline void check_padding(const model_archive& archive, const std::string& name, const owned_weights& weights) {
  const index_t stride = packed_bytes(weights.columns);
  for (index_t n = 0; weights.columns % 2 != 0 && n < weights.rows; ++n) {
    const int padding = weights.packed[static_cast<std::size_t>((n + 1) * stride - 1)] >> 4;
    if (padding != 0) {
      archive.refuse(name + ".packed", "has the padding " + std::to_string(padding) + " at the end of row " +
                                           std::to_string(n) + "; it must be 0");
    }
  }
}

/// Checks that a real number is the one that the integers are, to the bit.
inline void check_exact(const model_archive& archive, const std::string& tensor, const std::string& what, double stored,
                        double expected) {
  if (std::memcmp(&stored, &expected, sizeof stored) != 0) {
    archive.refuse(tensor, what + " " + text_of(stored) + "; the integers are exactly " + text_of(expected));
  }
}

/// The real numbers that a scale is exactly: (a * 2^p * m + c) * 2^-(32 + t), and 1/2 less, because that is rounded
/// down. No others come from a builder: their sums are exact in double, so the offset without the half is, too.
inline realized_scale exact_of(const model_archive& archive, const std::string& tensor, const std::string& place,
                               const tensor_scale& scale) {
  const std::int64_t without_half = scale.offset - (std::int64_t{1} << (31 + scale.shift));
  const double offset = static_cast<double>(without_half);
  if (static_cast<std::int64_t>(offset) != without_half) {
    archive.refuse(tensor, "is " + std::to_string(scale.offset) + place + "; minus 2^" +
                               std::to_string(31 + scale.shift) + " it must be exact in double");
  }
  return {.factor = std::ldexp(static_cast<double>(scale.multiplier), scale.left_shift - 32 - scale.shift),
          .offset = std::ldexp(offset, -32 - scale.shift)};
}

/// Checks that the accumulators of a range leave room for a left_shift.
inline void check_prescale(const model_archive& archive, const std::string& tensor, const std::string& place,
                           int left_shift, const accumulator_range& range) {
  const std::int64_t largest = std::max(-range.low, range.high);
  if (largest * (std::int64_t{1} << left_shift) > std::numeric_limits<std::int32_t>::max()) {
    archive.refuse(tensor, "is " + std::to_string(left_shift) + "; the accumulators" + place + " reach " +
                               std::to_string(largest) + ", and times 2^" + std::to_string(left_shift) +
                               " they must be below 2^31");
  }
}

/// Checks a scale of channels against the accumulators that they can reach; range_of(channel) tells them.
template <class RangeOf>
void check_channels(const model_archive& archive, const std::string& name, const owned_channel_scale& scale,
                    const RangeOf& range_of) {
  for (index_t n = 0; n < std::ssize(scale.exact); ++n) {
    const std::string place = " of channel " + std::to_string(n);
    check_prescale(archive, name + ".prescale", place, scale.left_shift, range_of(n));
    const realized_scale expected = exact_of(archive, name + ".offset", place, scale.view().channel(n));
    const realized_scale& stored = scale.exact[static_cast<std::size_t>(n)];
    check_exact(archive, name + ".exact", "has" + place + " the factor", stored.factor, expected.factor);
    check_exact(archive, name + ".exact", "has" + place + " the offset", stored.offset, expected.offset);
  }
}

/// Checks the scale of a layer against the accumulators that its weights can reach.
inline void check_scale(const model_archive& archive, const std::string& name, const owned_channel_scale& scale,
                        const owned_weights& weights) {
  check_channels(archive, name, scale,
                 [&](index_t n) { return linear_spec<std::uint8_t>({.weights = weights.row(n), .factor = 1}).range; });
}

inline void check_scale(const model_archive& archive, const std::string& name, const owned_tensor_scale& p,
                        const accumulator_range& range) {
  check_prescale(archive, name + ".prescale", "", p.scale.left_shift, range);
  const realized_scale expected = exact_of(archive, name + ".offset", "", p.scale);
  check_exact(archive, name + ".exact.factor", "is", p.exact.factor, expected.factor);
  check_exact(archive, name + ".exact.offset", "is", p.exact.offset, expected.offset);
}

/// Checks that 64 bits hold z * gain + bias: |z| <= sqrt(C) * 2^24, and a little more for rounding.
inline void check_layernorm(const model_archive& archive, const std::string& name, const owned_layernorm& p) {
  const double largest_z = std::ldexp(std::sqrt(static_cast<double>(p.gain.size())) * (1 + 1e-6), 24) + 2;
  for (std::size_t c = 0; c < p.gain.size(); ++c) {
    const double gain = std::fabs(static_cast<double>(p.gain[c]));
    if (!(largest_z * gain + std::fabs(static_cast<double>(p.bias[c])) < std::ldexp(1.0, 63))) {
      archive.refuse(name + ".bias", "is " + std::to_string(p.bias[c]) + " at position " + std::to_string(c) +
                                         "; with the gain " + std::to_string(p.gain[c]) +
                                         " its sums must be below 2^63");
    }
  }
}

/// Checks that 32 bits hold the sums of a residual addition, and its real numbers.
inline void check_add(const model_archive& archive, const std::string& name, const owned_add& p) {
  for (std::size_t c = 0; c < p.offset.size(); ++c) {
    const std::int64_t multipliers = std::int64_t{p.stream_multiplier[c]} + p.branch_multiplier[c];
    const std::int64_t largest = 255 * multipliers + std::abs(std::int64_t{p.offset[c]});
    const std::string place = " channel " + std::to_string(c);
    if (largest > std::numeric_limits<std::int32_t>::max()) {
      archive.refuse(name + ".offset", "is " + std::to_string(p.offset[c]) + " at position " + std::to_string(c) +
                                           "; with its multipliers the sums reach " + std::to_string(largest) +
                                           ", and must be below 2^31");
    }
    const auto real = [&](std::int32_t integer) { return std::ldexp(static_cast<double>(integer), -p.shift); };
    check_exact(archive, name + ".exact", "has in" + place + " the stream's factor", p.exact[c].stream,
                real(p.stream_multiplier[c]));
    check_exact(archive, name + ".exact", "has in" + place + " the branch's factor", p.exact[c].branch,
                real(p.branch_multiplier[c]));
    check_exact(archive, name + ".exact", "has in" + place + " the offset", p.exact[c].offset, real(p.offset[c]) - 0.5);
  }
}

/// Checks that 64 bits hold the sums of rows of `keys` exponentials.
inline void check_exponential(const model_archive& archive, const std::string& name,
                              const std::vector<std::uint64_t>& table, index_t keys) {
  const std::uint64_t limit = exp_table_limit<std::uint64_t>(keys);
  if (table.front() < 1 || table.front() > limit) {
    archive.refuse(name, "is " + std::to_string(table.front()) + " at position 0; for " + std::to_string(keys) +
                             " tokens it must be in 1.." + std::to_string(limit));
  }
  const auto larger = std::adjacent_find(table.begin(), table.end(), std::less<>());
  if (larger != table.end()) {
    archive.refuse(name, "is " + std::to_string(larger[1]) + " at position " +
                             std::to_string(larger + 1 - table.begin()) + ", after " + std::to_string(*larger) +
                             "; it must not increase");
  }
}

/// Checks the weights of 4-bit attention codes: code 15 is that of masked keys.
inline void check_code_weights(const model_archive& archive, const std::string& name,
                               const std::vector<std::uint8_t>& weights) {
  if (weights.back() != 0) {
    archive.refuse(name, "is " + std::to_string(weights.back()) + " at position 15; it must be 0");
  }
}

/// Refuses kinds of attention that exclude each other.
inline void check_softmax(const model_archive& archive, const std::string& name, const owned_softmax& p, index_t keys) {
  const bool relative_to_sum = p.kind == attention_kind::log2_of_sum;
  if (!relative_to_sum && !p.normalize) {
    archive.refuse(name + ".normalize", "is 0; weights relative to the maximum do not sum to 1 and need 1");
  }
  if (p.probabilities == attention_code::u8_full && (!relative_to_sum || p.normalize)) {
    archive.refuse(name + ".probabilities", "is that of 8-bit codes; they are relative to the sum and not normalized");
  }
  if (p.normalize && keys > weighted_matmul_max_keys) {
    archive.refuse(name + ".normalize", "is 1; rows of at most " + std::to_string(weighted_matmul_max_keys) +
                                            " keys can be normalized, and these have " + std::to_string(keys));
  }
}

}  // namespace detail
}  // namespace INTACT_UNIT
}  // namespace intact
