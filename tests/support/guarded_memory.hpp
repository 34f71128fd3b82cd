#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>
#include <span>
#include <vector>

#include "intact/types/packed_weights.hpp"
#include "intact/types/workspace.hpp"
#include "tensor.hpp"

// Memory followed by a page without access. A read or write beyond it stops the program at once,
// with sanitizers and without, on real processors and on emulated ones.

namespace intact_test {

/// An allocator of such memory.
template <class T>
class before_guard_page {
 public:
  using value_type = T;

  before_guard_page() = default;
  template <class U>
  before_guard_page(const before_guard_page<U>&) {}

  T* allocate(std::size_t count) {
    const std::size_t used = pages_of(count);
    void* const all = mmap(nullptr, used + page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(static_cast<std::byte*>(all) + used, page_size(), PROT_NONE) != 0) {
      throw std::bad_alloc();
    }
    return reinterpret_cast<T*>(static_cast<std::byte*>(all) + (used - count * sizeof(T)));
  }

  void deallocate(T* memory, std::size_t count) {
    const std::size_t used = pages_of(count);
    munmap(reinterpret_cast<std::byte*>(memory) - (used - count * sizeof(T)), used + page_size());
  }

  friend bool operator==(const before_guard_page&, const before_guard_page&) { return true; }

 private:
  static std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
  static std::size_t pages_of(std::size_t count) {
    return (count * sizeof(T) + page_size() - 1) / page_size() * page_size();
  }
};

template <class T>
using guarded_vector = std::vector<T, before_guard_page<T>>;
template <class T>
using guarded_tensor = tensor<T, before_guard_page<T>>;
template <class Element>
using guarded_packed_tensor = packed_tensor<Element, before_guard_page<std::uint8_t>>;

/// Bytes on a boundary of packed weights, as few as can be between the last of them and the page.
class packed_memory {
 public:
  explicit packed_memory(index_t bytes)
      : size_(static_cast<std::size_t>(bytes)), lines_((size_ + sizeof(line) - 1) / sizeof(line)) {
    for (line& one : lines_) {
      std::fill(std::begin(one.bytes), std::end(one.bytes), pattern);
    }
  }

  std::span<std::byte> span() { return std::as_writable_bytes(std::span(lines_)).first(size_); }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(lines_)).first(size_); }

  /// Whether what has been added to fill a line still has the pattern.
  bool surroundings_untouched() const {
    const std::span<const std::byte> all = std::as_bytes(std::span(lines_));
    return std::all_of(all.begin() + static_cast<index_t>(size_), all.end(), [](std::byte x) { return x == pattern; });
  }

  static constexpr std::byte pattern{0x5a};

 private:
  struct alignas(packed_weights_alignment) line {
    std::byte bytes[packed_weights_alignment];
  };

  std::size_t size_;
  guarded_vector<line> lines_;
};

/// A workspace of exactly the bytes that an operation asks for, `misaligned` bytes off a boundary, in front of a page
/// without access.
class exact_workspace {
 public:
  explicit exact_workspace(std::size_t bytes, std::size_t misaligned = 0)
      : memory_(bytes + misaligned), misaligned_(misaligned) {}
  workspace get() { return {memory_.data() + misaligned_, memory_.size() - misaligned_}; }

 private:
  guarded_vector<std::byte> memory_;
  std::size_t misaligned_;
};

}  // namespace intact_test
