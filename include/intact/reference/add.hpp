#pragma once

#include <cstdint>

#include "intact/arith/integer_math.hpp"
#include "intact/types/scale.hpp"
#include "intact/types/view.hpp"

namespace intact::inline INTACT_ABI::reference {

inline void add(matrix_view<const std::uint8_t> stream, matrix_view<const std::uint8_t> branch, const add_scale& scale,
                matrix_view<std::uint8_t> y) {
  for (index i = 0; i < y.rows; ++i) {
    for (index c = 0; c < y.columns; ++c) {
      const auto channel = static_cast<std::size_t>(c);
      const std::int64_t sum =
          (std::int64_t{stream(i, c)} - scale.stream_zero_point) * scale.stream_multiplier[channel] +
          (std::int64_t{branch(i, c)} - scale.branch_zero_point) * scale.branch_multiplier[channel] +
          scale.offset[channel];
      y(i, c) = saturate<std::uint8_t>(sum >> scale.shift);
    }
  }
}

}  // namespace intact::inline INTACT_ABI::reference
