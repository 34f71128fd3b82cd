#pragma once

#include <cstdint>
#include <cstring>

#include "intact/simd/batch.hpp"
#include "intact/simd/dot4.hpp"
#include "intact/simd/int4.hpp"
#include "intact/simd/narrow.hpp"
#include "intact/types/packed_weights.hpp"

namespace intact {
inline namespace INTACT_UNIT {
namespace kernel {

/// Steps of a panel's weights, for some of its columns.
template <class Element>
struct panel_steps {
  const std::uint8_t* at;
  index_t stride;  ///< bytes from one to the next
};
template <>
struct panel_steps<grouped_s4> {
  const std::uint8_t* at;
  index_t stride;
  const std::uint8_t* shifts;  ///< of the panel
  index_t column;              ///< of the panel, that the tile begins with
  index_t group_steps;         ///< that share shifts
  index_t first;               ///< which step of the panel `at` is
};

/// The accumulators of Rows rows x N registers.
template <class Isa, class A, class Element, unsigned Rows, unsigned N>
class gemm_tile {
  using dot = simd::dot4<Isa, A>;
  using packed = packed_weights<Element>;
  using accumulator = typename dot::accumulator;
  static constexpr index_t weights_stride = dot::columns * packed::step_bytes;

 public:
  /// Activations as the instructions want them in memory: A, or 16-bit words.
  using activation = typename dot::activation;

  /// Registers of complete sums: an accumulator's lanes may be halves of them.
  static constexpr unsigned registers = static_cast<unsigned>(N * dot::columns / simd::lanes<Isa>);

  /// Starts from lanes in memory: row r's at from + r * stride.
  INTACT_INLINE void load(const std::int32_t* from, index_t stride) {
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        at_[r][j] = dot::start(from + static_cast<index_t>(r) * stride + static_cast<index_t>(j) * simd::lanes<Isa>);
      }
    }
  }

  INTACT_INLINE void store(std::int32_t* to, index_t stride) const {
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        std::memcpy(to + static_cast<index_t>(r) * stride + static_cast<index_t>(j) * simd::lanes<Isa>, &at_[r][j],
                    sizeof at_[r][j]);
      }
    }
  }

  /// Adds the products of `count` steps of the inner dimension.
  INTACT_INLINE void add_steps(const activation* a, index_t stride, index_t count, const panel_steps<Element>& w) {
    if constexpr (packed::has_shifts) {
      add_shifted_steps(a, stride, count, w);
    } else {
      const std::uint8_t* at = w.at;
      INTACT_UNROLL_4
      for (index_t i = 0; i < count; ++i) {
        add_step(a, stride, at);
        a += packed::step;
        at += w.stride;
      }
    }
  }

  /// Adds those of one step.
  INTACT_INLINE void add_step(const activation* a, index_t stride, const panel_steps<Element>& w) {
    if constexpr (packed::has_shifts) {
      add_step(a, stride, w.at, shifts_of_columns(w, w.first / w.group_steps).of);
    } else {
      add_step(a, stride, w.at);
    }
  }

  INTACT_INLINE void store_sums(std::int32_t* to, index_t stride) const {
    simd::s32<Isa> out[Rows][registers];
    sums(out);
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      simd::narrow<Isa>(out[r], to + static_cast<index_t>(r) * stride);
    }
  }

  INTACT_INLINE void sums(simd::s32<Isa> (&out)[Rows][registers]) const {
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      dot::sums(at_[r], out[r]);
    }
  }

 private:
  /// The shifts of a group's columns, in each register.
  struct shifts_of_columns {
    INTACT_INLINE shifts_of_columns(const panel_steps<Element>& w, index_t group) {
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        of[j] = simd::int4<Isa>::load_shifts(w.shifts + group * packed::shift_bytes,
                                             w.column + static_cast<index_t>(j) * dot::columns);
      }
    }
    decltype(simd::int4<Isa>::load_shifts(nullptr, 0)) of[N];
  };

  /// Four columns of a, or for s4 eight: first those of the low halves. `shifts`: of each register's channels, or none.
  template <class... Shifts>
  INTACT_INLINE void add_step(const activation* a, index_t stride, const std::uint8_t* w, const Shifts&... shifts) {
    if constexpr (packed::has_nibbles) {
      using nibbles = simd::int4<Isa>;
      const index_t next = packed::step / 2;
      multiply_add(a, stride, [&](unsigned j) { return nibbles::low(w + j * weights_stride, shifts[j]...); });
      multiply_add(a + next, stride, [&](unsigned j) { return nibbles::high(w + j * weights_stride, shifts[j]...); });
    } else {
      multiply_add(a, stride, [&](unsigned j) { return dot::load(w + j * weights_stride); });
    }
  }

  /// Group by group. The next group's shifts are loaded before the products of this one, so that its own products do
  /// not wait for them; after the last group those are bytes of the panel that nothing is done with.
  INTACT_INLINE void add_shifted_steps(const activation* a, index_t stride, index_t count,
                                       const panel_steps<grouped_s4>& w) {
    if (count == 0) {
      return;
    }
    const std::uint8_t* at = w.at;
    index_t group = w.first / w.group_steps;
    index_t together = w.group_steps - w.first % w.group_steps;
    shifts_of_columns next(w, group);
    while (count > 0) {
      const shifts_of_columns shifts = next;
      next = shifts_of_columns(w, ++group);
      together = count < together ? count : together;
      for (index_t i = 0; i < together; ++i) {
        add_step(a, stride, at, shifts.of);
        a += packed::step;
        at += w.stride;
      }
      count -= together;
      together = w.group_steps;
    }
  }

  template <class Load>
  INTACT_INLINE void multiply_add(const activation* a, index_t stride, const Load& load) {
    decltype(load(0u)) weights[N];
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      weights[j] = load(j);
    }
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const auto quantized_matrix = dot::broadcast(a + static_cast<index_t>(r) * stride);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        at_[r][j] = dot::multiply_add(at_[r][j], quantized_matrix, weights[j]);
      }
    }
  }

  accumulator at_[Rows][N];
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
