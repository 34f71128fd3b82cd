#pragma once

#include <cstdint>
#include <span>

#include "intact/types/int4.hpp"
#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// How attention probabilities below 2^-15 are coded. A log2 code k is the probability 2^-k.
///
///                stored as   codes     below 2^-15                        e = 0
///   u8_masked    u8          0..15     code 16: weight 0 (the original)   code 16
///   u4_clipped   packed u4   0..15     code 15 (the paper's formula)      code 15
///   u8_full      u8          0..254    its own code (8-bit attention)     code 255: weight 0
enum class attention_code { u8_masked, u4_clipped, u8_full };

/// Where -log2 of a probability is rounded up: from 1.5 times a power of two on, as the original does after rounding
/// the ratio to an integer, or from sqrt(2) times on, which is rounding the logarithm itself.
enum class log2_rounding { round_ratio, round_log };

/// How the codes of a format are stored.
template <attention_code Format>
struct attention_codes;

/// Codes 0..15, and 16 of the weight 0, in u8.
template <>
struct attention_codes<attention_code::u8_masked> {
  static constexpr int largest = 15;                   ///< the largest level with a code of its own
  static constexpr int last_code = 16;                 ///< of exponentials that are 0
  static constexpr int below_largest = last_code;      ///< of levels above the largest
  static constexpr int fraction_bits = 15;             ///< of a sum of weights 2^-code
  using view = matrix_view<std::uint8_t>;              ///< that is written
  using const_view = matrix_view<const std::uint8_t>;  ///< that is read
};

/// Codes 0..15, two a byte.
template <>
struct attention_codes<attention_code::u4_clipped> {
  static constexpr int largest = 15;        ///< the largest level with a code of its own
  static constexpr int last_code = 15;      ///< of exponentials that are 0
  static constexpr int below_largest = 15;  ///< of levels above the largest
  static constexpr int fraction_bits = 15;  ///< of a sum of weights 2^-code
  /// That is written.
  using view = packed_view<u4, std::uint8_t>;
  /// That is read.
  using const_view = packed_view<u4, const std::uint8_t>;
};

/// Codes 0..254, and 255 of the weight 0, in u8.
template <>
struct attention_codes<attention_code::u8_full> {
  static constexpr int largest = 254;                  ///< the largest level with a code of its own
  static constexpr int last_code = 255;                ///< of exponentials that are 0
  static constexpr int below_largest = last_code;      ///< of levels above the largest
  static constexpr int fraction_bits = 44;             ///< of a sum of weights 2^-code
  using view = matrix_view<std::uint8_t>;              ///< that is written
  using const_view = matrix_view<const std::uint8_t>;  ///< that is read
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Stores a code, whatever the storage.
inline void store_code(const matrix_view<std::uint8_t>& codes, index_t i, index_t j, int code) {
  codes(i, j) = static_cast<std::uint8_t>(code);
}
/// The same for packed codes.
inline void store_code(const packed_view<u4, std::uint8_t>& codes, index_t i, index_t j, int code) {
  codes.set(i, j, code);
}

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// Distances of u8 logits to the row's maximum, 0..255: entries of a softmax table.
inline constexpr index_t softmax_distances = 256;

/// Weights that 4-bit codes are indices of.
inline constexpr index_t attention_code_weights = 16;

/// exp(-d * s) as unsigned integers, d = (largest code of the row) - code, non-increasing, built by build/table.hpp;
/// softmax_distances entries. The unit is arbitrary: only ratios matter.
template <class T>
using exp_table = std::span<const T>;

}  // namespace INTACT_ABI
}  // namespace intact
