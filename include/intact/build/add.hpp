#pragma once

#include <bitset>
#include <cmath>
#include <cstdint>
#include <span>

#include "intact/add.hpp"
#include "intact/config/floating_point.hpp"

// Builder of the scales of a residual addition, into memory of the caller's. Standard library only.

namespace intact {
inline namespace INTACT_UNIT {

/// The function of codes r and b that a channel of a residual addition approximates:
/// y = stream * (r - zp_r) + branch * (b - zp_b) + zp_y.
struct add_spec {
  double stream = 0;  ///< s_r[c] / s_y[c], at least 0
  double branch = 0;  ///< s_b / s_y[c], at least 0
};

/// The realized function: y = stream * (r - zp_r) + branch * (b - zp_b) + offset, rounded to nearest; all exact in
/// double, and no pair of codes is a tie.
struct realized_add {
  double stream = 0;  ///< factor of the stream's codes
  double branch = 0;  ///< factor of the branch's codes
  double offset = 0;  ///< in codes of the sum

  friend bool operator==(const realized_add&, const realized_add&) = default;
};

/// Zero points of the three tensors of a residual addition.
struct add_zero_points {
  int stream = 0;  ///< of the residual stream
  int branch = 0;  ///< of the branch
  int output = 0;  ///< of the sum

  friend bool operator==(const add_zero_points&, const add_zero_points&) = default;
};

namespace detail {

/// The farthest that an offset has to move: 2^16 pairs of codes cannot take all of 2^17 + 1 places.
inline constexpr std::int64_t add_farthest_move = 1 << 16;

/// The value nearest to `offset` for which no pair of codes gives a multiple of 2^shift: 0, 1, -1, 2, ... away.
inline std::int64_t tie_free_add_offset(std::int64_t stream, std::int64_t branch, const add_zero_points& zero_points,
                                        std::int64_t offset, int shift) {
  const std::int64_t mask = (std::int64_t{1} << shift) - 1;
  std::bitset<2 * add_farthest_move + 1> tie;  // bit k: moving the offset by farthest - k makes some pair a tie
  for (std::int64_t r = 0; r < 256; ++r) {
    for (std::int64_t b = 0; b < 256; ++b) {
      const std::int64_t sum = (r - zero_points.stream) * stream + (b - zero_points.branch) * branch + offset;
      const std::int64_t residue = (sum + add_farthest_move) & mask;
      for (std::int64_t k = residue; k <= 2 * add_farthest_move; k += mask + 1) {
        tie.set(static_cast<std::size_t>(k));
      }
    }
  }
  std::int64_t distance = 0;
  const auto free = [&](std::int64_t move) { return !tie[static_cast<std::size_t>(add_farthest_move - move)]; };
  while (!free(distance) && !free(-distance)) {
    ++distance;
  }
  return offset + (free(distance) ? distance : -distance);
}

/// The scales of one channel at a shift, before the offset is nudged.
struct add_integers {
  std::int64_t stream, branch, offset;

  add_integers(const add_spec& target, int output_zero_point, int shift)
      : stream(std::llrint(std::ldexp(target.stream, shift))),
        branch(std::llrint(std::ldexp(target.branch, shift))),
        offset((std::int64_t{output_zero_point} << shift) + (std::int64_t{1} << (shift - 1))) {}

  /// Whether int32 holds every sum, with room for the move.
  bool fit() const { return 255 * (stream + branch) + offset < (std::int64_t{1} << 31) - add_farthest_move; }
};

inline constexpr double add_ratio_limit = 64;  // 255 * 64 * 2^17 = 2^31

inline bool is_add_ratio(double ratio) {
  return ratio >= 0 && ratio < add_ratio_limit;
}

}  // namespace detail

/// Whether build_add has scales for a channel.
inline bool has_add_scale(const add_spec& target, int output_zero_point) {
  return detail::is_add_ratio(target.stream) && detail::is_add_ratio(target.branch) &&
         detail::add_integers(target, output_zero_point, add_min_shift).fit();
}

/// Builds the scales of a residual addition.
///
/// Formula:   multipliers round(ratio * 2^shift) and offset zp_y * 2^shift + 2^(shift - 1), nudged until no pair of
/// codes
///            is a tie; shift is the largest of 17..24 for which int32 holds every sum of every channel.
/// Arrays:    of the size of targets; exact too, or it is empty.
/// Errors:    sizes that differ, a zero point outside 0..255, a ratio that is negative, not finite or so large that no
///            shift fits: each names the channel; nothing has been written then. has_add_scale() tells beforehand.
/// Returns:   the scale, as a view of the arrays.
/// Source:    docs/numerics.md, section 8.
inline add_parameters build_add(std::span<const add_spec> specs, const add_zero_points& zero_points,
                                std::span<std::int32_t> stream_multiplier, std::span<std::int32_t> branch_multiplier,
                                std::span<std::int32_t> offset, std::span<realized_add> exact = {}) {
  require_equal("build_add", "size of stream_multiplier", std::ssize(stream_multiplier), std::ssize(specs));
  require_equal("build_add", "size of branch_multiplier", std::ssize(branch_multiplier), std::ssize(specs));
  require_equal("build_add", "size of offset", std::ssize(offset), std::ssize(specs));
  if (!exact.empty()) {
    require_equal("build_add", "size of exact", std::ssize(exact), std::ssize(specs));
  }
  require_between("build_add", "zero point of the stream", zero_points.stream, 0, 255);
  require_between("build_add", "zero point of the branch", zero_points.branch, 0, 255);
  require_between("build_add", "zero point of the output", zero_points.output, 0, 255);

  int shift = add_max_shift;
  for (std::size_t c = 0; c < specs.size(); ++c) {
    for (const double ratio : {specs[c].stream, specs[c].branch}) {
      if (!detail::is_add_ratio(ratio)) {
        contract_failed("intact::build_add: channel %zu has the ratio %g; it must be at least 0 and below %g", c, ratio,
                        detail::add_ratio_limit);
      }
    }
    while (!detail::add_integers(specs[c], zero_points.output, shift).fit()) {
      if (--shift < add_min_shift) {
        contract_failed("intact::build_add: channel %zu has the ratios %g and %g; int32 does not hold their sums", c,
                        specs[c].stream, specs[c].branch);
      }
    }
  }

  for (std::size_t c = 0; c < specs.size(); ++c) {
    const detail::add_integers integers(specs[c], zero_points.output, shift);
    const std::int64_t nudged =
        detail::tie_free_add_offset(integers.stream, integers.branch, zero_points, integers.offset, shift);
    stream_multiplier[c] = static_cast<std::int32_t>(integers.stream);
    branch_multiplier[c] = static_cast<std::int32_t>(integers.branch);
    offset[c] = static_cast<std::int32_t>(nudged);
    if (!exact.empty()) {
      exact[c] = {.stream = std::ldexp(static_cast<double>(integers.stream), -shift),
                  .branch = std::ldexp(static_cast<double>(integers.branch), -shift),
                  .offset = std::ldexp(static_cast<double>(nudged), -shift) - 0.5};
    }
  }
  return {.stream_multiplier = stream_multiplier,
          .branch_multiplier = branch_multiplier,
          .offset = offset,
          .stream_zero_point = zero_points.stream,
          .branch_zero_point = zero_points.branch,
          .shift = shift};
}

}  // namespace INTACT_UNIT
}  // namespace intact
