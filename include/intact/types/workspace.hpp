#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "intact/types/view.hpp"

namespace intact {
inline namespace INTACT_ABI {

/// Every block taken from a workspace starts on such a boundary: one cache line, one AVX-512 register.
inline constexpr std::size_t workspace_alignment = 64;

/// Counts the bytes that a workspace would have to hand out. It has the interface of `workspace`, so the function that
/// lays out a composition's buffers is written once: run on a workspace_size it tells the size, at compile time if
/// asked; run on a workspace it hands out the memory.
class workspace_size {
 public:
  INTACT_INLINE constexpr workspace_size() {}

  /// Counts an array of `count` elements.
  template <class T>
  INTACT_INLINE constexpr T* take(index_t count) {
    constexpr index_t line = index_t{workspace_alignment};
    const index_t bytes = size_product(count, static_cast<index_t>(sizeof(T)));
    bytes_ = bytes < 0 ? max_size : size_sum(bytes_, size_product(bytes / line + (bytes % line != 0 ? 1 : 0), line));
    return nullptr;
  }

  /// Counts a matrix without gaps.
  template <class T>
  INTACT_INLINE constexpr matrix_view<T> matrix(index_t rows, index_t columns) {
    return {take<T>(size_product(rows, columns)), rows, columns};
  }

  /// Bytes that suffice for a workspace over memory of any alignment; the largest std::size_t if memory cannot have as
  /// many.
  INTACT_INLINE constexpr std::size_t bytes() const { return bytes_and(0); }

  /// The same and `more`, another number of that kind.
  INTACT_INLINE constexpr std::size_t bytes_and(std::size_t more) const {
    constexpr std::size_t most = static_cast<std::size_t>(max_size);
    const std::size_t mine = static_cast<std::size_t>(bytes_) + workspace_alignment - 1;
    return mine >= most || more >= most - mine ? static_cast<std::size_t>(-1) : mine + more;
  }

 private:
  index_t bytes_ = 0;
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Reports a workspace that cannot hand out `count` elements; never returns.
[[noreturn]] inline void workspace_exhausted(std::size_t left, index_t count, std::size_t element_bytes,
                                             std::size_t padding) {
  contract_failed("intact::workspace: %zu bytes are left; %td elements of %zu bytes are needed after %zu for alignment",
                  left, count, element_bytes, padding);
}

}  // namespace INTACT_UNIT

inline namespace INTACT_ABI {

/// Scratch memory that the caller owns, handed out from front to back. Nothing is constructed or freed: elements are
/// of trivial types and start with indeterminate values. Not shared between threads: one workspace per call at a time.
class workspace {
 public:
  /// Memory of any alignment; it must outlive every use of the workspace.
  INTACT_INLINE workspace(void* memory, std::size_t bytes) : next_(static_cast<std::byte*>(memory)), left_(bytes) {}

  /// Uninitialized memory for `count` elements on a boundary of workspace_alignment bytes.
  template <class T>
  INTACT_INLINE T* take(index_t count) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>,
                  "a workspace holds trivial types: nothing is constructed in it");
    const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(next_) % workspace_alignment;
    const std::size_t padding = misaligned == 0 ? 0 : workspace_alignment - misaligned;
    if (count < 0 || padding > left_ || static_cast<std::size_t>(count) > (left_ - padding) / sizeof(T)) [[unlikely]] {
      workspace_exhausted(left_, count, sizeof(T), padding);
    }
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    T* const taken = reinterpret_cast<T*>(next_ + padding);
    next_ += padding + bytes;
    left_ -= padding + bytes;
    return taken;
  }

  /// Takes a matrix without gaps.
  template <class T>
  INTACT_INLINE matrix_view<T> matrix(index_t rows, index_t columns) {
    return {take<T>(size_product(rows, columns)), rows, columns};
  }

  /// Bytes that have not been taken.
  INTACT_INLINE std::size_t left() const { return left_; }

 private:
  std::byte* next_;
  std::size_t left_;
};

}  // namespace INTACT_ABI

inline namespace INTACT_UNIT {

/// Checks that a workspace has `bytes` left.
inline void require_workspace(const char* operation, const workspace& memory, std::size_t bytes) {
  if (memory.left() < bytes) [[unlikely]] {
    contract_failed("intact::%s: the workspace has %zu bytes left; it must have %zu", operation, memory.left(), bytes);
  }
}

/// The memory of one task of several that share a workspace, one after another: take(memory) hands out one task's.
template <class Take>
auto take_of_task(workspace memory, index_t task, const Take& take) {
  for (index_t before = 0; before < task; ++before) {
    take(memory);
  }
  return take(memory);
}

}  // namespace INTACT_UNIT
}  // namespace intact
