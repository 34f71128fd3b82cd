#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include <sanitizer/allocator_interface.h>

#include "fuzz_input.hpp"

namespace intact_test {

/// Counts the memory that operator new and malloc are asked for while an object exists. Too much ends the program.
class heap_watch {
 public:
  /// At most `most_live` bytes at once, and no block of more than `largest_block`.
  explicit heap_watch(std::size_t most_live, std::size_t largest_block = SIZE_MAX)
      : most_live_(most_live), largest_block_(largest_block) {
    static const int hooks = __sanitizer_install_malloc_and_free_hooks(
        [](const volatile void*, std::size_t size) {
          live += static_cast<std::int64_t>(size);
          most = std::max(most, live);
          largest = std::max(largest, size);
        },
        [](const volatile void* block) { live -= static_cast<std::int64_t>(__sanitizer_get_allocated_size(block)); });
    if (hooks == 0) {
      fail("the sanitizer takes no hooks of malloc");
    }
    live = most = 0;
    largest = 0;
  }
  heap_watch(const heap_watch&) = delete;
  heap_watch& operator=(const heap_watch&) = delete;
  ~heap_watch() {
    const auto asked = static_cast<std::size_t>(most);
    const std::size_t block = largest;
    if (asked > most_live_ || block > largest_block_) {
      fail(std::to_string(asked) + " bytes of the heap, a block of " + std::to_string(block) +
           "; there must be at most " + std::to_string(most_live_) + ", in blocks of " +
           std::to_string(largest_block_));
    }
  }

 private:
  inline static thread_local std::int64_t live = 0, most = 0;  // beside the memory that was there before
  inline static thread_local std::size_t largest = 0;

  std::size_t most_live_, largest_block_;
};

}  // namespace intact_test
