#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "intact/kernel/pack.hpp"
#include "intact/types/grouped_s4.hpp"
#include "intact/types/packed_weights.hpp"

namespace intact::inline INTACT_ABI {

/// Columns of packed weights, at most: their sums then fit int32.
inline constexpr index packed_weights_max_columns = 2097151;

namespace detail {

template <class Element, class Weights>
packed_weights<Element> pack_checked(const Weights& w, std::span<std::byte> memory) {
  require_shape("pack_weights", "w", w, w.rows, w.columns);
  require_at_most("pack_weights", "columns of w", w.columns, packed_weights_max_columns);
  require_at_least("pack_weights", "bytes of memory", std::ssize(memory),
                   packed_weights_bytes<Element>(w.rows, w.columns));
  require_equal("pack_weights", "address of memory modulo 64",
                static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(memory.data()) %
                                          static_cast<std::uintptr_t>(packed_weights_alignment)),
                0);
  return kernel::pack_weights<Element>(w, reinterpret_cast<std::uint8_t*>(memory.data()));
}

}  // namespace detail

/// Weights in the order in which gemm's kernels read them; done once, when a model is loaded.
///
/// Formula:   none: the same numbers in another order, and the sum of each row.
/// Shapes:    w N x K, one row per output channel, any strides and alignment; sizes may be 0. Drawn at packed_weights.
///            s8 stays s8 and s4 stays s4. s4 with group factors becomes s8, which its products fit: a kernel then
///            reads twice the bytes, but multiplies nothing.
/// Range:     K <= 2097151, the most that gemm takes of any operands. `memory` has packed_weights_bytes<Element>(N, K)
///            bytes, on a boundary of 64.
/// Exactness: every bit.
/// Errors:    memory that is too small or not aligned, a view without data: before anything is written.
/// Aliasing:  `memory` must not overlap w, and outlives the result, which may be shared between threads.
inline packed_weights<std::int8_t> pack_weights(matrix_view<const std::int8_t> w, std::span<std::byte> memory) {
  return detail::pack_checked<std::int8_t>(w, memory);
}
inline packed_weights<s4> pack_weights(packed_view<s4, const std::uint8_t> w, std::span<std::byte> memory) {
  return detail::pack_checked<s4>(w, memory);
}
inline packed_weights<std::int8_t> pack_weights(const grouped_s4_view& w, std::span<std::byte> memory) {
  return detail::pack_checked<std::int8_t>(w, memory);
}

}  // namespace intact::inline INTACT_ABI
