#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "intact/simd/batch.hpp"
#include "intact/simd/dot4.hpp"
#include "intact/simd/int4.hpp"
#include "intact/simd/narrow.hpp"
#include "intact/simd/s4_dot.hpp"
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

/// Whether sums of products are in 16 bits for some steps.
template <class Isa, class Element>
inline constexpr bool adds_in_16_bits = packed_weights<Element>::has_nibbles ? Isa::adds_s4_in_16_bits : false;

/// The dot products that a tile consists of.
template <class Isa, class A, class Element>
using product_dot = std::conditional_t<adds_in_16_bits<Isa, Element>, simd::s4_dot<Isa, A>, simd::dot4<Isa, A>>;

/// The accumulators of Rows rows x N registers.
template <class Isa, class A, class Element, unsigned Rows, unsigned N>
class gemm_tile {
  using dot = product_dot<Isa, A, Element>;
  using nibbles = std::conditional_t<adds_in_16_bits<Isa, Element>, dot, simd::int4<Isa>>;
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
    } else if constexpr (adds_in_16_bits<Isa, Element>) {
      add_steps_in_16_bits(a, stride, count, w.at, w.stride);
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
        of[j] = nibbles::load_shifts(w.shifts + group * packed::shift_bytes,
                                     w.column + static_cast<index_t>(j) * dot::columns);
      }
    }
    decltype(nibbles::load_shifts(nullptr, 0)) of[N];
  };

  /// Four columns of a, or for s4 eight: first those of the low halves. `shifts`: of each register's channels, or none.
  template <class... Shifts>
  INTACT_INLINE void add_step(const activation* a, index_t stride, const std::uint8_t* w, const Shifts&... shifts) {
    if constexpr (adds_in_16_bits<Isa, Element>) {
      add_steps_in_16_bits(a, stride, 1, w, 0, shifts...);
    } else if constexpr (packed::has_nibbles) {
      const index_t next = packed::step / 2;
      multiply_add(at_, a, stride, [&](unsigned j) { return nibbles::low(w + j * weights_stride, shifts[j]...); });
      multiply_add(at_, a + next, stride,
                   [&](unsigned j) { return nibbles::high(w + j * weights_stride, shifts[j]...); });
    } else {
      multiply_add(at_, a, stride, [&](unsigned j) { return dot::load(w + j * weights_stride); });
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
      if constexpr (adds_in_16_bits<Isa, Element>) {
        add_steps_in_16_bits(a, stride, together, at, w.stride, shifts.of);
        a += together * packed::step;
        at += together * w.stride;
      } else {
        for (index_t i = 0; i < together; ++i) {
          add_step(a, stride, at, shifts.of);
          a += packed::step;
          at += w.stride;
        }
      }
      count -= together;
      together = w.group_steps;
    }
  }

  /// Steps that share shifts, if there are any: as many at a time as a register of 16-bit sums can hold.
  template <class... Shifts>
  INTACT_INLINE void add_steps_in_16_bits(const activation* a, index_t stride, index_t count, const std::uint8_t* w,
                                          index_t w_stride, const Shifts&... shifts) {
    while (count > 0) {
      const index_t steps = count < dot::steps ? count : dot::steps;
      typename dot::partial partial[Rows][N];
      INTACT_UNROLL
      for (unsigned r = 0; r < Rows; ++r) {
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          partial[r][j] = dot::zero();
        }
      }
      INTACT_NO_UNROLL
      for (index_t i = 0; i < steps; ++i) {
        multiply_add(partial, a, stride, [&](unsigned j) { return dot::low(w + j * weights_stride); });
        multiply_add(partial, a + packed::step / 2, stride,
                     [&](unsigned j) { return dot::high(w + j * weights_stride); });
        a += packed::step;
        w += w_stride;
      }
      INTACT_UNROLL
      for (unsigned r = 0; r < Rows; ++r) {
        INTACT_UNROLL
        for (unsigned j = 0; j < N; ++j) {
          at_[r][j] = dot::widen_add(at_[r][j], partial[r][j], shifts[j]...);
        }
      }
      count -= steps;
    }
  }

  /// Four columns of a, added to `sums`: accumulators, or 16-bit sums.
  template <class Sums, class Load>
  INTACT_INLINE static void multiply_add(Sums& sums, const activation* a, index_t stride, const Load& load) {
    decltype(load(0u)) weights[N];
    INTACT_UNROLL
    for (unsigned j = 0; j < N; ++j) {
      weights[j] = load(j);
    }
    INTACT_UNROLL
    for (unsigned r = 0; r < Rows; ++r) {
      const auto codes = dot::broadcast(a + static_cast<index_t>(r) * stride);
      INTACT_UNROLL
      for (unsigned j = 0; j < N; ++j) {
        sums[r][j] = dot::multiply_add(sums[r][j], codes, weights[j]);
      }
    }
  }

  accumulator at_[Rows][N];
};

}  // namespace kernel
}  // namespace INTACT_UNIT
}  // namespace intact
