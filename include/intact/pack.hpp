#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "intact/kernel/pack.hpp"
#include "intact/types/grouped_s4.hpp"
#include "intact/types/packed_weights.hpp"

namespace intact {
inline namespace INTACT_UNIT {

/// Columns of packed weights, at most: their sums then fit int32.
inline constexpr index_t packed_weights_max_columns = 2097151;

/// Bytes of memory that pack_weights needs for these weights.
constexpr index_t packed_weights_bytes(matrix_view<const std::int8_t> w) {
  return packed_weights_bytes<std::int8_t>(w.rows, w.columns);
}
/// The same of s4 weights.
constexpr index_t packed_weights_bytes(const packed_view<s4, const std::uint8_t>& w) {
  return packed_weights_bytes<s4>(w.rows, w.columns);
}
/// The same of s4 weights with group factors.
inline index_t packed_weights_bytes(const grouped_s4_view& w) {
  require_at_least("packed_weights_bytes", "group size of the weights", w.group, 1);
  return packed_weights_bytes<grouped_s4>(w.rows, w.columns, w.group);
}

/// Whether the groups of s4 weights are such that pack_weights takes them: columns that share a byte must share a
/// shift with those beside them.
constexpr bool is_packable(const grouped_s4_view& w) {
  return w.group >= 1 && (w.group % packed_weights<grouped_s4>::step == 0 || w.group >= w.columns);
}

namespace detail {

template <class Element, class Weights>
packed_weights<Element> pack_checked(const char* operation, const Weights& w, std::span<std::byte> memory,
                                     index_t group = 1) {
  require_at_most(operation, "columns of w", w.columns, packed_weights_max_columns);
  const index_t bytes = packed_weights_bytes<Element>(w.rows, w.columns, group);
  require_at_most(operation, "bytes of packed weights", bytes, max_size - 1);
  require_at_least(operation, "bytes of memory", std::ssize(memory), bytes);
  require_equal(operation, "address of memory modulo 64",
                static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(memory.data()) %
                                          static_cast<std::uintptr_t>(packed_weights_alignment)),
                0);
  return kernel::pack_weights<Element>(w, reinterpret_cast<std::uint8_t*>(memory.data()), group);
}

}  // namespace detail

/// Weights in the order in which gemm's kernels read them; done once, when a model is loaded.
///
/// Formula:   none: the same numbers in another order, and the sum of each row.
/// Shapes:    w N x K, one row per output channel, any strides and alignment; sizes may be 0. Drawn at packed_weights.
///            s8 stays s8, and s4 stays s4, with its shifts if it has group factors: then groups are multiples of 8
///            columns, or there is a single one (is_packable). Any group is packed as s8 weights of equal value
///            by pack_weights_as_s8, into packed_weights_bytes<std::int8_t>(N, K) bytes: a kernel reads twice as many.
/// Range:     K <= 2097151, the most that gemm takes of any operands. `memory` has packed_weights_bytes(w) bytes, on a
///            boundary of 64.
/// Exactness: every bit.
/// Errors:    memory that is too small or not aligned, a view without data, a group that is not packable: before
///            anything is written.
/// Aliasing:  `memory` must not overlap w, and outlives the result, which may be shared between threads.
/// Runs on:   plain loops, in the caller's thread.
inline packed_weights<std::int8_t> pack_weights(matrix_view<const std::int8_t> w, std::span<std::byte> memory) {
  require_shape("pack_weights", "w", w, w.rows, w.columns);
  return detail::pack_checked<std::int8_t>("pack_weights", w, memory);
}
/// The same of s4 weights.
inline packed_weights<s4> pack_weights(packed_view<s4, const std::uint8_t> w, std::span<std::byte> memory) {
  require_shape("pack_weights", "w", w, w.rows, w.columns);
  return detail::pack_checked<s4>("pack_weights", w, memory);
}
/// The same of s4 weights with group factors.
inline packed_weights<grouped_s4> pack_weights(const grouped_s4_view& w, std::span<std::byte> memory) {
  require_shape("pack_weights", "w", w, w.rows, w.columns);
  if (!is_packable(w)) [[unlikely]] {
    contract_failed(
        "intact::pack_weights: group size of the weights is %td; it must be a multiple of %td, or at least %td",
        w.group, packed_weights<grouped_s4>::step, w.columns);
  }
  return detail::pack_checked<grouped_s4>("pack_weights", w, memory, w.group);
}
/// s4 weights with group factors, each shifted, as s8.
inline packed_weights<std::int8_t> pack_weights_as_s8(const grouped_s4_view& w, std::span<std::byte> memory) {
  require_shape("pack_weights_as_s8", "w", w, w.rows, w.columns);
  return detail::pack_checked<std::int8_t>("pack_weights_as_s8", w, memory);
}

}  // namespace INTACT_UNIT
}  // namespace intact
