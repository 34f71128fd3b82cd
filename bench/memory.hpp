#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <vector>

namespace intact_bench {

/// Memory on boundaries of 64 bytes, as every library here likes it.
template <class T>
struct aligned_allocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  aligned_allocator() = default;
  template <class U>
  aligned_allocator(const aligned_allocator<U>&) {}
  T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), alignment)); }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, alignment); }
  friend bool operator==(aligned_allocator, aligned_allocator) { return true; }
};

template <class T>
using aligned_vector = std::vector<T, aligned_allocator<T>>;

/// Random codes from low to high, both included: the same in every run.
template <class T>
aligned_vector<T> random_codes(std::ptrdiff_t count, int low, int high, std::uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  aligned_vector<T> codes(static_cast<std::size_t>(count));
  for (T& code : codes) {
    code = static_cast<T>(low + static_cast<int>(random() % static_cast<std::uint64_t>(high - low + 1)));
  }
  return codes;
}

/// As numbers of one type, whatever the codes' type is.
template <class T>
std::vector<std::int32_t> as_numbers(const aligned_vector<T>& codes) {
  return {codes.begin(), codes.end()};
}

}  // namespace intact_bench
