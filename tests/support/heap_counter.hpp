#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

// Replaces operator new and delete of the program that includes it, in one file only, so that they count the memory
// that is taken from the heap: what is live, the most that was, and the largest block.

namespace intact_test {

inline std::atomic<std::size_t> live_bytes{0};
inline std::atomic<std::size_t> most_live_bytes{0};
inline std::atomic<std::size_t> largest_block{0};

/// Before each block stands its size, in as many bytes as keep the block aligned.
inline constexpr std::size_t size_field = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

[[gnu::noinline]] inline void* take_from_heap(std::size_t size, std::size_t alignment = size_field) noexcept {
  const std::size_t blocks = (size + alignment - 1) / alignment + 1;
  std::byte* const start = static_cast<std::byte*>(std::aligned_alloc(alignment, blocks * alignment));
  if (start == nullptr) {
    return nullptr;
  }
  void* const memory = start + alignment - size_field;
  std::memcpy(memory, &size, sizeof size);
  const std::size_t live = live_bytes += size;
  most_live_bytes = std::max(most_live_bytes.load(), live);
  largest_block = std::max(largest_block.load(), size);
  return static_cast<std::byte*>(memory) + size_field;
}

[[gnu::noinline]] inline void give_back(void* block, std::size_t alignment = size_field) noexcept {
  if (block == nullptr) {
    return;
  }
  void* const memory = static_cast<std::byte*>(block) - size_field;
  std::size_t size = 0;
  std::memcpy(&size, memory, sizeof size);
  live_bytes -= size;
  std::free(static_cast<std::byte*>(block) - alignment);
}

}  // namespace intact_test

void* operator new(std::size_t size) {
  if (void* const block = intact_test::take_from_heap(size)) {
    return block;
  }
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return intact_test::take_from_heap(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  if (void* const block = intact_test::take_from_heap(size, static_cast<std::size_t>(alignment))) {
    return block;
  }
  throw std::bad_alloc();
}
void* operator new[](std::size_t size) {
  return operator new(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return intact_test::take_from_heap(size);
}
void operator delete(void* block) noexcept {
  intact_test::give_back(block);
}
void operator delete(void* block, std::size_t) noexcept {
  intact_test::give_back(block);
}
void operator delete(void* block, const std::nothrow_t&) noexcept {
  intact_test::give_back(block);
}
void operator delete(void* block, std::align_val_t alignment) noexcept {
  intact_test::give_back(block, static_cast<std::size_t>(alignment));
}
void operator delete(void* block, std::size_t, std::align_val_t alignment) noexcept {
  intact_test::give_back(block, static_cast<std::size_t>(alignment));
}
void operator delete[](void* block) noexcept {
  intact_test::give_back(block);
}
void operator delete[](void* block, std::size_t) noexcept {
  intact_test::give_back(block);
}
void operator delete[](void* block, const std::nothrow_t&) noexcept {
  intact_test::give_back(block);
}
